package ops

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Flip sets out to x with an axis in the reverse order, or adds that to out; it is its own
// gradient. out is not x. It panics unless shapes, dtypes (float32 or float64) and devices agree.
func Flip(out, x *gpu.Tensor, axis int, acc bool) {
	const op = "Flip"
	s := streamOf(op, out, x)
	sameShape(op, out, x)
	outer, size, inner := slab(op, x, axis)
	if x.Len() == 0 {
		return
	}
	if s != nil {
		if size > math.MaxInt32 {
			fail(op, "axis %d of shape %v is longer than 2^31-1", axis, x.Shape())
		}
		k := byWidth(out, kernels.FlipF32, kernels.FlipF64)
		k(s, vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), flag(acc), int64(x.Len()), int32(size), int64(inner))
		return
	}
	c := newCall(flipRows, out, x)
	c.acc, c.n[0], c.n[1], c.n[2], c.n[3] = acc, outer*size, size, inner, max(1, mapBlock/inner)
	c.each(ceil(outer*size, c.n[3]))
}

func flipRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		flipOf[float64](c, i)
	} else {
		flipOf[float32](c, i)
	}
}

func flipOf[T cpu.Float](c *call, i int) {
	out, x := data[T](c.t[0]), data[T](c.t[1])
	size, n := c.n[1], c.n[2]
	for r := i * c.n[3]; r < min((i+1)*c.n[3], c.n[0]); r++ {
		from := r/size*size + size - 1 - r%size
		to := out[r*n:][:n]
		if c.acc {
			cpu.PairRows(cpu.PairAdd, false, 1, n, to, n, to, n, 1, x[from*n:], n, 1)
		} else {
			copy(to, x[from*n:])
		}
	}
}
