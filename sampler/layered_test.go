package sampler_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

// blockMixture is a mixture of 7 values in 3 layers: 0-1, 2-3 and 4-6.
func blockMixture(t testing.TB) (*sampler.BlockMixture, sampler.MixtureSpec) {
	t.Helper()
	spec := testSpec(rand.New(rand.NewPCG(7, 3)), 7, 4)
	spec.Labels = []int{0, 1, 0, 1}
	b, err := sampler.NewBlockMixture(spec, 3)
	if err != nil {
		t.Fatal(err)
	}
	return b, spec
}

// without is the mixture in which the given values are independent of all else
// and alike in every component: what leaving out their layers stands for.
func without(s sampler.MixtureSpec, values ...int) sampler.MixtureSpec {
	mean, variance := s.Moments()
	out := sampler.MixtureSpec{Weights: s.Weights, Labels: s.Labels}
	for k, mu := range s.Means {
		mu = slices.Clone(mu)
		cov := make([][]float64, len(mu))
		for i := range cov {
			cov[i] = slices.Clone(s.Covs[k][i])
		}
		for _, j := range values {
			mu[j] = mean[j]
			for i := range cov {
				cov[i][j], cov[j][i] = 0, 0
			}
			cov[j][j] = variance[j]
		}
		out.Means, out.Covs = append(out.Means, mu), append(out.Covs, cov)
	}
	return out
}

var skippedValues = map[string][]int{"[]": nil, "[0]": {0, 1}, "[1]": {2, 3}, "[0 2]": {0, 1, 4, 5, 6}, "[0 1 2]": {0, 1, 2, 3, 4, 5, 6}}

// Every choice of layers is the exact denoiser of the mixture that it stands for,
// and the counter tells how many layers have really run.
func TestBlockMixtureIsExact(t *testing.T) {
	b, spec := blockMixture(t)
	r := rand.New(rand.NewPCG(1, 2))
	const n = 5
	for _, skip := range [][]int{{}, {0}, {1}, {0, 2}, {0, 1, 2}} {
		want := without(spec, skippedValues[fmt.Sprint(skip)]...)
		for _, p := range testPoints {
			var ran atomic.Int64
			den, err := b.Without(skip, &ran)
			if err != nil {
				t.Fatal(err)
			}
			x := gpu.CPU().Empty64(n, 7)
			at, classes := make([]diffusion.Point, n), []int{-1, 0, 1, -1, 0}
			for i := range x.F64() {
				x.F64()[i] = 2 * r.NormFloat64()
			}
			for i := range at {
				at[i] = p
			}
			out := x.Like()
			if err := den.(sampler.PointDenoiser).DenoiseAt(context.Background(), out, x, at, sampler.Cond{Classes: classes}); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				e := exact(want, x.F64()[i*7:(i+1)*7], p.A, p.B, classes[i])
				for j, v := range e {
					if got := out.F64()[i*7+j]; math.Abs(got-v) > 1e-9*(1+math.Abs(v)) {
						t.Fatalf("without %v at %+v: image %d, value %d is %.12g, want %.12g", skip, p, i, j, got, v)
					}
				}
			}
			if got := ran.Load(); got != int64(n*(3-len(skip))) {
				t.Errorf("without %v: %d layers ran for %d images, want %d each", skip, got, n, 3-len(skip))
			}
		}
	}
}

