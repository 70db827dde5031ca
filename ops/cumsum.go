package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// CumSum sets out to the sums of x along an axis up to each element, itself included, or,
// reverse, from each element on; or adds them to out. The one is the other's gradient. Sums
// run in the order of the axis, in float64. out may be x without acc. It panics unless
// shapes, dtypes (float32 or float64) and devices agree.
func CumSum(out, x *gpu.Tensor, axis int, reverse, acc bool) {
	const op = "CumSum"
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
		k := byWidth(out, kernels.CumsumF32, kernels.CumsumF64)
		k(s, cuda.Grid1(outer*inner, vectorBlock, vectorBlock), out.Ptr(), x.Ptr(), flag(reverse), flag(acc), int64(outer*inner), int32(size), int64(inner))
		return
	}
	c := newCall(cumSumRows, out, x)
	c.acc, c.n[0], c.n[1], c.n[2], c.n[3] = acc, outer*inner, size, inner, max(1, mapBlock/size)
	c.n[4] = 0
	if reverse {
		c.n[4] = 1
	}
	c.each(ceil(outer*inner, c.n[3]))
}

func cumSumRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		cumSumOf[float64](c, i)
	} else {
		cumSumOf[float32](c, i)
	}
}

func cumSumOf[T cpu.Float](c *call, i int) {
	out, x := data[T](c.t[0]), data[T](c.t[1])
	size, inner := c.n[1], c.n[2]
	for r := i * c.n[3]; r < min((i+1)*c.n[3], c.n[0]); r++ {
		at, step := r/inner*size*inner+r%inner, inner
		if c.n[4] == 1 {
			at, step = at+(size-1)*inner, -inner
		}
		var s float64
		for range size {
			s += float64(x[at])
			v := T(s)
			if c.acc {
				v += out[at]
			}
			out[at] = v
			at += step
		}
	}
}
