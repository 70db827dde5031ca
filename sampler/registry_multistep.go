package sampler

import "slices"

// multistepSolvers keep what the denoiser said in earlier steps.
var multistepSolvers = []entry{
	{Info{
		Name: "dpm++2m", Aliases: []string{"dpmpp2m", "dpmpp_2m", "dpm++_2m", "dpm-solver++", "dpmsolvermultistepscheduler", "edmdpmsolvermultistepscheduler"}, Order: 2, PerStep: "1",
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
		Name: "dpm++3m", Aliases: []string{"dpmpp3m", "dpmpp_3m", "dpm++_3m", "dpm-solver++3"}, Order: 3, PerStep: "1",
		Options:     []string{lowerShort, formOption, thirdOption},
		Description: "third-order multistep DPM-Solver++; third=published has the usual coefficient, which is of second order",
		Use:         "30 steps and more; with fewer, dpm++2m or unipc",
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
		Use:         "unguided models with 30 steps and more; ends above zero noise",
		Source:      "Lu et al. 2022, arXiv 2206.00927",
	}, func(o values) Solver { return o.dpmMultistep(3, true) }},
	{Info{
		Name: "lms", Aliases: []string{"lmsdiscretescheduler", "k_lms", "rho_ab"}, Order: 3, PerStep: "1",
		Options:     []string{"order=4|3|2|1", startOption},
		Description: "Adams-Bashforth in sigma, exact for steps of any length; steps of order 1 to 4, the start limits the order to 3 in the end",
		Use:         "20 steps and more on grids in sigma; smooth models",
		Source:      "k-diffusion; Zhang and Chen 2023, arXiv 2204.13902",
	}, func(o values) Solver { return LMS{Order: o.whole("order"), PlainStart: o.word("start") == "plain"} }},
	{Info{
		Name: "deis", Aliases: []string{"deismultistepscheduler", "deis-log-rho"}, Order: 3, PerStep: "1",
		Options:     []string{"order=3|2|1", startOption, lowerShort},
		Description: "exponential Adams-Bashforth on the predicted noise, polynomial in ln sigma; order 1 to 3",
		Use:         "unguided models with 10 steps and more; ends above zero noise",
		Source:      "Zhang and Chen 2023, arXiv 2204.13902",
	}, func(o values) Solver {
		return DEIS{Order: o.whole("order"), PlainStart: o.word("start") == "plain", LowerFinal: o.lowerFinal()}
	}},
	{Info{
		Name: "ipndm", Aliases: []string{"ipndmscheduler"}, Order: 2, PerStep: "1",
		Options:     []string{"order=4|3|2|1"},
		Description: "pseudo linear multistep of up to four points, after first steps of lower order",
		Use:         "to compare with papers; lms and deis know the lengths of steps",
		Source:      "Zhang and Chen 2023, arXiv 2204.13902; Liu et al. 2022, arXiv 2202.09778",
	}, func(o values) Solver { return IPNDM{Order: o.whole("order")} }},
	{Info{
		Name: "pndm", Aliases: []string{"pndmscheduler", "f-pndm"}, Order: 2, PerStep: "1, 4 in the first three steps",
		Description: "pseudo linear multistep after a pseudo Runge-Kutta start",
		Use:         "to repeat results of papers; 20 evaluations and more",
		Source:      "Liu et al. 2022, arXiv 2202.09778",
	}, func(values) Solver { return PNDM{} }},
	{Info{
		Name: "plms", Aliases: []string{"pndm-plms", "skip-prk"}, Order: 2, PerStep: "1, 2 in the first step",
		Description: "pseudo linear multistep after one step of two evaluations",
		Use:         "to repeat results of early latent diffusion; 20 steps and more",
		Source:      "Liu et al. 2022, arXiv 2202.09778",
	}, func(values) Solver { return PNDM{PLMS: true} }},
	{Info{
		Name: "unipc", Aliases: []string{"unipcmultistepscheduler", "uni_pc", "uni_pc_bh2"}, Order: 3, PerStep: "1",
		Options:     []string{"order=2|1|3|4|5", "variant=bh2|bh1|vary", "predict=x0|eps", "corrector=1", "skip=[]", lowerShort},
		Description: "predictor of order 1 to 5 and a corrector that costs no evaluation; skip=0+1: steps that go uncorrected",
		Use:         "5 to 15 steps; order=3 without guidance, orders 4 and 5 from 50 steps on",
		Source:      "Zhao et al. 2023, arXiv 2302.04867",
	}, func(o values) Solver {
		return UniPC{
			Order: o.whole("order"), Variant: UniPCVariant(slices.Index(uniPCVariants, o.word("variant"))),
			Noise: o.word("predict") == "eps", NoCorrector: !o.is("corrector"), Skip: o.list("skip"), LowerFinal: o.lowerFinal(),
		}
	}},
}

func (v values) dpmMultistep(order int, noise bool) Solver {
	return DPMMultistep{
		Order: order, Noise: noise, HeunForm: v.word("form") == "heun",
		Published: v.word("third") == "published", LowerFinal: v.lowerFinal(),
	}
}
