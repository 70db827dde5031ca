//go:build native && cgo

package cpu

// #cgo noescape dnn_run
// #cgo nocallback dnn_run
// #cgo noescape dnn_sgemm
// #cgo nocallback dnn_sgemm
// #include "native.h"
import "C"

import (
	"fmt"
	"math"
	"runtime"
)

// dnnKey names a primitive in a worker's cache.
type dnnKey struct {
	conv          Conv
	train         TrainConv
	kind          int // of train, +1
	bias          bool
	low, ta, tb   bool
	m, n, k       int
	lda, ldb, ldc int
}

// dnnOps are a worker's primitives. A program uses few sizes; one that uses
// many starts over, so that memory stays bounded.
type dnnOps map[dnnKey]*C.dnn_op

const dnnOpsKept = 256

func (w *Worker) dnnOp(key dnnKey, create func() *C.dnn_op) *C.dnn_op {
	if op, ok := w.dnn[key]; ok {
		return op
	}
	if len(w.dnn) >= dnnOpsKept {
		for k, op := range w.dnn {
			C.dnn_op_free(op)
			delete(w.dnn, k)
		}
	}
	if w.dnn == nil {
		w.dnn = make(dnnOps)
	}
	op := create() // nil, when oneDNN has no such primitive, is worth remembering too
	w.dnn[key] = op
	return op
}

func nativeConv2D(w *Worker, p *Conv, out, x, weight, bias []float32) bool {
	if !haveDNNL() {
		return false
	}
	if !dnnConv(w, p, out, x, weight, bias) {
		return false
	}
	calls.conv.Add(1)
	return true
}

func dnnConv(w *Worker, p *Conv, out, x, weight, bias []float32) bool {
	if !fits(p.C*p.H*p.W, len(weight), len(out)) {
		return false
	}
	w.Enter()
	defer w.Leave()
	op := w.dnnOp(dnnKey{conv: *p, bias: bias != nil}, func() *C.dnn_op {
		return C.dnn_conv(C.int(p.N), C.int(p.C), C.int(p.H), C.int(p.W), C.int(p.Out), C.int(p.KH), C.int(p.KW),
			C.int(p.StrideH), C.int(p.StrideW), C.int(p.PadH), C.int(p.PadW), flag(bias != nil), flag(p.ReLU))
	})
	if op == nil {
		return false
	}
	var b *C.float
	if bias != nil {
		b = f32(bias)
	}
	return C.dnn_run(op, f32(x), f32(weight), b, f32(out)) == 0
}

// nativeTrains tells whether nativeTrainConv may do something.
func nativeTrains() bool { return haveDNNL() }

func nativeTrainConv(w *Worker, kind int, p *TrainConv, src, weight, bias, dst []float32) bool {
	if !haveDNNL() || !dnnTrainConv(w, kind, p, src, weight, bias, dst) {
		return false
	}
	calls.conv.Add(1)
	return true
}

func dnnTrainConv(w *Worker, kind int, p *TrainConv, src, weight, bias, dst []float32) bool {
	if !fits(len(src), len(weight), len(dst)) {
		return false
	}
	w.Enter()
	defer w.Leave()
	op, ok := w.dnn[dnnKey{train: *p, kind: kind + 1}]
	if !ok {
		op = w.newTrainConv(kind, *p)
	}
	return op != nil && C.dnn_run(op, f32(src), f32(weight), f32OrNil(bias), f32(dst)) == 0
}

// newTrainConv is apart, so that finding one that is there allocates nothing.
func (w *Worker) newTrainConv(kind int, p TrainConv) *C.dnn_op {
	return w.dnnOp(dnnKey{train: p, kind: kind + 1}, func() *C.dnn_op {
		return C.dnn_conv_train(C.int(kind), C.int(p.N), C.int(p.C), C.int(p.H), C.int(p.W), C.int(p.Out), C.int(p.KH), C.int(p.KW),
			C.int(p.Stride), C.int(p.Pad[0]), C.int(p.Pad[1]), C.int(p.Pad[2]), C.int(p.Pad[3]), C.int(p.dilation()), flag(p.Last), flag(p.biased), flag(p.BF16))
	})
}

// dnnGemmRows is how many rows oneDNN must be given so that, with AVX-512, the bits of each do not depend on their number, where b is stored
// as the transpose of what is used; else two do.
const dnnGemmRows = 16

