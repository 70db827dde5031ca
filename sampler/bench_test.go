package sampler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
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

// BenchmarkStep is one step of each solver on 64×3×32×32, noise drawn in
// advance. "passes" is its time in memory passes: the bytes of the operands that
// the step must touch over the bandwidth of the triad a + s·b of the same size,
// the best of each, taken in turns. "finite-passes" is the part of it that the
// test of the denoiser's output for NaN takes; it belongs to the evaluation.
func BenchmarkStep(b *testing.B) {
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 20})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		operands int // tensors read and written
		calls    int
	}{{"ddim", 3, 1}, {"euler", 3, 1}, {"ddim:eta=0.5", 4, 1}, {"euler-a", 4, 1}, {"heun", 3 + 4, 2}, {"dpm++2m", 4, 1}, {"dpm++2m-heun", 4, 1}} {
		for _, double := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/f64=%t", c.name, double), func(b *testing.B) {
				x, words := gpu.CPU().Empty(64, 3, 32, 32), 1
				if double {
					x, words = gpu.CPU().Empty64(64, 3, 32, 32), 2
				}
				e := sampler.NewEval(context.Background(), free{}, x, sampler.Cond{}, func(int, *gpu.Tensor) {})
				st := solver(b, c.name).Start(x)
				n := x.Len() * words // in float32
				p, q, r := make([]float32, n), make([]float32, n), make([]float32, n)
				step, triad, finite := time.Hour, time.Hour, time.Hour
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
					best(&finite, func() { ops.Finite(x) })
				}
				pass := triad.Seconds() / 3 * float64(c.operands)
				b.ReportMetric(step.Seconds()/pass, "passes")
				b.ReportMetric(finite.Seconds()*float64(c.calls)/pass, "finite-passes")
				b.ReportMetric(step.Seconds()*1e6, "µs/step")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
