//go:build native && cgo

package cpu

// #cgo noescape vec_round16
// #cgo nocallback vec_round16
// #cgo noescape vec_func
// #cgo nocallback vec_func
// #cgo noescape vec_func_back
// #cgo nocallback vec_func_back
// #cgo noescape vec_gated
// #cgo nocallback vec_gated
// #cgo noescape vec_gated_back
// #cgo nocallback vec_gated_back
// #cgo noescape vec_pair
// #cgo nocallback vec_pair
// #cgo noescape vec_colsum
// #cgo nocallback vec_colsum
// #cgo noescape vec_rowsum
// #cgo nocallback vec_rowsum
// #cgo noescape vec_norm
// #cgo nocallback vec_norm
// #cgo noescape vec_norm_back
// #cgo nocallback vec_norm_back
// #cgo noescape vec_softmax_back
// #cgo nocallback vec_softmax_back
// #cgo noescape vec_blend
// #cgo nocallback vec_blend
// #cgo noescape vec_expsum
// #cgo nocallback vec_expsum
// #cgo noescape vec_exp_back
// #cgo nocallback vec_exp_back
// #cgo noescape vec_adam
// #cgo nocallback vec_adam
// #cgo noescape vec_lion
// #cgo nocallback vec_lion
// #cgo noescape vec_lion16
// #cgo nocallback vec_lion16
// #cgo noescape vec_sumsq
// #cgo nocallback vec_sumsq
// #cgo noescape vec_chan_squares
// #cgo nocallback vec_chan_squares
// #cgo noescape vec_chan_affine
// #cgo nocallback vec_chan_affine
// #cgo noescape vec_chan_back_sums
// #cgo nocallback vec_chan_back_sums
// #cgo noescape vec_chan_back
// #cgo nocallback vec_chan_back
// #include "native.h"
import "C"

func nativeFunc32(f Func, a, b float64, out, x []float32) bool {
	calls.vec.Add(1)
	C.vec_func(C.int(f), C.float(a), C.float(b), C.long(len(x)), f32(out), f32(x))
	return true
}

func nativeFuncBack32(f Func, a, b float64, dx, x, dy []float32, acc bool) bool {
	calls.vec.Add(1)
	C.vec_func_back(C.int(f), C.float(a), C.float(b), C.long(len(x)), f32(dx), f32(x), f32(dy), flag(acc))
	return true
}

func nativeGated(f Func, a, b float64, rows, n int, out []float32, ldo int, x, v []float32, ldx int) bool {
	calls.vec.Add(1)
	C.vec_gated(C.int(f), C.float(a), C.float(b), C.long(rows), C.long(n), f32(out), C.long(ldo), f32(x), f32(v), C.long(ldx))
	return true
}

func nativeGatedBack(f Func, a, b float64, rows, n int, dx, dv, x, v []float32, ldx int, dy []float32, ldy int) bool {
	calls.vec.Add(1)
	C.vec_gated_back(C.int(f), C.float(a), C.float(b), C.long(rows), C.long(n), f32(dx), f32(dv), f32(x), f32(v), C.long(ldx), f32(dy), C.long(ldy))
	return true
}

func nativePair(f Pair, acc bool, rows, n int, out []float32, ldo int, a []float32, lda, ia int, b []float32, ldb, ib int) bool {
	calls.vec.Add(1)
	C.vec_pair(C.int(f), flag(acc), C.long(rows), C.long(n), f32(out), C.long(ldo), f32(a), C.long(lda), C.int(ia), f32(b), C.long(ldb), C.int(ib))
	return true
}

func nativeColSums(rows, n int, out, a []float32, lda int, b []float32, ldb int) bool {
	calls.vec.Add(1)
	C.vec_colsum(C.long(rows), C.long(n), f32(out), f32(a), C.long(lda), f32OrNil(b), C.long(ldb))
	return true
}

func nativeRowSums(rows, n int, out, a []float32, lda int, b []float32, ldb int) bool {
	calls.vec.Add(1)
	C.vec_rowsum(C.long(rows), C.long(n), f32(out), f32(a), C.long(lda), f32OrNil(b), C.long(ldb))
	return true
}

func nativeNorm(p *Norm[float32], rows int, y, mean, inv, x []float32) bool {
	calls.vec.Add(1)
	C.vec_norm(flag(p.RMS), C.double(p.Eps), C.long(rows), C.long(p.N), f32(y), f32(mean), f32(inv), f32(x),
		f32OrNil(p.W), f32OrNil(p.B), f32OrNil(p.Scale), f32OrNil(p.Shift))
	return true
}

