package sampler

// singlestepSolvers ask the denoiser several times a step and keep nothing, or
// do so with the steps of a list.
var singlestepSolvers = []entry{
	{Info{
		Name: "dpm-solver-2", Aliases: []string{"dpm-solver-2s", "dpmsolver-2"}, Order: 2, PerStep: "2, 1 to zero and from pure noise",
		Options:     []string{"r1=0", "form=midpoint|taylor"},
		Description: "second-order single-step DPM-Solver on the noise",
		Use:         "unguided models; to compare with published figures of DPM-Solver",
		Source:      "Lu et al. 2022, arXiv 2206.00927",
	}, func(o values) Solver {
		return DPMSolver{Order: 2, Noise: true, R1: o.num("r1"), Taylor: o.word("form") == "taylor"}
	}},
	{Info{
		Name: "dpm-solver-3", Aliases: []string{"dpm-solver-3s", "dpmsolver-3"}, Order: 3, PerStep: "3, 1 to zero and from pure noise",
		Options:     []string{"r1=0", "form=midpoint|taylor"},
		Description: "third-order single-step DPM-Solver on the noise",
		Use:         "unguided models with 15 evaluations and more",
		Source:      "Lu et al. 2022, arXiv 2206.00927",
	}, func(o values) Solver {
		return DPMSolver{Order: 3, Noise: true, R1: o.num("r1"), Taylor: o.word("form") == "taylor"}
	}},
	{Info{
		Name: "dpm++2s", Aliases: []string{"dpmpp2s", "dpmpp_2s", "dpm++_2s", "dpm-solver++-2s"}, Order: 2, PerStep: "2, 1 to zero and from pure noise",
		Options:     []string{"r1=0", "form=midpoint|taylor"},
		Description: "second-order single-step DPM-Solver++",
		Use:         "strong guidance, where steps that remember nothing are the steadier",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver {
		return DPMSolver{Order: 2, R1: o.num("r1"), Taylor: o.word("form") == "taylor"}
	}},
	{Info{
		Name: "dpm++3s", Aliases: []string{"dpmpp3s", "dpmpp_3s", "dpm++_3s", "dpm-solver++-3s"}, Order: 3, PerStep: "3, 1 to zero and from pure noise",
		Options:     []string{"r1=0", "form=midpoint|taylor"},
		Description: "third-order single-step DPM-Solver++",
		Use:         "unguided models and accurate references",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver {
		return DPMSolver{Order: 3, R1: o.num("r1"), Taylor: o.word("form") == "taylor"}
	}},
	{Info{
		Name: "dpm-fast", Aliases: []string{"dpm_fast", "dpm-solver-fast"}, Order: 3, PerStep: "3, the last rest",
		Options:     []string{"rest=2"},
		Description: "DPM-Solver-3 whose last step uses a budget up: of order rest; 0: of orders 2, then 1",
		Use:         "a fixed budget of evaluations of an unguided model, on an exponential grid",
		Source:      "Lu et al. 2022, arXiv 2206.00927; k-diffusion",
	}, func(o values) Solver { return DPMFast(o.whole("rest")) }},
	{Info{
		Name: "dpm-singlestep", Aliases: []string{"dpmsolversinglestepscheduler", "dpm-solver-singlestep"}, Order: 2, PerStep: "1",
		Options:     []string{"order=2", "of=x0|eps", "form=midpoint|taylor", "lower-final=0"},
		Description: "single-step DPM-Solver(++) whose inner levels are the grid's: a step takes order of them",
		Use:         "plans made for schedulers that work so; a count of evaluations equal to the grid's steps",
		Source:      "Lu et al. 2022, arXiv 2211.01095; diffusers",
	}, func(o values) Solver {
		return DPMSinglestep{Order: o.whole("order"), Noise: o.word("of") == "eps", Taylor: o.word("form") == "taylor", LowerFinal: o.is("lower-final")}
	}},
	{Info{
		Name: "dpm-adaptive", Aliases: []string{"dpm_adaptive", "dpm-solver-adaptive", "dpm-solver-23"}, Order: 3, PerStep: "varies, its order a try",
		Options:     []string{"order=3", "rtol=0.05", "atol=0.0078", "h=0.05", "p=0", "i=1", "d=0", "safety=0.81"},
		Description: "DPM-Solver of adaptive steps, each image with steps of its own",
		Use:         "when the number of evaluations that a model needs is not known; few grid levels leave it free",
		Source:      "Lu et al. 2022, arXiv 2206.00927; k-diffusion",
	}, func(o values) Solver {
		return DPMAdaptive{
			Order: o.whole("order"), RTol: o.num("rtol"), ATol: o.num("atol"), H: o.num("h"),
			P: o.num("p"), I: o.num("i"), D: o.num("d"), Safety: o.num("safety"),
		}
	}},
	{Info{
		Name: "dpm2", Aliases: []string{"dpm_2", "kdpm2", "kdpm2discretescheduler"}, Order: 2, PerStep: "2, 1 in a step to zero",
		Description: "midpoint rule in sigma with the middle of ln sigma",
		Use:         "as heun; plans of k-diffusion",
		Source:      "Karras et al. 2022, arXiv 2206.00364; k-diffusion",
	}, func(values) Solver { return DPM2{} }},
}
