package ops

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
	"github.com/fidlab/fidlab/rng"
)

// Mask names the elements that a Dropout leaves out: element i goes where word From+i of
// the stream is below P·2^32. It can be made again at any time, on any device.
type Mask struct {
	Seed, Stream, From uint64
	P                  float64 // share of elements that go, in [0, 1)
}

// limit is P in words: those below it are left out.
func (m *Mask) limit() uint64 { return uint64(math.Round(m.P * (1 << 32))) }

// Dropout sets out to x/(1-P) without the elements that the mask leaves out, which become
// 0, or adds that to out; it is its own gradient. out may be x without acc. All devices
// give the same bits.
func Dropout(out, x *gpu.Tensor, m Mask, acc bool) {
	s := streamOf("Dropout", out, x)
	sameShape("Dropout", out, x)
	if !(m.P >= 0 && m.P < 1) {
		fail("Dropout", "share %g of elements, want 0 <= share < 1", m.P)
	}
	if s != nil {
		k := byWidth(out, kernels.DropoutF32, kernels.DropoutF64)
		k(s, vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), 1/(1-m.P), m.limit(), m.Seed, m.Stream, m.From, flag(acc), int64(out.Len()))
		return
	}
	c := newCall(dropoutBlock, out, x)
	c.mask, c.acc = m, acc
	c.each(ceil(out.Len(), mapBlock))
}

func dropoutBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*mapBlock, min((i+1)*mapBlock, c.t[0].Len())
	if c.double() {
		dropout(c.t[0].F64()[lo:hi], c.t[1].F64()[lo:hi], &c.mask, uint64(lo), c.acc)
	} else {
		dropout(c.t[0].F32()[lo:hi], c.t[1].F32()[lo:hi], &c.mask, uint64(lo), c.acc)
	}
}

func dropout[T cpu.Float](out, x []T, m *Mask, at uint64, acc bool) {
	s := *rng.New(m.Seed, m.Stream)
	s.Seek(m.From + at)
	limit := m.limit()
	scale := T(1 / (1 - m.P))
	for i, v := range x {
		v *= scale
		if uint64(s.Uint32()) < limit {
			v = 0
		}
		if acc {
			v += out[i]
		}
		out[i] = v
	}
}

// Turn sets out to x, [B, L, H, D], with pairs of its elements turned by an angle each: pair
// j of place l by angles[l, j], [L, D/2], the other way round with back, which is the
// gradient; or adds that to out. Pairs are neighbours, 2j and 2j+1, or with halves j and
// j + D/2. It is the rotary embedding of places (Su et al. 2021, arXiv 2104.09864).
func Turn(out, x, angles *gpu.Tensor, halves, back, acc bool) {
	const op = "Turn"
	stream := streamOf(op, out, x, angles)
	sameShape(op, out, x)
	s, a := x.Shape(), angles.Shape()
	if len(s) != 4 || len(a) != 2 || s[3]%2 != 0 || a[0] != s[1] || a[1] != s[3]/2 {
		fail(op, "x has shape %v, the angles %v, want [B, L, H, D] with even D and [L, D/2]", s, a)
	}
	if stream != nil {
		if out.Len() > 0 {
			f := byWidth(out, kernels.TurnF32, kernels.TurnF64)
			f(stream, runGrid(op, out, s[0]*s[1]*a[1], false), out.Ptr(), x.Ptr(), angles.Ptr(), int64(s[0]*s[1]), int32(s[1]), int32(s[2]), int32(a[1]),
				number(halves), number(back), number(acc))
		}
		return
	}
	c := newCall(turnRow, out, x, angles)
	c.n[0], c.n[1], c.n[2], c.n[3], c.n[4], c.acc = s[1], s[2], s[3], 0, 0, acc
	if halves {
		c.n[3] = 1
	}
	if back {
		c.n[4] = 1
	}
	c.each(s[1])
}

func turnRow(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		turn[float64](c, i)
	} else {
		turn[float32](c, i)
	}
}

// turn does place l of all samples, whose angles are the same.
func turn[T cpu.Float](c *call, l int) {
	places, d := c.n[0], c.n[2]
	half, row := d/2, c.n[1]*d
	angles := data[T](c.t[2])[l*half:][:half]
	outs, xs := data[T](c.t[0]), data[T](c.t[1])
	for j, angle := range angles {
		s, k := math.Sincos(float64(angle))
		if c.n[4] == 1 {
			s = -s
		}
		sin, cos := T(s), T(k)
		u, v := 2*j, 2*j+1
		if c.n[3] == 1 {
			u, v = j, j+half
		}
		for at := l * row; at < len(xs); at += places * row {
			out, x := outs[at:][:row], xs[at:][:row]
			for h := 0; h < row; h += d {
				p, q := x[h+u]*cos-x[h+v]*sin, x[h+u]*sin+x[h+v]*cos
				if c.acc {
					p, q = p+out[h+u], q+out[h+v]
				}
				out[h+u], out[h+v] = p, q
			}
		}
	}
}
