package sampler_test

import "github.com/fidlab/fidlab/diffusion"

func goldenSinglestep() []goldenCase {
	const vp, ve = diffusion.VPSpace, diffusion.VESpace
	zero, min := diffusion.Spec{Rule: "linspace-drop"}, diffusion.Spec{Rule: "linspace-drop", End: diffusion.Min}
	return []goldenCase{
		{file: "dpm_singlestep_dpmsolver++_o2", solver: "dpm-singlestep:order=2,lower-final=1", path: "vp", space: vp, spec: zero},
		{file: "dpm_singlestep_dpmsolver++_o3", solver: "dpm-singlestep:order=3,lower-final=1", path: "vp", space: vp, spec: zero},
		{file: "dpm_singlestep_dpmsolver_o2", solver: "dpm-singlestep:order=2,of=eps,lower-final=1", path: "vp", space: vp, spec: min},
		{file: "dpm_singlestep_dpmsolver_o3", solver: "dpm-singlestep:order=3,of=eps,lower-final=1", path: "vp", space: vp, spec: min},
		{file: "kdpm2", solver: "dpm2", path: "vp", space: ve, spec: diffusion.Spec{Rule: "linspace-real"}},
		{file: "kdpm2_karras", solver: "dpm2", path: "vp", space: ve, spec: diffusion.Spec{Rule: "karras"}},
	}
}
