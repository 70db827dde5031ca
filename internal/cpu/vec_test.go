package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

var vecSizes = []int{0, 1, 15, 16, 17, 31, 1000, vecChunk - 1, vecChunk, 3*vecChunk + 5}

// sameBits fails unless x and y are equal to the last bit (any NaN equals any NaN).
func sameBits[T float32 | float64](t *testing.T, what string, x, y []T) {
	t.Helper()
	for i := range x {
		if (x[i] != y[i] || math.Signbit(float64(x[i])) != math.Signbit(float64(y[i]))) && !(x[i] != x[i] && y[i] != y[i]) {
			t.Fatalf("%s: element %d is %g, the pure-Go version has %g", what, i, x[i], y[i])
		}
	}
}

// ranNatively fails when no native call has been counted since before, in a program that has them.
func ranNatively(t *testing.T, what string, before, after int64) {
	t.Helper()
	if nativeBuild && after == before {
		t.Errorf("%s did not run natively", what)
	}
	if !nativeBuild && after != before {
		t.Errorf("%s ran natively in a build without native code", what)
	}
}

func TestLinComb(t *testing.T) {
	before := calls.vec.Load()
	for _, n := range vecSizes {
		for k := range 12 {
			r := rand.New(rand.NewPCG(uint64(n), uint64(k)))
			c := random64(r, k)
			x32, x64 := make([][]float32, k), make([][]float64, k)
			for j := range k {
				x32[j], x64[j] = random32(r, n+1)[1:], random64(r, n+1)[1:] // an odd alignment
			}
			out32, out64 := make([]float32, n), make([]float64, n)
			LinComb32(nil, out32, c, x32...)
			LinComb64(nil, out64, c, x64...)
			for i := range n {
				var s32, s64, a32, a64 float64
				for j := range k {
					s32 += c[j] * float64(x32[j][i])
					a32 += math.Abs(c[j] * float64(x32[j][i]))
					s64 += c[j] * x64[j][i]
					a64 += math.Abs(c[j] * x64[j][i])
				}
				if d := math.Abs(float64(out32[i]) - s32); !(d <= a32/(1<<23)) { // a rounding of the sum, one more beyond 8 operands
					t.Fatalf("n=%d k=%d: float32 element %d is %g, want %g", n, k, i, out32[i], s32)
				}
				if d := math.Abs(out64[i] - s64); !(d <= float64(k)*a64/(1<<52)) {
					t.Fatalf("n=%d k=%d: float64 element %d is %g, want %g", n, k, i, out64[i], s64)
				}
			}
			if k > 0 {
				one := append([]float32(nil), x32[k-1]...) // in place, on one worker: the same bits
				y := append(append([][]float32(nil), x32[:k-1]...), one)
				Do(func(w *Worker) { LinComb32(w, one, c, y...) })
				if k <= linOperands {
					sameBits(t, "in place", one, out32)
				}
			}
		}
	}
	ranNatively(t, "LinComb", before, calls.vec.Load())
}

func TestLinCombEqualsTwin(t *testing.T) {
	for k := 1; k <= linOperands; k++ {
		const n = 1003
		r := rand.New(rand.NewPCG(9, uint64(k)))
		c := random64(r, k)
		var x32 [linOperands][]float32
		var x64 [linOperands][]float64
		for j := range linOperands {
			x32[j], x64[j] = random32(r, n), random64(r, n)
		}
		got32, want32 := make([]float32, n), make([]float32, n)
		LinComb32(nil, got32, c, x32[:k]...)
		goLinComb(want32, c, &x32)
		sameBits(t, fmt.Sprintf("LinComb32 k=%d", k), got32, want32)
		got64, want64 := make([]float64, n), make([]float64, n)
		LinComb64(nil, got64, c, x64[:k]...)
		goLinComb(want64, c, &x64)
		sameBits(t, fmt.Sprintf("LinComb64 k=%d", k), got64, want64)
	}
}

// Every place of a result, in the vector part and behind it, in C and in Go.
func TestLinCombTellsOfNonFinite(t *testing.T) {
	const n = 37
	inf := math.Inf(1)
	for i := -1; i < n; i++ {
		for _, v := range []float64{math.NaN(), inf, -inf, 3e38, -3e38} {
			x, y := make([]float32, n), make([]float32, n)
			x64, y64 := make([]float64, n), make([]float64, n)
			if i >= 0 {
				x[i], x64[i] = float32(v), v
				if math.Abs(v) < inf {
					x64[i] *= 5e269 // overflows below as the float32 does
				}
			}
			out, out64 := make([]float32, n), make([]float64, n)
			c := []float64{1, 2}
			got := []bool{
				LinComb32(nil, out, c, y, x), LinComb64(nil, out64, c, y64, x64),
				goLinComb(out, c, &[linOperands][]float32{y, x}), goLinComb(out64, c, &[linOperands][]float64{y64, x64}),
			}
			for j, finite := range got {
				if finite != (i < 0) {
					t.Errorf("%g at %d: function %d says finite: %t", v, i, j, finite)
				}
			}
		}
	}
	var xs [10][]float32
	for j := range xs {
		xs[j] = make([]float32, n)
	}
	xs[0][36] = float32(inf) // seen by the first of two passes
	if LinComb32(nil, make([]float32, n), make([]float64, 10), xs[:]...) {
		t.Error("0 times infinity counts as finite")
	}
}

func TestLinCombAllocatesNothing(t *testing.T) {
	x, y, out := make([]float32, 4*vecChunk), make([]float32, 4*vecChunk), make([]float32, 4*vecChunk)
	c := []float64{1, 2}
	LinComb32(nil, out, c, x, y)
	if n := oracle.Allocations(20, func() { LinComb32(nil, out, c, x, y) }); n >= 1 {
		t.Errorf("LinComb32 allocates %g times over the workers", n)
	}
	if n := oracle.Allocations(20, func() { Axpby32(nil, 2, x[:100], 3, y[:100]) }); n >= 1 {
		t.Errorf("Axpby32 allocates %g times on a short vector", n)
	}
}

