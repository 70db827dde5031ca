package sampler_test

func goldenSinglestep() []goldenCase { return nil }
