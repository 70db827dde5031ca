package sampler_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// linear is the table of the paper's models, 1 - abar of every time by the product
// itself.
var linear = func() []float64 {
	noise, abar := make([]float64, 1000), 1.0
	for t := range noise {
		abar *= 1 - (1e-4 + (0.02-1e-4)*float64(t)/999)
		noise[t] = 1 - abar
	}
	return noise
}()

// shifting is the Levels of a shift that is expected to be in order.
func shifting(t testing.TB, s sampler.TimeShift, g *diffusion.Grid, shape ...int) func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error {
	t.Helper()
	levels, err := s.Levels(g, shape)
	if err != nil {
		t.Fatal(err)
	}
	return levels
}

// everyShift is a shift of each mode.
func everyShift(window int, cutoff float64) []sampler.TimeShift {
	return []sampler.TimeShift{
		{Mode: sampler.ShiftPaper, Window: window, Cutoff: cutoff},
		{Mode: sampler.ShiftDebiased, Window: window, Cutoff: cutoff, DataVariance: 0.3},
		{Mode: sampler.ShiftRepoTarget, Window: window, Cutoff: cutoff},
		{Mode: sampler.ShiftRepoADM, Window: window, Cutoff: cutoff},
	}
}

// biased is a denoiser that leaves part of the noise in and sees a tilted spread,
// as a network does whose states are not those of its training: images differ in
// how far they are from where they should be.
type biased struct{ gaussian }

func (d biased) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	if err := d.gaussian.DenoiseAt(ctx, out, x, at, c); err != nil {
		return err
	}
	size := x.Len() / len(at)
	for b, p := range at {
		for i := b * size; i < (b+1)*size; i++ {
			out.F64()[i] += 0.08 * math.Sin(float64(3*(i%size))) * x.F64()[i] * p.B
		}
	}
	return nil
}

// naiveShift is the sampler written out, image by image and value by
// value, with DDIM's step: x of n values at the times of the grid, noise[t] = 1 -
// abar. It tells the times that the network was asked at.
func naiveShift(mode sampler.ShiftMode, times []int, window int, cutoff, v0 float64, x []float64, den biased) (asked []int) {
	half, n := window/2, len(x)
	spread := func() float64 {
		mean, sum := 0.0, 0.0
		for _, v := range x {
			mean += v / float64(n)
		}
		for _, v := range x {
			sum += (v - mean) * (v - mean)
		}
		return sum / float64(n-1)
	}
	nearest := func(v float64, lo, hi int) int {
		best := lo
		for t := lo; t <= hi; t++ {
			e := func(t int) float64 { return math.Abs(v - (v0*(1-linear[t]) + linear[t])) }
			if e(t) < e(best) {
				best = t
			}
		}
		return best
	}
	window2 := func(t int) (int, int) { return max(t-half, 0), min(t+half, 999) }
	shifted := -1
	for i := 0; i+1 < len(times); i++ {
		from, to := times[i], times[i+1]
		switch {
		case mode == sampler.ShiftRepoTarget && i > 0 && float64(to) > cutoff:
			lo, hi := window2(to)
			to = nearest(spread(), lo, hi)
		case mode == sampler.ShiftRepoADM && i > 0 && float64(from) > cutoff:
			lo, hi := window2(from)
			to += nearest(spread(), lo, hi) - from
		case shifted >= 0:
			from = shifted
		}
		asked = append(asked, from)
		p := diffusion.Point{A: math.Sqrt(1 - linear[from]), B: math.Sqrt(linear[from])}
		d := gpu.CPU().Empty64(1, n)
		if err := den.DenoiseAt(context.Background(), d, gpu.CPU().From64(x, 1, n), []diffusion.Point{p}, sampler.Cond{}); err != nil {
			panic(err)
		}
		for j, v := range x {
			eps := (v - p.A*d.F64()[j]) / p.B
			x[j] = math.Sqrt(1-linear[to])*d.F64()[j] + math.Sqrt(linear[to])*eps
		}
		shifted = -1
		if next := times[i+1]; (mode == sampler.ShiftPaper || mode == sampler.ShiftDebiased) && float64(next) > cutoff {
			lo, hi := window2(next)
			shifted = nearest(spread(), lo, hi)
		}
	}
	return asked
}

// watched notes the times that a denoiser is asked at, by image.
type watched struct {
	biased
	path  diffusion.Path
	asked [][]int
}

func (d *watched) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	for i, p := range at {
		t := d.path.Time(p.Sigma())
		d.asked[i] = append(d.asked[i], int(math.Round(t)))
	}
	return d.biased.DenoiseAt(ctx, out, x, at, c)
}

