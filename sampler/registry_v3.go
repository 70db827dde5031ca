package sampler

// statisticsSolvers use what was measured of a model.
var statisticsSolvers = []entry{
	{Info{
		Name: "dpm-solver-v3", Aliases: []string{"dpmsolverv3", "dpm_solver_v3", "dpmv3"}, Order: 2, PerStep: "1",
		Options:     []string{"order=3", "predictor=full|pseudo", "corrector=pseudo|full|none", "lower-final=1"},
		Description: "multistep solver on the model's own statistics; DPM-Solver++ with a corrector where there are none",
		Use:         "5 to 10 steps of a model whose statistics were measured once",
		Source:      "Zheng et al. 2023, arXiv 2310.13268",
	}, func(o values) Solver {
		return DPMSolverV3{Order: o.whole("order"), Pseudo: o.word("predictor") == "pseudo", Corrector: o.word("corrector"), LowerFinal: o.is("lower-final")}
	}},
}
