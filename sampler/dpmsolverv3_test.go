package sampler_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// slanted are statistics without any meaning, linear over all of λ: the method
// must have its order with them too.
func slanted(width int) *sampler.ModelStatistics {
	m := &sampler.ModelStatistics{Lambda: []float64{-6, 6}}
	row := func(v float64) []float64 { return slices.Repeat([]float64{v}, width) }
	m.L = [][]float64{row(0.3), row(1.2)}
	m.S = [][]float64{row(0.4), row(-0.3)}
	m.B = [][]float64{row(-0.2), row(0.5)}
	return m
}

func TestOrdersOfV3(t *testing.T) {
	problems := []problem{gaussianProblem, mixtureProblem(t)}
	for _, c := range []struct {
		s    sampler.DPMSolverV3
		want float64
	}{
		{sampler.DPMSolverV3{Order: 1, Corrector: "none"}, 1},
		{sampler.DPMSolverV3{Order: 2, Corrector: "none"}, 2},
		{sampler.DPMSolverV3{Order: 3, Corrector: "none"}, 3},
		{sampler.DPMSolverV3{Order: 3, Pseudo: true, Corrector: "none"}, 2},
		{sampler.DPMSolverV3{Order: 3, Corrector: "full"}, 3},
		{sampler.DPMSolverV3{Order: 1, Corrector: "pseudo"}, 2},
		{sampler.DPMSolverV3{Order: 3, Corrector: "pseudo"}, 2},
	} {
		for name, stats := range map[string]*sampler.ModelStatistics{"slanted": slanted(1), "none": nil} {
			c.s.Stats = stats
			for _, p := range problems {
				for _, g := range smoothGrids {
					e1, e := errorOf(t, p, c.s, startedShort(t, g.path, 300)), errorOf(t, p, c.s, startedShort(t, g.path, 600))
					// Without statistics the corrector leaves so little of the error of
					// its order that the next order's shows beside it.
					most := 0.1 * c.want
					if stats == nil && c.s.Corrector == "full" {
						most = 1
					}
					if got := math.Log2(e1 / e); got-c.want > most || c.want-got > 0.1*c.want {
						t.Errorf("%s, statistics %s, %s on %s: order %.2f (error %.2g), want %g", c.s.Name(), name, p.name, g.path, got, e, c.want)
					}
				}
			}
		}
	}
}

// startedShort is n steps of one length h in λ after one of h², so that the first
// order of the first step, a local error of h⁴, hides no higher one.
func startedShort(t *testing.T, path string, n int) *diffusion.Grid {
	h := math.Log(10/0.05) / float64(n)
	list := []float64{10 * math.Exp(h*h)}
	for i := range n + 1 {
		list = append(list, 10*math.Exp(-h*float64(i)))
	}
	return build(t, path, diffusion.Spec{Rule: "sigmas", List: list, End: diffusion.Keep})
}

// With l = 1 and s = b = 0 the method is DPM-Solver++, whose Taylor form of order
// 2 the other solver's Heun form is.
func TestV3WithoutStatisticsIsDPMSolver(t *testing.T) {
	ones := &sampler.ModelStatistics{Lambda: []float64{-6, -1, 0.3, 10}}
	for range 4 {
		ones.L, ones.S, ones.B = append(ones.L, []float64{1}), append(ones.S, []float64{0}), append(ones.B, []float64{0})
	}
	for name, s := range map[string]sampler.DPMSolverV3{
		"ddim": {Order: 1, Corrector: "none"}, "dpm++2m-heun": {Order: 2, Corrector: "none"}, "dpm++2m-heun:lower-final=always": {Order: 2, Pseudo: true, Corrector: "none", LowerFinal: true},
	} {
		for _, g := range []*diffusion.Grid{
			build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 9}),
			build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 9, End: diffusion.Min}),
			build(t, "flow", diffusion.Spec{Rule: "karras", Steps: 9, SigmaMax: 50, SigmaMin: 0.01}),
		} {
			for _, stats := range []*sampler.ModelStatistics{nil, ones} {
				s.Stats = stats
				var x [2][]float64
				for i, which := range []sampler.Solver{s, solver(t, name)} {
					res, err := sampler.Run(context.Background(), testMixture(t, 4, 3), which, g, sampler.Options{Seed: 2, N: 3, Shape: []int{4}, Double: true})
					if err != nil {
						t.Fatal(err)
					}
					x[i] = res.X.F64()
				}
				if e := rel(x[0], x[1]); e > 1e-12 {
					t.Errorf("%s: differs from %s on %s by %.2g", s.Name(), name, g.Name, e)
				}
			}
		}
	}
}

