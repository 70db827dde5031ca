package sampler

// firstSolvers are the plain ones.
var firstSolvers = []entry{
	{Info{
		Name: "ddim", Aliases: []string{"ddimscheduler", "dpm++1", "dpmpp1", "dpm-solver-1"}, Order: 1, PerStep: "1",
		Options:     []string{"eta=0", "clip=0", "s-noise=1"},
		Description: "first-order exponential integrator; eta > 0 adds noise",
		Use:         "inversion and editing, interpolation between samples; the baseline of papers",
		Source:      "Song, Meng and Ermon 2021, arXiv 2010.02502",
	}, func(o values) Solver { return DDIM{Eta: o.num("eta"), Clip: o.num("clip"), Noise: o.num("s-noise")} }},
	{Info{
		Name: "euler", Aliases: []string{"eulerdiscretescheduler", "flow-euler"}, Order: 1, PerStep: "1",
		Description: "Euler on the probability-flow ODE or the flow's velocity",
		Use:         "flow models with 20 steps and more; the plainest choice",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(values) Solver { return Euler{} }},
	{Info{
		Name: "euler-a", Aliases: []string{"euler_a", "euler-ancestral", "eulerancestraldiscretescheduler"}, Order: 1, PerStep: "1",
		Stochastic: true, Options: []string{"eta=1", "s-noise=1"},
		Description: "ancestral Euler: ddim with eta 1",
		Use:         "when samples may differ with the step count; 30 steps and more",
		Source:      "k-diffusion; Song, Meng and Ermon 2021, arXiv 2010.02502",
	}, func(o values) Solver { return DDIM{Eta: o.num("eta"), Noise: o.num("s-noise")} }},
	{Info{
		Name: "heun", Aliases: []string{"heundiscretescheduler", "edm-heun", "flow-heun"}, Order: 2, PerStep: "2, 1 in a step to zero",
		Description: "trapezoid rule with an Euler predictor",
		Use:         "accurate reference trajectories; distillation targets",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(values) Solver { return Heun{} }},
}
