package sampler

import (
	"context"

	"github.com/fidlab/fidlab/gpu"
)

// Cond is what a denoiser may be conditioned on; the zero value means nothing.
type Cond struct {
	Classes []int // one per image, -1 for unconditional; nil when all are
}

// Denoiser estimates the clean images. Denoise writes to out the denoised x,
// where x[i] = x0 + sigma[i]·n in the variance-exploding scaling: x and out are
// [B, ...], of one dtype, and may not overlap; len(sigma) is B.
type Denoiser interface {
	Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error
}