// A Gaussian's f is the same for all states and its statistics have closed forms;
// with them a step is right whatever its length, but for the table's distances.
func TestStatisticsOfAGaussian(t *testing.T) {
	const m, s2, hi, lo = 0.3, 0.25, 20, 0.05
	den := gaussian{m, 0.5}
	path := diffusion.VE{Min: lo, Max: hi}
	off := func(steps int) float64 {
		stats, err := sampler.EstimateStatistics(context.Background(), den, path, sampler.StatisticsOptions{
			Steps: steps, PerValue: true, Images: sampler.Options{Seed: 4, N: 5, Batch: 2, Shape: []int{2}, Double: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(stats.Lambda) != steps+1 || len(stats.L[0]) != 2 {
			t.Fatalf("%d levels of %d values", len(stats.Lambda), len(stats.L[0]))
		}
		for i, l := range stats.Lambda {
			v := math.Exp(-2 * l)
			b := -2 * m * v * s2 / ((v + s2) * (v + s2)) // d/dλ of f = -m·v/(v+s²) is 2·m·v·s²/(v+s²)²
			for j := range 2 {
				if math.Abs(stats.L[i][j]-v/(v+s2)) > 1e-8 {
					t.Errorf("lambda %.2f: l is %.10f, want %.10f", l, stats.L[i][j], v/(v+s2))
				}
				if stats.S[i][j] != 0 || math.Abs(stats.B[i][j]+b) > 2/float64(steps*steps)*20 {
					t.Errorf("lambda %.2f: s is %g, want 0; b is %.6f, want %.6f", l, stats.S[i][j], stats.B[i][j], -b)
				}
			}
		}
		g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{hi, 1, lo}, End: diffusion.Keep})
		return errorOf(t, gaussianProblem, sampler.DPMSolverV3{Stats: stats, Order: 1, Corrector: "none"}, g)
	}
	e1, e2 := off(100), off(200)
	if e1 > 1e-3 || math.Abs(math.Log2(e1/e2)-2) > 0.3 {
		t.Errorf("two steps are off by %.2g and %.2g with tables of 100 and 200 steps; want a quarter", e1, e2)
	}
}

// The table against its definitions on states of the mixture: derivatives by
// differences of the formula, moments in two passes.
func TestStatisticsOfTheMixture(t *testing.T) {
	p := mixtureProblem(t)
	den := p.den.(mixtureDenoiser)
	path := diffusion.VE{Min: 0.05, Max: 20}
	const steps, n = 40, 300
	o := sampler.StatisticsOptions{Steps: steps, Images: sampler.Options{Seed: 4, N: n, Batch: 128, Shape: []int{2}, Double: true}}
	stats, err := sampler.EstimateStatistics(context.Background(), den, path, o)
	if err != nil {
		t.Fatal(err)
	}
	g := build(t, "ve", diffusion.Spec{Rule: "exponential", Steps: steps, SigmaMin: 0.05, SigmaMax: 20, End: diffusion.Min})
	states := map[int][]float64{}
	if _, err := sampler.Run(context.Background(), den, solver(t, "dpm++2m"), g, sampler.Options{
		Seed: 4, N: n, Shape: []int{2}, Double: true, Batch: n,
		Trajectory: func(e sampler.Event) error { states[e.Step] = slices.Clone(e.X.F64()); return nil },
	}); err != nil {
		t.Fatal(err)
	}
	const d = 1e-4
	for _, k := range []int{0, 1, 13, 20, 27, steps} {
		lambda := stats.Lambda[k]
		d0 := func(y []float64, lambda float64) []float64 { return den.g.posterior(y, 1, math.Exp(-lambda)) }
		// l, from the exact trace; ±1 probes of two values have the deviation of twice the off-diagonal.
		var l, spread float64
		for i := 0; i < len(states[k]); i += 2 {
			y := states[k][i : i+2]
			dx := func(a, b int) float64 {
				up, down := slices.Clone(y), slices.Clone(y)
				up[a] += d * math.Exp(-lambda)
				down[a] -= d * math.Exp(-lambda)
				return (d0(up, lambda)[b] - d0(down, lambda)[b]) / (2 * d * math.Exp(-lambda))
			}
			l += (1 - (dx(0, 0)+dx(1, 1))/2) / n
			spread += dx(0, 1) * dx(0, 1)
		}
		if z := (stats.L[k][0] - l) / (math.Sqrt(spread) / n); math.Abs(z) > 4.5 && math.Abs(stats.L[k][0]-l) > 1e-8 {
			t.Errorf("level %d: l is %.5f, want %.5f: %.1f standard errors off", k, stats.L[k][0], l, z)
		}
		// f and f' with the table's l and its slope.
		h := stats.Lambda[1] - stats.Lambda[0]
		at := func(i int) float64 { return stats.L[i][0] }
		slope := 0.0
		switch k {
		case 0:
			slope = (-3*at(0) + 4*at(1) - at(2)) / (2 * h)
		case steps:
			slope = (3*at(k) - 4*at(k-1) + at(k-2)) / (2 * h)
		default:
			slope = (at(k+1) - at(k-1)) / (2 * h)
		}
		var f, df []float64
		for i := 0; i < len(states[k]); i += 2 {
			y := states[k][i : i+2]
			now := d0(y, lambda)
			for j := range 2 {
				f = append(f, (1-at(k))*y[j]-now[j])
				var side [2]float64
				for s, sign := range []float64{1, -1} {
					moved := []float64{y[0] + sign*d*(now[0]-y[0]), y[1] + sign*d*(now[1]-y[1])}
					side[s] = (1-at(k)-sign*d*slope)*moved[j] - d0(moved, lambda+sign*d)[j]
				}
				df = append(df, (side[0]-side[1])/(2*d))
			}
		}
		mf, mdf := mean(f), mean(df)
		var ff, fdf float64
		for i := range f {
			ff += (f[i] - mf) * (f[i] - mf)
			fdf += (f[i] - mf) * (df[i] - mdf)
		}
		s := fdf / ff
		if b := mdf - s*mf; math.Abs(stats.S[k][0]-s) > 1e-5 || math.Abs(stats.B[k][0]-b) > 1e-5 {
			t.Errorf("level %d: s and b are %.7f and %.7f, want %.7f and %.7f", k, stats.S[k][0], stats.B[k][0], s, b)
		}
	}
	// What they are for: fewer evaluations for the same error. Reported, not asserted.
	run := func(s sampler.Solver, g *diffusion.Grid) []float64 {
		res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{Seed: 8, N: 100, Batch: 100, Shape: []int{2}, Double: true})
		if err != nil {
			t.Fatal(err)
		}
		return res.X.F64()
	}
	exact := run(solver(t, "dopri5:rtol=1e-7,atol=1e-7"), build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{20, 0.05}, End: diffusion.Keep}))
	o.PerValue, o.Images.N = true, 2000
	if stats, err = sampler.EstimateStatistics(context.Background(), den, path, o); err != nil {
		t.Fatal(err)
	}
	for _, steps := range []int{5, 6, 8, 10, 15} {
		g := build(t, "ve", diffusion.Spec{Rule: "exponential", Steps: steps, SigmaMin: 0.05, SigmaMax: 20, End: diffusion.Min})
		line := fmt.Sprintf("%d evaluations: dpm++2m %.4f", steps, rms(run(solver(t, "dpm++2m"), g), exact))
		for order := 1; order <= 3; order++ {
			for _, corrector := range []string{"none", "pseudo"} {
				v3 := sampler.DPMSolverV3{Order: order, Corrector: corrector, LowerFinal: true}
				plain := rms(run(v3, g), exact)
				v3.Stats = stats
				line += fmt.Sprintf("; %d %s %.4f, with statistics %.4f", order, corrector, plain, rms(run(v3, g), exact))
			}
		}
		t.Log(line)
	}
}