// Every variant is its program written out: the same images to 1e-9, and the same
// times told to the network, which of all variants only paper and debiased shift.
func TestTimeShiftIsTheProgram(t *testing.T) {
	times := []int{901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0}
	var list []float64
	for _, v := range times {
		list = append(list, float64(v))
	}
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: list, End: diffusion.Keep})
	const n, images = 150, 6
	noise := gpu.CPU().From64(normals64(11, n*images), images, n)
	moved := map[sampler.ShiftMode]int{}
	for _, window := range []int{4, 20, 61} {
		for _, shift := range everyShift(window, 200) {
			den := &watched{biased{gaussian{0.2, 0.5}}, g.Path, make([][]int, images)}
			shift.Seen = func(_ int, _, by []float64) {
				for _, d := range by {
					if d != 0 {
						moved[shift.Mode]++
					}
				}
			}
			got, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g, sampler.Options{
				N: images, Shape: []int{n}, Double: true, State: noise, Levels: shifting(t, shift, g, n),
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range images {
				x := slices.Clone(noise.F64()[i*n : (i+1)*n])
				asked := naiveShift(shift.Mode, times, window, 200, shift.DataVariance, x, den.biased)
				if !slices.Equal(asked, den.asked[i]) {
					t.Errorf("%s, window %d: image %d: the network was asked at %v, want %v", shift.Mode, window, i, den.asked[i], asked)
				}
				if grid := times[:len(times)-1]; (shift.Mode == sampler.ShiftRepoTarget || shift.Mode == sampler.ShiftRepoADM) && !slices.Equal(den.asked[i], grid) {
					t.Errorf("%s: the network was asked at %v; it belongs on the grid", shift.Mode, den.asked[i])
				}
				last := g.Steps[len(g.Steps)-1].To.A
				for j, v := range x {
					if w := got.X.F64()[i*n+j]; !(math.Abs(w-v/last) <= 1e-9*(1+math.Abs(v))) {
						t.Fatalf("%s, window %d: value %d of image %d is %v, want %v", shift.Mode, window, j, i, w, v/last)
					}
				}
			}
		}
	}
	for _, mode := range []sampler.ShiftMode{sampler.ShiftPaper, sampler.ShiftDebiased, sampler.ShiftRepoTarget, sampler.ShiftRepoADM} {
		if moved[mode] < 30 {
			t.Errorf("%s moved %d times; the comparison shows little", mode, moved[mode])
		}
	}
}

func normals64(seed uint64, n int) []float64 {
	out := make([]float64, n)
	for i, v := range oracle.Normal(seed, n) {
		out[i] = float64(v)
	}
	return out
}

// confused is the time shift with network time and target level confused: what the
// network is told moves with the target.
func confused(s func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error) func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error {
	var last []diffusion.Point
	return func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
		if last != nil {
			copy(from, last)
		}
		err := s(step, x, from, to)
		last = slices.Clone(to)
		return err
	}
}

// The check of the network's times above catches the version that confuses them.
func TestConfusedTimesAreCaught(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{901, 701, 501, 301, 101, 1}, End: diffusion.Keep})
	den := &watched{biased{gaussian{0.2, 0.5}}, g.Path, make([][]int, 1)}
	shift := sampler.TimeShift{Mode: sampler.ShiftRepoTarget, Window: 20, Cutoff: 200}
	if _, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g, sampler.Options{
		N: 1, Shape: []int{150}, Double: true, Levels: confused(shifting(t, shift, g, 150)),
	}); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(den.asked[0], []int{901, 701, 501, 301, 101}) {
		t.Error("the confused version asks on the grid; the check would not see it")
	}
}

// Without a window, or with a cutoff above the grid, the run is the unshifted one
// bit for bit: through networks whose predictions are taken apart, in every mode
// and every solver with levels of single images.
func TestTimeShiftOfNothing(t *testing.T) {
	mix := testMixture(t, 3, 4)
	net := sampler.Adapt(epsOf{mix}, diffusion.DefaultVPSDE(), diffusion.PredEps)
	g := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 8})
	for _, name := range allSolvers {
		s := solver(t, name)
		if !ownLevels(s) || s.Check(g) != nil {
			continue
		}
		for _, den := range []sampler.Denoiser{mix, net} {
			o := sampler.Options{Seed: 2, N: 5, Batch: 2, Shape: []int{3}}
			want := bits(t, den, name, g, o)
			for _, window := range []int{0, 1, 40} {
				cutoff := 100.0
				if window == 40 {
					cutoff = 999
				}
				for _, shift := range append(everyShift(window, cutoff), sampler.TimeShift{}, sampler.TimeShift{Mode: sampler.ShiftConstant, Cutoff: cutoff, By: float64(window / 2)}) {
					if o.Levels = shifting(t, shift, g, 3); !slices.Equal(bits(t, den, name, g, o), want) {
						t.Errorf("%s, %s with window %d: other bits than without a shift", name, shift.Mode, window)
					}
				}
			}
		}
	}
}

