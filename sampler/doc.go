// Package sampler draws samples from denoisers: noise grids, solvers and the
// adapters that turn any parametrisation (eps, x0, v, flow) into the one
// convention of Denoiser. It knows no network.
package sampler
