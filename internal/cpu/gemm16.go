package cpu

import "math"

// HasBF16 tells whether GemmBF16 runs on bf16 instructions here: oneDNN is
// usable and the processor has AVX512_BF16 or AMX.
func HasBF16() bool { return nativeBF16() > 0 }

// GemmBF16 sets C to op(A)·op(B) with the elements of A and B rounded to
// bfloat16 (to nearest even), products exact and sums in float32. Operands are
// those of Gemm32. Without bf16 instructions the same rounding is followed by
// Gemm32, which gains nothing in speed: ask HasBF16. It panics when a slice is
// too short. Results are the same bits at any number of workers.
func GemmBF16(w *Worker, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	checkGemm("GemmBF16", ta, tb, m, n, k, len(a), lda, len(b), ldb, len(c), ldc)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		for i := range m {
			clear(c[i*ldc:][:n])
		}
		return
	}
	if nativeBF16() > 0 && fits(m, n, k, lda, ldb, ldc) {
		total, across := tiles(m, n)
		on(w, total, func(w *Worker, t int) {
			i, j := t/across*tileM, t%across*tileN
			mm, nn := min(tileM, m-i), min(tileN, n-j)
			ai, bj := corner(ta, tb, i, lda, j, ldb)
			if !nativeGemmBF16(w, ta, tb, mm, nn, k, a[ai:], lda, b[bj:], ldb, c[i*ldc+j:], ldc) {
				goGemmBF16(w, ta, tb, mm, nn, k, a[ai:], lda, b[bj:], ldb, c[i*ldc+j:], ldc)
			}
		})
		return
	}
	goGemmBF16(w, ta, tb, m, n, k, a, lda, b, ldb, c, ldc)
}

func goGemmBF16(w *Worker, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	ra, ca, rb, cb := m, k, k, n
	if ta {
		ra, ca = k, m
	}
	if tb {
		rb, cb = n, k
	}
	Gemm32(w, ta, tb, m, n, k, 1, roundedBF16(ra, ca, a, lda), ca, roundedBF16(rb, cb, b, ldb), cb, 0, c, ldc)
}

// roundedBF16 is a contiguous copy of x with each element rounded to bfloat16.
func roundedBF16(rows, cols int, x []float32, ld int) []float32 {
	y := make([]float32, rows*cols)
	for i := range rows {
		for j, v := range x[i*ld:][:cols] {
			y[i*cols+j] = RoundBF16(v)
		}
	}
	return y
}

// RoundBF16 is x rounded to the nearest bfloat16, ties to even.
func RoundBF16(x float32) float32 {
	u := math.Float32bits(x)
	if x != x {
		return math.Float32frombits(u | 0x400000)
	}
	return math.Float32frombits((u + 0x7fff + u>>16&1) & 0xffff0000)
}
