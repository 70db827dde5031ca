package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Upsample sets out to x with every pixel repeated k times in both directions: x [N, C, H, W] and
// out [N, C, H·k, W·k], or with channels last [N, H, W, C] and [N, H·k, W·k, C]. It panics when
// shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func Upsample(out, x *gpu.Tensor, k int, last bool) {
	c := upsampleCall("Upsample", upsampleRow, out, x, k, last)
	if s := out.Device().Stream(); s != nil {
		g, whole := c.upsampleGrid("Upsample", out, out, x)
		f := byWidth(out, kernels.UpsampleF32, kernels.UpsampleF64)
		f(s, g, out.Ptr(), x.Ptr(), int64(out.Len()), int32(c.n[0]), int32(c.n[1]), int32(k), number(whole))
		c.drop()
		return
	}
	c.each(c.n[4])
}

// UpsampleBackward sets dx to the gradient by x, given dy, that by Upsample's result, or adds it.
func UpsampleBackward(dx, dy *gpu.Tensor, k int, last, acc bool) {
	c := upsampleCall("UpsampleBackward", upsampleBackRow, dy, dx, k, last)
	if s := dx.Device().Stream(); s != nil {
		g, whole := c.upsampleGrid("UpsampleBackward", dx, dx, dy)
		f := byWidth(dx, kernels.UpsampleBackF32, kernels.UpsampleBackF64)
		f(s, g, dx.Ptr(), dy.Ptr(), int64(dx.Len()), int32(c.n[0]), int32(c.n[1]), int32(k), number(whole), number(acc))
		c.drop()
		return
	}
	c.acc = acc
	c.each(c.n[4])
}

// upsampleGrid has a thread for each element of t, or for each 16 bytes where channels, the last
// axis, and both operands' places are whole numbers of those.
func (c *call) upsampleGrid(op string, t, a, b *gpu.Tensor) (g cuda.Grid, whole bool) {
	if w := c.n[0] * c.n[2]; w > math.MaxInt32 || c.n[1] > math.MaxInt32 {
		fail(op, "rows of %d pixels of %d channels, want fewer than 2^31 on a GPU", w, c.n[1])
	}
	whole = c.n[1]%vectorLen(t) == 0 && a.Ptr()%16 == 0 && b.Ptr()%16 == 0
	return runGrid(op, t, t.Len(), whole), whole
}

// upsampleCall has W, C, k, the pixels of an item's row, and the number of items, which are
// rows of pixels; C is 1 where channels are an axis before.
func upsampleCall(op string, f func(*call, *cpu.Worker, int), big, small *gpu.Tensor, k int, last bool) *call {
	streamOf(op, big, small)
	s := small.Shape()
	if len(s) != 4 || k < 1 {
		fail(op, "shape %v and factor %d, want four axes and a factor >= 1", s, k)
	}
	at := 2 // of the height
	if last {
		at = 1
	}
	b := big.Shape()
	fits := len(b) == 4
	for i := range b {
		d := 1
		if i == at || i == at+1 {
			d = k
		}
		fits = fits && b[i] == d*s[i]
	}
	if !fits {
		fail(op, "shapes %v and %v, want the second %d times as high and wide", s, b, k)
	}
	c := newCall(f, small, big)
	c.n[0], c.n[1], c.n[2], c.n[4] = s[3], 1, k, s[0]*s[1]*s[2]
	if last {
		c.n[0], c.n[1], c.n[4] = s[2], s[3], s[0]*s[1]
	}
	if small.Len() == 0 {
		c.n[4] = 0
	}
	return c
}

func upsampleRow(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		upsampleRowOf[float64](c, i)
	} else {
		upsampleRowOf[float32](c, i)
	}
}

func upsampleRowOf[T cpu.Float](c *call, i int) {
	w, ch, k := c.n[0], c.n[1], c.n[2]
	x, big := data[T](c.t[0])[i*w*ch:][:w*ch], data[T](c.t[1])[i*k*k*w*ch:][:k*k*w*ch]
	row := big[:k*w*ch]
	if ch == 1 {
		for j, v := range x {
			for q := range k {
				row[j*k+q] = v
			}
		}
	} else {
		for j := range w {
			for q := range k {
				copy(row[(j*k+q)*ch:], x[j*ch:][:ch])
			}
		}
	}
	for r := 1; r < k; r++ {
		copy(big[r*k*w*ch:], row)
	}
}

func upsampleBackRow(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		upsampleBackRowOf[float64](c, i)
	} else {
		upsampleBackRowOf[float32](c, i)
	}
}

func upsampleBackRowOf[T cpu.Float](c *call, i int) {
	w, ch, k := c.n[0], c.n[1], c.n[2]
	dx, dy := data[T](c.t[0])[i*w*ch:][:w*ch], data[T](c.t[1])[i*k*k*w*ch:][:k*k*w*ch]
	if !c.acc {
		clear(dx)
	}
	for r := range k {
		for q := range k {
			from := dy[(r*k*w+q)*ch:]
			if ch == 1 {
				for j := range dx {
					dx[j] += from[j*k]
				}
				continue
			}
			cpu.PairRows(cpu.PairAdd, false, w, ch, dx, ch, dx, ch, 1, from, k*ch, 1)
		}
	}
}
