package sampler

// multistepSolvers keep denoised states of earlier steps.
var multistepSolvers = []entry{}
