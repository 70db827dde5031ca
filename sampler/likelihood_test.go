package sampler_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

// logGaussian is ln N(x; m, v) of every value on its own.
func logGaussian(x []float64, m, v float64) (sum float64) {
	for _, e := range x {
		sum -= (e-m)*(e-m)/(2*v) + math.Log(2*math.Pi*v)/2
	}
	return sum
}

// The flow of N(m, s²) is known, and with it what the walk to sigma gives for
// the density: of the end, times the change of length in every value.
func TestLikelihoodOfAGaussian(t *testing.T) {
	const m, s, lo, hi = 0.3, 0.5, 0.05, 50
	images := []float64{0.4, -0.9, 1.3, 0.2, 0.1, 5}
	x := gpu.CPU().From64(images, 2, 3)
	for name, p := range map[string]diffusion.Path{"ve": diffusion.VE{Min: lo, Max: hi}, "vp-sde": diffusion.DefaultVPSDE()} {
		for _, den := range []sampler.Denoiser{gaussian{m, s}, veOnly{gaussian{m, s}}} {
			l, err := sampler.LogLikelihood(context.Background(), den, p, x, sampler.LikelihoodOptions{SigmaMin: lo, SigmaMax: hi, RTol: 1e-9, ATol: 1e-9})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				stretch := math.Hypot(s, hi) / math.Hypot(s, lo)
				var end []float64
				for _, v := range images[3*i : 3*i+3] {
					end = append(end, m+(v-m)*stretch)
				}
				want := logGaussian(end, 0, hi*hi) + 3*math.Log(stretch)
				if d := math.Abs(l.Nats[i] - want); d > 1e-6 {
					t.Errorf("%s: image %d: %.9f nats, want %.9f", name, i, l.Nats[i], want)
				}
				if got := l.BitsPerDim(i); math.Abs(got+want/(3*math.Ln2)) > 1e-6 {
					t.Errorf("%s: %g bits of %g nats", name, got, want)
				}
				// A step costs 6 evaluations and 3 differences of two at each, and so does the start one.
				if c := l.Each[i]; c.NFE%7 != 0 || (c.NFE/7-1)%6 != 0 || c.Rejected%42 != 0 {
					t.Errorf("%s: image %d took %+v", name, i, c)
				}
			}
			if l.StdErr != nil {
				t.Errorf("%s: the exact trace has standard errors %v", name, l.StdErr)
			}
		}
	}
	// At a large sigma the data's own mean, times the end's distance in units of
	// sigma, at most 10 in all values, no longer shows.
	l, err := sampler.LogLikelihood(context.Background(), gaussian{m, s}, diffusion.VE{Min: lo, Max: 1e6}, x, sampler.LikelihoodOptions{RTol: 1e-9, ATol: 1e-9})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if want := logGaussian(images[3*i:3*i+3], m, s*s+lo*lo); math.Abs(l.Nats[i]-want) > 1e-6+m*10/1e6 {
			t.Errorf("image %d: %.9f nats, want %.9f", i, l.Nats[i], want)
		}
	}
}