// Every image is shifted by what it is itself: batches, their order and images that
// are left out change no bit, in every mode and every solver with levels of single images.
func TestTimeShiftKeepsImagesApart(t *testing.T) {
	mix := testMixture(t, 24, 5)
	g := build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 8})
	for _, name := range allSolvers {
		s := solver(t, name)
		if !ownLevels(s) || s.Check(g) != nil {
			continue
		}
		for _, shift := range everyShift(60, 100) {
			run := func(first, n, batch int) []uint64 {
				return bits(t, mix, name, g, sampler.Options{Seed: 9, First: first, N: n, Batch: batch, Shape: []int{24}, Levels: shifting(t, shift, g, 24)})
			}
			all := run(0, 7, 7)
			for _, batch := range []int{1, 3} {
				if !slices.Equal(run(0, 7, batch), all) {
					t.Errorf("%s, %s: batches of %d give other bits", name, shift.Mode, batch)
				}
			}
			if !slices.Equal(run(4, 3, 3), all[4*24:]) {
				t.Errorf("%s, %s: images 4 to 6 alone have other bits", name, shift.Mode)
			}
		}
	}
}

// chosen is where a shift moves images of the given variances in a step in the
// middle of a grid, relative to the centre.
func chosen(t *testing.T, shift sampler.TimeShift, g *diffusion.Grid, step int, variances ...float64) []float64 {
	t.Helper()
	const n = 64
	x := gpu.CPU().Empty64(len(variances), n)
	for b, v := range variances {
		for i := range n { // ±s has the unbiased variance s²·n/(n-1)
			x.F64()[b*n+i] = math.Sqrt(v*(n-1)/n) * float64(1-2*(i%2))
		}
	}
	var out []float64
	shift.Seen = func(_ int, _, moved []float64) { out = slices.Clone(moved) }
	levels := shifting(t, shift, g, n)
	from, to := make([]diffusion.Point, len(variances)), make([]diffusion.Point, len(variances))
	at := func(i int) {
		for b := range from {
			from[b], to[b] = g.Steps[i].From, g.Steps[i].To
		}
	}
	at(step - 1)
	if err := levels(0, x, from, to); !errors.Is(err, sampler.ErrGridLevels) { // a first step shifts nothing
		t.Fatalf("the first step: %v", err)
	}
	at(step)
	if err := levels(step, x, from, to); err != nil && !errors.Is(err, sampler.ErrGridLevels) {
		t.Fatal(err)
	}
	return out
}

// Two images of different variance in a batch get different times, each its own,
// in whatever order they lie; the versions with one shift for the batch, or with
// the variance over the batch, are caught by that.
func TestOneShiftForTheBatchIsCaught(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{901, 801, 701, 601, 501, 401}, End: diffusion.Keep})
	shift := sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 30, Cutoff: 300}
	want := []float64{-9, 4, 12} // of time 601
	var v []float64
	for _, d := range want {
		v = append(v, linear[601+int(d)])
	}
	if got := chosen(t, shift, g, 3, v...); !slices.Equal(got, want) {
		t.Errorf("moved by %v, want %v", got, want)
	}
	if got := chosen(t, shift, g, 3, v[2], v[0], v[1]); !slices.Equal(got, []float64{want[2], want[0], want[1]}) {
		t.Errorf("in another order moved by %v", got)
	}
	// The naive versions: the mean of the batch's variances, and the variance of the
	// whole batch, which here is that of all values together.
	naive := func(v ...float64) (out []float64) {
		mean := 0.0
		for _, x := range v {
			mean += x / float64(len(v))
		}
		for range v {
			out = append(out, chosen(t, shift, g, 3, mean)[0])
		}
		return out
	}
	if got := naive(v...); slices.Equal(got, want) {
		t.Errorf("one shift for the batch gives %v as well; the check would not see it", got)
	}
}

