package cpu

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	// linOperands is how many operands one native pass of a linear combination takes.
	linOperands = 8
	// vecChunk is how many elements a worker takes at a time.
	vecChunk = 1 << 14
	// VecChunk is vecChunk for callers that put several functions together: of
	// that many elements a linear combination runs where it is called.
	VecChunk = vecChunk
)

// linear is a linear combination on its way to the workers; reused, so that a
// step of a solver allocates nothing.
type linear[T float32 | float64] struct {
	out []T
	c   [linOperands]float64
	x   [linOperands][]T
	k   int
	f   func(w *Worker, chunk int)
	bad atomic.Bool // some result is NaN or infinite
}

func (l *linear[T]) chunk(_ *Worker, chunk int) {
	lo := chunk * vecChunk
	l.span(lo, min(lo+vecChunk, len(l.out)))
}

func (l *linear[T]) span(lo, hi int) {
	if lo >= hi {
		return
	}
	x := l.x
	for j := range l.k {
		x[j] = x[j][lo:hi]
	}
	for j := l.k; j < linOperands; j++ {
		x[j] = x[0]
	}
	finite, ok := nativeLinComb(l.out[lo:hi], l.c[:l.k], &x)
	if !ok {
		finite = goLinComb(l.out[lo:hi], l.c[:l.k], &x)
	}
	if !finite {
		l.bad.Store(true)
	}
}

func newLinear[T float32 | float64]() any {
	l := new(linear[T])
	l.f = l.chunk
	return l
}

var (
	linear32 = sync.Pool{New: newLinear[float32]}
	linear64 = sync.Pool{New: newLinear[float64]}
)

// linComb's callers are not inlined: in another package the compiler would know
// nothing of this instance and move its arguments to the heap.
func linComb[T float32 | float64](op string, pool *sync.Pool, w *Worker, out []T, coeffs []float64, xs [][]T) (finite bool) {
	if len(coeffs) != len(xs) {
		panic(fmt.Sprintf("cpu: %s: %d coefficients for %d operands", op, len(coeffs), len(xs)))
	}
	for j, x := range xs {
		if len(x) != len(out) {
			panic(fmt.Sprintf("cpu: %s: operand %d has %d elements, the result %d", op, j, len(x), len(out)))
		}
	}
	if len(xs) == 0 {
		clear(out)
		return true
	}
	l := pool.Get().(*linear[T])
	l.out = out
	l.bad.Store(false)
	for first := true; len(xs) > 0; first = false { // beyond eight operands, the sum so far is the first of the next eight
		l.k = 0
		if !first {
			l.c[0], l.x[0], l.k = 1, out, 1
		}
		n := min(linOperands-l.k, len(xs))
		l.k += copy(l.c[l.k:], coeffs[:n])
		copy(l.x[l.k-n:], xs[:n])
		coeffs, xs = coeffs[n:], xs[n:]
		eachChunk(w, len(out), l.f)
	}
	finite = !l.bad.Load() // a sum that once was not finite never becomes so again
	l.out = nil
	clear(l.x[:])
	pool.Put(l)
	return finite
}

// eachChunk runs f over the chunks of n elements. A single chunk, a few
// microseconds of our own C, runs where the caller is: handing it to a worker
// costs more than it takes.
func eachChunk(w *Worker, n int, f func(w *Worker, chunk int)) {
	chunks := (n + vecChunk - 1) / vecChunk
	if w == nil && chunks > 1 {
		Join(chunks, f)
		return
	}
	for i := range chunks {
		f(w, i)
	}
}

// LinComb32 sets out to Σ coeffs[j]·xs[j] in one pass over memory. Each element
// is summed in float64 in the order of the operands and rounded once (once per
// seven operands beyond the eighth). out may be one of the xs; all have the
// same length, else it panics. It allocates nothing. The bits are the same on
// every machine. It tells whether every result is finite, at no cost in memory
// passes; an operand that isn't finite makes a result that isn't.
//
//go:noinline
func LinComb32(w *Worker, out []float32, coeffs []float64, xs ...[]float32) (finite bool) {
	return linComb("LinComb32", &linear32, w, out, coeffs, xs)
}