// dnnGemm32 is nativeGemm32 by oneDNN, which is ahead of OpenBLAS by a tenth on one thread and by a third on several, knows processors that
// OpenBLAS takes for older ones, and gives a row the same bits among few and many: what a network makes of a picture is the same in all batches.
// Of products of a few thousand multiplications it takes up to twice as long.
func dnnGemm32(w *Worker, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
	if !haveDNNL() {
		return false
	}
	w.Enter()
	defer w.Leave()
	least := 2
	if tb {
		least = dnnGemmRows
	}
	done := false
	if m < least && !ta {
		done = dnnFewRows(w, least, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
	} else {
		done = dnnSgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
	}
	if done {
		calls.gemm32.Add(1)
	}
	return done
}

// dnnFewRows is dnnSgemm among rows of zeros, so that sums are in the order that they have among many rows.
func dnnFewRows(w *Worker, rows int, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
	x, y := w.f32(scratchRows, rows*k), w.f32(scratchProducts, rows*n)
	for r := range m {
		copy(x[r*k:(r+1)*k], a[r*lda:])
		if beta != 0 {
			copy(y[r*n:(r+1)*n], c[r*ldc:])
		}
	}
	clear(x[m*k:])
	clear(y[m*n:])
	if !dnnSgemm(false, tb, rows, n, k, alpha, x, k, b, ldb, beta, y, n) {
		return false
	}
	for r := range m {
		copy(c[r*ldc:][:n], y[r*n:])
	}
	return true
}

func dnnSgemm(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
	return C.dnn_sgemm(flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), C.float(alpha), f32(a), C.int(lda), f32(b), C.int(ldb), C.float(beta), f32(c), C.int(ldc)) == 0
}

// nativeDots multiplies by a primitive, which does not pack b and adds all of a sum up in one go.
func nativeDots(w *Worker, m, n, k int, a, b, c []float32) bool {
	if !haveDNNL() || C.dnn_avx512() == 0 || !fits(m, n, k, k, k, n) || !dnnMatMul(w, false, false, true, m, n, k, a, k, b, k, c, n) {
		return false
	}
	calls.gemm32.Add(1)
	return true
}

func nativeBF16() int {
	if !haveDNNL() {
		return 0
	}
	return int(C.dnn_bf16())
}

func nativeGemmBF16(w *Worker, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) bool {
	if !haveDNNL() || !dnnMatMul(w, true, ta, tb, m, n, k, a, lda, b, ldb, c, ldc) {
		return false
	}
	calls.gemm16.Add(1)
	return true
}

// dnnMatMul multiplies by a primitive of these sizes.
func dnnMatMul(w *Worker, low, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) bool {
	w.Enter()
	defer w.Leave()
	op := w.dnnOp(dnnKey{low: low, ta: ta, tb: tb, m: m, n: n, k: k, lda: lda, ldb: ldb, ldc: ldc}, func() *C.dnn_op {
		return C.dnn_matmul(flag(low), flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), C.int(lda), C.int(ldb), C.int(ldc))
	})
	return op != nil && C.dnn_run(op, f32(a), f32(b), nil, f32(c)) == 0
}

// testDNNL compares oneDNN with the pure-Go functions on small inputs. It
// returns what differs and by how much, or "".
func testDNNL() string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	C.dnn_single_thread()
	w := &Worker{pool: thePool(), single: true} // not a worker of the pool: it only carries primitives
	defer func() {
		for _, op := range w.dnn {
			C.dnn_op_free(op)
		}
	}()
	for _, p := range []Conv{
		{N: 2, C: 3, H: 19, W: 17, Out: 32, KH: 3, KW: 3, StrideH: 2, StrideW: 2, ReLU: true},
		{N: 1, C: 64, H: 9, W: 9, Out: 80, KH: 1, KW: 1, StrideH: 1, StrideW: 1},
		{N: 3, C: 48, H: 8, W: 11, Out: 64, KH: 5, KW: 5, StrideH: 1, StrideW: 1, PadH: 2, PadW: 2, ReLU: true},
		{N: 1, C: 33, H: 17, W: 17, Out: 17, KH: 1, KW: 7, StrideH: 1, StrideW: 1, PadW: 3},
	} {
		oh, ow := p.OutSize()
		terms := p.C * p.KH * p.KW
		x, weight, bias := noise[float32](p.N*p.C*p.H*p.W, 9), noise[float32](p.Out*terms, 10), noise[float32](p.Out, 11)
		got, want := make([]float32, p.N*p.Out*oh*ow), make([]float32, p.N*p.Out*oh*ow)
		if !dnnConv(w, &p, got, x, weight, bias) {
			return fmt.Sprintf("no convolution %+v", p)
		}
		goConv2D(w, &p, want, x, weight, bias)
		if d, tol := apart(got, want, float64(terms+2)), 1.0/(1<<23); d > tol {
			return fmt.Sprintf("convolution %+v is off by %.2g of the sum's size, want <= %.2g", p, d, tol)
		}
	}
	for _, why := range []string{testTrainConv(w), testSgemm(dnnSgemm), testRows(w)} {
		if why != "" {
			return why
		}
	}
	if C.dnn_bf16() == 0 {
		return ""
	}
	for _, s := range testSizes {
		m, n, k := s[0], s[1], s[2]
		a, b := noise[float32](m*k, 12), noise[float32](k*n, 13)
		got, want := make([]float32, m*n), make([]float32, m*n)
		if !dnnMatMul(w, true, false, false, m, n, k, a, k, b, n, got, n) {
			return fmt.Sprintf("no bf16 product %d×%d×%d", m, n, k)
		}
		goRound(1, m*k, a, m*k, a, m*k)
		goRound(1, k*n, b, k*n, b, k*n)
		goGemm32(false, false, m, n, k, 1, a, k, b, n, 0, want, n)
		if d, tol := apart(got, want, float64(k+2)), math.Ldexp(1, -22); d > tol {
			return fmt.Sprintf("bf16 product %d×%d×%d is off by %.2g of the sum's size, want <= %.2g", m, n, k, d, tol)
		}
	}
	return ""
}

