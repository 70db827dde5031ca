package sampler_test

import "github.com/fidlab/fidlab/diffusion"

func goldenStochastic() []goldenCase {
	const vp = diffusion.VPSpace
	spec := func(rule string) diffusion.Spec { return diffusion.Spec{Rule: rule} }
	return []goldenCase{
		{file: "ddpm_fixednoise_small", solver: "ddpm", path: "vp", space: vp, spec: spec("leading")},
		{file: "ddpm_fixednoise_large_trailing", solver: "ddpm:variance=fixed_large,end-noise=1", path: "vp", space: vp, spec: spec("trailing")},
		{file: "dpm_multistep_sde++_o2_fixednoise", solver: "sde-dpm++2m", path: "vp", space: vp, spec: spec("linspace-drop")},
	}
}
