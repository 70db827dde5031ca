package sampler_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// gaussian is the exact denoiser of N(mean, dev²) in every value, in closed form.
type gaussian struct{ mean, dev float64 }

func (d gaussian) coeffs(a, b float64) (kx, k0 float64) {
	v := a*a*d.dev*d.dev + b*b
	return a * d.dev * d.dev / v, d.mean * b * b / v
}

func (d gaussian) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	size := x.Len() / len(at)
	for b, p := range at {
		kx, k0 := d.coeffs(p.A, p.B)
		for i := b * size; i < (b+1)*size; i++ {
			if out.Double() {
				out.F64()[i] = kx*x.F64()[i] + k0
			} else {
				out.F32()[i] = float32(kx*float64(x.F32()[i]) + k0)
			}
		}
	}
	return nil
}

func (d gaussian) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return d.DenoiseAt(ctx, out, x, points(sigma), c)
}

// veOnly hides DenoiseAt.
type veOnly struct{ d sampler.Denoiser }

func (v veOnly) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return v.d.Denoise(ctx, out, x, sigma, c)
}

func build(t testing.TB, path string, s diffusion.Spec) *diffusion.Grid {
	t.Helper()
	p, err := diffusion.PathByName(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(p, s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func solver(t testing.TB, name string) sampler.Solver {
	t.Helper()
	s, err := sampler.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// allSolvers is every solver of the registry as it comes, and some with options.
var allSolvers = func() []string {
	names := []string{"ddim:eta=0.5", "ddim:clip=1", "ddpm:clip=1", "dpm++sde:r=1", "sa-solver:corrector=0", "sa-solver:predictor=1,corrector=2,tau=0.5"}
	for _, s := range sampler.List() {
		names = append(names, s.Name)
	}
	return names
}()

// servesVE tells whether a solver can walk a grid of the usual VE levels.
func servesVE(t testing.TB, name string) bool {
	t.Helper()
	return solver(t, name).Check(build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 20})) == nil
}

// Image i of a seed has the same bits in any batch, run and order.
func TestImagesDoNotDependOnBatches(t *testing.T) {
	mix := testMixture(t, 24, 5)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 6})
	for _, name := range allSolvers {
		if !servesVE(t, name) {
			continue
		}
		if slices.Contains(adaptives, name) {
			name += ":rtol=0.01,atol=0.01" // fewer steps
		}
		for _, double := range []bool{false, true} {
			opt := sampler.Options{Seed: 9, N: 37, Batch: 37, Shape: []int{24}, Double: double}
			all := bits(t, mix, name, g, opt)
			for _, batch := range []int{1, 7, 16, 64} {
				opt.Batch = batch
				if !slices.Equal(bits(t, mix, name, g, opt), all) {
					t.Errorf("%s, float64 %t: batches of %d give other bits", name, double, batch)
				}
			}
			opt.First, opt.N = 30, 7
			if !slices.Equal(bits(t, mix, name, g, opt), all[30*24:]) {
				t.Errorf("%s, float64 %t: images 30 to 36 alone have other bits", name, double)
			}
			opt.Seed++
			if slices.Equal(bits(t, mix, name, g, opt), all[30*24:]) {
				t.Errorf("%s: another seed gives the same images", name)
			}
		}
	}
}

func bits(t *testing.T, d sampler.Denoiser, name string, g *diffusion.Grid, o sampler.Options) []uint64 {
	t.Helper()
	res, err := sampler.Run(context.Background(), d, solver(t, name), g, o)
	if err != nil {
		t.Fatal(err)
	}
	var out []uint64
	for _, v := range values(res.X) {
		out = append(out, math.Float64bits(v))
	}
	return out
}

func values(x *gpu.Tensor) []float64 {
	if x.Double() {
		return x.F64()
	}
	out := make([]float64, x.Len())
	for i, v := range x.F32() {
		out[i] = float64(v)
	}
	return out
}

