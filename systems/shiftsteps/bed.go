package shiftsteps

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// scale is how large a testbed is.
type scale struct {
	pool   int // pixels of MNIST's 28×28 that become one, a side
	fitted int // training images that the mixture is fitted to
	held   int // others that samples are compared with
	k      int // components
}

// bed is the testbed: a mixture with full covariances fitted to digits, whose exact
// score stands for a trained network, and the moments of digits that it has not seen.
// It is imperfect as a network is: a mixture of few components is not MNIST.
type bed struct {
	*bases.Mixture
	side int
	most int     // samples that a seed is asked for
	v0   float64 // mean variance of a clean image's pixels, of the fitted images

	mean, cov *gpu.Tensor // of the held images
}

// ridge is added to the covariances' diagonals, as in the other testbeds: the
// digits' border never varies.
const ridge = 1e-4

// heldFrom is where the images to compare with begin: no scale is fitted beyond it.
const heldFrom = 30000

// open makes the testbed, once in an Env.
func open(ctx context.Context, env *systems.Env, s scale) (*bed, error) {
	return systems.Memo(env, fmt.Sprintf("shiftsteps bed %+v", s), func() (*bed, error) {
		set, err := mnist.Load(mnist.Train)
		if err != nil {
			return nil, err
		}
		return fit(ctx, set, s)
	})
}

func fit(ctx context.Context, set *mnist.Set, s scale) (*bed, error) {
	side := mnist.Width / s.pool
	D := side * side
	image := func(from int) func(i int, dst []float64) {
		return func(i int, dst []float64) { pooled(dst, set.Images[from+i], s.pool) }
	}
	spec, err := sampler.FitMixture(ctx, sampler.Rows{N: s.fitted, D: D, At: image(0)}, nil, sampler.FitOptions{Components: s.k, Dims: D, Seed: 1}, nil)
	if err != nil {
		return nil, err
	}
	full := sampler.MixtureSpec{Weights: spec.Weights}
	for k, cov := range spec.Covs {
		mean, turned := turn(spec.Subspace, spec.Means[k], cov)
		full.Means, full.Covs = append(full.Means, mean), append(full.Covs, turned)
	}
	m, err := bases.NewMixture(full)
	if err != nil {
		return nil, err
	}
	b := &bed{Mixture: m, side: side}
	clean := gpu.CPU().Empty64(s.fitted, D)
	for i := range s.fitted {
		image(0)(i, clean.F64()[i*D:(i+1)*D])
	}
	if b.v0, err = sampler.PixelVariance(clean); err != nil {
		return nil, err
	}
	held := gpu.CPU().Empty64(s.held, D)
	for i := range s.held {
		image(heldFrom)(i, held.F64()[i*D:(i+1)*D])
	}
	b.mean, b.cov = bases.MomentsOf(held)
	return b, nil
}

// pooled sets dst to a digit's means over squares of pool pixels a side, from -1 to 1.
func pooled(dst []float64, gray []uint8, pool int) {
	side := mnist.Width / pool
	for y := range side {
		for x := range side {
			sum := 0
			for dy := range pool {
				for dx := range pool {
					sum += int(gray[(y*pool+dy)*mnist.Width+x*pool+dx])
				}
			}
			dst[y*side+x] = float64(sum)/(127.5*float64(pool*pool)) - 1
		}
	}
}

// turn brings a component from the principal dimensions, of which there are as
// many as pixels, to the pixels: mean + Bᵀμ, and BᵀΣB with the ridge.
func turn(sub *sampler.Subspace, mu []float64, cov [][]float64) (mean []float64, out [][]float64) {
	D := len(mu)
	mean = append(mean, sub.Mean...)
	half := make([][]float64, D) // ΣB
	for i := range D {
		for j, v := range sub.Basis[i] {
			mean[j] += mu[i] * v
		}
		half[i] = make([]float64, D)
		for k, c := range cov[i] {
			for j, v := range sub.Basis[k] {
				half[i][j] += c * v
			}
		}
	}
	out = make([][]float64, D)
	for i := range D {
		out[i] = make([]float64, D)
	}
	for k := range D {
		for i, b := range sub.Basis[k] {
			for j, v := range half[k] {
				out[i][j] += b * v
			}
		}
	}
	for i := range D {
		for j := range i {
			out[i][j] = (out[i][j] + out[j][i]) / 2
			out[j][i] = out[i][j]
		}
		out[i][i] += ridge
	}
	return mean, out
}

