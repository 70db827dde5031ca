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
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

func TestTimeShiftRefused(t *testing.T) {
	vp := build(t, "vp", diffusion.Spec{Rule: "trailing", Steps: 5})
	edm := build(t, "edm", diffusion.Spec{Rule: "karras", Steps: 5})
	flow := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 5})
	by := diffusion.Grid{Name: "mine", Space: diffusion.VPSpace, Steps: vp.Steps}
	paper := sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 20, Cutoff: 300}
	with := func(change func(s *sampler.TimeShift)) sampler.TimeShift {
		s := paper
		change(&s)
		return s
	}
	for _, c := range []struct {
		shift sampler.TimeShift
		grid  *diffusion.Grid
		shape []int
		want  string
	}{
		{with(func(s *sampler.TimeShift) { s.Mode = "release" }), vp, []int{4}, `mode "release"; there are none, paper,`},
		{with(func(s *sampler.TimeShift) { s.Window = -1 }), vp, []int{4}, "a window of -1; wanted 0 to 999"},
		{with(func(s *sampler.TimeShift) { s.Window = 1000 }), vp, []int{4}, "a window of 1000; wanted 0 to 999"},
		{with(func(s *sampler.TimeShift) { s.Cutoff = -1 }), vp, []int{4}, "a cutoff at time -1"},
		{with(func(s *sampler.TimeShift) { s.Cutoff = 1000 }), vp, []int{4}, "a cutoff at time 1000"},
		{with(func(s *sampler.TimeShift) { s.Cutoff = math.NaN() }), vp, []int{4}, "a cutoff at time NaN"},
		{paper, edm, []int{4}, "path edm has no table of times"},
		{paper, flow, []int{4}, "flow models need a search on that curve of their own"},
		{paper, &by, []int{4}, "grid mine has no path"},
		{paper, vp.Reversed(), []int{4}, "rises"},
		{paper, vp, []int{1, 1, 1}, "have 1 value, and no variance"},
		{with(func(s *sampler.TimeShift) { s.SigmaWindow = 0.1 }), vp, []int{4}, "give one of the two"},
		{sampler.TimeShift{Mode: sampler.ShiftPaper, SigmaWindow: -0.1}, edm, []int{4}, "a window of -0.1 in ln sigma"},
		{sampler.TimeShift{Mode: sampler.ShiftPaper, SigmaWindow: math.Inf(1)}, edm, []int{4}, "in ln sigma"},
		{sampler.TimeShift{Mode: sampler.ShiftPaper, SigmaWindow: 0.1, SigmaCutoff: -1}, edm, []int{4}, "a cutoff at sigma -1"},
		{sampler.TimeShift{Mode: sampler.ShiftPaper, SigmaCutoff: 1}, edm, []int{4}, "without a window in ln sigma"},
		{with(func(s *sampler.TimeShift) { s.Mode, s.Cutoff = sampler.ShiftRepoADM, 0 }), vp, []int{4}, "take mode none"},
		{with(func(s *sampler.TimeShift) { s.DataVariance = 0.3 }), vp, []int{4}, "mode paper compares with the noise's alone"},
		{with(func(s *sampler.TimeShift) { s.Mode = sampler.ShiftDebiased }), vp, []int{4}, "mode debiased with a data variance of 0"},
		{with(func(s *sampler.TimeShift) { s.Mode, s.DataVariance = sampler.ShiftDebiased, 1 }), vp, []int{4}, "scale the data"},
		{with(func(s *sampler.TimeShift) { s.By = 3 }), vp, []int{4}, "mode paper finds its own"},
		{with(func(s *sampler.TimeShift) { s.Mode = sampler.ShiftConstant }), vp, []int{4}, "a constant shift has no window"},
		{sampler.TimeShift{Mode: sampler.ShiftConstant, By: -1000}, vp, []int{4}, "a shift by -1000"},
	} {
		if _, err := c.shift.Levels(c.grid, c.shape); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "sampler: time shift: ") {
			t.Errorf("%+v: error %v, want %q", c.shift, err, c.want)
		}
	}
	levels := shifting(t, paper, vp, 4)
	_, err := sampler.Run(context.Background(), gaussian{0, 1}, sampler.Heun{}, vp, sampler.Options{N: 1, Shape: []int{4}, Levels: levels})
	if err == nil || !strings.Contains(err.Error(), "heun takes all images through the same levels") {
		t.Errorf("heun: %v", err)
	}
	for _, name := range []string{"debiased", "none"} {
		if !slices.Contains(sampler.ShiftModes(), name) {
			t.Errorf("%s is not listed", name)
		}
	}
}