// The scaling of states is bookkeeping: VE, VP and flow points give one result,
// with and without a denoiser that knows points. (Heun differs on the flow, by design.)
func TestScalingsAgree(t *testing.T) {
	den := gaussian{0.3, 0.5}
	g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 7})
	for _, name := range append([]string{"ddim", "ddim:eta=0.5", "euler", "euler-a", "heun", "dpm++2m", "dpm++2m-heun", "dpm++3m", "dpm-2m", "dpm-3m", "lms", "deis", "ipndm", "pndm", "plms", "unipc", "unipc:predict=eps"}, singlesteps...) {
		var ref []float64
		for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
			if name == "heun" && space == diffusion.FlowSpace {
				continue
			}
			for _, d := range []sampler.Denoiser{den, veOnly{den}} {
				res, err := sampler.Run(context.Background(), d, solver(t, name), g.In(space), sampler.Options{Seed: 1, N: 3, Shape: []int{2, 2}, Double: true})
				if err != nil {
					t.Fatal(err)
				}
				if ref == nil {
					ref = res.X.F64()
				}
				if e := rel(res.X.F64(), ref); e > 1e-12 {
					t.Errorf("%s in %v scaling (%T): differs by %.2g", name, space, d, e)
				}
			}
		}
	}
}

// counting counts evaluations.
type counting struct {
	gaussian
	n int
}

func (c *counting) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, k sampler.Cond) error {
	c.n++
	return c.gaussian.DenoiseAt(ctx, out, x, at, k)
}

// solverBase is a solver's name without options.
func solverBase(name string) string {
	base, _, _ := strings.Cut(name, ":")
	return base
}

func TestNFEIsExact(t *testing.T) {
	for _, end := range []diffusion.End{diffusion.Zero, diffusion.Min, diffusion.Keep} {
		for _, name := range allSolvers {
			if solver(t, name).NFE(build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 9})) == sampler.Varies {
				continue
			}
			for _, n := range []int{1, 2, 9} {
				g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: n, End: end})
				if solver(t, name).Check(g) != nil {
					continue // too few steps for its order, or not its scaling
				}
				den := &counting{gaussian: gaussian{0, 1}}
				done := 0
				res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
					N: 5, Batch: 2, Shape: []int{3}, Progress: func(d, total int) {
						if done = d; total != 5*solver(t, name).NFE(g) {
							t.Errorf("%s: progress of %d", name, total)
						}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				want := n
				if f := severalEvaluations[solverBase(name)]; f != nil {
					want = f(n, end == diffusion.Zero)
				}
				if res.NFE != want || den.n != 3*want || done != 5*want {
					t.Errorf("%s, %d steps to %s: NFE %d (3 batches called %d, progress %d), want %d", name, n, end, res.NFE, den.n, done, want)
				}
			}
		}
	}
}

func TestStarts(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{500, 100}})
	from := g.Steps[0].From
	first := func(o sampler.Options) []float64 {
		t.Helper()
		var x []float64
		o.N, o.Shape, o.Double, o.Seed = 3, []int{2}, true, 5
		o.Trajectory = func(e sampler.Event) error {
			if e.Step == 0 {
				x = append(x, e.X.F64()...)
				if e.At != from {
					t.Errorf("start at %+v, want %+v", e.At, from)
				}
			}
			return nil
		}
		if _, err := sampler.Run(context.Background(), gaussian{0, 1}, sampler.Euler{}, g, o); err != nil {
			t.Fatal(err)
		}
		return x
	}
	given := gpu.CPU().From64([]float64{1, 2, 3, 4, 5, 6}, 3, 2)
	seeded, noise := first(sampler.Options{}), first(sampler.Options{Noise: given})
	image, state := first(sampler.Options{Image: given, Batch: 2}), first(sampler.Options{State: given, Batch: 1})
	for i, v := range given.F64() {
		if noise[i] != from.B*v || state[i] != v || math.Abs(image[i]-(from.A*v+seeded[i])) > 1e-15*8 {
			t.Errorf("value %d: noise %g, state %g, image %g from %g", i, noise[i], state[i], image[i], v)
		}
	}
}