// On the flow path to pure noise the density of a mixture with the noise of the
// start is exact, by its formula.
func TestLikelihoodOfTheMixture(t *testing.T) {
	g := &goldenIndex{}
	oracle.GoldenJSON(t, g, "schedulers", "index.json")
	mix, err := sampler.NewMixture(sampler.MixtureSpec{Weights: g.Mixture.Weights, Means: g.Mixture.Means, Vars: squares(g.Mixture.Stds)})
	if err != nil {
		t.Fatal(err)
	}
	const n, lo = 6, 0.05
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(7, 2*n), n, 2)
	density := func(y []float64) float64 {
		p := 0.0
		for k, w := range g.Mixture.Weights {
			v := g.Mixture.Stds[k]*g.Mixture.Stds[k] + lo*lo
			d0, d1 := y[0]-g.Mixture.Means[k][0], y[1]-g.Mixture.Means[k][1]
			p += w / (2 * math.Pi * v) * math.Exp(-(d0*d0+d1*d1)/(2*v))
		}
		return math.Log(p)
	}
	o := sampler.LikelihoodOptions{SigmaMin: lo, RTol: 1e-8, ATol: 1e-8, Batch: 4}
	for _, den := range []sampler.Denoiser{mix, mixtureDenoiser{g}} { // the derivative, and differences
		l, err := sampler.LogLikelihood(context.Background(), den, diffusion.Flow{}, x, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if want := density(x.F64()[2*i : 2*i+2]); math.Abs(l.Nats[i]-want) > 1e-5*max(1, math.Abs(want)) {
				t.Errorf("%T: image %d: %.8f nats, want %.8f", den, i, l.Nats[i], want)
			}
		}
	}
	// Hutchinson's estimate is within its standard error as often as a mean of
	// that many should be: the sum of squares of 6 such ratios, of Student's
	// distribution with 63 degrees of freedom, exceeds 30 once in 10,000 cases.
	o.Probes, o.Seed, o.RTol, o.ATol = 64, 3, 1e-6, 1e-6
	l, err := sampler.LogLikelihood(context.Background(), mix, diffusion.Flow{}, x, o)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i := range n {
		z := (l.Nats[i] - density(x.F64()[2*i:2*i+2])) / l.StdErr[i]
		sum += z * z
	}
	if sum > 30 || sum < 0.3 {
		t.Errorf("errors of the estimates are %.2f standard errors squared in all, want about %d: %v", sum, n, l.StdErr)
	}
	// An image's probes and steps are its own.
	o.Probes = 3
	all, err := sampler.LogLikelihood(context.Background(), mix, diffusion.Flow{}, x, o)
	if err != nil {
		t.Fatal(err)
	}
	o.First = 2
	alone, err := sampler.LogLikelihood(context.Background(), mix, diffusion.Flow{}, x.Rows(2, 3), o)
	if err != nil {
		t.Fatal(err)
	}
	if all.Nats[2] != alone.Nats[0] || all.StdErr[2] != alone.StdErr[0] || all.Each[2] != alone.Each[0] {
		t.Errorf("image 2 among others: %v ± %v, %+v; alone %v ± %v, %+v", all.Nats[2], all.StdErr[2], all.Each[2], alone.Nats[0], alone.StdErr[0], alone.Each[0])
	}
}

func squares(v []float64) (out []float64) {
	for _, x := range v {
		out = append(out, x*x)
	}
	return out
}

// float32 states on any device follow the float64 ones.
func TestLikelihoodOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x := gpu.CPU().From([]float32{0.4, -0.9, 1.3, 0.2}, 2, 2)
		o := sampler.LikelihoodOptions{SigmaMin: 0.05, SigmaMax: 20, RTol: 1e-5, ATol: 1e-5}
		l, err := sampler.LogLikelihood(context.Background(), &normalData{mean: 0.3, s: 0.5}, diffusion.VE{}, x.To(dev), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			stretch := math.Hypot(0.5, 20) / math.Hypot(0.5, 0.05)
			var end []float64
			for _, v := range x.F32()[2*i : 2*i+2] {
				end = append(end, 0.3+(float64(v)-0.3)*stretch)
			}
			// The difference's quotient has an error of u/δ = 2^-24·(|x|+B)/(∛(2^-23)·B), 0.03 % at the start.
			want := logGaussian(end, 0, 400) + 2*math.Log(stretch)
			if math.Abs(l.Nats[i]-want) > 0.01 {
				t.Errorf("image %d: %.5f nats, want %.5f", i, l.Nats[i], want)
			}
		}
	})
}

