package sampler

// stochasticSolvers draw noise.
var stochasticSolvers = []entry{}
