package sampler_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// learning also predicts a variance: the same for all values, or what each needs.
type learning struct {
	gaussian
	says func(i int, p diffusion.Point) float64
}

func (d learning) DenoiseVariance(ctx context.Context, out, variance, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	for i := range variance.Len() {
		v := d.says(i, at[i/(x.Len()/len(at))])
		if x.Double() {
			variance.F64()[i] = v
		} else {
			variance.F32()[i] = float32(v)
		}
	}
	return d.DenoiseAt(ctx, out, x, at, c)
}

// Every kind of variance on the table's betas, by the formulas of the papers.
func TestDDPMVariances(t *testing.T) {
	abar := []float64{}
	prod := 1.0
	for _, b := range diffusion.LinearBetas(1000, 1e-4, 0.02) {
		prod *= 1 - b
		abar = append(abar, prod)
	}
	says := func(i int, _ diffusion.Point) float64 { return 0.1 + 0.2*float64(i) }
	den := learning{gaussian{0.3, 0.5}, says}
	start, noise := []float64{0.4, -1.2, 2.1}, oracle.Normal(4, 3)
	for name, want := range map[string]func(i int, small, large float64) float64{
		"ddpm":                          func(_ int, small, _ float64) float64 { return small },
		"ddpm:variance=fixed_small_log": func(_ int, small, _ float64) float64 { return small },
		"ddpm:variance=fixed_large":     func(_ int, _, large float64) float64 { return large },
		"ddpm:variance=learned":         func(i int, _, _ float64) float64 { return 0.1 + 0.2*float64(i) },
		"ddpm:variance=learned_range": func(i int, small, large float64) float64 {
			f := (1.1 + 0.2*float64(i)) / 2
			return math.Exp(f*math.Log(large) + (1-f)*math.Log(small))
		},
		"ddpm:variance=learned_range,clip=0.2": func(i int, small, large float64) float64 {
			f := (1.1 + 0.2*float64(i)) / 2
			return math.Exp(f*math.Log(large) + (1-f)*math.Log(small))
		},
	} {
		for _, space := range []diffusion.Space{diffusion.VPSpace, diffusion.VESpace, diffusion.FlowSpace} {
			g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{600, 350}, End: diffusion.Keep}).In(space)
			from, to := g.Steps[0].From, g.Steps[0].To
			state := make([]float64, 3)
			for i, v := range start { // from VP scaling
				state[i] = v * math.Hypot(from.A, from.B)
			}
			res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
				N: 1, Shape: []int{3}, Double: true, State: gpu.CPU().From64(state, 1, 3),
				StepNoise: func(_, _ int, z *gpu.Tensor) {
					for i, v := range noise {
						z.F64()[i] = float64(v)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			alpha := abar[600] / abar[350]
			large := 1 - alpha
			small := (1 - abar[350]) / (1 - abar[600]) * large
			kx, k0 := den.coeffs(math.Sqrt(abar[600]), math.Sqrt(1-abar[600]))
			for i, x := range start {
				d := kx*x + k0
				if solver(t, name).(sampler.DDPM).Clip > 0 {
					d = max(-0.2, min(0.2, d))
				}
				mean := math.Sqrt(abar[350])*large/(1-abar[600])*d + math.Sqrt(alpha)*(1-abar[350])/(1-abar[600])*x
				x1 := mean + math.Sqrt(want(i, small, large))*float64(noise[i])
				if got := res.X.F64()[i] * to.A / math.Hypot(to.A, to.B); math.Abs(got-x1) > 1e-12 {
					t.Errorf("%s, %v scaling: value %d is %v, want %v", name, space, i, got, x1)
				}
			}
		}
	}
}

// A learned variance that is the posterior's true one gives the right deviation
// in every step, where the fixed ones only do as steps get short.
func TestLearnedVarianceIsExact(t *testing.T) {
	g := build(t, "vp-sde", diffusion.Spec{Rule: "exponential", Steps: 4, SigmaMax: 20, SigmaMin: 0.05, End: diffusion.Min})
	// Var(x'|x) of N(m, s²) data: that of DDPM's mean given x0, and what x leaves open of x0.
	next := map[float64]diffusion.Point{}
	for _, s := range g.Steps {
		next[s.From.Sigma()] = s.To
	}
	den := learning{gaussian{0.3, 0.5}, func(_ int, p diffusion.Point) float64 {
		to := next[p.Sigma()]
		alpha := p.A * p.A / (to.A * to.A)
		small := to.B * to.B / (p.B * p.B) * (1 - alpha)
		weight := to.A * (1 - alpha) / (p.B * p.B)
		open := 0.25 * p.B * p.B / (p.A*p.A*0.25 + p.B*p.B)
		return small + weight*weight*open
	}}
	_, dev := lawOf(t, den, 0.3, 0.5, solver(t, "ddpm:variance=learned"), g)
	if want := math.Hypot(0.5, 0.05); math.Abs(dev-want) > 1e-12 {
		t.Errorf("deviation %v, want %v", dev, want)
	}
}

