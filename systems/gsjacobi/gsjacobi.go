// Package gsjacobi is GS-Jacobi sampling of TarFlow after "Accelerate TarFlow Sampling with GS-Jacobi Iteration" (Liu and Qin 2025,
// arXiv 2505.12849).
//
// A TarFlow's inverse is sequential: a token's scale and shift are of the tokens before it. The equation x = z·exp(a(x)) + b(x) of a
// block can be iterated for all tokens at once instead; since it is triangular, k iterations make k tokens exact, and the rest is near
// long before. Blocks that converge slowly are cut into segments, which are solved one after the other.
package gsjacobi
