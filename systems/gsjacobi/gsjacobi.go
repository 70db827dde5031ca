// Package gsjacobi is GS-Jacobi sampling of TarFlow after "Accelerate TarFlow Sampling with GS-Jacobi Iteration" (Liu and Qin 2025,
// arXiv 2505.12849).
//
// A TarFlow's inverse is sequential: a token's scale and shift are of the tokens before it. The equation x = z·exp(a(x)) + b(x) of a
// block can be iterated for all tokens at once instead; since it is triangular, k iterations make k tokens exact, and the rest is near
// long before. Blocks that converge slowly are cut into segments, which are solved one after the other. Sample inverts any flow of
// package flow by a Strategy; Analyze computes the two metrics of its blocks and suggests strategies; here are also the flows of digits
// that are trained to try it (fidlab train tarflow, tarflow-fine) and the proof.
//
// Kept: the iteration, segments with the keys and values of finished ones kept, both starts, both metrics, the published strategies,
// guidance with a cache of its own, the denoising step.
// Shrunk: pictures of 64 to 256 pixels to digits of 28×28, 1024 tokens to 49 and 196, flows of a billion parameters to one million.
// Added: tokens that are exact already are left out of an iteration; the keys and values of a segment's last tokens are brought up to
// date by the next segment's first call, which costs no call of its own; a segment whose iterate would overflow is solved token by token.
// Chosen: convergence is of each sample by its greatest change, and a sample that is done stays; the published code takes a norm over the
// batch. It clamps iterates to ±3, which changes the solution: Options.Clamp, off. The norms of CRM and IGM are spectral ones, of means
// over pictures of matrices [tokens, numbers]. What the paper leaves to the reader, how many segments a tough block gets, Analyze tries.
// Left out: a temperature of the unconditional branch's attention.
package gsjacobi
