package sampler

// rungeKuttaSolvers are methods for any differential equation, on the straight line.
var rungeKuttaSolvers = []entry{
	{Info{
		Name: "midpoint", Aliases: []string{"flow-midpoint", "rk2"}, Order: 2, PerStep: "2",
		Description: "midpoint rule on the flow's velocity, or on x/A in sigma",
		Use:         "flow models with 10 to 20 evaluations",
		Source:      "Lipman et al. 2023, arXiv 2210.02747",
	}, func(values) Solver { return Midpoint() }},
	{Info{
		Name: "rk4", Aliases: []string{"flow-rk4", "runge-kutta"}, Order: 4, PerStep: "4, 2 in a step to zero",
		Description: "classical Runge-Kutta method on the flow's velocity, or on x/A in sigma",
		Use:         "references of fixed cost; smooth flows with 40 evaluations and more",
		Source:      "Kutta 1901; Lipman et al. 2023, arXiv 2210.02747",
	}, func(values) Solver { return RK4() }},
	{Info{
		Name: "flowturbo", Aliases: []string{"pseudo-heun", "pseudo-corrector"}, Order: 2, PerStep: "1, 2 in the first steps, 0 in a last one to zero",
		Options:     []string{"heun=1"},
		Description: "Heun's method that takes each step's second evaluation for the next step's first, after heun whole steps; --blocks adds steps of a trained refiner",
		Use:         "flow models with 5 to 12 evaluations",
		Source:      "Zhao et al. 2024, arXiv 2409.18128",
	}, func(o values) Solver {
		n := o.whole("heun")
		if n < 1 {
			n = -1 // none is refused: the first step has no velocity from before
		}
		return &FlowTurbo{Heun: n}
	}},
	{Info{
		Name: "dopri5", Aliases: []string{"flow-dopri5", "rk45", "dormand-prince"}, Order: 5, PerStep: "varies, 6 a try",
		Options:     []string{"rtol=1e-05", "atol=1e-05"},
		Description: "adaptive Runge-Kutta pair of orders 5 and 4, each image with steps of its own",
		Use:         "references to a tolerance; few grid levels leave it free",
		Source:      "Dormand and Prince 1980; Song et al. 2021, arXiv 2011.13456",
	}, func(o values) Solver { return DormandPrince{RTol: o.num("rtol"), ATol: o.num("atol")} }},
}
