package sampler_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

// teleported is what Run draws with some steps skipped, in float64.
func teleported(t *testing.T, den sampler.Denoiser, law sampler.Law, name string, g *diffusion.Grid, skip int, o sampler.Options) *sampler.Result {
	t.Helper()
	o.Double = true
	r, err := sampler.Run(context.Background(), den, &sampler.Teleport{Solver: solver(t, name), Law: law, Skip: skip}, g, o)
	if err != nil {
		t.Fatalf("%s, skip %d: %v", name, skip, err)
	}
	return r
}

func rmse(a, b *gpu.Tensor) float64 {
	var sum float64
	for i, v := range a.F64() {
		sum += (v - b.F64()[i]) * (v - b.F64()[i])
	}
	return math.Sqrt(sum / float64(a.Len()))
}

// Of a Gaussian the flow to zero noise is known. Teleported runs start from the
// noise that plain ones start from, so with half of the steps they end nearer to
// where it leads than a plain run with all, whatever solver goes on; a run of
// another seed does not.
func TestTeleportedRunsEndWhereTheirNoiseLeads(t *testing.T) {
	const D, n = 6, 40
	law, mean, cov := gaussLaw(t, D, 0)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 12})
	o := sampler.Options{Seed: 11, N: n, Batch: 16, Shape: []int{D}, Double: true}
	var start *gpu.Tensor
	o.Trajectory = func(e sampler.Event) error {
		if e.Step == 0 {
			if start == nil {
				start = gpu.CPU().Empty64(n, D)
			}
			start.Rows(e.First, e.First+e.X.Shape()[0]).Copy(e.X)
		}
		return nil
	}
	plain, err := sampler.Run(context.Background(), law, solver(t, "heun"), g, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Trajectory = nil
	m := flowMatrix(t, cov, func(l float64) float64 { return math.Sqrt(l / (l + 80*80)) })
	want := gpu.CPU().Empty64(n, D)
	for i := range n {
		y, v := mat.NewVecDense(D, nil), mat.VecDense{}
		for j := range D {
			y.SetVec(j, start.F64()[i*D+j]-mean[j])
		}
		v.MulVec(m, y)
		for j := range D {
			want.F64()[i*D+j] = mean[j] + v.AtVec(j)
		}
	}
	for _, name := range []string{"ddim", "heun", "dpm++2m", "unipc", "dpm-solver-v3"} {
		far := rmse(teleported(t, law, law, name, g, 0, o).X, want)
		if e := rmse(teleported(t, law, law, name, g, 6, o).X, want); !(e < 0.7*far) {
			t.Errorf("%s: skipping 6 of 12 steps is %.3g off, plain %.3g", name, e, far)
		}
	}
	if alone := teleported(t, law, law, "heun", g, 0, o); !slices.Equal(alone.X.F64(), plain.X.F64()) {
		t.Error("nothing skipped is not the solver alone")
	}
	o.Seed++
	if e := rmse(teleported(t, law, law, "heun", g, 6, o).X, want); e < 0.3 {
		t.Errorf("another seed's images are only %.3g off: the check is blind", e)
	}
}

// Evaluations are those of the steps that remain: 35 of Heun's 18 steps, 23 after 6
// are skipped. Every solver of the registry does what it promises, and images do
// not depend on the batch.
func TestTeleportCountsWhatTheDenoiserIsAsked(t *testing.T) {
	const D = 4
	law, _, _ := gaussLaw(t, D, 0)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 18})
	o := sampler.Options{Seed: 2, N: 9, Batch: 9, Shape: []int{D}}
	for skip, want := range map[int]int{0: 35, 6: 23, 8: 19, 10: 15, 17: 1} {
		asked := &asks{PointDenoiser: law}
		r, err := sampler.Run(context.Background(), asked, &sampler.Teleport{Solver: sampler.Heun{}, Law: law, Skip: skip}, g, o)
		if err != nil || r.NFE != want || asked.n != want {
			t.Errorf("skip %d: %d evaluations promised, %d made, %v; want %d", skip, r.NFE, asked.n, err, want)
		}
	}
	done := 0
	for _, name := range allSolvers {
		s := &sampler.Teleport{Solver: solver(t, name), Law: law, Skip: 5}
		if sampler.Walks(s, g) != nil {
			continue
		}
		run := func(batch int) []float64 {
			o := o
			o.Batch = batch
			asked := &asks{PointDenoiser: law}
			r, err := sampler.Run(context.Background(), asked, s, g, o)
			if err != nil {
				if strings.Contains(err.Error(), "variance") { // ddpm's learned ones need a network that says it
					return nil
				}
				t.Fatalf("%s: %v", name, err)
			}
			if want := s.Solver.NFE(g.After(5)); want != sampler.Varies && (r.NFE != want || batch == 9 && asked.n != want) {
				t.Errorf("%s: %d evaluations, %d made, want %d", name, r.NFE, asked.n, want)
			}
			return values(r.X)
		}
		if !slices.Equal(run(9), run(4)) {
			t.Errorf("%s: batches of 4 give other bits", name)
		}
		done++
	}
	if done < 20 {
		t.Errorf("only %d solvers were tried", done)
	}
}

