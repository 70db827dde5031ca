package sampler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// free is a denoiser that costs nothing: what remains is the solver. It leaves
// out as it is, so Eval's check for NaN, which belongs to the evaluation, still runs.
type free struct{}

func (free) Denoise(context.Context, *gpu.Tensor, *gpu.Tensor, []float64, sampler.Cond) error {
	return nil
}

func (free) DenoiseAt(context.Context, *gpu.Tensor, *gpu.Tensor, []diffusion.Point, sampler.Cond) error {
	return nil
}

// BenchmarkStep is one step of each solver, noise drawn in advance, with the
// refusal of NaN. "passes" is its time in memory passes: the bytes of the
// operands that the step must touch over the bandwidth of the triad a + s·b of
// the same size, the best of each, taken in turns. Goal: at most 1.3.
func BenchmarkStep(b *testing.B) {
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 20})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		operands int // tensors read and written
	}{
		{"ddim", 3},
		{"euler", 3},
		{"ddim:eta=0.5", 4},
		{"euler-a", 4},
		{"heun", 3 + 4},
		{"dpm++2m", 4},
		{"dpm++2m-heun", 4},
		{"dpm++3m", 5},
		{"unipc", 5},
		{"lms", 3 + 6},
		{"dpm++2s", 3 + 4},
		{"dpm-solver-3", 3 + 4 + 5},
		{"dpm2", 3 + 4},
		{"dpm-singlestep:order=3", 5},
		{"rk4", 3 + 4 + 5 + 6},
		{"dpm-solver-v3", 3 + 6 + 2 + 5},
		{"ddpm", 4},
		{"sde-dpm++2m", 5},
	} {
		for _, of := range []struct {
			side   int
			double bool
		}{{32, false}, {32, true}, {256, false}} {
			b.Run(fmt.Sprintf("%s/64x3x%dx%d/f64=%t", c.name, of.side, of.side, of.double), func(b *testing.B) {
				x, words := gpu.CPU().Empty(64, 3, of.side, of.side), 1
				if of.double {
					x, words = gpu.CPU().Empty64(64, 3, of.side, of.side), 2
				}
				e := sampler.NewEval(context.Background(), free{}, x, sampler.Cond{}, func(int, *gpu.Tensor) {})
				st := solver(b, c.name).Start(x)
				n := x.Len() * words // in float32
				p, q, r := make([]float32, n), make([]float32, n), make([]float32, n)
				for i := range n { // memory that was never written is one page of zeros, read from the cache
					p[i], q[i], r[i] = 1, 2, 3
				}
				step, triad := time.Hour, time.Hour
				best := func(t *time.Duration, f func()) {
					start := time.Now()
					f()
					*t = min(*t, time.Since(start))
				}
				for i := 0; b.Loop(); i++ {
					best(&step, func() {
						if err := st.Step(e, x, g, i%18+min(i, 1)); err != nil {
							b.Fatal(err)
						}
					})
					best(&triad, func() { cpu.Triad(nil, p, q, r, 3) })
				}
				pass := triad.Seconds() / 3 * float64(c.operands)
				b.ReportMetric(step.Seconds()/pass, "passes")
				b.ReportMetric(step.Seconds()*1e6, "µs/step")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkTimeShift is a step of DDIM that looks at every image and moves it, with a
// denoiser that costs nothing. "passes" counts three operands of the step, and each a
// reading of the state for its variance and for what is not finite.
func BenchmarkTimeShift(b *testing.B) {
	g := build(b, "vp", diffusion.Spec{Rule: "leading", Steps: 10})
	for _, side := range []int{32, 256} {
		b.Run(fmt.Sprintf("64x3x%dx%d", side, side), func(b *testing.B) {
			x := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(1, 64*3*side*side), 64, 3, side, side)
			levels := shifting(b, sampler.TimeShift{Mode: sampler.ShiftPaper, Window: 40, Cutoff: 100}, g, 3, side, side)
			e := sampler.NewEval(context.Background(), free{}, x, sampler.Cond{}, func(int, *gpu.Tensor) {})
			sampler.SetLevels(e, levels)
			st := sampler.DDIM{}.Start(x)
			p, q, r := make([]float32, x.Len()), make([]float32, x.Len()), make([]float32, x.Len())
			for i := range p {
				p[i], q[i], r[i] = 1, 2, 3
			}
			step, triad := time.Hour, time.Hour
			best := func(t *time.Duration, f func()) {
				start := time.Now()
				f()
				*t = min(*t, time.Since(start))
			}
			walk := func(i int) {
				if err := st.Step(e, x, g, i); err != nil {
					b.Fatal(err)
				}
			}
			walk(0)
			for b.Loop() {
				best(&step, func() { walk(1) })
				best(&triad, func() { cpu.Triad(nil, p, q, r, 3) })
			}
			b.ReportMetric(step.Seconds()/(triad.Seconds()/3*5), "passes")
			b.ReportMetric(step.Seconds()*1e6, "µs/step")
			b.ReportMetric(0, "ns/op")
		})
	}
}