// The mixture's derivative is what differences say, in every form that it has.
func TestMixtureJVP(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	full := testSpec(r, 4, 3)
	iso := sampler.MixtureSpec{Weights: []float64{0.3, 0.7}, Means: [][]float64{{0, 1, 0, 1}, {1, -1, 0.5, 0}}, Vars: []float64{0.2, 0.05}, Labels: []int{0, 1}}
	low := testSpec(r, 2, 3)
	h := math.Sqrt(0.5)
	low.Subspace = &sampler.Subspace{Mean: []float64{0.1, 0.2, -0.3, 0.4}, Basis: [][]float64{{h, h, 0, 0}, {0, 0, h, -h}}, Residual: 0.03}
	low.Shape = nil
	for name, spec := range map[string]sampler.MixtureSpec{"full": full, "isotropic": iso, "low rank": low} {
		m, err := sampler.NewMixture(spec)
		if err != nil {
			t.Fatal(err)
		}
		const n = 5
		x, v := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, 4*n), n, 4), gpu.CPU().FromAs(gpu.Float64, oracle.Normal(6, 4*n), n, 4)
		at := points([]float64{0.1, 0.3, 1, 3, 30})
		at[1] = diffusion.Point{A: 0.6, B: 0.8}
		at[2] = diffusion.Point{A: 0, B: 1}
		var c sampler.Cond
		if spec.Labels != nil {
			c.Classes = []int{-1, 0, 1, -1, 1}
		}
		got := x.Like()
		if err := m.JVPAt(context.Background(), got, x, v, at, c); err != nil {
			t.Fatal(err)
		}
		const delta = 1e-5
		var side [2][]float64
		for k, sign := range []float64{1, -1} {
			moved, out := x.Like(), x.Like()
			for i := range moved.F64() {
				moved.F64()[i] = x.F64()[i] + sign*delta*v.F64()[i]
			}
			if err := m.DenoiseAt(context.Background(), out, moved, at, c); err != nil {
				t.Fatal(err)
			}
			side[k] = out.F64()
		}
		for i, g := range got.F64() {
			if want := (side[0][i] - side[1][i]) / (2 * delta); math.Abs(g-want) > 1e-7 {
				t.Errorf("%s: image %d, value %d: %.10f, differences say %.10f", name, i/4, i%4, g, want)
			}
		}
	}
}

func TestLikelihoodRefusals(t *testing.T) {
	x := gpu.CPU().From64([]float64{1, 2}, 1, 2)
	for want, c := range map[string]struct {
		p diffusion.Path
		x *gpu.Tensor
		o sampler.LikelihoodOptions
	}{
		"shape [2]":       {diffusion.DefaultVE(), x.View(2), sampler.LikelihoodOptions{}},
		"element 1":       {diffusion.DefaultVE(), gpu.CPU().From64([]float64{0, math.NaN()}, 1, 2), sampler.LikelihoodOptions{}},
		"-1 probes":       {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{Probes: -1}},
		"batches of -2":   {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{Batch: -2}},
		"tolerance 2":     {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{RTol: 2}},
		"sigma 90 to 80":  {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{SigmaMin: 90}},
		"sigma NaN":       {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{SigmaMin: math.NaN()}},
		"2 classes for 1": {diffusion.DefaultVE(), x, sampler.LikelihoodOptions{Cond: sampler.Cond{Classes: []int{0, 1}}}},
		"show no less":    {diffusion.DefaultVE(), gpu.CPU().Empty(1, 2), sampler.LikelihoodOptions{RTol: 1e-9}},
	} {
		if _, err := sampler.LogLikelihood(context.Background(), gaussian{0, 1}, c.p, c.x, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sampler.LogLikelihood(context.Background(), gaussian{0, 1}, zt, x, sampler.LikelihoodOptions{}); err == nil || !strings.Contains(err.Error(), "infinite sigma") {
		t.Errorf("to infinite sigma: %v", err)
	}
	mix := testMixture(t, 2, 3)
	bad := gpu.CPU().Empty64(1, 3)
	if err := mix.JVPAt(context.Background(), bad.Like(), bad, bad.Like(), points([]float64{1}), sampler.Cond{}); err == nil || !strings.Contains(err.Error(), "images of 3 values") {
		t.Errorf("a derivative of another size: %v", err)
	}
}