func TestDDPMEndNoise(t *testing.T) {
	run := func(name string, first float64) float64 {
		g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{first}})
		res, err := sampler.Run(context.Background(), gaussian{0, 0}, solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, StepNoise: func(_, _ int, z *gpu.Tensor) { z.F64()[0] = 1 },
		})
		if err != nil {
			t.Fatal(err)
		}
		return res.X.F64()[0]
	}
	vp, err := diffusion.PathByName("vp")
	if err != nil {
		t.Fatal(err)
	}
	_, b := diffusion.VPSpace.Scale(vp.Sigma(300))
	for _, c := range []struct {
		name string
		at   float64
		want float64
	}{
		{"ddpm", 300, 0},
		{"ddpm:variance=fixed_large", 300, 0},
		{"ddpm:variance=fixed_large,end-noise=1", 300, b},
		{"ddpm:variance=fixed_large,end-noise=1", 0, 0},
		{"ddpm:end-noise=1", 300, 0},
	} {
		if got := run(c.name, c.at); math.Abs(got-c.want) > 1e-14 {
			t.Errorf("%s from time %g: last state %v, want %v", c.name, c.at, got, c.want)
		}
	}
}

func TestLearnedVarianceIsRefusedWhenNotFinite(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 3})
	den := learning{gaussian{0, 1}, func(i int, _ diffusion.Point) float64 {
		if i == 5 {
			return math.NaN()
		}
		return 0
	}}
	_, err := sampler.Run(context.Background(), den, solver(t, "ddpm:variance=learned_range"), g, sampler.Options{N: 4, Shape: []int{2}})
	var nf *sampler.NotFiniteError
	if !errors.As(err, &nf) || nf.Image != 2 || nf.Step != 0 {
		t.Errorf("error %v, want image 2 in step 0", err)
	}
}

// Images at levels of their own go as each alone on a grid of those, whether the
// variance is learned or D is clipped; what the network says of a variance depends on
// the image's level.
func TestDDPMOwnLevels(t *testing.T) {
	base := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 5, Offset: 1})
	den := learning{gaussian{0.3, 0.5}, func(i int, p diffusion.Point) float64 { return 0.2*math.Sin(float64(i%3)) + 0.5*p.B }}
	shift := func(image, step int, p diffusion.Point) diffusion.Point {
		if step == 0 || p.B == 0 {
			return p
		}
		return diffusion.AtTime(base.Path, p.T+float64(7*image-10))
	}
	for _, name := range []string{"ddpm:variance=learned_range", "ddpm:variance=learned", "ddpm:clip=0.4", "ddpm:variance=learned_range,clip=0.4"} {
		const n = 4
		o := sampler.Options{Seed: 3, N: n, Shape: []int{3}, Double: true, Levels: func(step int, _ *gpu.Tensor, from, to []diffusion.Point) error {
			for b := range from {
				from[b], to[b] = shift(b, step, from[b]), shift(b, step+1, to[b])
			}
			return nil
		}}
		got, err := sampler.Run(context.Background(), den, solver(t, name), base, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range n {
			own := &diffusion.Grid{Name: "own", Space: base.Space, Path: base.Path}
			for k, s := range base.Steps {
				own.Steps = append(own.Steps, diffusion.Step{From: shift(i, k, s.From), To: shift(i, k+1, s.To)})
			}
			want, err := sampler.Run(context.Background(), den, solver(t, name), own, sampler.Options{Seed: 3, First: i, N: 1, Shape: []int{3}, Double: true})
			if err != nil {
				t.Fatal(err)
			}
			for j, v := range want.X.F64() {
				if g := got.X.F64()[3*i+j]; !(math.Abs(g-v) <= 1e-12) {
					t.Errorf("%s: image %d is %v, alone %v", name, i, g, v)
				}
			}
		}
	}
}