func nativeNormBack(p *Norm[float32], rows int, dx []float32, acc bool, x, dy, mean, inv []float32, g *NormGrads[float32]) bool {
	calls.vec.Add(1)
	C.vec_norm_back(flag(p.RMS), C.long(rows), C.long(p.N), f32(dx), flag(acc), f32(x), f32(dy), f32(mean), f32(inv),
		f32OrNil(p.W), f32OrNil(p.B), f32OrNil(p.Scale), f32OrNil(g.W), f32OrNil(g.B), f32OrNil(g.Scale), f32OrNil(g.Shift))
	return true
}

func nativeSoftmaxBack(rows, n int, dx []float32, acc bool, y, dy []float32) bool {
	calls.vec.Add(1)
	C.vec_softmax_back(C.long(rows), C.long(n), f32(dx), flag(acc), f32(y), f32(dy))
	return true
}

func nativeChannelSquares(rows, n int, out, x, mean []float32) bool {
	calls.vec.Add(1)
	C.vec_chan_squares(C.long(rows), C.long(n), f32(out), f32(x), f32(mean))
	return true
}

func nativeChannelAffine(silu bool, rows, n int, y, x, a, b []float32) bool {
	calls.vec.Add(1)
	C.vec_chan_affine(flag(silu), C.long(rows), C.long(n), f32(y), f32(x), f32(a), f32(b))
	return true
}

func nativeChannelBackSums(silu bool, rows, n int, sum, along, x, dy, a, b, mean []float32) bool {
	calls.vec.Add(1)
	C.vec_chan_back_sums(flag(silu), C.long(rows), C.long(n), f32(sum), f32(along), f32(x), f32(dy), f32(a), f32(b), f32(mean))
	return true
}

func nativeChannelBack(silu, acc bool, rows, n int, dx, x, dy, a, b, p, q, r []float32) bool {
	calls.vec.Add(1)
	C.vec_chan_back(flag(silu), flag(acc), C.long(rows), C.long(n), f32(dx), f32(x), f32(dy), f32(a), f32(b), f32(p), f32(q), f32(r))
	return true
}

func nativeBlend(out []float32, acc bool, p float64, x []float32, q float64, y []float32, r float64) bool {
	calls.vec.Add(1)
	C.vec_blend(C.long(len(out)), f32(out), flag(acc), C.float(p), f32(x), C.float(q), f32OrNil(y), C.float(r))
	return true
}

func nativeExpSum(rows, n int, top, sum, x []float32) bool {
	calls.vec.Add(1)
	C.vec_expsum(C.long(rows), C.long(n), f32(top), f32(sum), f32(x))
	return true
}

func nativeExpBack(rows, n int, dx []float32, acc bool, x, lse, g []float32) bool {
	calls.vec.Add(1)
	C.vec_exp_back(C.long(rows), C.long(n), f32(dx), flag(acc), f32(x), f32(lse), f32(g))
	return true
}

func nativeAdam(a *Adam, p, m, v, g []float32) bool {
	calls.vec.Add(1)
	C.vec_adam(C.long(len(p)), f32(p), f32(m), f32(v), f32(g), C.float(a.Scale), C.float(a.Beta1), C.float(a.Beta2),
		C.float(a.Step), C.float(a.Root), C.float(a.Eps), C.float(a.Keep), C.float(a.L2))
	return true
}

func nativeLion(l *Lion, p, m, g []float32) bool {
	calls.vec.Add(1)
	C.vec_lion(C.long(len(p)), f32(p), f32(m), f32(g), C.float(l.Scale), C.float(l.Beta1), C.float(l.Beta2), C.float(l.LR), C.float(l.Keep))
	return true
}

func nativeLionNarrow(l *Lion, p []float32, m []uint16, g []float32) bool {
	calls.vec.Add(1)
	C.vec_lion16(C.long(len(p)), f32(p), (*C.uint16_t)(&m[0]), f32(g), C.float(l.Scale), C.float(l.Beta1), C.float(l.Beta2), C.float(l.LR), C.float(l.Keep))
	return true
}

func nativeRound(rows, n int, out []float32, ldo int, x []float32, ldx int) bool {
	calls.vec.Add(1)
	C.vec_round16(C.long(rows), C.long(n), f32(out), C.long(ldo), f32(x), C.long(ldx))
	return true
}

func nativeSumSquares(x []float32) (float64, bool) {
	calls.vec.Add(1)
	return float64(C.vec_sumsq(C.long(len(x)), f32(x))), true
}

func f32OrNil(x []float32) *C.float {
	if len(x) == 0 {
		return nil
	}
	return f32(x)
}
