package sampler

// stochasticSolvers draw noise.
var stochasticSolvers = []entry{
	{Info{
		Name: "ddpm", Aliases: []string{"ddpmscheduler", "ancestral"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"variance=fixed_small|fixed_small_log|fixed_large|fixed_large_log|learned|learned_range", "clip=0", "end-noise=0"},
		Description: "ancestral sampling with fixed or learned variances; end-noise adds the large one's last noise too",
		Use:         "hundreds of steps of a model as its paper sampled it; learned variances",
		Source:      "Ho, Jain and Abbeel 2020, arXiv 2006.11239; Nichol and Dhariwal 2021, arXiv 2102.09672",
	}, func(o values) Solver {
		return DDPM{Variance: o.word("variance"), Clip: o.num("clip"), EndNoise: o.is("end-noise")}
	}},
	{Info{
		Name: "edm", Aliases: []string{"edm-stochastic", "heun-churn"}, Order: 2, PerStep: "2, 1 in a step to zero", Stochastic: true,
		Options:     []string{"churn=40", "s-min=0.05", "s-max=50", "s-noise=1.003"},
		Description: "fresh noise before each Heun step; churn/N of N steps at most √2-1",
		Use:         "the best quality of a pixel model at 100 steps and more; the constants are worth a search",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(o values) Solver { return EDM{Churn: churnOptions(o)} }},
	{Info{
		Name: "euler-churn", Aliases: []string{"edm-euler-stochastic"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"churn=40", "s-min=0.05", "s-max=50", "s-noise=1.003"},
		Description: "fresh noise before each Euler step, as edm",
		Use:         "as edm, where evaluations are dear",
		Source:      "Karras et al. 2022, arXiv 2206.00364",
	}, func(o values) Solver { return EDM{Churn: churnOptions(o), Euler: true} }},
	{Info{
		Name: "euler-a-flow", Aliases: []string{"euler-ancestral-rf", "ltxeulerancestralrfscheduler"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"eta=1", "s-noise=1"},
		Description: "ancestral Euler that counts noise by the flow's fraction",
		Use:         "flow models, 20 steps and more, for variety",
		Source:      "k-diffusion's form for rectified flows",
	}, func(o values) Solver { return AncestralFlow{Eta: o.num("eta"), Noise: o.num("s-noise")} }},
	{Info{
		Name: "dpm2-a", Aliases: []string{"dpm_2_ancestral", "dpm2-ancestral", "kdpm2ancestraldiscretescheduler"}, Order: 2, PerStep: "2, 1 in a step to zero", Stochastic: true,
		Options:     []string{"eta=1", "s-noise=1"},
		Description: "midpoint step in ln sigma to below the target, then noise",
		Use:         "k-diffusion's dpm2 a; dpm++2s-a is steadier",
		Source:      "k-diffusion; Karras et al. 2022, arXiv 2206.00364",
	}, func(o values) Solver { return Ancestral2{Eta: o.num("eta"), Noise: o.num("s-noise")} }},
	{Info{
		Name: "dpm++2s-a", Aliases: []string{"dpmpp_2s_ancestral", "dpmpp2s-a", "dpm++2s-ancestral"}, Order: 2, PerStep: "2, 1 in a step to zero", Stochastic: true,
		Options:     []string{"eta=1", "s-noise=1"},
		Description: "second-order single-step DPM-Solver++ to below the target, then noise",
		Use:         "noise in each step with 15 to 30 steps, guided",
		Source:      "k-diffusion; Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return Ancestral2{DPMpp: true, Eta: o.num("eta"), Noise: o.num("s-noise")} }},
	{Info{
		Name: "sde-dpm++1", Aliases: []string{"sde-dpmpp1"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"eta=1"},
		Description: "exponential Euler of the stochastic equation of churn eta; 1 is euler-a",
		Use:         "churn above 1, or exactly as little as wanted",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return SDEDPMpp{Order: 1, Eta: o.num("eta")} }},
	{Info{
		Name: "sde-dpm++2m", Aliases: []string{"dpmpp_2m_sde", "dpm++2m-sde", "sde-dpmsolver++", "sde-dpmpp2m", "cosinedpmsolvermultistepscheduler"}, Order: 2, PerStep: "1", Stochastic: true,
		Options:     []string{"eta=1", "form=midpoint|heun"},
		Description: "second-order multistep DPM-Solver++ of the stochastic equation",
		Use:         "the default with noise: 20 to 50 steps of a guided model",
		Source:      "Lu et al. 2022, arXiv 2211.01095; k-diffusion",
	}, func(o values) Solver { return SDEDPMpp{Order: 2, Eta: o.num("eta"), Form: o.word("form")} }},
	{Info{
		Name: "sde-dpm++3m", Aliases: []string{"dpmpp_3m_sde", "dpm++3m-sde", "sde-dpmpp3m"}, Order: 3, PerStep: "1", Stochastic: true,
		Options:     []string{"eta=1", "third=corrected|published|diffusers"},
		Description: "third-order multistep DPM-Solver++ of the stochastic equation; third=published and diffusers are of lower order",
		Use:         "30 steps and more of an unguided model",
		Source:      "k-diffusion; Lu et al. 2022, arXiv 2211.01095; coefficients corrected",
	}, func(o values) Solver { return SDEDPMpp{Order: 3, Eta: o.num("eta"), Third: o.word("third")} }},
	{Info{
		Name: "dpm++sde", Aliases: []string{"dpmpp_sde", "dpmpp-sde", "dpmsolversdescheduler"}, Order: 2, PerStep: "2, 1 in a step to zero", Stochastic: true,
		Options:     []string{"eta=1", "s-noise=1", "r=0.5"},
		Description: "two-stage DPM-Solver++ of the stochastic equation, one noise path in both stages",
		Use:         "10 to 20 steps with noise, where each may cost two evaluations",
		Source:      "k-diffusion; Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return DPMppSDE{Eta: o.num("eta"), Noise: o.num("s-noise"), R: o.num("r")} }},
	{Info{
		Name: "sa-solver", Aliases: []string{"sasolver", "sasolverscheduler", "sa"}, Order: 3, PerStep: "1", Stochastic: true,
		Options:     []string{"predictor=3", "corrector=3", "tau=1", "tau-min=0", "tau-max=1e+06"},
		Description: "stochastic Adams predictor and corrector with noise tau at sigma from tau-min to tau-max",
		Use:         "20 to 60 steps with noise; tau-min=0.05, tau-max=1 as its paper, on the paths of edm",
		Source:      "Xue et al. 2023, arXiv 2309.05019",
	}, func(o values) Solver {
		return SASolver{
			Predictor: int(o.num("predictor")), Corrector: int(o.num("corrector")),
			Tau: o.num("tau"), Min: o.num("tau-min"), Max: o.num("tau-max"),
		}
	}},
	{Info{
		Name: "flow-sde", Aliases: []string{"sit-sde", "euler-maruyama"}, Order: 1, PerStep: "1", Stochastic: true,
		Options:     []string{"diffusion=sigma|constant|sbdm|decreasing|increasing-decreasing", "norm=1", "last=mean|tweedie"},
		Description: "Euler-Maruyama on a flow's stochastic equation, the last step without noise",
		Use:         "250 steps of SiT and its kin, on a flow grid whose last level is 0.04",
		Source:      "Ma et al. 2024, arXiv 2401.08740",
	}, func(o values) Solver {
		return FlowSDE{Diffusion: o.word("diffusion"), Norm: o.num("norm"), Last: o.word("last")}
	}},
}

func churnOptions(o values) Churn {
	return Churn{Amount: o.num("churn"), Min: o.num("s-min"), Max: o.num("s-max"), Noise: o.num("s-noise")}
}
