package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// benchAttention is B1 H8 D64 with n queries and keys.
func benchAttention(n int) (a *Attn, out AttnRows, lse []float32, g *AttnGrads) {
	const heads, d = 8, 64
	r := rand.New(rand.NewPCG(1, 2))
	rows := func() AttnRows { return AttnRows{F: random32(r, n*heads*d)} }
	a = &Attn{B: 1, H: heads, HKV: heads, D: d, LQ: n, LK: n, Scale: float32(1 / math.Sqrt(d)), Q: rows(), K: rows(), V: rows()}
	out, lse = rows(), make([]float32, heads*n)
	AttentionForward(nil, a, out, lse)
	return a, out, lse, &AttnGrads{DOut: rows(), Out: out, LSE: lse, DQ: rows(), DK: rows(), DV: rows()}
}

// The bound is arithmetic: 4 n² 512 flops forward, 10 n² 512 more backward.
// Products that stay in the first cache are the limit in the same run.
func BenchmarkAttention(b *testing.B) {
	for _, n := range []int{1024, 4096} {
		a, out, lse, g := benchAttention(n)
		flops := 4 * float64(n) * float64(n) * 512
		b.Run(fmt.Sprintf("forward/n=%d", n), func(b *testing.B) {
			for b.Loop() {
				AttentionForward(nil, a, out, lse)
			}
			b.ReportMetric(flops*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
		})
		b.Run(fmt.Sprintf("forward+backward/n=%d", n), func(b *testing.B) {
			for b.Loop() {
				AttentionForward(nil, a, out, lse)
				AttentionBackward(nil, a, g)
			}
			b.ReportMetric(3.5*flops*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
		})
	}
	b.Run("product 192", func(b *testing.B) {
		const n = 192
		r := rand.New(rand.NewPCG(1, 3))
		x, y, z := random32(r, n*n), random32(r, n*n), make([]float32, 64*n*n)
		for b.Loop() {
			Each(64, func(w *Worker, i int) { Gemm32(w, false, false, n, n, n, 1, x, n, y, n, 0, z[i*n*n:], n) })
		}
		b.ReportMetric(64*2*n*n*n*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
	})
}
