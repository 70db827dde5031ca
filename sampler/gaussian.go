package sampler

import (
	"context"
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Gaussian is the exact denoiser of a normal distribution of samples of D
// values, full or of low rank (ops.Gaussian has the formula), on any device and
// in the dtype of the states. It serves any number of goroutines.
type Gaussian struct {
	shape       []int
	mean, basis *gpu.Tensor // float64 on the CPU: [D], [r, D]
	lambda      []float64   // variances along the basis, r of them
	rest        float64     // and across it

	mu   sync.Mutex
	made map[place]*ops.Gaussian
}

// place is where states live.
type place struct {
	dev *gpu.Device
	dt  gpu.DType
}

// NewGaussian is the denoiser of the distribution with that mean and covariance,
// float64 [D] and [D, D] on the CPU, of samples of that shape. With rank < D it
// keeps the variances along the rank leading eigenvectors and gives every
// direction across them the mean of the others; rank 0 is D. It refuses
// covariances that are not symmetric, not finite, or have a negative eigenvalue.
func NewGaussian(mean, cov *gpu.Tensor, rank int, shape []int) (*Gaussian, error) {
	D := mean.Len()
	if cov.Len() != D*D || !mean.Double() || !cov.Double() || D == 0 {
		return nil, fmt.Errorf("sampler: gaussian: mean %v and covariance %v; wanted float64 [D] and [D, D]", mean.Shape(), cov.Shape())
	}
	if rank == 0 {
		rank = D
	}
	if rank < 1 || rank > D {
		return nil, fmt.Errorf("sampler: gaussian: rank %d of %d dimensions; wanted 1 to %d, or 0 for all", rank, D, D)
	}
	if shape == nil {
		shape = []int{D}
	}
	if err := checkShape(shape, D); err != nil {
		return nil, fmt.Errorf("sampler: gaussian: %w", err)
	}
	values, vectors := gpu.CPU().Empty64(1, D), gpu.CPU().Empty64(1, D, D)
	if err := ops.Eigh(values, vectors, cov.View(1, D, D)); err != nil {
		return nil, fmt.Errorf("sampler: gaussian: covariance: %w", err)
	}
	g := &Gaussian{shape: shape, mean: mean.View(D), made: map[place]*ops.Gaussian{}}
	g.basis = vectors.View(D, D).Rows(D-rank, D)
	g.lambda = values.F64()[D-rank:]
	for _, v := range values.F64()[:D-rank] {
		g.rest += v / float64(D-rank)
	}
	if values.F64()[0] < -1e-6*g.lambda[rank-1] {
		return nil, fmt.Errorf("sampler: gaussian: covariance has the eigenvalue %g (largest %g); wanted none below 0", values.F64()[0], g.lambda[rank-1])
	}
	_, err := g.at(gpu.CPU(), gpu.Float64)
	return g, err
}

// FitGaussian is the denoiser of the normal distribution with the mean and the
// covariance (divided by their number) of images x [N, shape...].
func FitGaussian(x *gpu.Tensor, rank int) (*Gaussian, error) {
	s := x.Shape()
	if len(s) < 2 || s[0] < 2 {
		return nil, fmt.Errorf("sampler: gaussian: images of shape %v; wanted [N, ...] of at least two", s)
	}
	D := x.Len() / s[0]
	mean, cov := x.Device().Empty64(1, D), x.Device().Empty64(1, D, D)
	ops.Covariance(cov, mean, x.View(1, s[0], D), 0)
	return NewGaussian(mean.To(gpu.CPU()).View(D), cov.To(gpu.CPU()).View(D, D), rank, s[1:])
}

// Shape is the shape of one sample.
func (g *Gaussian) Shape() []int { return g.shape }

// at is the distribution where states of that dtype live.
func (g *Gaussian) at(dev *gpu.Device, dt gpu.DType) (*ops.Gaussian, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := place{dev, dt}
	if d := g.made[p]; d != nil {
		return d, nil
	}
	as := func(t *gpu.Tensor) *gpu.Tensor {
		if dt == gpu.Float64 {
			return t.To(dev)
		}
		v := gpu.CPU().Empty(t.Shape()...)
		for i, e := range t.F64() {
			v.F32()[i] = float32(e)
		}
		return v.To(dev)
	}
	d, err := ops.NewGaussian(as(g.mean), as(g.basis), g.lambda, g.rest)
	if err != nil {
		return nil, fmt.Errorf("sampler: gaussian: %w", err)
	}
	g.made[p] = d
	return d, nil
}

// Denoise implements Denoiser.
func (g *Gaussian) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return g.DenoiseAt(ctx, out, x, vePoints(sigma), c)
}

// DenoiseAt implements PointDenoiser. Images at one level that follow each other
// are denoised together, in pieces that are made up to one size on the CPU, so
// that an image's bits do not depend on how many others there are.
func (g *Gaussian) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ Cond) error {
	mustBatch("Gaussian", out, x, len(at))
	if n := len(at); n > 0 && x.Len()/n != g.mean.Len() {
		return fmt.Errorf("sampler: gaussian: images of %d values; the distribution has %d", x.Len()/n, g.mean.Len())
	}
	d, err := g.at(x.Device(), x.DType())
	if err != nil {
		return err
	}
	for lo := 0; lo < len(at); {
		if err := ctx.Err(); err != nil {
			return err
		}
		hi := lo + 1
		for hi < len(at) && hi-lo < rowsPerPiece && at[hi].A == at[lo].A && at[hi].B == at[lo].B {
			hi++
		}
		g.piece(d, out.Rows(lo, hi), x.Rows(lo, hi), at[lo])
		lo = hi
	}
	return nil
}

func (g *Gaussian) piece(d *ops.Gaussian, out, x *gpu.Tensor, p diffusion.Point) {
	n := x.Shape()[0]
	if n == rowsPerPiece || x.Device().CUDA() {
		d.Denoise(out, x, p.A, p.B)
		return
	}
	full := x.Device().New(x.DType(), rowsPerPiece, g.mean.Len())
	part := full.Rows(0, n)
	part.Copy(x.View(part.Shape()...))
	d.Denoise(full, full, p.A, p.B)
	out.Copy(part.View(out.Shape()...))
}
