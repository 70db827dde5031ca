package bases

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the fitted mixture
	"encoding/hex"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/tensor"
)

// DigitMixture is the fixture of samplers that need no training: MNIST at 14×14
// (means of 2×2 pixels), the first 8000 training images, in their 24 leading
// principal dimensions, scaled to a mean deviation of 0.5, as a Gaussian mixture
// of 12 components with full covariances and 1e-4 added to their diagonals. Its
// score is exact, and so are the moments of what it draws.
const DigitMixture = "digit-mixture"

// The sizes of the testbed.
const (
	mixtureSide   = 14
	mixtureImages = 8000
	mixtureDims   = 24
	mixtureK      = 12
	mixtureDev    = 0.5
	mixtureFloor  = 1e-4
)

func init() {
	systems.RegisterFixture(systems.Fixture{
		Name: DigitMixture,
		Text: "the exact score of a mixture fitted to MNIST at 14×14 in 24 principal dimensions",
		Open: func(context.Context, *systems.Env) (any, string, error) {
			m, err := decodeMixture(digitMixture)
			sum := sha256.Sum256(digitMixture)
			return m, hex.EncodeToString(sum[:]), err
		},
	})
}

//go:embed digit-mixture.npz
var digitMixture []byte // by go run ./scripts/mixturebed

// Mixture is a testbed: an exact denoiser with exact moments. It may be used by
// several goroutines at once.
type Mixture struct {
	*sampler.Mixture
	Spec sampler.MixtureSpec
	Dims int

	mean, cov *gpu.Tensor // exact moments, float64 [1, D] and [1, D, D]
	factors   [][]float64 // lower Cholesky factor of every component's covariance

	imageMean []float64   // [196]
	basis     [][]float64 // [D][196], of pictures
	scale     float64     // latent = scale·(principal coordinate)
}

// NewMixture makes a testbed of any mixture without a subspace, for tests and
// further testbeds; it draws no pictures.
func NewMixture(spec sampler.MixtureSpec) (*Mixture, error) {
	m, err := sampler.NewMixture(spec)
	if err != nil {
		return nil, err
	}
	if spec.Subspace != nil || spec.Covs == nil {
		return nil, fmt.Errorf("bases: a mixture without full covariances, or in a subspace; wanted covs alone")
	}
	d := len(spec.Means[0])
	out := &Mixture{Mixture: m, Spec: spec, Dims: d}
	mean, cov := make([]float64, d), make([]float64, d*d)
	for k, w := range spec.Weights {
		for i, v := range spec.Means[k] {
			mean[i] += w * v
		}
	}
	for k, w := range spec.Weights {
		l := make([]float64, 0, d*d)
		for i, row := range spec.Covs[k] {
			l = append(l, row...)
			for j, v := range row {
				cov[i*d+j] += w * (v + (spec.Means[k][i]-mean[i])*(spec.Means[k][j]-mean[j]))
			}
		}
		if err := cpu.Cholesky64(nil, d, l, d); err != nil {
			return nil, fmt.Errorf("bases: covariance of component %d: %w", k, err)
		}
		out.factors = append(out.factors, l)
	}
	out.mean, out.cov = gpu.CPU().From64(mean, 1, d), gpu.CPU().From64(cov, 1, d, d)
	return out, nil
}

// Moments are the exact mean [D] and covariance [D, D] of what the mixture draws.
func (m *Mixture) Moments() (mean, cov []float64) { return m.mean.F64(), m.cov.F64() }

// Draws are n exact draws [n, D], float64; the same seed gives the same ones.
func (m *Mixture) Draws(seed uint64, n int) *gpu.Tensor {
	d := m.Dims
	x := make([]float64, n*d)
	z := make([]float64, d)
	for i := range n {
		s := rng.New(seed, uint64(i))
		u, k := s.Float64(), 0
		for k < len(m.Spec.Weights)-1 && u >= m.Spec.Weights[k] {
			u -= m.Spec.Weights[k]
			k++
		}
		s.FillNormal64(z)
		for a := range d {
			v := m.Spec.Means[k][a]
			for b := range a + 1 {
				v += m.factors[k][a*d+b] * z[b]
			}
			x[i*d+a] = v
		}
	}
	return gpu.CPU().From64(x, n, d)
}

