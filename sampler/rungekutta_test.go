package sampler_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

func TestOrdersOfRungeKutta(t *testing.T) {
	wantOrder(t, "rk4", 4, 40)
	// On a Gaussian, whose y is √(s²+σ²), the midpoint rule's leading error y'''/24 +
	// (σ/(s²+σ²))·y''/8 is nil: it has order 3 there.
	for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
		want := map[string]float64{"gaussian": 3, "mixture": 2}[p.name]
		for _, g := range smoothGrids {
			if order, e := orderOf(t, p, solver(t, "midpoint"), g.path, g.spec, 160); math.Abs(order-want) > 0.1*want {
				t.Errorf("midpoint, %s on %s: order %.2f (error %.2g), want %g", p.name, g.path, order, e, want)
			}
		}
	}
}

// tree is a rooted tree by its root's branches.
type tree []tree

func (t tree) size() int {
	n := 1
	for _, b := range t {
		n += b.size()
	}
	return n
}

// density is γ of Butcher's theory.
func (t tree) density() float64 {
	d := float64(t.size())
	for _, b := range t {
		d *= b.density()
	}
	return d
}

// trees are all of n nodes, the branches of a root in falling order of their place in the lists.
func trees(n int) []tree {
	var all []tree
	for k := 1; k < n; k++ {
		all = append(all, trees(k)...)
	}
	var out []tree
	var grow func(t tree, left, from int)
	grow = func(t tree, left, from int) {
		if left == 0 {
			out = append(out, slices.Clone(t))
			return
		}
		for i := from; i < len(all); i++ {
			if s := all[i].size(); s <= left {
				grow(append(t, all[i]), left-s, i)
			}
		}
	}
	grow(nil, n-1, 0)
	return out
}

// A method has order p when Σ_j b_j Φ_j(t) = 1/γ(t) for every tree t of at most p
// nodes, where Φ_j is the product over the branches of Σ_k a_jk Φ_k (Butcher).
func TestTableaux(t *testing.T) {
	pair, e := sampler.ThePair()
	lower := make([]float64, len(e))
	_, _, b := pair.Tableau()
	for i := range e {
		lower[i] = b[i] - e[i]
	}
	var weigh func(a [][]float64, t tree, j int) float64
	weigh = func(a [][]float64, t tree, j int) float64 {
		product := 1.0
		for _, branch := range t {
			sum := 0.0
			for k, w := range a[j] {
				sum += w * weigh(a, branch, k)
			}
			product *= sum
		}
		return product
	}
	for name, m := range map[string]struct {
		s     sampler.RungeKutta
		b     []float64
		order int
	}{"midpoint": {sampler.Midpoint(), nil, 2}, "rk4": {sampler.RK4(), nil, 4}, "pair": {pair, nil, 5}, "pair's lower": {pair, lower, 4}} {
		c, a, b := m.s.Tableau()
		if m.b != nil {
			b = m.b
		}
		for j := range c {
			sum := 0.0
			for _, w := range a[j] {
				sum += w
			}
			if math.Abs(sum-c[j]) > 1e-14 {
				t.Errorf("%s: slope %d is at %g, its weights' sum %g", name, j, c[j], sum)
			}
		}
		held := 0
		for n := 1; n <= m.order+1; n++ {
			for _, tr := range trees(n) {
				sum := 0.0
				for j, w := range b {
					sum += w * weigh(a, tr, j)
				}
				ok := math.Abs(sum-1/tr.density()) < 1e-14
				if ok {
					held++
				}
				if !ok && n <= m.order {
					t.Errorf("%s: a condition of order %d: %g, want %g", name, n, sum, 1/tr.density())
				}
			}
			if counts := []int{1, 2, 4, 8, 17, 37}; n == m.order+1 && held >= counts[n-1] {
				t.Errorf("%s is of order %d", name, n)
			}
		}
	}
	if n := len(trees(5)); n != 9 {
		t.Errorf("%d trees of five nodes, want 9", n)
	}
}

