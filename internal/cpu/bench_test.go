package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The benchmarks report GFLOP/s by the usual count of the operation, over all
// workers (W) or on one (1). Bounds: the processor's FMA rate.
func flops(b *testing.B, n float64) {
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func onWorkers(b *testing.B, f func(b *testing.B, w *Worker)) {
	b.Run("W", func(b *testing.B) { f(b, nil) })
	b.Run("1", func(b *testing.B) {
		Do(func(w *Worker) { f(b, w) })
	})
}

func BenchmarkGemm32(b *testing.B) {
	for _, n := range []int{64, 256, 1024, 2048} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			onWorkers(b, func(b *testing.B, w *Worker) {
				r := rand.New(rand.NewPCG(1, 1))
				x, y, z := random32(r, n*n), random32(r, n*n), make([]float32, n*n)
				for b.Loop() {
					Gemm32(w, false, false, n, n, n, 1, x, n, y, n, 0, z, n)
				}
				flops(b, 2*float64(n)*float64(n)*float64(n))
			})
		})
	}
}

func BenchmarkGemm64(b *testing.B) {
	for _, n := range []int{64, 256, 1024, 2048} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			onWorkers(b, func(b *testing.B, w *Worker) {
				r := rand.New(rand.NewPCG(1, 1))
				x, y, z := random64(r, n*n), random64(r, n*n), make([]float64, n*n)
				for b.Loop() {
					Gemm64(w, false, false, n, n, n, 1, x, n, y, n, 0, z, n)
				}
				flops(b, 2*float64(n)*float64(n)*float64(n))
			})
		})
	}
}

func BenchmarkSyrkT64(b *testing.B) {
	const n = 2048
	onWorkers(b, func(b *testing.B, w *Worker) {
		x, z := random64(rand.New(rand.NewPCG(1, 1)), n*n), make([]float64, n*n)
		for b.Loop() {
			SyrkT64(w, n, n, 1, x, n, 0, z, n)
		}
		flops(b, float64(n)*float64(n)*float64(n))
	})
}

func BenchmarkTrmm64(b *testing.B) {
	const n = 2048
	x, z := random64(rand.New(rand.NewPCG(1, 1)), n*n), random64(rand.New(rand.NewPCG(1, 1)), n*n)
	for b.Loop() {
		Trmm64(nil, true, true, n, n, 1e-2, x, n, z, n)
	}
	flops(b, float64(n)*float64(n)*float64(n))
}

// benchSPD is a positive definite matrix of order n.
func benchSPD(n int) []float64 {
	x, a := random64(rand.New(rand.NewPCG(1, 1)), 2*n*n), make([]float64, n*n)
	SyrkT64(nil, n, 2*n, 1, x, n, 0, a, n)
	return a
}

func BenchmarkCholesky64(b *testing.B) {
	const n = 2048
	a := benchSPD(n)
	x := make([]float64, n*n)
	for b.Loop() {
		copy(x, a)
		if err := Cholesky64(nil, n, x, n); err != nil {
			b.Fatal(err)
		}
	}
	flops(b, float64(n)*float64(n)*float64(n)/3)
}

func BenchmarkSymEig64(b *testing.B) {
	for _, n := range []int{512, 2048} {
		for _, vectors := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/vectors=%v", n, vectors), func(b *testing.B) {
				a := benchSPD(n)
				x := make([]float64, n*n)
				for b.Loop() {
					copy(x, a)
					if _, err := SymEig64(nil, n, x, n, vectors); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSingularValues64(b *testing.B) {
	for _, n := range []int{200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := random64(rand.New(rand.NewPCG(1, 1)), n*n)
			x := make([]float64, n*n)
			for b.Loop() {
				copy(x, a)
				if _, err := SingularValues64(nil, n, n, x, n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
