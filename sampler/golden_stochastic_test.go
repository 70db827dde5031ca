package sampler_test

func goldenStochastic() []goldenCase { return nil }