// asks counts evaluations.
type asks struct {
	sampler.PointDenoiser
	n int
}

func (a *asks) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	a.n++
	return a.PointDenoiser.DenoiseAt(ctx, out, x, at, c)
}

// On Karras's grid, straight in sigma^(1/rho), skipping k steps is rebuilding the
// grid from the level they lead to; a grid of other curvature differs.
func TestSkippingIsRebuildingOnKarrasGrid(t *testing.T) {
	const k, n = 6, 18
	law, _, _ := gaussLaw(t, 4, 0)
	p := diffusion.DefaultVE()
	spec := diffusion.Spec{Rule: "karras", Steps: n}
	whole, err := diffusion.Build(p, spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Steps = n - k
	short, err := sampler.TeleportGrid(p, spec, whole.Steps[k].From.Sigma())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range short.Sigmas()[1:] {
		if want := whole.Sigmas()[k+i]; math.Abs(s-want) > 1e-12*want {
			t.Errorf("level %d is %v, want %v", i, s, want)
		}
	}
	o := sampler.Options{Seed: 4, N: 6, Shape: []int{4}}
	if e := rmse(teleported(t, law, law, "dpm++2m", whole, k, o).X, teleported(t, law, law, "dpm++2m", short, 1, o).X); e > 1e-11 {
		t.Errorf("the two ways differ by %.3g", e)
	}
	// From pure noise, where Heun's steps in sigma have no length, it can go on.
	zt := build(t, "vp-zt", diffusion.Spec{Rule: "trailing", Steps: 6})
	if sampler.Walks(sampler.Heun{}, zt) == nil {
		t.Error("heun walks from pure noise by itself")
	}
	if r := teleported(t, law, law, "heun", zt, 1, o); r.NFE != 9 {
		t.Errorf("%d evaluations, want 9", r.NFE)
	}
	for _, path := range []string{"vp", "vp-sde", "edm"} {
		p, err := diffusion.PathByName(path)
		if err != nil {
			t.Fatal(err)
		}
		g, err := sampler.TeleportGrid(p, diffusion.Spec{Rule: "logsnr", Steps: 5}, 3)
		if err != nil || len(g.Steps) != 6 || math.Abs(g.Steps[0].To.Sigma()-3) > 1e-9 || g.Steps[0].From.Sigma() < 50 {
			t.Errorf("%s: grid %v, %v", path, g, err)
		}
	}
	g, err := sampler.TeleportGrid(diffusion.Flow{}, diffusion.Spec{Rule: "karras", Steps: 5, SigmaMin: 0.01}, 3)
	if err != nil || g.Steps[0].From.A != 0 {
		t.Errorf("on the flow path the way starts at %+v, %v; want pure noise", g, err)
	}
	if r := teleported(t, law, law, "dpm++2m", g, 1, o); r.NFE != 5 {
		t.Errorf("%d evaluations, want 5", r.NFE)
	}
}

// DPM-Solver-v3 asks its statistics about the steps that it takes itself.
func TestTeleportSparesStatistics(t *testing.T) {
	law, _, _ := gaussLaw(t, 4, 0)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 12})
	few := sampler.DPMSolverV3{Order: 2, Corrector: "none", Stats: &sampler.ModelStatistics{
		Lambda: []float64{-math.Log(11), 7}, L: [][]float64{{1}, {1}}, S: [][]float64{{0}, {0}}, B: [][]float64{{0}, {0}},
	}}
	o := sampler.Options{N: 3, Shape: []int{4}}
	if _, err := sampler.Run(context.Background(), law, few, g, o); err == nil || !strings.Contains(err.Error(), "model statistics are of") {
		t.Errorf("without teleportation: %v", err)
	}
	if _, err := sampler.Run(context.Background(), law, &sampler.Teleport{Solver: few, Law: law, Skip: 5}, g, o); err != nil {
		t.Errorf("with teleportation: %v", err)
	}
}

// On every device a teleported run is the CPU's up to rounding.
func TestTeleportOnDevices(t *testing.T) {
	law, _, _ := gaussLaw(t, 12, 5)
	g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 9})
	o := sampler.Options{Seed: 3, N: 7, Batch: 4, Shape: []int{3, 2, 2}}
	want := values(onDevice(t, gpu.CPU(), law, g, o))
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, v := range values(onDevice(t, dev, law, g, o).To(gpu.CPU())) {
			if math.Abs(v-want[i]) > 1e-5*(1+math.Abs(want[i])) {
				t.Errorf("value %d is %g, on the CPU %g", i, v, want[i])
			}
		}
	})
}

func onDevice(t *testing.T, dev *gpu.Device, law *sampler.Gaussian, g *diffusion.Grid, o sampler.Options) *gpu.Tensor {
	t.Helper()
	o.Device = dev
	r, err := sampler.Run(context.Background(), law, &sampler.Teleport{Solver: solver(t, "dpm++2m"), Law: law, Skip: 4}, g, o)
	if err != nil {
		t.Fatal(err)
	}
	return r.X
}

