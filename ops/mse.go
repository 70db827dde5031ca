package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// SquaredError sets loss[b] to the mean of (x - y)² over row b of x and y, [B, ...].
// Sums are made in pieces of fixed size and added in float64 in order. It panics
// unless shapes, dtypes (float32 or float64) and devices agree.
func SquaredError(loss, x, y *gpu.Tensor) {
	const op = "SquaredError"
	s := streamOf(op, loss, x, y)
	n := errorCheck(op, loss, x, y)
	if x.Len() == 0 {
		Fill(loss, 0)
		return
	}
	if s != nil {
		double := x.Double()
		r := reduction{op: op, out: loss.Ptr(), a: x.Ptr(), b: y.Ptr(), from64: double, to64: double, term: squaredDifferences, scale: 1 / float64(n)}
		r.launch(s, loss.Len(), n, 1)
		return
	}
	c := newCall(errorRow, loss, x, y)
	c.n[0] = n
	c.each(loss.Len())
}

func errorCheck(op string, per, x, y *gpu.Tensor) (n int) {
	sameShape(op, x, y)
	s := x.Shape()
	if len(s) == 0 || per.Len() != s[0] {
		fail(op, "%d losses for shape %v, want one a row of [B, ...]", per.Len(), s)
	}
	return x.Len() / max(1, s[0])
}

const errorPiece = 1024

func errorRow(c *call, _ *cpu.Worker, b int) {
	if c.double() {
		errorOf[float64](c, b)
	} else {
		errorOf[float32](c, b)
	}
}

func errorOf[T cpu.Float](c *call, b int) {
	var buf [errorPiece]T
	var s float64
	n := c.n[0]
	x, y := data[T](c.t[1])[b*n:][:n], data[T](c.t[2])[b*n:][:n]
	for lo := 0; lo < n; lo += errorPiece {
		hi := min(lo+errorPiece, n)
		d := buf[:hi-lo]
		cpu.Blend(d, false, 1, x[lo:hi], -1, y[lo:hi], 0)
		var sum [1]T
		cpu.RowSums(1, len(d), sum[:], d, len(d), d, len(d))
		s += float64(sum[0])
	}
	data[T](c.t[0])[b] = T(s / float64(n))
}

// SquaredErrorBackward sets dx to sign·2/n·g[b]·(x - y) by rows of n elements, or adds
// that to dx: SquaredError's gradient by x with sign 1, by y with sign -1.
func SquaredErrorBackward(dx, x, y, g *gpu.Tensor, sign float64, acc bool) {
	const op = "SquaredErrorBackward"
	s := streamOf(op, dx, x, y, g)
	n := errorCheck(op, g, x, y)
	sameShape(op, x, dx)
	if x.Len() == 0 {
		return
	}
	if s != nil {
		at, blocks := rowGrid(op, dx, n, 1)
		k := byWidth(dx, kernels.ErrorBackwardF32, kernels.ErrorBackwardF64)
		k(s, at, dx.Ptr(), x.Ptr(), y.Ptr(), g.Ptr(), sign*2/float64(n), flag(acc), int64(n), int32(blocks))
		return
	}
	c := newCall(errorBackRow, dx, x, y, g)
	c.n[0], c.f[0], c.acc = n, sign, acc
	c.each(g.Len())
}

func errorBackRow(c *call, _ *cpu.Worker, b int) {
	if c.double() {
		errorBackOf[float64](c, b)
	} else {
		errorBackOf[float32](c, b)
	}
}

func errorBackOf[T cpu.Float](c *call, b int) {
	n := c.n[0]
	k := c.f[0] * 2 / float64(n) * float64(data[T](c.t[3])[b])
	cpu.Blend(data[T](c.t[0])[b*n:][:n], c.acc, k, data[T](c.t[1])[b*n:][:n], -k, data[T](c.t[2])[b*n:][:n], 0)
}