func TestEachKeepsNoImages(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 3})
	opt := sampler.Options{Seed: 2, N: 10, Batch: 4, Shape: []int{2}, First: 100}
	want, err := sampler.Run(context.Background(), gaussian{0, 1}, sampler.Euler{}, g, opt)
	if err != nil {
		t.Fatal(err)
	}
	var got []float32
	opt.Each = func(first int, x *gpu.Tensor) error {
		if first != 100+len(got)/2 {
			t.Errorf("batch starts at %d after %d images", first, len(got)/2)
		}
		got = append(got, x.F32()...)
		return nil
	}
	res, err := sampler.Run(context.Background(), gaussian{0, 1}, sampler.Euler{}, g, opt)
	if err != nil || res.X != nil || !slices.Equal(got, want.X.F32()) {
		t.Errorf("batches differ from the whole (%v)", err)
	}
	stop := errors.New("disk full")
	opt.Each = func(int, *gpu.Tensor) error { return stop }
	if _, err := sampler.Run(context.Background(), gaussian{0, 1}, sampler.Euler{}, g, opt); !errors.Is(err, stop) {
		t.Errorf("error %v, want the callback's", err)
	}
}

func TestRegistry(t *testing.T) {
	seen := map[string]bool{}
	for _, info := range sampler.List() {
		for _, n := range append([]string{info.Name}, info.Aliases...) {
			s, err := sampler.ByName(strings.ToUpper(n))
			if err != nil {
				t.Errorf("%s: %v", n, err)
				continue
			}
			again, err := sampler.ByName(s.Name())
			if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
				t.Errorf("%s makes %q, which makes %v (%v)", n, s.Name(), again, err)
			}
			if seen[n] {
				t.Errorf("%s names two solvers", n)
			}
			seen[n] = true
		}
		if info.Source == "" || info.Description == "" || info.Use == "" || info.Order < 1 {
			t.Errorf("%+v lacks its description", info)
		}
	}
	if s := solver(t, "ddim:eta=0.7, clip=1"); s.Name() != "ddim:eta=0.7,clip=1" {
		t.Errorf("name %q", s.Name())
	}
	for spec, want := range map[string]string{
		"dpm": "there are ddim, euler", "ddim:eta=2": "eta 2", "ddim:eta=x": "eta=number", "ddim:gamma=1": `no option "gamma"`,
		"euler:eta=1": "none", "ddim:eta=NaN": "eta NaN", "ddim:clip=-1": "clip -1",
	} {
		if _, err := sampler.ByName(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
}

// Without memory of the denoiser's own, a step allocates nothing.
func TestStepsAllocateNothing(t *testing.T) {
	for _, name := range allSolvers {
		g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 8})
		if s := solver(t, name); s.Check(g) != nil || s.NFE(g) == sampler.Varies {
			continue
		}
		x := gpu.CPU().Empty(4, 3, 5)
		e := sampler.NewEval(context.Background(), gaussian{0, 1}, x, sampler.Cond{}, func(_ int, z *gpu.Tensor) { clear(z.F32()) })
		st := solver(t, name).Start(x)
		if n := oracle.Allocations(10, func() {
			for i := range g.Steps {
				if err := st.Step(e, x, g, i); err != nil {
					t.Fatal(err)
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations in %d steps, want 0", name, n, len(g.Steps))
		}
	}
}

// float32 states follow the float64 ones: a step rounds each state once, to an
// ulp of at most the start's size, and the steps of this grid do not expand
// errors by more than the mixture's slope of D, at most 4 here.
func TestFloat32FollowsFloat64(t *testing.T) {
	mix := testMixture(t, 6, 3)
	const steps = 12
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: steps, SigmaMax: 20})
	for _, name := range append([]string{"ddim", "ddim:eta=0.5", "euler", "euler-a", "heun", "dpm++2m", "dpm++2m-heun", "dpm++3m", "dpm-2m", "dpm-3m", "lms", "deis", "ipndm", "pndm", "plms", "unipc", "unipc:predict=eps"}, singlesteps...) {
		opt := sampler.Options{Seed: 4, N: 50, Shape: []int{6}}
		single, err := sampler.Run(context.Background(), mix, solver(t, name), g, opt)
		if err != nil {
			t.Fatal(err)
		}
		opt.Double = true
		double, err := sampler.Run(context.Background(), mix, solver(t, name), g, opt)
		if err != nil {
			t.Fatal(err)
		}
		const largest = 20 * 5 // sigma times a normal
		for i, v := range values(single.X) {
			if d := math.Abs(v - double.X.F64()[i]); d > 4*steps*largest*0x1p-24 {
				t.Errorf("%s: value %d is %g in float32, %g in float64", name, i, v, double.X.F64()[i])
			}
		}
	}
}
