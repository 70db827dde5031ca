package gaussteleport

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

func float64s(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// vectors are n vectors in two classes of other means and other axes.
func vectors(n int) fid.VectorSet {
	return func(_ context.Context, yield func(int, []float64) error) error {
		for i := range n {
			z := float64s(oracle.Normal(uint64(i), 4))
			x := []float64{3 + z[0], z[1] / 2, z[2] / 4, z[3] / 8}
			if i%2 == 1 {
				x = []float64{z[3] / 8, -2 + z[2]/4, z[1], 1 + z[0]}
			}
			if err := yield(i%2, x); err != nil {
				return err
			}
		}
		return nil
	}
}

func spectrum(t *testing.T, rank int) *fid.Spectrum {
	t.Helper()
	s, err := fid.FitSpectrum(context.Background(), vectors(400), 4, fid.SpectrumOptions{Rank: rank, PerClass: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var shape = []int{2, 2}

func noise(seed uint64, n int, scale float64) *gpu.Tensor {
	x := gpu.CPU().From64(float64s(oracle.Normal(seed, 4*n)), n, 2, 2)
	for i := range x.F64() {
		x.F64()[i] *= scale
	}
	return x
}

func copied(x *gpu.Tensor) *gpu.Tensor {
	y := x.Like()
	y.Copy(x)
	return y
}

func far(a, b *gpu.Tensor) (worst float64) {
	for i, v := range a.F64() {
		worst = max(worst, math.Abs(v-b.F64()[i]))
	}
	return worst
}

func ve(sigma float64) diffusion.Point { return diffusion.Point{A: 1, B: sigma} }

// Each image flows, and is denoised, by the Gaussian of its class, whoever its
// neighbours are; without a class by that of all.
func TestByClass(t *testing.T) {
	s := spectrum(t, 4)
	law, err := LawOf(s, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	c := sampler.Cond{Classes: []int{1, 0, -1, 0, 1}}
	x := noise(1, 5, 80)
	got, den := copied(x), x.Like()
	if err := law.Flow(context.Background(), got, ve(80), ve(2), c); err != nil {
		t.Fatal(err)
	}
	if err := law.Denoise(context.Background(), den, x, []float64{80, 80, 80, 80, 80}, c); err != nil {
		t.Fatal(err)
	}
	for i, k := range c.Classes {
		low := s.LowRank
		if k >= 0 {
			low = s.Classes[k].LowRank
		}
		g, err := GaussianOf(low, MeanRest, shape)
		if err != nil {
			t.Fatal(err)
		}
		one, said := copied(x.Rows(i, i+1)), x.Rows(i, i+1).Like()
		if err := g.Flow(context.Background(), one, ve(80), ve(2), sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		if err := g.Denoise(context.Background(), said, x.Rows(i, i+1), []float64{80}, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(one.F64(), got.F64()[4*i:4*i+4]) || !slices.Equal(said.F64(), den.F64()[4*i:4*i+4]) {
			t.Errorf("image %d of class %d: %v and %v, want %v and %v", i, k, got.F64()[4*i:4*i+4], den.F64()[4*i:4*i+4], one.F64(), said.F64())
		}
	}
	if err := law.Serves(shape, sampler.Cond{Classes: []int{0, 7}}); err == nil || !strings.Contains(err.Error(), "image 1 is of class 7, of which there are no statistics; there are those of [0 1]") {
		t.Errorf("class 7: %v", err)
	}
	if err := law.Serves([]int{5}, sampler.Cond{}); err == nil {
		t.Error("samples of 5 values pass")
	}
	if _, err := LawOf(s, "half", shape); err == nil || !strings.Contains(err.Error(), `no rest "half"; there are mean and zero`) {
		t.Errorf("rest half: %v", err)
	}
	if _, err := LawOf(s, MeanRest, []int{3}); err == nil {
		t.Error("a shape of 3 values passes for statistics of 4")
	}
	// Both rests of a low rank.
	for rest, want := range map[Rest]float64{ZeroRest: 0, MeanRest: spectrum(t, 2).Rest} {
		g, err := GaussianOf(spectrum(t, 2).LowRank, rest, shape)
		if err != nil || g.Rest() != want || want == 0 != (rest == ZeroRest) {
			t.Errorf("rest %s: %v, %v", rest, g.Rest(), err)
		}
	}
}

func mixture(t *testing.T, k int) (*sampler.Mixture, *sampler.Gaussian) {
	t.Helper()
	s := spectrum(t, 4)
	spec := sampler.MixtureSpec{Shape: shape}
	for _, c := range s.Classes[:k] {
		spec.Weights = append(spec.Weights, 1/float64(k))
		spec.Means = append(spec.Means, c.Mu)
		spec.Labels = append(spec.Labels, c.Label)
		cov := make([][]float64, 4)
		for i := range cov {
			cov[i] = make([]float64, 4)
			for j := range cov {
				for e, l := range c.Values {
					cov[i][j] += l * c.Vectors[e*4+i] * c.Vectors[e*4+j]
				}
			}
		}
		spec.Covs = append(spec.Covs, cov)
	}
	m, err := sampler.NewMixture(spec)
	if err != nil {
		t.Fatal(err)
	}
	g, err := GaussianOf(s.Classes[0].LowRank, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	return m, g
}

// A mixture of one component flows as its Gaussian does, from any start, in any
// scaling; one of two flows as with four times the steps, and in two legs as in one.
func TestIntegrated(t *testing.T) {
	one, g := mixture(t, 1)
	two, _ := mixture(t, 2)
	flow := func(l sampler.Law, x *gpu.Tensor, at ...diffusion.Point) *gpu.Tensor {
		t.Helper()
		y := copied(x)
		for i := range len(at) - 1 {
			if err := l.Flow(context.Background(), y, at[i], at[i+1], sampler.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
		return y
	}
	law := &Integrated{PointDenoiser: one, Shape: shape}
	for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
		for _, start := range []float64{80, math.Inf(1)} {
			if space == diffusion.VESpace && math.IsInf(start, 1) {
				continue
			}
			var from, to diffusion.Point
			from.A, from.B = space.Scale(start)
			to.A, to.B = space.Scale(0.7)
			x := noise(3, 6, from.B)
			if e := far(flow(law, x, from, to), flow(g, x, from, to)); e > 1e-6 {
				t.Errorf("%v from %g: %.2g off the closed form", space, start, e)
			}
		}
	}
	x := noise(4, 6, 80)
	got := flow(&Integrated{PointDenoiser: two, Shape: shape}, x, ve(80), ve(0.7))
	if e := far(got, flow(&Integrated{PointDenoiser: two, Shape: shape, PerE: 96}, x, ve(80), ve(0.7))); e > 1e-5 {
		t.Errorf("%.2g off four times the steps", e)
	}
	if e := far(got, flow(&Integrated{PointDenoiser: two, Shape: shape}, x, ve(80), ve(5), ve(0.7))); e > 1e-5 {
		t.Errorf("%.2g off in two legs", e)
	}
	if e := far(got, flow(g, x, ve(80), ve(0.7))); e < 0.1 {
		t.Errorf("one component's flow is only %.2g off: the check is blind", e)
	}
	// As a law it is asked nothing of the network's.
	grid, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 10})
	if err != nil {
		t.Fatal(err)
	}
	r, err := sampler.Run(context.Background(), two, &sampler.Teleport{Solver: sampler.Heun{}, Law: &Integrated{PointDenoiser: two, Shape: shape}, Skip: 4}, grid, sampler.Options{N: 3, Shape: shape})
	if err != nil || r.NFE != 11 {
		t.Errorf("%d evaluations, %v; want 11", r.NFE, err)
	}
	for want, err := range map[string]error{
		"noise at both ends": law.Flow(context.Background(), x, ve(80), ve(0), sampler.Cond{}),
		"the mixture's have": law.Serves([]int{4}, sampler.Cond{}),
		"no component of it": law.Serves(shape, sampler.Cond{Classes: []int{1}}),
		"context canceled":   law.Flow(canceled(), x, ve(80), ve(1), sampler.Cond{}),
		"levels":             Isotropic(g).DenoiseAt(context.Background(), x, x, []diffusion.Point{ve(0)}, sampler.Cond{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
