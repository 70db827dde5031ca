package sampler

// multistepSolvers keep what the denoiser said in earlier steps.
var multistepSolvers = []entry{
	{Info{
		Name: "dpm++2m", Aliases: []string{"dpmpp2m", "dpmpp_2m", "dpm++_2m", "dpm-solver++", "dpmsolvermultistepscheduler"}, Order: 2, PerStep: "1",
		Options:     []string{lowerNever},
		Description: "second-order multistep DPM-Solver++, midpoint form",
		Use:         "the default: 10 to 25 steps of a guided model",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return DPMMultistep{LowerFinal: o.lowerFinal()} }},
	{Info{
		Name: "dpm++2m-heun", Aliases: []string{"dpmpp2m-heun", "dpmpp_2m_heun"}, Order: 2, PerStep: "1",
		Options:     []string{lowerNever},
		Description: "second-order multistep DPM-Solver++, Heun form",
		Use:         "as dpm++2m; compare both on your model",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return DPMMultistep{HeunForm: true, LowerFinal: o.lowerFinal()} }},
	{Info{
		Name: "dpm++3m", Aliases: []string{"dpmpp3m", "dpmpp_3m", "dpm++_3m", "dpm-solver++3", "edmdpmsolvermultistepscheduler"}, Order: 3, PerStep: "1",
		Options:     []string{lowerShort, formOption, thirdOption},
		Description: "third-order multistep DPM-Solver++; third=published has the usual coefficient, which is of second order",
		Use:         "20 steps and more without guidance, or with weak guidance",
		Source:      "Lu et al. 2022, arXiv 2211.01095",
	}, func(o values) Solver { return o.dpmMultistep(3, false) }},
	{Info{
		Name: "dpm-2m", Aliases: []string{"dpm-solver-2m", "dpmsolver-2m"}, Order: 2, PerStep: "1",
		Options:     []string{lowerNever, formOption},
		Description: "second-order multistep DPM-Solver on the predicted noise",
		Use:         "unguided models; ends above zero noise",
		Source:      "Lu et al. 2022, arXiv 2206.00927",
	}, func(o values) Solver { return o.dpmMultistep(2, true) }},
	{Info{
		Name: "dpm-3m", Aliases: []string{"dpm-solver-3m", "dpmsolver-3m"}, Order: 3, PerStep: "1",
		Options:     []string{lowerShort, formOption, thirdOption},
		Description: "third-order multistep DPM-Solver on the predicted noise; third=published is of second order",
		Use:         "unguided models with 20 steps and more; ends above zero noise",
		Source:      "Lu et al. 2022, arXiv 2206.00927",
	}, func(o values) Solver { return o.dpmMultistep(3, true) }},
}

func (v values) dpmMultistep(order int, noise bool) Solver {
	return DPMMultistep{
		Order: order, Noise: noise, HeunForm: v.word("form") == "heun",
		Published: v.word("third") == "published", LowerFinal: v.lowerFinal(),
	}
}