// frechet is the Fréchet distance of samples [n, D], float64, to the held images.
func (b *bed) frechet(x *gpu.Tensor) (float64, error) {
	if n, d := x.Shape()[0], b.Dims; n <= d {
		return 0, fmt.Errorf("shiftsteps: the Fréchet distance of %d samples of %d pixels; wanted more samples than pixels", n, d)
	}
	return bases.FrechetTo(b.mean, b.cov, x)
}

// exact is what an accurate solver makes of a seed's noise from the most noise of
// the path on, and its Fréchet distance: the floor under every arm that starts from
// that noise, which no sampler of this mixture passes but by chance.
func (b *bed) exact(ctx context.Context, env *systems.Env, seed uint64, n int) (x *gpu.Tensor, floor float64, err error) {
	top, err := grid("linspace", 10)
	if err != nil {
		return nil, 0, err
	}
	// Sample i is the same in runs of any number, so one run serves all experiments.
	if x, err = b.Fine(ctx, env, top, seed, max(n, b.most)); err != nil {
		return nil, 0, err
	}
	x = x.Rows(0, n)
	floor, err = systems.Memo(env, fmt.Sprintf("shiftsteps floor %p %d %d", b, seed, n), func() (float64, error) { return b.frechet(x) })
	return x, floor, err
}

// vp is the path of the paper's models: linear betas from 1e-4 to 0.02, T = 1000.
var vp = func() diffusion.Path {
	p, err := diffusion.PathByName("vp")
	if err != nil {
		panic(err)
	}
	return p
}()

// grid is n steps to zero noise by a rule: "paper" has the times of the released
// program, range(0, T, T/n) + 1, from 901 for 10 steps; "released" drops the last of
// them as that program does and ends at time 0 as it does, n-1 steps from 801; others
// are those of package diffusion, "leading:0.5" with an offset of half a stride.
func grid(rule string, n int) (*diffusion.Grid, error) {
	spec := diffusion.Spec{Rule: rule, Steps: n}
	switch rule {
	case "paper":
		spec.Rule, spec.Offset = "leading", 1
	case "released":
		for t := (n - 2) * (1000 / n); t >= 0; t -= 1000 / n {
			spec.List = append(spec.List, float64(t+1))
		}
		spec.List = append(spec.List, 0)
		spec.Rule, spec.End = "times", diffusion.Keep
	}
	if name, offset, ok := strings.Cut(rule, ":"); ok {
		v, err := strconv.ParseFloat(offset, 64)
		if err != nil {
			return nil, fmt.Errorf("shiftsteps: grid %q: %w", rule, err)
		}
		if spec.Rule = name; name == "karras" {
			spec.Rho = v
		} else {
			spec.Offset = int(v * float64(1000/n-1))
		}
	}
	return diffusion.Build(vp, spec)
}

// pictures are the first n samples, enlarged.
func (b *bed) pictures(x *gpu.Tensor, n int) []*imageio.Image {
	const zoom = 3
	side := zoom * b.side
	var out []*imageio.Image
	for i := range min(n, x.Shape()[0]) {
		pix := make([]float32, side*side)
		for p := range pix {
			pix[p] = float32(x.F64()[i*b.Dims+p/side/zoom*b.side+p%side/zoom])
		}
		out = append(out, imageio.FromPlanar(pix, 1, side, side, 127.5, 127.5))
	}
	return out
}