// The error follows the tolerance, and the cost its fifth root.
func TestTolerances(t *testing.T) {
	for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
		for _, g := range smoothGrids {
			spec := g.spec
			spec.Steps = 1
			grid := build(t, g.path, spec)
			var evaluations []float64
			for _, tol := range []float64{1e-4, 1e-6, 1e-8, 1e-10} {
				s := sampler.DormandPrince{RTol: tol, ATol: tol}
				if e := errorOf(t, p, s, grid); e > 20*tol {
					t.Errorf("%s on %s: error %.2g at tolerance %g", p.name, g.path, e, tol)
				}
				res, err := sampler.Run(context.Background(), p.den, s, grid, sampler.Options{N: 2, Shape: []int{2}, Double: true})
				if err != nil {
					t.Fatal(err)
				}
				evaluations = append(evaluations, float64(res.NFE-res.Rejected))
			}
			if r := evaluations[3] / evaluations[1]; math.Abs(math.Log(r)/math.Log(1e4)-0.2) > 0.06 {
				t.Errorf("%s on %s: %v evaluations at tolerances 1e-4 to 1e-10, want a growth by the fifth root", p.name, g.path, evaluations)
			}
		}
	}
}

// Each image's path, error and counts are its own: those of a run without others.
func TestAdaptiveImagesAreTheirOwn(t *testing.T) {
	spec := testSpec(rand.New(rand.NewPCG(6, 5)), 6, 5)
	spec.Labels = []int{0, 1, 0, 1, 1}
	mix, err := sampler.NewMixture(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"ve", "flow"} {
		g := build(t, path, diffusion.Spec{Rule: "sigmas", List: []float64{20, 0.5, 0.02}, End: diffusion.Zero})
		for _, name := range adaptives {
			opt := sampler.Options{Seed: 9, N: 9, Shape: []int{6}, Double: true}
			for i := range opt.N {
				opt.Cond.Classes = append(opt.Cond.Classes, i%3-1)
			}
			all, err := sampler.Run(context.Background(), mix, solver(t, name), g, opt)
			if err != nil {
				t.Fatal(err)
			}
			various := map[int]bool{}
			for i := range opt.N {
				one := opt
				one.First, one.N, one.Cond.Classes = i, 1, opt.Cond.Classes[i:i+1]
				alone, err := sampler.Run(context.Background(), mix, solver(t, name), g, one)
				if err != nil {
					t.Fatal(err)
				}
				various[all.Each[i].NFE] = true
				if all.Each[i] != alone.Each[0] || !slices.Equal(all.X.F64()[6*i:6*i+6], alone.X.F64()) {
					t.Errorf("%s on %s: image %d takes %+v, alone %+v, or other bits", name, path, i, all.Each[i], alone.Each[0])
				}
			}
			if len(various) < 2 {
				t.Errorf("%s on %s: all images took %v evaluations; nothing is tested", name, path, various)
			}
		}
	}
}

// adaptives are the solvers whose evaluations vary.
var adaptives = []string{"dopri5", "dpm-adaptive"}

// logged says where each evaluation of a single image was.
type logged struct {
	sampler.PointDenoiser
	at []float64
}

func (l *logged) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	l.at = append(l.at, at[0].Sigma())
	return l.PointDenoiser.DenoiseAt(ctx, out, x, at, c)
}

// Rejected evaluations are those after which the walk goes back: an accepted
// step's last evaluation is at its end, and the next step's first beyond it.
func TestRejectedEvaluationsAreCounted(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{10, 0.01}, End: diffusion.Keep})
	rejected := 0
	for seed := range uint64(10) {
		l := &logged{PointDenoiser: mixtureDenoiser{mixtureProblem(t).den.(mixtureDenoiser).g}}
		res, err := sampler.Run(context.Background(), l, solver(t, "dopri5:rtol=0.001,atol=0.001"), g, sampler.Options{Seed: seed, N: 1, Shape: []int{2}, Double: true})
		if err != nil {
			t.Fatal(err)
		}
		if res.NFE != len(l.at) || (res.NFE-1)%6 != 0 {
			t.Errorf("seed %d: NFE %d, but %d calls", seed, res.NFE, len(l.at))
		}
		back := 0
		for i := 7; i < len(l.at); i += 6 {
			if l.at[i] > l.at[i-1] { // a fifth of a step, but above the last step's end
				back += 6
			}
		}
		if res.Rejected != back {
			t.Errorf("seed %d: %d rejected, want %d of %v", seed, res.Rejected, back, l.at)
		}
		rejected += back
	}
	if rejected == 0 {
		t.Error("no step was rejected; nothing is tested")
	}
}

