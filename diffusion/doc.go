// Package diffusion has the arithmetic of noise: paths from data to noise,
// what a network may predict on them, kernels of noise other than the normal
// one, and grids of noise levels.
//
// On every path a state is x = A·x0 + B·n with n standard normal, and its noise
// level is sigma = B/A. Three scalings of a state are in use:
//
//	VE    A = 1                B = sigma
//	VP    A = 1/√(1+sigma²)    B = sigma·A
//	Flow  A = 1/(1+sigma) = 1-τ, B = τ
//
// VP and Flow can hold sigma = +Inf (A = 0, pure noise); VE cannot.
//
// The one rule to know: a Grid is a list of from–to pairs of Points. Nothing
// computes a previous time by subtracting a stride, and a network's time always
// comes from the sigma of its point, through Path.Time.
package diffusion
