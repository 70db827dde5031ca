package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// MaskedFill sets out to x, and to v where mask, Uint8, is not 0; or adds that to out. The
// mask is on the CPU or on out's device; to a GPU it is copied without waiting. It repeats along axes that it lacks or has with size 1, as numpy's do.
// out may be x. With v = 0 it is its own gradient. It panics when shapes do not fit, and
// unless dtypes (float32 or float64) and devices of out and x agree.
func MaskedFill(out, x, mask *gpu.Tensor, v float64, acc bool) {
	const op = "MaskedFill"
	s := streamOf(op, out, x)
	sameShape(op, out, x)
	if mask.DType() != gpu.Uint8 || mask.Device() != out.Device() && mask.Device().CUDA() {
		fail(op, "the mask is %v on %v, want uint8 on the CPU or on %v", mask.DType(), mask.Device(), out.Device())
	}
	a := broadcast(op, out.Shape(), mask, x)
	if out.Len() == 0 {
		return
	}
	if s != nil {
		launchMasked(op, s, &a, out, x, mask, v, acc)
		return
	}
	c := newCall(maskedRows, out, x, mask)
	c.ax, c.f[0], c.acc = a, v, acc
	c.n[0] = max(1, mapBlock/a.size[a.k-1])
	c.each(ceil(a.rows(), c.n[0]))
}

func launchMasked(op string, s *cuda.Stream, x *axes, out, from, mask *gpu.Tensor, v float64, acc bool) {
	var copied, m cuda.Ptr
	if mask.Device().CUDA() {
		m = mask.Ptr()
	} else {
		copied = uploaded(s, mask.U8())
		m = copied
	}
	k, g, w := byWidth(out, kernels.MaskedFillF32, kernels.MaskedFillF64), vectorGrid(out, out.Len()), x.walk(op, out.Len())
	k(s, g, out.Ptr(), from.Ptr(), m, v, flag(acc), w.stepA, int64(out.Len()), w.axes, w.last,
		w.size[0], w.size[1], w.size[2], w.size[3], w.size[4], w.size[5], w.size[6], w.a[0], w.a[1], w.a[2], w.a[3], w.a[4], w.a[5], w.a[6])
	s.Free(copied)
}

func maskedRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		maskedOf[float64](c, i)
	} else {
		maskedOf[float32](c, i)
	}
}

func maskedOf[T cpu.Float](c *call, i int) {
	a := &c.ax
	out, x, mask, v := data[T](c.t[0]), data[T](c.t[1]), c.t[2].U8(), T(c.f[0])
	n, step := a.size[a.k-1], a.step[0][a.k-1]
	for r := i * c.n[0]; r < min((i+1)*c.n[0], a.rows()); r++ {
		at, _ := a.at(r)
		to, from := out[r*n:][:n], x[r*n:][:n]
		for j, e := range from {
			if mask[at+j*step] != 0 {
				e = v
			}
			if c.acc {
				e += to[j]
			}
			to[j] = e
		}
	}
}
