package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// MaskedFill sets out to x, and to v where mask, Uint8 on the CPU, is not 0; or adds that
// to out. The mask repeats along axes that it lacks or has with size 1, as numpy's do.
// out may be x. With v = 0 it is its own gradient. It panics when shapes do not fit, and
// unless dtypes (float32 or float64) and devices of out and x agree.
func MaskedFill(out, x, mask *gpu.Tensor, v float64, acc bool) {
	const op = "MaskedFill"
	onCPU(op, out, x)
	sameShape(op, out, x)
	if mask.DType() != gpu.Uint8 || mask.Device().CUDA() {
		fail(op, "the mask is %v on %v, want uint8 on the CPU", mask.DType(), mask.Device())
	}
	a := broadcast(op, out.Shape(), mask, x)
	if out.Len() == 0 {
		return
	}
	c := newCall(maskedRows, out, x, mask)
	c.ax, c.f[0], c.acc = a, v, acc
	c.n[0] = max(1, mapBlock/a.size[a.k-1])
	c.each(ceil(a.rows(), c.n[0]))
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