// Looking at the images allocates nothing.
func TestTimeShiftAllocatesNothing(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "trailing", Steps: 8})
	x := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(3, 4*300), 4, 300)
	from, to := make([]diffusion.Point, 4), make([]diffusion.Point, 4)
	for _, shift := range everyShift(40, 100) {
		levels := shifting(t, shift, g, 300)
		walk := func() {
			for i, st := range g.Steps {
				for b := range from {
					from[b], to[b] = st.From, st.To
				}
				if err := levels(i, x, from, to); err != nil && !errors.Is(err, sampler.ErrGridLevels) {
					t.Fatal(err)
				}
			}
		}
		walk()
		if n := oracle.Allocations(10, walk); n >= 1 {
			t.Errorf("%s: %v allocations in %d steps", shift.Mode, n, len(g.Steps))
		}
	}
}

func ExampleTimeShift() {
	path, _ := diffusion.PathByName("vp")
	grid, _ := diffusion.Build(path, diffusion.Spec{Rule: "leading", Steps: 10})
	o := sampler.Options{N: 2, Shape: []int{16}}
	o.Levels, _ = sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 20, Cutoff: 300}.Levels(grid, o.Shape)
	res, err := sampler.Run(context.Background(), gaussian{0, 0.5}, sampler.DDIM{}, grid, o)
	fmt.Println(res.NFE, err)
	// Output: 10 <nil>
}

// On every device the shifts are the CPU's: the variances differ in their last
// digits, which no image here is near enough to a boundary to notice.
func TestTimeShiftOnDevices(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 8})
	den := &normalData{mean: 0.25, s: 0.9}
	start := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(17, 5*300), 5, 300)
	for _, shift := range everyShift(60, 100) {
		for _, name := range []string{"ddim", "dpm++2m", "pndm", "dpm-solver-2", "ddim:clip=1"} {
			var want, found []float64
			run := func(dev *gpu.Device) []float64 {
				found = nil
				shift.Seen = func(_ int, _, moved []float64) { found = append(found, moved...) }
				res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
					N: 5, Batch: 3, Shape: []int{300}, Double: true, Device: dev, State: start.To(dev), Levels: shifting(t, shift, g, 300),
				})
				if err != nil {
					t.Fatal(err)
				}
				out := make([]float64, res.X.Len())
				if err := res.X.Read64(out); err != nil {
					t.Fatal(err)
				}
				return out
			}
			want = run(gpu.CPU())
			cpus := slices.Clone(found)
			device.Each(t, func(t *testing.T, dev *gpu.Device) {
				got := run(dev)
				if !slices.Equal(found, cpus) {
					t.Errorf("%s, %s: moved by %v, on the CPU by %v", name, shift.Mode, found, cpus)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s, %s: other bits than on the CPU", name, shift.Mode)
				}
			})
		}
	}
}

// Scaled noise is DDIM's step with the predicted noise divided, in float64 value by
// value; a divisor of 1 leaves every bit alone.
func TestScaledNoise(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 6})
	data := gaussian{0.3, 0.6}
	o := sampler.Options{Seed: 4, N: 3, Shape: []int{5}, Double: true}
	for _, c := range []struct{ by, slope float64 }{{1, 0}, {1.0012, 0}, {1, 0.0025}, {0.98, -0.01}} {
		res, err := sampler.Run(context.Background(), &sampler.ScaledNoise{Den: data, By: c.by, Slope: c.slope}, sampler.DDIM{}, g, o)
		if err != nil {
			t.Fatal(err)
		}
		var start []float64
		o.Trajectory = func(e sampler.Event) error {
			if e.Step == 0 {
				start = slices.Clone(e.X.F64())
			}
			return nil
		}
		plain, err := sampler.Run(context.Background(), data, sampler.DDIM{}, g, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Trajectory = nil
		if c.by == 1 && c.slope == 0 {
			if !slices.Equal(res.X.F64(), plain.X.F64()) {
				t.Error("a divisor of 1 changes bits")
			}
			continue
		}
		for j, x := range start {
			for i, s := range g.Steps {
				kx, k0 := data.coeffs(s.From.A, s.From.B)
				eps := (x - s.From.A*(kx*x+k0)) / s.From.B / (c.by + c.slope*float64(i))
				x = s.To.A*(x-s.From.B*eps)/s.From.A + s.To.B*eps
			}
			if got := res.X.F64()[j] * g.Steps[len(g.Steps)-1].To.A; !(math.Abs(got-x) <= 1e-11) {
				t.Errorf("divided by %g + %g·i: value %d is %v, want %v", c.by, c.slope, j, got, x)
			}
		}
	}
	zt := build(t, "vp-zt", diffusion.Spec{Rule: "trailing", Steps: 6})
	for _, c := range []struct {
		by, slope float64
		grid      *diffusion.Grid
		want      string
	}{
		{0, 0, g, "divided by 0 at first"},
		{1, -0.3, g, "by -0.5 in step 5"},
		{math.NaN(), 0, g, "divided by NaN"},
		{math.Inf(1), 0, g, "divided by +Inf"},
		{1.01, 0, zt, "starts at infinite noise"},
	} {
		_, err := sampler.Run(context.Background(), &sampler.ScaledNoise{Den: data, By: c.by, Slope: c.slope}, sampler.DDIM{}, c.grid, o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%g, %g: error %v, want %q", c.by, c.slope, err, c.want)
		}
	}
}

