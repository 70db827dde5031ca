package main

import "github.com/fidlab/fidlab/internal/cpu"

// gemm multiplies row-major float32 matrices on a worker.
type gemm struct{ w *cpu.Worker }

// mul computes c [m,n] = op(a) op(b) with op(a) [m,k], op(b) [k,n]; ta and tb transpose.
func (g gemm) mul(ta, tb bool, m, n, k int, a, b, c []float32) {
	lda, ldb := k, n
	if ta {
		lda = m
	}
	if tb {
		ldb = k
	}
	cpu.Gemm32(g.w, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n)
}