// Frechet is the Fréchet distance of samples x [n, D] to the mixture's exact
// moments; the samples' covariance is divided by n-1. n samples of the mixture
// itself are not at 0 but at the floor of their number.
func (m *Mixture) Frechet(x *gpu.Tensor) (float64, error) {
	n, d := x.Shape()[0], m.Dims
	if n <= d {
		return 0, fmt.Errorf("bases: Frechet: %d samples of %d dimensions; wanted more than dimensions", n, d)
	}
	return FrechetTo(m.mean, m.cov, x)
}

// MomentsOf are the mean [1, D] and the covariance [1, D, D], over n-1, of samples x [n, ...], in float64.
func MomentsOf(x *gpu.Tensor) (mean, cov *gpu.Tensor) {
	n := x.Shape()[0]
	d := x.Len() / n
	mean, cov = gpu.CPU().Empty64(1, d), gpu.CPU().Empty64(1, d, d)
	ops.Covariance(cov, mean, gpu.CPU().From64(values(x), 1, n, d), 1)
	return mean, cov
}

// FrechetTo is the Fréchet distance of samples x [n, ...], by MomentsOf, to moments.
func FrechetTo(mean, cov, x *gpu.Tensor) (float64, error) {
	m, c := MomentsOf(x)
	dist := gpu.CPU().Empty64(1)
	if err := ops.Frechet(dist, mean, cov, m, c); err != nil {
		return 0, err
	}
	return dist.F64()[0], nil
}

// Options draw n samples from a seed's noise, in float64.
func (m *Mixture) Options(seed uint64, n int) sampler.Options {
	return sampler.Options{Seed: seed, N: n, Batch: 512, Shape: []int{m.Dims}, Double: true}
}

// Fine are the exact ends of the noise of a seed along path from the first level
// of grid g, whose own last level is the end: 50 steps of the classical
// Runge-Kutta method, equal in ln sigma, then one to the end where that is
// without noise. The ends' error of 1e-4 at most is nothing beside those of few
// steps.
func (m *Mixture) Fine(ctx context.Context, env *systems.Env, g *diffusion.Grid, seed uint64, n int) (*gpu.Tensor, error) {
	levels := g.Sigmas()
	first, last := levels[0], levels[len(levels)-1]
	key := fmt.Sprintf("fine %p %v %g %g %d %d", m, g.Space, first, last, seed, n)
	return systems.Memo(env, key, func() (*gpu.Tensor, error) {
		low := last
		if low == 0 {
			low = fineEnd
		}
		const steps = 50
		fine := &diffusion.Grid{Name: "fine", Space: diffusion.VESpace}
		at := func(i int) diffusion.Point {
			return diffusion.At(diffusion.DefaultVE(), first*math.Pow(low/first, float64(i)/steps))
		}
		for i := range steps {
			fine.Steps = append(fine.Steps, diffusion.Step{From: at(i), To: at(i + 1)})
		}
		if last == 0 {
			fine.Steps = append(fine.Steps, diffusion.Step{From: at(steps), To: diffusion.Clean(diffusion.DefaultVE())})
		}
		r, err := sampler.Run(ctx, m, sampler.RK4(), fine, m.Options(seed, n))
		if err != nil {
			return nil, err
		}
		return r.X, nil
	})
}

// fineEnd is the last level before zero of Fine: a hundredth of the least
// deviation in the mixture, so that the step to zero is nothing.
const fineEnd = 1e-4

// RMSE is the root of the mean squared difference of samples.
func RMSE(x, y *gpu.Tensor) float64 {
	a, b := values(x), values(y)
	var s float64
	for i, v := range a {
		s += (v - b[i]) * (v - b[i])
	}
	return math.Sqrt(s / float64(len(a)))
}

// values are a tensor's elements in float64.
func values(x *gpu.Tensor) []float64 {
	x = x.To(gpu.CPU())
	if x.Double() {
		return x.F64()
	}
	out := make([]float64, x.Len())
	for i, v := range x.F32() {
		out[i] = float64(v)
	}
	return out
}

// FLOPs of an evaluation for one sample: the components' two rotations.
func (m *Mixture) FLOPs() float64 { return 4 * float64(m.K()*m.Dims*m.Dims) }

// Embedding is how samples are pictures of 14×14 values from 0 to 1: the picture
// of z is mean + Σ_i z_i/scale·basis_i, with orthonormal basis pictures. All are
// nil and 0 for a testbed without pictures.
func (m *Mixture) Embedding() (mean []float64, basis [][]float64, scale float64) {
	return m.imageMean, m.basis, m.scale
}