// LinComb64 is LinComb32 for float64.
//
//go:noinline
func LinComb64(w *Worker, out []float64, coeffs []float64, xs ...[]float64) (finite bool) {
	return linComb("LinComb64", &linear64, w, out, coeffs, xs)
}

// Axpby32 sets y to a·x + b·y.
func Axpby32(w *Worker, a float64, x []float32, b float64, y []float32) {
	LinComb32(w, y, []float64{a, b}, x, y)
}

// Axpby64 sets y to a·x + b·y.
func Axpby64(w *Worker, a float64, x []float64, b float64, y []float64) {
	LinComb64(w, y, []float64{a, b}, x, y)
}

// Triad sets out to a + s·b in float32, the probe of memory bandwidth: it
// moves 12 bytes an element and computes next to nothing. It panics unless the
// lengths agree.
func Triad(w *Worker, out, a, b []float32, s float32) {
	sameLen("Triad", len(out), len(a), len(b))
	eachChunk(w, len(out), func(_ *Worker, chunk int) {
		lo, hi := span(chunk, len(out))
		if !nativeTriad(out[lo:hi], a[lo:hi], b[lo:hi], s) {
			goTriad(out[lo:hi], a[lo:hi], b[lo:hi], s)
		}
	})
}

// ReLU32 sets out to max(x, 0); NaN stays NaN. out may be x. It panics unless
// the lengths agree.
func ReLU32(w *Worker, out, x []float32) {
	sameLen("ReLU32", len(out), len(x))
	eachChunk(w, len(out), func(_ *Worker, chunk int) {
		lo, hi := span(chunk, len(out))
		if !nativeReLU32(out[lo:hi], x[lo:hi]) {
			goReLU32(out[lo:hi], x[lo:hi])
		}
	})
}

// Exp32 sets out to eˣ within 2 ulp; overflow is +Inf, NaN stays NaN. out may
// be x. It panics unless the lengths agree. The bits are the same on every
// machine.
func Exp32(w *Worker, out, x []float32) {
	sameLen("Exp32", len(out), len(x))
	eachChunk(w, len(out), func(_ *Worker, chunk int) {
		lo, hi := span(chunk, len(out))
		expSpan(out[lo:hi], x[lo:hi])
	})
}

func expSpan(out, x []float32) {
	if !nativeExp32(out, x) {
		goExp32(out, x)
	}
}

// Softmax32 sets each of the rows of out to exp(x - max x) / Σ exp(x - max x)
// over the cols elements of that row of x; ldo and ldx are row strides. out may
// be x. A row with NaN, +Inf or nothing but -Inf becomes NaN. It panics when a
// slice is too short. The bits are the same on every machine.
func Softmax32(w *Worker, rows, cols int, out []float32, ldo int, x []float32, ldx int) {
	matrix("Softmax32", "out", rows, cols, len(out), ldo)
	matrix("Softmax32", "x", rows, cols, len(x), ldx)
	if rows == 0 || cols == 0 {
		return
	}
	block := max(1, vecChunk/4/cols) // exp makes an element dearer here
	on(w, (rows+block-1)/block, func(_ *Worker, i int) {
		r := i * block
		n := min(block, rows-r)
		if !nativeSoftmax32(n, cols, out[r*ldo:], ldo, x[r*ldx:], ldx) {
			goSoftmax32(n, cols, out[r*ldo:], ldo, x[r*ldx:], ldx)
		}
	})
}

func span(chunk, n int) (lo, hi int) { return chunk * vecChunk, min((chunk+1)*vecChunk, n) }

func sameLen(op string, n ...int) {
	for _, v := range n[1:] {
		if v != n[0] {
			// A copy: else n would be allocated at every call.
			panic(fmt.Sprintf("cpu: %s: operands have %v elements, want one length", op, append([]int(nil), n...)))
		}
	}
}