// rms is the root mean square of a difference.
func rms(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(sum / float64(len(a)))
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// A table with a number for each value does to every value what its own scalar
// table does, on every device.
func TestStatisticsOfEachValue(t *testing.T) {
	const size = 3
	per := slanted(size)
	var single []*sampler.ModelStatistics
	for j := range size {
		f := 1 + 0.2*float64(j)
		one := slanted(1)
		for i := range per.L {
			for _, table := range [][2][][]float64{{per.L, one.L}, {per.S, one.S}, {per.B, one.B}} {
				table[0][i][j] *= f
				table[1][i][0] *= f
			}
		}
		single = append(single, one)
	}
	g := build(t, "vp-sde", diffusion.Spec{Rule: "karras", Steps: 6, SigmaMax: 50, SigmaMin: 0.02, End: diffusion.Min})
	den := &normalData{mean: 0.3, s: 0.5}
	noise := gpu.CPU().From(oracle.Normal(3, 2*size), 2, size)
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		run := func(m *sampler.ModelStatistics) []float64 {
			res, err := sampler.Run(context.Background(), den, sampler.DPMSolverV3{Stats: m, Order: 3, Corrector: "pseudo"}, g, sampler.Options{
				N: 2, Shape: []int{size}, Device: dev, Noise: noise.To(dev),
			})
			if err != nil {
				t.Fatal(err)
			}
			v := make([]float64, 2*size)
			if err := res.X.Read64(v); err != nil {
				t.Fatal(err)
			}
			return v
		}
		got := run(per)
		for j, m := range single {
			want := run(m)
			for i := range 2 {
				// A step rounds four arrays of at most 50 to float32.
				if k := i*size + j; math.Abs(got[k]-want[k]) > 6*4*3*0x1p-24 {
					t.Errorf("value %d is %.8f, with its own table %.8f", k, got[k], want[k])
				}
			}
		}
	})
}

