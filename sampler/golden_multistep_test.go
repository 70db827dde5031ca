package sampler_test

func goldenMultistep() []goldenCase { return nil }