func TestExp32(t *testing.T) {
	before := calls.vec.Load()
	x := []float32{0, 1, -1, 88.7, 88.72284, 89, 1e30, float32(math.Inf(1)), -87, -87.4, -100, -103.9, -104, -1e30, float32(math.Inf(-1)), float32(math.NaN())}
	r := rand.New(rand.NewPCG(10, 10))
	for range 100000 {
		x = append(x, float32(r.Float64()*190-100))
	}
	got, want := make([]float32, len(x)), make([]float32, len(x))
	Exp32(nil, got, x)
	goExp32(want, x)
	sameBits(t, "Exp32", got, want)
	for i, v := range x {
		e := math.Exp(float64(v))
		if float32(e) == got[i] || e != e && got[i] != got[i] {
			continue
		}
		ulp := math.Max(e/(1<<23), 1.0/(1<<149)) // up to a factor of two more than the spacing at e
		if d := math.Abs(float64(got[i]) - e); !(d <= 2*ulp) {
			t.Fatalf("exp(%g) is %g, want %g", v, got[i], e)
		}
	}
	ranNatively(t, "Exp32", before, calls.vec.Load())
}

func TestReLU32AndTriad(t *testing.T) {
	before := calls.vec.Load()
	for _, n := range vecSizes {
		r := rand.New(rand.NewPCG(11, uint64(n)))
		x, y, out := random32(r, n), random32(r, n), make([]float32, n)
		if n > 3 {
			x[2] = float32(math.NaN())
		}
		ReLU32(nil, out, x)
		for i, v := range x {
			if want := max(v, 0); out[i] != want && want == want || (v != v) != (out[i] != out[i]) {
				t.Fatalf("n=%d: ReLU of %g is %g", n, v, out[i])
			}
		}
		Triad(nil, out, x, y, 3)
		want := make([]float32, n)
		goTriad(want, x, y, 3)
		sameBits(t, "Triad", out, want)
	}
	ranNatively(t, "ReLU32 and Triad", before, calls.vec.Load())
}

func TestSoftmax32(t *testing.T) {
	before := calls.vec.Load()
	for _, s := range [][2]int{{1, 1}, {3, 10}, {5, 16}, {700, 65}, {2, 1008}, {1, 40000}} {
		rows, cols := s[0], s[1]
		r := rand.New(rand.NewPCG(12, uint64(cols)))
		x := random32(r, rows*(cols+3))
		for i := range x {
			x[i] *= 20
		}
		out := make([]float32, rows*(cols+1))
		Softmax32(nil, rows, cols, out, cols+1, x, cols+3)
		twin := make([]float32, len(out))
		goSoftmax32(rows, cols, twin, cols+1, x, cols+3)
		sameBits(t, "Softmax32", out, twin)
		for i := range rows {
			row := x[i*(cols+3):][:cols]
			top, sum := math.Inf(-1), 0.0
			for _, v := range row {
				top = max(top, float64(v))
			}
			for _, v := range row {
				sum += math.Exp(float64(v) - top)
			}
			for j, v := range row {
				want := math.Exp(float64(v)-top) / sum
				// v - max rounds at up to |v - max| eps/2, exp adds 2 ulp, a sum over sixteen lanes cols/16 + 4 more.
				tol := want*(float64(top)-float64(v)+float64(cols)/16+10)/(1<<23) + 1.0/(1<<126)
				if d := math.Abs(float64(out[i*(cols+1)+j]) - want); !(d <= tol) {
					t.Fatalf("%dx%d: element (%d,%d) is %g, want %g", rows, cols, i, j, out[i*(cols+1)+j], want)
				}
			}
		}
	}
	x := []float32{1, float32(math.NaN()), 2, 1, float32(math.Inf(-1)), 2}
	Softmax32(nil, 2, 3, x, 3, x, 3) // in place
	if !(x[0] != x[0] && x[2] != x[2]) || x[4] != 0 || !(math.Abs(float64(x[3]+x[5])-1) < 1e-6) {
		t.Errorf("softmax of rows with NaN and -Inf: %v", x)
	}
	ranNatively(t, "Softmax32", before, calls.vec.Load())
}

// The bound is memory: a pass moves 4 bytes an operand and result. Triad is the
// limit at the same size, in the same run.
func BenchmarkLinComb32(b *testing.B) {
	const n = 64 * 3 * 32 * 32
	x := make([][]float32, 5)
	for j := range x {
		x[j] = random32(rand.New(rand.NewPCG(1, uint64(j))), n)
	}
	out := make([]float32, n)
	c := []float64{0.1, 0.2, 0.3, 0.4, 0.5}
	b.Run("triad", func(b *testing.B) {
		b.SetBytes(12 * n)
		for b.Loop() {
			Triad(nil, out, x[0], x[1], 2)
		}
	})
	for k := 2; k <= 5; k++ {
		b.Run(fmt.Sprintf("operands=%d", k), func(b *testing.B) {
			b.SetBytes(int64(4 * n * (k + 1)))
			for b.Loop() {
				LinComb32(nil, out, c[:k], x[:k]...)
			}
		})
	}
}

func BenchmarkSoftmax32(b *testing.B) {
	const rows, cols = 512, 1024
	x := random32(rand.New(rand.NewPCG(1, 1)), rows*cols)
	out := make([]float32, rows*cols)
	b.SetBytes(8 * rows * cols)
	for b.Loop() {
		Softmax32(nil, rows, cols, out, cols, x, cols)
	}
}
