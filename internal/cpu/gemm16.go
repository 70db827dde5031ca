package cpu

import "math"

// leastBF16 is from which level of nativeBF16 on its instructions are used: AMX, and AMD's AVX512_BF16, which multiplies at twice
// float32's rate. Intel's alone has half of it. Tests lower it.
var leastBF16 = 2

// HasBF16 tells whether GemmBF16 and TrainConv run on bf16 instructions here: oneDNN is usable and the processor has such that
// are faster than float32's.
func HasBF16() bool { return nativeBF16() >= leastBF16 }

// Rounded says which operands of a product have bfloat16 values already, so that they need not be rounded.
type Rounded uint8

// The operands.
const (
	RoundedA Rounded = 1 << iota
	RoundedB
)

// GemmBF16 is Gemm32 with the elements of A and B rounded to bfloat16 (to nearest even): products are exact, sums are float32. Those
// of operands in known are not rounded again. Where HasBF16 is false the rounded operands are multiplied as float32, which gains no
// speed. It panics when a slice is too short. Results are the same bits at any number of workers.
func GemmBF16(w *Worker, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int, known Rounded) {
	checkGemm("GemmBF16", ta, tb, m, n, k, len(a), lda, len(b), ldb, len(c), ldc)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	total, across := tiles(m, n)
	if w != nil { // as in Gemm32
		for t := range total {
			gemmBF16(w, t, across, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, known)
		}
		return
	}
	on(w, total, func(w *Worker, t int) {
		gemmBF16(w, t, across, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, known)
	})
}

// gemmBF16 computes tile t.
func gemmBF16(w *Worker, t, across int, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int, known Rounded) {
	i, j := t/across*tileM, t%across*tileN
	mm, nn := min(tileM, m-i), min(tileN, n-j)
	ai, bj := corner(ta, tb, i, lda, j, ldb)
	a, b, c = a[ai:], b[bj:], c[i*ldc+j:]
	if alpha == 1 && (beta == 0 || beta == 1) && HasBF16() && fits(m, n, k, lda, ldb, ldc) {
		to, ld := c, ldc
		if beta == 1 {
			to, ld = w.f32(scratchSum, mm*nn), nn
		}
		if nativeGemmBF16(w, ta, tb, mm, nn, k, a, lda, b, ldb, to, ld) {
			if beta == 1 {
				PairRows(PairAdd, false, mm, nn, c, ldc, c, ldc, 1, to, nn, 1)
			}
			return
		}
	}
	if known&RoundedA == 0 {
		a, lda = w.rounded(scratchA, ta, mm, k, a, lda)
	}
	if known&RoundedB == 0 {
		b, ldb = w.rounded(scratchB, tb, k, nn, b, ldb)
	}
	if !nativeGemm32(w, ta, tb, mm, nn, k, alpha, a, lda, b, ldb, beta, c, ldc) {
		goGemm32(ta, tb, mm, nn, k, alpha, a, lda, b, ldb, beta, c, ldc)
	}
}

// rounded is the rows×cols matrix op(x), rounded, in w's scratch memory, stored as x is.
func (w *Worker) rounded(slot int, trans bool, rows, cols int, x []float32, ld int) ([]float32, int) {
	if trans {
		rows, cols = cols, rows
	}
	y := w.f32(slot, rows*cols)
	if ld == cols {
		roundRows(1, rows*cols, y, rows*cols, x, rows*cols)
	} else {
		roundRows(rows, cols, y, cols, x, ld)
	}
	return y, cols
}

// RoundBF16s sets out to x, each element rounded to the nearest bfloat16, ties to even, where it is called, on one thread. out may be
// x. It panics unless the lengths agree.
func RoundBF16s(out, x []float32) {
	sameLen("RoundBF16s", len(out), len(x))
	roundRows(1, len(x), out, len(x), x, len(x))
}

// roundRows rounds rows of n elements that lie ldo and ldx apart.
func roundRows(rows, n int, out []float32, ldo int, x []float32, ldx int) {
	if rows == 0 || n == 0 || nativeRound(rows, n, out, ldo, x, ldx) {
		return
	}
	goRound(rows, n, out, ldo, x, ldx)
}

func goRound(rows, n int, out []float32, ldo int, x []float32, ldx int) {
	for r := range rows {
		y := out[r*ldo:][:n]
		for i, v := range x[r*ldx:][:n] {
			y[i] = RoundBF16(v)
		}
	}
}

// RoundBF16 is x rounded to the nearest bfloat16, ties to even; NaN stays one.
func RoundBF16(x float32) float32 {
	u := math.Float32bits(x)
	if x != x {
		return math.Float32frombits(u | 0x400000)
	}
	return math.Float32frombits((u + 0x7fff + u>>16&1) & 0xffff0000)
}
