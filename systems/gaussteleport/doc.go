// Package gaussteleport is analytical teleportation and the analysis of scores by
// Gaussians (Wang and Vastola 2024, "The Unreasonable Effectiveness of Gaussian
// Score Approximation for Diffusion Models and its Applications").
//
// The first steps of a sampler are replaced by the exact flow of the Gaussian that
// has the data's mean and covariance; that part is sampler.Teleport with
// sampler.Gaussian. Here are the laws of data with classes and of mixtures, the
// statistics that they are made of, the scores to compare a denoiser's with, and
// the share of it that each explains.
//
// Own choices, where the paper leaves one: a mixture's flow is integrated by the
// classical Runge-Kutta method in sigma, 24 steps per factor e; a guided sampler
// jumps by the statistics of its class, without guidance; the share explained has
// an interval by the delta method over samples.
package gaussteleport
