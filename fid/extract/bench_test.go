package extract

import (
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// BenchmarkInception runs the network alone, without resizing, on every worker
// at once, and on one. The limit is the processor's: 11.42 GFLOP an image.
func BenchmarkInception(b *testing.B) {
	weights := recipeWeights("")
	for _, precision := range []plan.Precision{plan.F32, plan.BF16, plan.SplitBF16} {
		for _, workers := range []int{1, cpu.Workers()} {
			b.Run(precision.String()+"/workers="+string(rune('0'+workers)), func(b *testing.B) {
				if err := plan.Available(precision); err != nil {
					b.Skip(err)
				}
				p, err := plan.Compile(inceptionNet(weights, "2048"), plan.Options{Precision: precision})
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				n := p.Batch()
				in, out := make([][]float32, workers), make([][]float32, workers)
				for i := range workers {
					in[i], out[i] = make([]float32, n*3*inceptionSize*inceptionSize), make([]float32, n*p.OutLen(0))
					for j := range in[i] {
						in[i][j] = float32(j%255)/127.5 - 1
					}
				}
				run := func() {
					cpu.Each(workers, func(w *cpu.Worker, i int) {
						if err := p.Run(w, in[i], out[i]); err != nil {
							panic(err)
						}
					})
				}
				run()
				for b.Loop() {
					run()
				}
				rate := float64(b.N*n*workers) / b.Elapsed().Seconds()
				b.ReportMetric(rate, "images/s")
				b.ReportMetric(rate*11.42, "GFLOP/s")
			})
		}
	}
}