// One step of the midpoint rule and of the classical method in the flow's time,
// by the textbook's formulas.
func TestOneRungeKuttaStepByHand(t *testing.T) {
	den := gaussian{0.3, 0.5}
	g := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 1, TauMin: 0.4, End: diffusion.Keep})
	v := func(x, tau float64) float64 { // x0 = (1-τ)x0 + τn has the velocity n - x0
		kx, k0 := den.coeffs(1-tau, tau)
		return (x - (kx*x + k0)) / tau
	}
	x, h := 0.7, -0.6
	k1 := v(x, 1)
	k2 := v(x+h/2*k1, 0.7)
	k3 := v(x+h/2*k2, 0.7)
	k4 := v(x+h*k3, 0.4)
	for name, want := range map[string]float64{"midpoint": x + h*k2, "rk4": x + h/6*(k1+2*k2+2*k3+k4)} {
		res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64([]float64{x}, 1, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.X.F64()[0] * 0.6; math.Abs(got-want) > 1e-15*4 {
			t.Errorf("%s: %.17g, want %.17g", name, got, want)
		}
	}
}

// There and back again: inversion undoes sampling to the tolerance.
func TestAdaptiveInversion(t *testing.T) {
	for _, name := range adaptives {
		g := build(t, "vp-sde", diffusion.Spec{Rule: "sigmas", List: []float64{20, 1, 0.01}, End: diffusion.Keep})
		images := gpu.CPU().From64([]float64{0.4, -0.9, 1.3, 0.2}, 2, 2)
		o := sampler.Options{N: 2, Shape: []int{2}, Double: true, Image: images}
		up, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, solver(t, name+":rtol=1e-8,atol=1e-8"), g.Reversed(), o)
		if err != nil {
			t.Fatal(err)
		}
		o.Image, o.Noise = nil, up.X
		down, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, solver(t, name+":rtol=1e-8,atol=1e-8"), g, o)
		if err != nil {
			t.Fatal(err)
		}
		// A start within 1e-8 of the noise of size 20 is 20·1e-8 off at most.
		if e := rel(down.X.F64(), images.F64()); e > 1e-6 {
			t.Errorf("%s: there and back differs by %.2g", name, e)
		}
	}
}

func TestAdaptiveRefusals(t *testing.T) {
	for _, name := range adaptives {
		for _, opts := range []string{"rtol=0", "atol=0", "rtol=NaN", "atol=1", "rtol=-1e-3"} {
			if _, err := sampler.ByName(name + ":" + opts); err == nil || !strings.Contains(err.Error(), "less than 1") {
				t.Errorf("%s:%s: error %v", name, opts, err)
			}
		}
		one := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 1})
		if err := solver(t, name).Check(one); err == nil || !strings.Contains(err.Error(), "one step, to zero") {
			t.Errorf("%s in one step to zero: %v", name, err)
		}
		zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
		if err != nil {
			t.Fatal(err)
		}
		g, err := diffusion.Build(zt, diffusion.Spec{Rule: "trailing", Steps: 4})
		if err != nil {
			t.Fatal(err)
		}
		if err := solver(t, name).Check(g); err == nil || !strings.Contains(err.Error(), "infinite sigma") {
			t.Errorf("%s from infinite sigma: %v", name, err)
		}
		// float32 has seven digits: a tolerance beyond them is never met.
		keep := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{10, 0.01}, End: diffusion.Keep})
		_, err = sampler.Run(context.Background(), testMixture(t, 6, 3), solver(t, name+":rtol=1e-14,atol=1e-14"), keep, sampler.Options{N: 1, Shape: []int{6}})
		if err == nil || !strings.Contains(fmt.Sprint(err), "loosen it") {
			t.Errorf("%s: tolerances beyond float32: %v", name, err)
		}
	}
	for _, name := range []string{"midpoint", "rk4", "dopri5"} {
		if err := solver(t, name).Check(build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 4})); err != nil {
			t.Errorf("%s on a flow from pure noise: %v", name, err)
		}
	}
}

// cancelling cancels the run in one of its evaluations and goes on answering.
type cancelling struct {
	gaussian
	n, at  int
	cancel func()
}

func (c *cancelling) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, k sampler.Cond) error {
	if c.n++; c.n == c.at {
		c.cancel()
	}
	return c.gaussian.DenoiseAt(ctx, out, x, at, k)
}

// A step of many evaluations ends soon after its run is cancelled.
func TestAdaptiveStepsAreCancelled(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{50, 0.01}, End: diffusion.Keep})
	for _, name := range adaptives {
		ctx, cancel := context.WithCancel(context.Background())
		den := &cancelling{at: 9, cancel: cancel}
		_, err := sampler.Run(ctx, den, solver(t, name), g, sampler.Options{N: 1, Shape: []int{2}})
		if !errors.Is(err, context.Canceled) || den.n > 9+6 {
			t.Errorf("%s: %v after %d evaluations, want an end soon after 9", name, err, den.n)
		}
	}
}