func TestStatisticsFiles(t *testing.T) {
	dir := t.TempDir()
	m := slanted(2)
	m.B[1][1] = -7.25
	file := filepath.Join(dir, "ems.safetensors")
	if err := m.Save(file); err != nil {
		t.Fatal(err)
	}
	again, err := sampler.LoadStatistics(file)
	if err != nil || fmt.Sprint(*again) != fmt.Sprint(*m) {
		t.Errorf("read %v (%v), written %v", again, err, m)
	}
	f64 := func(name string, v []float64, shape ...int) tensor.SafetensorsEntry {
		return tensor.SafetensorsEntry{Name: name, Array: tensor.FromF64(v, shape...)}
	}
	two := []float64{0, 1}
	for want, entries := range map[string][]tensor.SafetensorsEntry{
		`no tensor "lambda"`:     {f64("l", two, 2, 1)},
		"wanted float64 of 1":    {f64("lambda", two, 2, 1)},
		"wanted float64 of 2":    {f64("lambda", two, 2), {Name: "l", Array: tensor.FromF32([]float32{1, 1}, 2, 1)}, {Name: "s", Array: tensor.FromF32([]float32{1, 1}, 2, 1)}, {Name: "b", Array: tensor.FromF32([]float32{1, 1}, 2, 1)}},
		"finite, rising":         {f64("lambda", []float64{1, 1}, 2), f64("l", two, 2, 1), f64("s", two, 2, 1), f64("b", two, 2, 1)},
		"row of l, s and b each": {f64("lambda", two, 2), f64("l", two, 2, 1), f64("s", two, 2, 1), f64("b", two[:1], 1, 1)},
		"has 1 numbers":          {f64("lambda", two, 2), f64("l", []float64{1, 2, 3, 4}, 2, 2), f64("s", []float64{1, 2, 3, 4}, 2, 2), f64("b", two, 2, 1)},
		"is NaN":                 {f64("lambda", two, 2), f64("l", two, 2, 1), f64("s", []float64{0, math.NaN()}, 2, 1), f64("b", two, 2, 1)},
	} {
		path := filepath.Join(dir, "bad.safetensors")
		if err := tensor.WriteSafetensors(path, entries, nil, tensor.Overwrite); err != nil {
			t.Fatal(err)
		}
		if _, err := sampler.LoadStatistics(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := os.WriteFile(file, []byte("not statistics"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sampler.LoadStatistics(file); err == nil {
		t.Error("a text file is read")
	}
}

func TestV3Refusals(t *testing.T) {
	for spec, want := range map[string]string{"order=0": "wanted 1, 2 or 3", "order=4": "wanted 1, 2 or 3", "corrector=some": "pseudo or full or none"} {
		if _, err := sampler.ByName("dpm-solver-v3:" + spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	s := sampler.DPMSolverV3{Stats: slanted(1), Order: 2, Corrector: "none"}
	wide := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 5, SigmaMax: 500, SigmaMin: 1})
	if err := s.Check(wide); err == nil || !strings.Contains(err.Error(), "sigma 500; the model statistics are of sigma 403") {
		t.Errorf("a grid beyond the statistics: %v", err)
	}
	s.Stats = slanted(4)
	narrow := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 5, SigmaMin: 0.01})
	if _, err := sampler.Run(context.Background(), gaussian{0, 1}, s, narrow, sampler.Options{N: 1, Shape: []int{2}}); err == nil || !strings.Contains(err.Error(), "statistics of 4 values for images of 2") {
		t.Errorf("statistics of another shape: %v", err)
	}
	o := sampler.StatisticsOptions{Steps: 1}
	if _, err := sampler.EstimateStatistics(context.Background(), gaussian{0, 1}, diffusion.DefaultVE(), o); err == nil || !strings.Contains(err.Error(), "1 steps") {
		t.Errorf("statistics of one step: %v", err)
	}
	o = sampler.StatisticsOptions{Images: sampler.Options{Each: func(int, *gpu.Tensor) error { return nil }}}
	if _, err := sampler.EstimateStatistics(context.Background(), gaussian{0, 1}, diffusion.DefaultVE(), o); err == nil || !strings.Contains(err.Error(), "leave them unset") {
		t.Errorf("statistics with a callback: %v", err)
	}
}

// In float32 on any device l is its closed form to the differences' digits, ∛u.
func TestStatisticsOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		stats, err := sampler.EstimateStatistics(context.Background(), &normalData{mean: 0.3, s: 0.5}, diffusion.VE{Min: 0.05, Max: 20}, sampler.StatisticsOptions{
			Steps: 10, Images: sampler.Options{Seed: 4, N: 3, Batch: 2, Shape: []int{4}, Device: dev},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range stats.Lambda {
			v := math.Exp(-2 * l)
			if want := v / (v + 0.25); math.Abs(stats.L[i][0]-want) > math.Cbrt(0x1p-23) {
				t.Errorf("lambda %.2f: l is %.5f, want %.5f", l, stats.L[i][0], want)
			}
		}
	})
}