// The mean variance of a mixture's images is that of its moments, written out over
// all pairs of values; of given images that of each.
func TestPixelVariance(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	check := func(what string, s, full sampler.MixtureSpec) {
		m, err := sampler.NewMixture(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.PixelVariance()
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for k, w := range full.Weights {
			D := len(full.Means[k])
			for i := range D {
				for j := range D { // E[(x_i - x_j)²]/2 over pairs is the unbiased variance
					d := full.Means[k][i] - full.Means[k][j]
					want += w * (full.Covs[k][i][i] + full.Covs[k][j][j] - 2*full.Covs[k][i][j] + d*d) / float64(2*D*(D-1))
				}
			}
		}
		if !(math.Abs(got-want) <= 1e-12*want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	full := testSpec(r, 7, 3)
	check("full", full, full)
	for _, residual := range []float64{0, 0.05} {
		low, full := lowRankSpecs(r, residual)
		check("low rank", low, full)
	}
	same := sampler.MixtureSpec{Weights: []float64{0.5, 0.5}, Means: [][]float64{{1, 2, 4}, {0, 0, 0}}, Vars: []float64{0.1, 0.4}}
	m, err := sampler.NewMixture(same)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.PixelVariance(); err != nil || !(math.Abs(got-(0.25+7./6)) <= 1e-12) { // mean of 0.1 and 0.4, and half of 7/3
		t.Errorf("isotropic: %v %v, want %v", got, err, 0.25+7./6)
	}
	if got, err := sampler.PixelVariance(gpu.CPU().From([]float32{1, 2, 4, 0, 0, 3}, 2, 3)); err != nil || !(math.Abs(got-(7./3+3)/2) <= 1e-12) {
		t.Errorf("images: %v %v, want %v", got, err, (7./3+3)/2)
	}
	for _, bad := range []*gpu.Tensor{gpu.CPU().Empty(0, 3), gpu.CPU().From([]float32{1, 2}, 2, 1), gpu.CPU().From([]float32{1, float32(math.NaN())}, 1, 2)} {
		if _, err := sampler.PixelVariance(bad); err == nil || !strings.Contains(err.Error(), "sampler: ") {
			t.Errorf("images of shape %v: error %v", bad.Shape(), err)
		}
	}
	one, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{1}}, Vars: []float64{1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.PixelVariance(); err == nil || !strings.Contains(err.Error(), "images of 1 value") {
		t.Errorf("one value: error %v", err)
	}
}

// Images that are at a level are found there: the noisy versions of flat images, whose
// variance is the noise's alone, are moved by nothing on average, with the deviation
// that the variance of n normals has, B²·√(2/(n-1)), over the slope of 1 - abar. So an
// image of few values is looked at through its noise.
func TestShiftFindsTheLevel(t *testing.T) {
	const at, n, images = 400, 4096, 400
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{900, at, 100}, End: diffusion.Keep})
	p := g.Steps[1].From
	x := gpu.CPU().From64(normals64(23, n*images), images, n)
	for i := range x.F64() {
		x.F64()[i] = 0.3*p.A + p.B*x.F64()[i]
	}
	var moved []float64
	shift := sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 400, Cutoff: 100, Seen: func(_ int, _, m []float64) { moved = slices.Clone(m) }}
	levels := shifting(t, shift, g, n)
	from, to := make([]diffusion.Point, images), make([]diffusion.Point, images)
	for step, s := range g.Steps {
		for b := range from {
			from[b], to[b] = s.From, s.To
		}
		if err := levels(step, x, from, to); err != nil && !errors.Is(err, sampler.ErrGridLevels) {
			t.Fatal(err)
		}
	}
	slope := (linear[at+1] - linear[at-1]) / 2
	want := linear[at] * math.Sqrt(2./(n-1)) / slope
	var sum, squares float64
	for _, m := range moved {
		sum, squares = sum+m, squares+m*m
	}
	if mean := sum / images; !(math.Abs(mean) <= 4*want/math.Sqrt(images)+0.5) { // and the rounding to whole times
		t.Errorf("moved by %v on average, want 0 within %v", mean, 4*want/math.Sqrt(images)+0.5)
	}
	if dev := math.Sqrt(squares / images); !(math.Abs(dev/want-1) <= 4/math.Sqrt(2*images)) {
		t.Errorf("moved with a deviation of %v times, want %v", dev, want)
	}
}
