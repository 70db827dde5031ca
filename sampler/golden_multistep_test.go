package sampler_test

import "github.com/fidlab/fidlab/diffusion"

func goldenMultistep() []goldenCase {
	const vp, ve = diffusion.VPSpace, diffusion.VESpace
	zero := diffusion.Spec{Rule: "linspace-drop"}
	min := diffusion.Spec{Rule: "linspace-drop", End: diffusion.Min}
	leading := diffusion.Spec{Rule: "leading"}
	karras := diffusion.Spec{Rule: "karras"}
	return []goldenCase{
		{file: "dpm_multistep_dpmsolver++_o2", solver: "dpm++2m", path: "vp", space: vp, spec: zero},
		{file: "dpm_multistep_dpmsolver++_o2_heun", solver: "dpm++2m-heun", path: "vp", space: vp, spec: zero},
		{file: "dpm_multistep_dpmsolver++_o2_karras", solver: "dpm++2m", path: "vp", space: vp, spec: karras},
		{file: "dpm_multistep_dpmsolver++_o2_nolowerfinal_sigmamin", solver: "dpm++2m", path: "vp", space: vp, spec: min},
		{file: "dpm_multistep_dpmsolver++_o2_trailing_vpred", solver: "dpm++2m", path: "vp", space: vp, spec: diffusion.Spec{Rule: "trailing"}},
		{file: "dpm_multistep_dpmsolver++_o2_x0pred", solver: "dpm++2m", path: "vp", space: vp, spec: zero},
		{file: "dpm_multistep_dpmsolver_o2", solver: "dpm-2m:lower-final=short", path: "vp", space: vp, spec: min},
		{file: "dpm_multistep_dpmsolver++_o3", solver: "dpm++3m:third=published", path: "vp", space: vp, spec: zero},
		{file: "dpm_multistep_dpmsolver++_o3_logsnr", solver: "dpm++3m:third=published", path: "vp", space: vp, spec: diffusion.Spec{Rule: "lu"}},
		{file: "dpm_multistep_dpmsolver_o3", solver: "dpm-3m:third=published", path: "vp", space: vp, spec: min},
		{file: "edm_dpm_multistep_o2", solver: "dpm++2m", path: "edm", space: ve, spec: karras},
		{file: "edm_dpm_multistep_o3", solver: "dpm++3m:third=published", path: "edm", space: ve, spec: karras},
		{file: "lms", solver: "lms:start=plain", path: "vp", space: ve, spec: diffusion.Spec{Rule: "linspace-real"}},
		{file: "deis_o2", solver: "deis:order=2", path: "vp", space: vp, spec: min},
		{file: "pndm_plms_only", solver: "plms", path: "vp", space: vp, spec: leading, steps: aboveZero, wasted: 1},
		// Half of a stride of 125 times is 62 in some of the file's steps and 63 in others.
		{file: "pndm_prk_plms", solver: "pndm", path: "vp", space: vp, spec: leading, steps: aboveZero, wasted: 1, replay: []string{"8"}},
		{file: "unipc_bh1_o1", solver: "unipc:order=1,variant=bh1,lower-final=always", path: "vp", space: vp, spec: min},
		{file: "unipc_bh1_o2", solver: "unipc:variant=bh1,lower-final=always", path: "vp", space: vp, spec: min},
		{file: "unipc_bh1_o3", solver: "unipc:order=3,variant=bh1,lower-final=always", path: "vp", space: vp, spec: min},
		{file: "unipc_bh2_o1", solver: "unipc:order=1,lower-final=always", path: "vp", space: vp, spec: zero},
		{file: "unipc_bh2_o2", solver: "unipc:lower-final=always", path: "vp", space: vp, spec: zero},
		{file: "unipc_bh2_o2_nocorrector", solver: "unipc:corrector=0,lower-final=always", path: "vp", space: vp, spec: zero},
		{file: "unipc_bh2_o3", solver: "unipc:order=3,lower-final=always", path: "vp", space: vp, spec: zero},
		{file: "unipc_bh2_o3_epsmode", solver: "unipc:order=3,predict=eps,lower-final=always", path: "vp", space: vp, spec: min},
		{file: "deis_o3", solver: "deis:start=plain", path: "vp", space: vp, spec: min},
	}
}