// With all layers it is the mixture itself, to the last bit; without noise every
// choice of layers is the identity.
func TestBlockMixtureWhole(t *testing.T) {
	b, spec := blockMixture(t)
	m, err := sampler.NewMixture(spec)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := b.Without(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := gpu.CPU().Empty(3, 7)
	for i := range x.F32() {
		x.F32()[i] = float32(i%5) - 1.5
	}
	want, got := x.Like(), x.Like()
	sigma := []float64{0.1, 1, 30}
	for _, d := range []struct {
		den sampler.Denoiser
		out *gpu.Tensor
	}{{m, want}, {whole, got}} {
		if err := d.den.Denoise(context.Background(), d.out, x, sigma, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(want.F32(), got.F32()) {
		t.Errorf("all layers: %v, the mixture says %v", got.F32(), want.F32())
	}
	clean := []diffusion.Point{{A: 0.5}, {A: 0.5}, {A: 0.5}}
	for _, skip := range [][]int{{1}, {0, 1, 2}} {
		den, err := b.Without(skip, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := den.(sampler.PointDenoiser).DenoiseAt(context.Background(), got, x, clean, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		for i, v := range x.F32() {
			if got.F32()[i] != 2*v {
				t.Errorf("without %v and noise: value %d is %g, want %g", skip, i, got.F32()[i], 2*v)
			}
		}
	}
}

// deaf is a layered denoiser that ignores what it is told to leave out, as a
// network does whose skips are not wired in.
type deaf struct{ *sampler.BlockMixture }

func (d deaf) Without(_ []int, ran *atomic.Int64) (sampler.Denoiser, error) {
	return d.BlockMixture.Without(nil, ran)
}

// A run leaves out in every step the layers of that step: DDIM by hand, in
// float64, with the denoisers that the skips stand for, comes to the same images.
// The naive denoiser that ignores its skips is caught by the images and by the counter.
func TestSkippingByStep(t *testing.T) {
	b, spec := blockMixture(t)
	vp, err := diffusion.PathByName("vp")
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(vp, diffusion.Spec{Rule: "times", List: []float64{700, 400, 150, 20}})
	if err != nil {
		t.Fatal(err)
	}
	skips := [][]int{{0, 2}, {}, {1}, {}}
	const n = 4
	start := gpu.CPU().Empty64(n, 7)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range start.F64() {
		start.F64()[i] = r.NormFloat64()
	}
	want := slices.Clone(start.F64())
	for i, st := range g.Steps {
		s := without(spec, skippedValues[fmt.Sprint(skips[i])]...)
		for img := range n {
			x := want[img*7 : (img+1)*7]
			for j, d := range exact(s, slices.Clone(x), st.From.A, st.From.B, -1) {
				x[j] = st.To.A*d + st.To.B*(x[j]-st.From.A*d)/st.From.B
			}
		}
	}
	run := func(dev *gpu.Device, den sampler.Layered, batch int) (far float64, ran int64) {
		sk, err := sampler.NewSkipping(den, skips)
		if err != nil {
			t.Fatal(err)
		}
		o := sampler.Options{N: n, Batch: batch, Shape: []int{7}, State: start.To(dev), Double: true, Device: dev}
		res, err := sampler.Run(context.Background(), sk, sampler.DDIM{}, g, o)
		if err != nil {
			t.Fatal(err)
		}
		x := res.X.To(gpu.CPU())
		for i, v := range want {
			far = max(far, math.Abs(x.F64()[i]-v))
		}
		if sk.Promised() != n*(1+3+2+3) {
			t.Errorf("%d layers are promised", sk.Promised())
		}
		return far, sk.Ran()
	}
	const promised = n * (1 + 3 + 2 + 3)
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, batch := range []int{n, 3} {
			if far, ran := run(dev, b, batch); far > 1e-9 || ran != promised {
				t.Errorf("batches of %d: images are off by %.3g and %d layers ran; want 0 and %d", batch, far, ran, promised)
			}
		}
		if far, ran := run(dev, deaf{b}, n); far < 1e-3 || ran == promised {
			t.Errorf("a denoiser that ignores its skips: images off by %.3g, %d layers of %d; wanted to catch it", far, ran, promised)
		}
	})
}

func TestLayersRefused(t *testing.T) {
	b, spec := blockMixture(t)
	for want, skips := range map[string][][]int{
		"step 1 leaves out layer 3; the denoiser has layers 0 to 2": {{}, {3}},
		"leaves out layer -1": {{-1}},
		"layer 1 twice":       {{1, 0, 1}},
	} {
		if _, err := sampler.NewSkipping(b, skips); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", skips, err, want)
		}
	}
	sk, err := sampler.NewSkipping(b, [][]int{{}, {1}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sampler.Run(context.Background(), sk, sampler.DDIM{}, g, sampler.Options{N: 1, Shape: []int{7}}); err == nil || !strings.Contains(err.Error(), "given for 2 steps") {
		t.Errorf("a grid of 3 steps: %v", err)
	}
	if _, err := sampler.NewBlockMixture(spec, 8); err == nil || !strings.Contains(err.Error(), "8 layers of a mixture of 7 values") {
		t.Errorf("more layers than values: %v", err)
	}
	low := sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0}}, Vars: []float64{1}, Subspace: &sampler.Subspace{Mean: []float64{0, 0}, Basis: [][]float64{{1, 0}}}}
	if _, err := sampler.NewBlockMixture(low, 1); err == nil || !strings.Contains(err.Error(), "low-rank form has no layers") {
		t.Errorf("the low-rank form: %v", err)
	}
	for _, skip := range [][]int{{5}, {1, 1}, {-1}} {
		if _, err := b.Without(skip, nil); err == nil || !strings.Contains(err.Error(), "wanted numbers from 0 to 2") {
			t.Errorf("without layers %v: %v", skip, err)
		}
	}
}