// Pictures are the first n samples as digits, three times enlarged; nil for a testbed without pictures.
func (m *Mixture) Pictures(x *gpu.Tensor, n int) []*imageio.Image {
	if m.basis == nil {
		return nil
	}
	const zoom = 3
	z := values(x)
	var out []*imageio.Image
	for i := range min(n, x.Shape()[0]) {
		const side = zoom * mixtureSide
		pix := make([]float32, side*side)
		for p := range mixtureSide * mixtureSide {
			v := m.imageMean[p]
			for k, b := range m.basis {
				v += z[i*m.Dims+k] / m.scale * b[p]
			}
			for dy := range zoom {
				for dx := range zoom {
					pix[(p/mixtureSide*zoom+dy)*side+p%mixtureSide*zoom+dx] = float32(v)
				}
			}
		}
		out = append(out, imageio.FromPlanar(pix, 1, side, side, 255, 0))
	}
	return out
}

// BuildDigitMixture fits the testbed of the fixture DigitMixture to MNIST.
func BuildDigitMixture(ctx context.Context, set *mnist.Set) ([]tensor.NPZEntry, error) {
	rows := sampler.Rows{N: mixtureImages, D: mixtureSide * mixtureSide, At: func(i int, dst []float64) { Pool2(dst, set.Images[i]) }}
	s, err := sampler.FitMixture(ctx, rows, nil, sampler.FitOptions{Components: mixtureK, Dims: mixtureDims, Iterations: 20, Seed: 1}, nil)
	if err != nil {
		return nil, err
	}
	d := mixtureDims
	mean, total := make([]float64, d), 0.0
	for k, w := range s.Weights {
		for i, v := range s.Means[k] {
			mean[i] += w * v
		}
	}
	for k, w := range s.Weights {
		for i, v := range s.Means[k] {
			total += w * (s.Covs[k][i][i] + (v-mean[i])*(v-mean[i]))
		}
	}
	scale := mixtureDev / math.Sqrt(total/float64(d))
	var means, covs, basis []float64
	for k := range s.Weights {
		for i, v := range s.Means[k] {
			means = append(means, scale*v)
			for j, c := range s.Covs[k][i] {
				c = (c + s.Covs[k][j][i]) / 2 * scale * scale
				if i == j {
					c += mixtureFloor
				}
				covs = append(covs, c)
			}
		}
	}
	for _, row := range s.Subspace.Basis {
		basis = append(basis, row...)
	}
	return []tensor.NPZEntry{
		{Name: "weights", Array: tensor.FromF64(s.Weights, mixtureK)},
		{Name: "means", Array: tensor.FromF64(means, mixtureK, d)},
		{Name: "covs", Array: tensor.FromF64(covs, mixtureK, d, d)},
		{Name: "image_mean", Array: tensor.FromF64(s.Subspace.Mean, len(s.Subspace.Mean))},
		{Name: "basis", Array: tensor.FromF64(basis, d, mixtureSide*mixtureSide)},
		{Name: "scale", Array: tensor.FromF64([]float64{scale}, 1)},
	}, nil
}

// Pool2 sets dst [14·14] to the means of 2×2 pixels of a 28×28 digit, from 0 to 1.
func Pool2(dst []float64, gray []uint8) {
	for y := range mixtureSide {
		for x := range mixtureSide {
			at := 2*y*mnist.Width + 2*x
			dst[y*mixtureSide+x] = (float64(gray[at]) + float64(gray[at+1]) + float64(gray[at+mnist.Width]) + float64(gray[at+mnist.Width+1])) / (4 * 255)
		}
	}
}

func decodeMixture(file []byte) (*Mixture, error) {
	z, err := tensor.NewNPZ("digit-mixture.npz", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	read := map[string][]float64{}
	for _, name := range []string{"weights", "means", "covs", "image_mean", "basis", "scale"} {
		a, err := z.Read(name)
		if err != nil {
			return nil, err
		}
		read[name] = a.F64()
	}
	d, k := mixtureDims, len(read["weights"])
	spec := sampler.MixtureSpec{Weights: read["weights"]}
	for i := range k {
		spec.Means = append(spec.Means, read["means"][i*d:(i+1)*d])
		var cov [][]float64
		for r := range d {
			cov = append(cov, read["covs"][(i*d+r)*d:][:d])
		}
		spec.Covs = append(spec.Covs, cov)
	}
	m, err := NewMixture(spec)
	if err != nil {
		return nil, err
	}
	m.imageMean, m.scale = read["image_mean"], read["scale"][0]
	for i := range d {
		m.basis = append(m.basis, read["basis"][i*mixtureSide*mixtureSide:][:mixtureSide*mixtureSide])
	}
	return m, nil
}