// testRows compares products of rows, as nativeDots makes them.
func testRows(w *Worker) string {
	if C.dnn_avx512() == 0 {
		return ""
	}
	for _, s := range [][3]int{{1, 7, 512}, {33, 50, 521}} {
		m, n, k := s[0], s[1], s[2]
		a, b := noise[float32](m*k, 18), noise[float32](n*k, 19)
		got, want := make([]float32, m*n), make([]float32, m*n)
		if !dnnMatMul(w, false, false, true, m, n, k, a, k, b, k, got, n) {
			return fmt.Sprintf("no product of rows %d×%d×%d", m, n, k)
		}
		goGemm32(false, true, m, n, k, 1, a, k, b, k, 0, want, n)
		if d, tol := apart(got, want, float64(k+2)), 1.0/(1<<23); d > tol {
			return fmt.Sprintf("product of rows %d×%d×%d is off by %.2g of the sum's size, want <= %.2g", m, n, k, d, tol)
		}
	}
	return ""
}

// testTrainConv compares the three kinds with loops.
func testTrainConv(w *Worker) string { return testTrainConvs(w, int(C.dnn_bf16()) >= leastBF16) }

// testTrainConvs has bf16 operands among the cases where low is set.
func testTrainConvs(w *Worker, low bool) string {
	for _, p := range []TrainConv{
		{N: 2, C: 3, H: 9, W: 7, Out: 8, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}},
		{N: 1, C: 32, H: 6, W: 5, Out: 16, KH: 3, KW: 3, Stride: 2, Pad: [4]int{0, 1, 0, 1}},
		{N: 3, C: 16, H: 4, W: 4, Out: 32, KH: 1, KW: 1, Stride: 1},
		{N: 2, C: 16, H: 1, W: 9, Out: 16, KH: 1, KW: 3, Stride: 1, Pad: [4]int{0, 0, 3, 3}, Dilation: 3},
		{N: 2, C: 16, H: 5, W: 7, Out: 8, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}, Last: true, biased: true},
		{N: 1, C: 32, H: 6, W: 5, Out: 16, KH: 3, KW: 3, Stride: 2, Pad: [4]int{0, 1, 0, 1}, Last: true},
		{N: 2, C: 32, H: 5, W: 7, Out: 16, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}, Last: true, biased: true, BF16: true},
		{N: 2, C: 3, H: 9, W: 7, Out: 8, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}, BF16: true},
	} {
		if p.BF16 && !low {
			continue
		}
		oh, ow := p.OutSize()
		x, wt, y := noise[float32](p.N*p.C*p.H*p.W, 14), noise[float32](p.Out*p.C*p.KH*p.KW, 15), noise[float32](p.N*p.Out*oh*ow, 16)
		var bias []float32
		if p.biased {
			bias = noise[float32](p.Out, 17)
		}
		if p.BF16 {
			goRound(1, len(x), x, len(x), x, len(x))
			goRound(1, len(wt), wt, len(wt), wt, len(wt))
			goRound(1, len(y), y, len(y), y, len(y))
		}
		for kind := range 3 {
			ops := [3][]float32{append([]float32(nil), x...), append([]float32(nil), wt...), append([]float32(nil), y...)}
			want := p.reference(kind, x, wt, bias, y)
			out := [3]int{2, 0, 1}[kind]
			if !dnnTrainConv(w, kind, &p, ops[0], ops[1], bias, ops[2]) {
				return fmt.Sprintf("no convolution of kind %d, %+v", kind, p)
			}
			if d, tol := apart(ops[out], want, float64(max(p.C*p.KH*p.KW, p.Out*p.KH*p.KW, p.N*oh*ow)+2)), 1.0/(1<<23); d > tol {
				return fmt.Sprintf("convolution of kind %d, %+v is off by %.2g of the sum's size, want <= %.2g", kind, p, d, tol)
			}
		}
	}
	return ""
}
