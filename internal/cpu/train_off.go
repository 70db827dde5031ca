//go:build !native || !cgo

package cpu

func nativeFunc32(f Func, a, b float64, out, x []float32) bool { return false }

func nativeFuncBack32(f Func, a, b float64, dx, x, dy []float32, acc bool) bool { return false }

func nativeGated(f Func, a, b float64, rows, n int, out []float32, ldo int, x, v []float32, ldx int) bool {
	return false
}

func nativeGatedBack(f Func, a, b float64, rows, n int, dx, dv, x, v []float32, ldx int, dy []float32, ldy int) bool {
	return false
}

func nativePair(f Pair, acc bool, rows, n int, out []float32, ldo int, a []float32, lda, ia int, b []float32, ldb, ib int) bool {
	return false
}

func nativeColSums(rows, n int, out, a []float32, lda int, b []float32, ldb int) bool { return false }

func nativeRowSums(rows, n int, out, a []float32, lda int, b []float32, ldb int) bool { return false }

func nativeNorm(p *Norm[float32], rows int, y, mean, inv, x []float32) bool { return false }

func nativeNormBack(p *Norm[float32], rows int, dx []float32, acc bool, x, dy, mean, inv []float32, g *NormGrads[float32]) bool {
	return false
}

func nativeSoftmaxBack(rows, n int, dx []float32, acc bool, y, dy []float32) bool { return false }

func nativeChannelSquares(rows, n int, out, x, mean []float32) bool { return false }

func nativeChannelAffine(silu bool, rows, n int, y, x, a, b []float32) bool { return false }

func nativeChannelBackSums(silu bool, rows, n int, sum, along, x, dy, a, b, mean []float32) bool {
	return false
}

func nativeChannelBack(silu, acc bool, rows, n int, dx, x, dy, a, b, p, q, r []float32) bool {
	return false
}

func nativeBlend(out []float32, acc bool, p float64, x []float32, q float64, y []float32, r float64) bool {
	return false
}

func nativeExpSum(rows, n int, top, sum, x []float32) bool { return false }

func nativeExpBack(rows, n int, dx []float32, acc bool, x, lse, g []float32) bool { return false }

func nativeAdam(a *Adam, p, m, v, g []float32) bool { return false }

func nativeLion(l *Lion, p, m, g []float32) bool { return false }

func nativeLionNarrow(l *Lion, p []float32, m []uint16, g []float32) bool { return false }

func nativeSumSquares(x []float32) (float64, bool) { return 0, false }

func nativeRound(rows, n int, out []float32, ldo int, x []float32, ldx int) bool { return false }

func nativeTrains() bool { return false }

func nativeTrainConv(w *Worker, kind int, p *TrainConv, src, weight, bias, dst []float32) bool {
	return false
}
