package ops

import (
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

const (
	// sumRow is how many elements of a long sum make one partial sum, and sumRows
	// about how many elements of a sum over rows; both depend on sizes alone, so
	// that sums have the same bits at any number of threads.
	sumRow  = 4096
	sumRows = 1 << 14
)

// SumTo sets out to the sum of a over the axes along which out, laid over a's
// shape as an operand of Add is, would repeat; with b, like a or repeated to its
// shape along the same axes, of the products a·b; or adds that to out. It is what
// turns the gradient of a result into that of an operand. Partial sums are in the
// dtype (on a GPU in float64), in fixed pieces, and are added up in float64 in order. It panics when
// shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func SumTo(out, a, b *gpu.Tensor, acc bool) {
	const op = "SumTo"
	s := streamOf(op, out, a, b)
	if b != nil {
		sameShape(op, a, b)
	}
	x := broadcast(op, a.Shape(), out)
	if a.Len() == 0 {
		if !acc {
			Fill(out, 0)
		}
		return
	}
	if s != nil {
		launchSumTo(op, s, &x, out, a, b, acc)
		return
	}
	c := newCall(nil, out, a, b)
	c.acc, c.ax = acc, x
	if c.double() {
		sumTo[float64](c)
	} else {
		sumTo[float32](c)
	}
}

// summing is a sum on its way: [outer, sum, inner] elements of a·b become [outer,
// inner] of out. Sums with inner 1 are along rows.
type summing struct{ outer, sum, inner, piece, pieces int }

// sumTo sums over one group of neighbouring axes after the other, from the last.
func sumTo[T cpu.Float](c *call) {
	x := &c.ax
	out, a, b := data[T](c.t[0]), data[T](c.t[1]), data[T](c.t[2])
	groups := 0
	for i := range x.k {
		if x.step[0][i] == 0 && x.size[i] > 1 {
			groups++
		}
	}
	if groups == 0 { // nothing repeats
		one := []T{1}
		if b == nil {
			cpu.PairRows(cpu.PairMul, c.acc, 1, len(a), out, len(a), a, len(a), 1, one, 0, 0)
		} else {
			cpu.PairRows(cpu.PairMul, c.acc, 1, len(a), out, len(a), a, len(a), 1, b, len(a), 1)
		}
		c.drop()
		return
	}
	// All of the scratch memory at once: results of all but the last group, and partial sums of the largest.
	total := len(a)
	need := 0
	left := *x
	for g, n, i := 0, total, x.k-1; i >= 0; i-- {
		if x.step[0][i] != 0 || x.size[i] == 1 {
			continue
		}
		s := sumOf(&left, i, n)
		n /= x.size[i]
		left.size[i] = 1
		need += s.outer * s.pieces * s.inner
		if g++; g < groups {
			need += n
		}
	}
	buf := scratchOf[T](c).take(need)
	for g, n, i := 0, total, x.k-1; i >= 0; i-- {
		if x.step[0][i] != 0 || x.size[i] == 1 {
			continue
		}
		s := sumOf(x, i, n)
		n /= x.size[i]
		g++
		to, acc := out, c.acc
		if g < groups {
			to, buf, acc = buf[:n], buf[n:], false
		}
		part := buf[:s.outer*s.pieces*s.inner]
		buf = buf[len(part):]
		runSum(c, s, part, a, b)
		finishSum(s, to, part, acc)
		a, b = to, nil
		x.size[i] = 1
	}
	c.drop()
}

// sumOf is the sum over axis i of what has n elements left.
func sumOf(x *axes, i, n int) summing {
	s := summing{outer: 1, sum: x.size[i], inner: 1}
	for _, k := range x.size[i+1 : x.k] {
		s.inner *= k
	}
	s.outer = n / s.sum / s.inner
	s.piece = sumRow
	if s.inner > 1 {
		s.piece = max(16, sumRows/s.inner)
	}
	s.pieces = ceil(s.sum, s.piece)
	return s
}

// runSum makes the partial sums part [outer, pieces, inner].
func runSum[T cpu.Float](c *call, s summing, part, a, b []T) {
	d := newSumCall(part, a, b)
	d.s = s
	items := s.outer * s.pieces
	d.group = 1
	if s.pieces == 1 {
		d.group = max(1, sumRows/(s.sum*s.inner))
	}
	cpu.Join(ceil(items, d.group), d.run)
	d.part, d.a, d.b = nil, nil, nil
	putSumCall(d)
}

// finishSum adds up the pieces in order.
func finishSum[T cpu.Float](s summing, out, part []T, acc bool) {
	for o := range s.outer {
		for i := range s.inner {
			var sum float64
			for p := range s.pieces {
				sum += float64(part[(o*s.pieces+p)*s.inner+i])
			}
			if acc {
				sum += float64(out[o*s.inner+i])
			}
			out[o*s.inner+i] = T(sum)
		}
	}
}

// sumCall is runSum on its way to the workers.
type sumCall[T cpu.Float] struct {
	part, a, b []T
	s          summing
	group      int // partial sums of one item
	run        func(w *cpu.Worker, i int)
}

var (
	sumCalls32 = sync.Pool{New: newSumCalls[float32]}
	sumCalls64 = sync.Pool{New: newSumCalls[float64]}
)

func newSumCalls[T cpu.Float]() any {
	d := new(sumCall[T])
	d.run = d.item
	return d
}

func sumPool[T cpu.Float]() *sync.Pool {
	var zero T
	if any(zero) == any(float32(0)) {
		return &sumCalls32
	}
	return &sumCalls64
}

func newSumCall[T cpu.Float](part, a, b []T) *sumCall[T] {
	d := sumPool[T]().Get().(*sumCall[T])
	d.part, d.a, d.b = part, a, b
	return d
}

func putSumCall[T cpu.Float](d *sumCall[T]) { sumPool[T]().Put(d) }

func (d *sumCall[T]) item(_ *cpu.Worker, i int) {
	s := &d.s
	if s.pieces == 1 && s.inner == 1 {
		first, rows := i*d.group, min(d.group, s.outer-i*d.group)
		var b []T
		if d.b != nil {
			b = d.b[first*s.sum:]
		}
		cpu.RowSums(rows, s.sum, d.part[first:], d.a[first*s.sum:], s.sum, b, s.sum)
		return
	}
	for k := i * d.group; k < min((i+1)*d.group, s.outer*s.pieces); k++ {
		o, p := k/s.pieces, k%s.pieces
		first := p * s.piece
		n := min(s.piece, s.sum-first)
		at := (o*s.sum + first) * s.inner
		size := n * s.inner
		var b []T
		if d.b != nil {
			b = d.b[at:][:size]
		}
		to := d.part[k*s.inner:][:s.inner]
		if s.inner == 1 {
			cpu.RowSums(1, n, to, d.a[at:][:size], n, b, n)
			continue
		}
		clear(to)
		cpu.ColSums(n, s.inner, to, d.a[at:][:size], s.inner, b, s.inner)
	}
}
