package sampler

// singlestepSolvers ask the denoiser several times a step and keep nothing.
var singlestepSolvers = []entry{}
