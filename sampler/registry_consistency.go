package sampler

// consistencySolvers jump to the data and back.
var consistencySolvers = []entry{
	{Info{
		Name: "consistency", Aliases: []string{"cm", "cmstochasticiterativescheduler"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"sigma-min=0.002"},
		Description: "denoise all the way, then noise up to the next level",
		Use:         "consistency models, 1 to 4 steps at levels of your choice (grid sigmas)",
		Source:      "Song et al. 2023, arXiv 2303.01469",
	}, func(o values) Solver { return Renoise{Least: o.num("sigma-min")} }},
	{Info{
		Name: "flow-renoise", Aliases: []string{"flow-stochastic", "flowmatchlcmscheduler", "x0-renoise"}, Order: 1, PerStep: "1", Stochastic: true,
		Description: "x0 of the velocity, then the flow's noise anew",
		Use:         "distilled flow models of 1 to 8 steps; too narrow for others",
		Source:      "Luo et al. 2023, arXiv 2310.04378, on a flow",
	}, func(values) Solver { return Renoise{Flow: true} }},
	{Info{
		Name: "lcm", Aliases: []string{"lcmscheduler"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"timestep-scaling=10"},
		Description: "latent consistency model: boundary conditions of time, then noise",
		Use:         "LCM and LCM-LoRA, 1 to 8 steps on the grid lcm",
		Source:      "Luo et al. 2023, arXiv 2310.04378",
	}, func(o values) Solver { return LCM{Scaling: o.num("timestep-scaling")} }},
	{Info{
		Name: "tcd", Aliases: []string{"tcdscheduler"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"gamma=0.3"},
		Description: "jump beyond the next time, then noise back to it",
		Use:         "TCD and Hyper-SD models, 2 to 20 steps on the grid lcm",
		Source:      "Zheng et al. 2024, arXiv 2402.19159",
	}, func(o values) Solver { return TCD{Gamma: o.num("gamma")} }},
}