func TestTeleportRefuses(t *testing.T) {
	law, _, _ := gaussLaw(t, 4, 0)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 6})
	run := func(s *sampler.Teleport, g *diffusion.Grid, shape ...int) error {
		o := sampler.Options{N: 2, Shape: shape}
		if g.Rising() {
			o.Image = gpu.CPU().Empty(2, 4)
		}
		_, err := sampler.Run(context.Background(), law, s, g, o)
		return err
	}
	ddim := solver(t, "ddim")
	grid := func(rule string, sigma float64) error {
		_, err := sampler.TeleportGrid(diffusion.DefaultVE(), diffusion.Spec{Rule: rule, Steps: 5}, sigma)
		return err
	}
	x := gpu.CPU().Empty64(1, 4)
	basis := func(v ...float64) error {
		_, err := sampler.GaussianOf(gpu.CPU().Empty64(2), gpu.CPU().From64(v, len(v)/2, 2), []float64{1, 2}[:len(v)/2], 0, nil)
		return err
	}
	vars := func(lambda, rest float64) error {
		_, err := sampler.GaussianOf(gpu.CPU().Empty64(2), gpu.CPU().From64([]float64{1, 0}, 1, 2), []float64{lambda}, rest, nil)
		return err
	}
	levels := func() error {
		o := sampler.Options{N: 2, Shape: []int{4}, Levels: func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error { return nil }}
		_, err := sampler.Run(context.Background(), law, &sampler.Teleport{Solver: ddim, Law: law, Skip: 1}, g, o)
		return err
	}
	for want, err := range map[string]error{
		"6 of the 6 steps":                 run(&sampler.Teleport{Solver: ddim, Law: law, Skip: 6}, g, 4),
		"-1 steps skipped":                 run(&sampler.Teleport{Solver: ddim, Law: law, Skip: -1}, g, 4),
		"wanted a solver and a law":        run(&sampler.Teleport{Solver: ddim, Skip: 1}, g, 4),
		"rises, and the flow starts":       run(&sampler.Teleport{Solver: ddim, Law: law, Skip: 1}, g.Reversed(), 4),
		"eta 3":                            run(&sampler.Teleport{Solver: sampler.DDIM{Eta: 3}, Law: law, Skip: 1}, g, 4),
		"have 5 values; the distribution":  run(&sampler.Teleport{Solver: ddim, Law: law, Skip: 1}, g, 5),
		"the same levels":                  levels(),
		"to sigma 80, on a way from 80":    grid("karras", 80),
		"to sigma 0.002, on a way from 80": grid("karras", 0.002),
		"to sigma NaN":                     grid("karras", math.NaN()),
		"to sigma 100":                     grid("exponential", 100),
		"grid vp-curve does not start":     grid("vp-curve", 5),
		"from sigma 0":                     law.Flow(context.Background(), x, diffusion.Point{A: 1}, diffusion.Point{A: 1, B: 1}, sampler.Cond{}),
		"row 0 is not orthonormal":         basis(2, 0),
		"is not orthonormal to the others": basis(1, 0, 1, 0),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	for _, err := range []error{vars(-1, 1), vars(math.NaN(), 0), vars(1, math.Inf(1)), vars(1, -1e-3)} {
		if err == nil || !strings.Contains(err.Error(), "variance") {
			t.Errorf("variances: %v", err)
		}
	}
}

// A denoiser of the law's data passes; one whose data are in another range is named
// with the map between the two, in every scaling.
func TestCheckLaw(t *testing.T) {
	const D = 48
	law, mean, cov := gaussLaw(t, D, 0)
	half := slices.Clone(mean) // the same data in half the range, moved
	for i := range half {
		half[i] = 0.5*half[i] + 0.5
	}
	quarter := mat.NewSymDense(D, nil)
	quarter.ScaleSym(0.25, cov)
	moved, err := sampler.NewGaussian(gpu.CPU().From64(half, D), dense(quarter), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	low, err := sampler.NewGaussian(gpu.CPU().From64(slices.Clone(mean), D), dense(cov), 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
		p := diffusion.Point{}
		p.A, p.B = space.Scale(80)
		if err := sampler.CheckLaw(context.Background(), law, low, p, []int{D}, -1, nil); err != nil {
			t.Errorf("%v: its own statistics: %v", space, err)
		}
		err := sampler.CheckLaw(context.Background(), moved, law, p, []int{D}, -1, nil)
		bad, ok := err.(*sampler.LawError)
		if !ok || math.Abs(bad.Gain-0.5) > 0.02 || math.Abs(bad.Shift-0.5) > 0.02 || !strings.Contains(err.Error(), "another range") {
			t.Errorf("%v: %v, want 0.5·mean + 0.5", space, err)
		}
	}
	if err := sampler.CheckLaw(context.Background(), law, law, diffusion.Point{A: 1, B: 80}, []int{D + 1}, -1, nil); err == nil {
		t.Error("another size passes")
	}
}
