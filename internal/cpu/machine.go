package cpu

import (
	"runtime"
	"time"

	"golang.org/x/sys/cpu"
)

// Feature is an instruction set that matters for speed here, and whether the
// processor has it.
type Feature struct {
	Name string
	Has  bool
}

// Features is what the processor offers, in the order from old to new.
func Features() []Feature {
	x, a := &cpu.X86, &cpu.ARM64
	switch runtime.GOARCH {
	case "amd64":
		return []Feature{
			{"AVX2", x.HasAVX2},
			{"FMA", x.HasFMA},
			{"AVX512F", x.HasAVX512F},
			{"AVX512BW", x.HasAVX512BW},
			{"AVX512VL", x.HasAVX512VL},
			{"AVX512_VNNI", x.HasAVX512VNNI},
			{"AVX512_BF16", x.HasAVX512BF16},
			{"AMX tile", x.HasAMXTile},
			{"AMX int8", x.HasAMXInt8},
			{"AMX bf16", x.HasAMXBF16},
		}
	case "arm64":
		return []Feature{{"ASIMD", a.HasASIMD}, {"FP16", a.HasASIMDHP}, {"dot product", a.HasASIMDDP}, {"SVE", a.HasSVE}, {"SVE2", a.HasSVE2}}
	}
	return nil
}

// Measurement is a speed of this machine, measured now.
type Measurement struct {
	Name    string
	Threads int
	Value   float64
	Unit    string
}

// Measure takes the speed of matrix products, a convolution and memory, each
// on one worker and on all. It takes about three seconds at most, and
// 100 MB; what else runs on the machine shows in the figures.
func Measure() []Measurement {
	var out []Measurement
	add := func(name, unit string, f func(w *Worker) float64) {
		var one float64
		Do(func(w *Worker) { one = f(w) })
		out = append(out, Measurement{name, 1, one, unit})
		if n := Workers(); n > 1 {
			out = append(out, Measurement{name, n, f(nil), unit})
		}
	}
	add("product, float32", "GFLOP/s", func(w *Worker) float64 {
		return square(func(n int) func() {
			a, b, c := noise[float32](n*n, 1), noise[float32](n*n, 2), make([]float32, n*n)
			return func() { Gemm32(w, false, false, n, n, n, 1, a, n, b, n, 0, c, n) }
		})
	})
	add("product, float64", "GFLOP/s", func(w *Worker) float64 {
		return square(func(n int) func() {
			a, b, c := noise[float64](n*n, 1), noise[float64](n*n, 2), make([]float64, n*n)
			return func() { Gemm64(w, false, false, n, n, n, 1, a, n, b, n, 0, c, n) }
		})
	})
	if HasBF16() {
		add("product, bf16", "GFLOP/s", func(w *Worker) float64 {
			return square(func(n int) func() {
				a, b, c := noise[float32](n*n, 1), noise[float32](n*n, 2), make([]float32, n*n)
				return func() { GemmBF16(w, false, false, n, n, n, 1, a, n, b, n, 0, c, n, 0) }
			})
		})
	}
	add("convolution 3x3, float32", "GFLOP/s", func(w *Worker) float64 {
		best := 0.0
		for _, n := range []int{1, convBatch, 4 * convBatch} {
			c := Conv{N: n, C: 64, H: 24, W: 24, Out: 64, KH: 3, KW: 3, PadH: 1, PadW: 1}
			x, weight, y := noise[float32](n*64*24*24, 1), noise[float32](64*64*9, 2), make([]float32, n*64*24*24)
			t := fastest(func() { Conv2D(w, &c, y, x, weight, nil) })
			best = max(best, 2*64*9*float64(len(y))/float64(t.Nanoseconds()))
			if t > measureSlice {
				break
			}
		}
		return best
	})
	const n = 8 << 20
	a, b, c := make([]float32, n), make([]float32, n), make([]float32, n)
	add("memory, a = b + s*c", "GB/s", func(w *Worker) float64 {
		return 12 * n / float64(fastest(func() { Triad(w, a, b, c, 3) }).Nanoseconds())
	})
	return out
}

const measureSlice = 40 * time.Millisecond

// fastest is the least time that f takes, of runs for two slices after a first one.
func fastest(f func()) time.Duration {
	f()
	best := time.Duration(1 << 62)
	for start := time.Now(); ; {
		t := time.Now()
		f()
		best = min(best, time.Since(t))
		if time.Since(start) > 2*measureSlice {
			return best
		}
	}
}

// square is the best rate over square products of growing size, up to what fits a slice.
func square(product func(n int) func()) float64 {
	best := 0.0
	for n := 256; n <= 2048; n *= 2 {
		t := fastest(product(n))
		best = max(best, 2*float64(n)*float64(n)*float64(n)/float64(t.Nanoseconds()))
		if n > tileEdge && t > measureSlice/8 { // a single tile shows one worker; the next size takes eight times as long
			break
		}
	}
	return best
}

// noise is n numbers of [-1,1), the same for a seed at every start.
func noise[T float32 | float64](n int, seed uint32) []T {
	x := make([]T, n)
	for i := range x {
		seed = seed*1664525 + 1013904223
		x[i] = T(int32(seed)>>8) / (1 << 23)
	}
	return x
}