// The window ends with the table: near T and near 0 only times that exist are
// looked at, and the others stay where they are. A version that moves the window
// inside, as one of the programs does at 0, is caught.
func TestWindowAtTheEnds(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{999, 996, 990, 500, 8, 3, 0}, End: diffusion.Keep})
	shift := sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 40, Cutoff: 0}
	for _, c := range []struct {
		step     int
		variance float64
		want     float64
	}{
		{1, 2, 2},   // time 996: 997 and 998 are nearer; 999 is where the last evaluation was
		{1, 0, -5},  // down to 991, above the step's end
		{2, 2, 5},   // time 990: to 995, below the last evaluation
		{3, 0, -20}, // time 500: the whole window
		{3, 2, 20},
		{4, 0, -4}, // time 8: to 4, above the step's end
		{4, 2, 20},
		{5, 0, -2}, // time 3: to 1
	} {
		if got := chosen(t, shift, g, c.step, c.variance); got[0] != c.want {
			t.Errorf("time %g: an image of variance %g is moved by %v, want %g", g.Steps[c.step].From.T, c.variance, got, c.want)
		}
	}
	// A target near 0, whose window would reach below the table.
	shift.Mode = sampler.ShiftRepoTarget
	if got := chosen(t, shift, g, 4, 0); got[0] != -3 {
		t.Errorf("target 3: moved by %v, want -3", got)
	}
	if got := chosen(t, shift, g, 4, linear[5]); got[0] != 2 {
		t.Errorf("target 3: an image of time 5's variance is moved by %v, want 2", got)
	}
	// The window [0, w] instead of [t-w/2, t+w/2] has times beyond t + w/2.
	moved := 0
	for t := range 41 {
		if math.Abs(linear[30]-linear[t]) < math.Abs(linear[30]-linear[moved]) {
			moved = t
		}
	}
	if got := chosen(t, shift, g, 4, linear[30]); got[0] == float64(moved-3) {
		t.Errorf("a window moved inside the table chooses %v as well; the check would not see it", got)
	}
}

// Debiased is paper where data have no variance, and finds exactly the level whose
// states have an image's variance, closed form A²·v0 + B² = v, where paper is off.
func TestDebiasedShift(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{901, 801, 701, 601, 501, 401}, End: diffusion.Keep})
	paper := sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 90, Cutoff: 300}
	debiased := sampler.TimeShift{Mode: sampler.ShiftDebiased, Window: 90, Cutoff: 300, DataVariance: 5e-324}
	for d := -45; d <= 45; d += 9 {
		v := []float64{linear[601+d], linear[601] + 0.001*float64(d)}
		if got, want := chosen(t, debiased, g, 3, v...), chosen(t, paper, g, 3, v...); !slices.Equal(got, want) {
			t.Errorf("variances %v: debiased without data variance moves by %v, paper by %v", v, got, want)
		}
	}
	debiased.DataVariance = 0.307
	off := 0
	for d := -45; d <= 45; d += 9 {
		v := 0.307*(1-linear[601+d]) + linear[601+d]
		if got := chosen(t, debiased, g, 3, v); got[0] != float64(d) {
			t.Errorf("the level %d away is moved to %v", d, got)
		}
		if chosen(t, paper, g, 3, v)[0] != float64(d) {
			off++
		}
	}
	if off < 8 {
		t.Errorf("paper finds all but %d of the levels of data with variance; the check shows little", off)
	}
}

// On a path without a table the window is in ln sigma: the level of closed form
// sigma² = v - v0 in VE scaling, to the 256th part of the window, and no further
// than half of it.
func TestShiftInSigma(t *testing.T) {
	g := build(t, "edm", diffusion.Spec{Rule: "karras", Steps: 8})
	shift := sampler.TimeShift{Mode: sampler.ShiftDebiased, SigmaWindow: 0.2, SigmaCutoff: 0.1, DataVariance: 0.25}
	sigma := g.Steps[3].From.Sigma()
	for _, d := range []float64{-0.3, -0.1, -0.05, 0, 0.03, 0.1, 0.3} {
		s := sigma * math.Exp(d)
		want := min(max(d, -0.1), 0.1)
		if got := chosen(t, shift, g, 3, 0.25+s*s); !(math.Abs(got[0]-want) <= 0.2/256) {
			t.Errorf("sigma %g from %g: moved by %v in ln sigma, want %g", s, sigma, got, want)
		}
	}
	last := len(g.Steps) - 1
	if got := chosen(t, shift, g, last, 0.25); got != nil {
		t.Errorf("below the cutoff: moved by %v", got)
	}
}

// A constant shift moves all images alike, whatever they are.
func TestConstantShift(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{901, 801, 701, 601, 501, 401}, End: diffusion.Keep})
	den := &watched{biased{gaussian{0.2, 0.5}}, g.Path, make([][]int, 2)}
	shift := sampler.TimeShift{Mode: sampler.ShiftConstant, By: -7, Cutoff: 650}
	if _, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g, sampler.Options{
		N: 2, Shape: []int{9}, Double: true, Levels: shifting(t, shift, g, 9),
	}); err != nil {
		t.Fatal(err)
	}
	for i, got := range den.asked {
		if want := []int{901, 794, 694, 601, 501}; !slices.Equal(got, want) {
			t.Errorf("image %d was asked about at %v, want %v", i, got, want)
		}
	}
}
