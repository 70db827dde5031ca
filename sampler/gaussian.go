package sampler

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
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
	lambda := values.F64()
	if lambda[0] < -1e-6*lambda[D-1] {
		return nil, fmt.Errorf("sampler: gaussian: covariance has the eigenvalue %g (largest %g); wanted none below 0", lambda[0], lambda[D-1])
	}
	var rest float64
	for _, v := range lambda[:D-rank] {
		rest += v / float64(D-rank)
	}
	return newGaussian(mean.View(D), vectors.View(D, D).Rows(D-rank, D), lambda[D-rank:], rest, shape)
}

// GaussianOf is the denoiser of the distribution in low-rank form: mean [D],
// variances lambda along the r orthonormal rows of basis [r, D], float64 on the
// CPU, and the variance rest in every direction across them: 0, or the mean of
// what was discarded. It refuses rows that are not orthonormal and variances that
// are not finite or below zero by more than rounding.
func GaussianOf(mean, basis *gpu.Tensor, lambda []float64, rest float64, shape []int) (*Gaussian, error) {
	D, b := mean.Len(), basis.Shape()
	if !mean.Double() || !basis.Double() || D == 0 || len(b) != 2 || b[1] != D || b[0] != len(lambda) || b[0] < 1 || b[0] > D {
		return nil, fmt.Errorf("sampler: gaussian: mean %v, basis %v and %d variances; wanted float64 [D], [r, D] and r of them, 1 <= r <= D", mean.Shape(), b, len(lambda))
	}
	if shape == nil {
		shape = []int{D}
	}
	if err := checkShape(shape, D); err != nil {
		return nil, fmt.Errorf("sampler: gaussian: %w", err)
	}
	if err := orthonormal(basis.F64(), len(lambda), D); err != nil {
		return nil, err
	}
	return newGaussian(mean.View(D), basis, append([]float64(nil), lambda...), rest, shape)
}

// orthonormal refuses rows of which some product is not as it should be: U·Uᵀ·z is
// z for a random z, which costs one product in place of all of them.
func orthonormal(u []float64, r, D int) error {
	z, y, back := make([]float64, r), make([]float64, D), make([]float64, r)
	rng.New(0, 0).FillNormal64(z)
	cpu.Gemm64(nil, false, false, 1, D, r, 1, z, r, u, D, 0, y, D)
	cpu.Gemm64(nil, false, true, 1, r, D, 1, y, D, u, D, 0, back, r)
	for k, v := range back {
		if e := math.Abs(v - z[k]); !(e <= 1e-5*math.Sqrt(float64(r))) {
			return fmt.Errorf("sampler: gaussian: basis row %d is not orthonormal to the others (off by %.2g); wanted unit eigenvectors as rows", k, e)
		}
	}
	return nil
}

func newGaussian(mean, basis *gpu.Tensor, lambda []float64, rest float64, shape []int) (*Gaussian, error) {
	g := &Gaussian{shape: shape, mean: mean, basis: basis, lambda: lambda, rest: rest, made: map[place]*ops.Gaussian{}}
	_, err := g.at(gpu.CPU(), gpu.Float64)
	return g, err
}

// WithRest is the same distribution with another variance across the basis.
func (g *Gaussian) WithRest(rest float64) (*Gaussian, error) {
	return newGaussian(g.mean, g.basis, g.lambda, rest, g.shape)
}

// Rest is the variance in every direction across the basis.
func (g *Gaussian) Rest() float64 { return g.rest }

// Lambda is the variances along the basis, which must not be changed.
func (g *Gaussian) Lambda() []float64 { return g.lambda }

// Variance is the sum of the variances in all directions.
func (g *Gaussian) Variance() float64 {
	sum := g.rest * float64(g.mean.Len()-len(g.lambda))
	for _, v := range g.lambda {
		sum += v
	}
	return sum
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
	return g.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser. Images at one level that follow each other
// are denoised together, in pieces that are made up to one size on the CPU, so
// that an image's bits do not depend on how many others there are.
func (g *Gaussian) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ Cond) error {
	return g.pieces(ctx, "Gaussian", out, x, at, func(d *ops.Gaussian, out, x *gpu.Tensor, p diffusion.Point) {
		d.Denoise(out, x, p.A, p.B)
	})
}

// Spectral writes to·mean + f(Σ)·(x - A·mean) to out, with f of the covariance Σ
// given by gain (ops.Gaussian has the formula), for states x at one point.
func (g *Gaussian) Spectral(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, to float64, gain func(lambda float64) float64) error {
	return g.pieces(ctx, "Gaussian.Spectral", out, x, at, func(d *ops.Gaussian, out, x *gpu.Tensor, p diffusion.Point) {
		d.Spectral(out, x, p.A, to, gain)
	})
}

// Flow implements Law: it takes states of this distribution's marginal at from to
// the one at to along its probability-flow equation, without error and without
// asking anything (ops.Gaussian.Flow has the formula). The condition is ignored.
func (g *Gaussian) Flow(ctx context.Context, x *gpu.Tensor, from, to diffusion.Point, _ Cond) error {
	if from.B == 0 {
		return fmt.Errorf("sampler: gaussian: a flow from sigma 0, where the distribution may have no spread; wanted noise at the start")
	}
	at := make([]diffusion.Point, x.Shape()[0])
	for i := range at {
		at[i] = from
	}
	return g.pieces(ctx, "Gaussian.Flow", x, x, at, func(d *ops.Gaussian, out, x *gpu.Tensor, p diffusion.Point) {
		d.Flow(out, x, p.A, p.B, to.A, to.B)
	})
}

// Serves implements Law.
func (g *Gaussian) Serves(shape []int, _ Cond) error {
	if n := sizeOf(shape); n != g.mean.Len() {
		return fmt.Errorf("sampler: gaussian: samples of shape %v have %d values; the distribution has %d", shape, n, g.mean.Len())
	}
	return nil
}

// pieces calls f for images at one point that follow each other.
func (g *Gaussian) pieces(ctx context.Context, op string, out, x *gpu.Tensor, at []diffusion.Point, f func(d *ops.Gaussian, out, x *gpu.Tensor, p diffusion.Point)) error {
	if out != x {
		mustBatch(op, out, x, len(at))
	}
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
		part, result := x.Rows(lo, hi), out.Rows(lo, hi)
		if hi-lo < rowsPerPiece && !x.Device().CUDA() {
			full := x.Device().New(x.DType(), rowsPerPiece, g.mean.Len())
			first := full.Rows(0, hi-lo)
			first.Copy(part.View(first.Shape()...))
			f(d, full, full, at[lo])
			result.Copy(first.View(result.Shape()...))
		} else {
			f(d, result, part, at[lo])
		}
		lo = hi
	}
	return nil
}
