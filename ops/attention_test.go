package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// attnCases sit on the edges: of the head's sizes, of the tiles (8, 16, 48, 64,
// 128, 192), of every mask. Each is small, since kernels on the host are slow.
func attnCases() []attnCase {
	base := attnCase{b: 1, h: 1, hkv: 1, d: 16, lq: 65, lk: 63}
	var out []attnCase
	add := func(change func(c *attnCase)) {
		c := base
		change(&c)
		out = append(out, c)
	}
	for i, d := range []int{1, 8, 16, 40, 64, 80, 96, 128, 160, 256} {
		add(func(c *attnCase) {
			c.d, c.lq, c.lk, c.causal = d, 17+i, 65-i, i%2 == 0
			if d < 16 { // enough elements for their largest errors to be comparable
				c.b, c.h, c.hkv = 24/d, 4, 2
			}
		})
	}
	for i, l := range [][2]int{{1, 1}, {1, 200}, {7, 65}, {63, 129}, {64, 64}, {129, 7}, {200, 1}, {200, 129}} {
		add(func(c *attnCase) { c.lq, c.lk, c.causal, c.d = l[0], l[1], i%2 == 1, 8 })
		add(func(c *attnCase) { c.lq, c.lk, c.causal, c.h, c.hkv = l[0], l[1], i%2 == 0, 2, 1 })
	}
	for i, w := range []int{1, 2, 31, 64, 500} {
		add(func(c *attnCase) { c.window, c.lq, c.lk = w, 70, 90 })
		add(func(c *attnCase) { c.window, c.lq, c.lk, c.causal, c.d = w, 130-30*i, 100, true, 8 })
	}
	add(func(c *attnCase) { c.b, c.lk, c.keyLens = 4, 70, []int32{0, 1, 70, 33} })
	add(func(c *attnCase) { c.b, c.lk, c.keyLens, c.causal = 3, 40, []int32{-5, 1000, 9}, true })
	add(func(c *attnCase) { c.b, c.keyLens, c.window, c.h, c.hkv = 2, []int32{20, 62}, 9, 2, 2 })
	for _, e := range [][2]int{{1, 1}, {1, 4}, {2, 1}, {2, 4}} {
		add(func(c *attnCase) { c.b, c.h, c.hkv, c.lq, c.lk, c.biasB, c.biasH = 2, 4, 2, 21, 34, e[0], e[1] })
	}
	add(func(c *attnCase) { c.biasB, c.biasH, c.hide, c.causal = 1, 1, true, true })
	add(func(c *attnCase) { c.b, c.biasB, c.biasH, c.hide, c.keyLens = 2, 2, 1, true, []int32{0, 40} })
	add(func(c *attnCase) { c.h, c.hkv, c.lq, c.lk = 4, 1, 33, 47 })
	add(func(c *attnCase) { c.h, c.hkv, c.b, c.lq, c.lk, c.causal = 6, 3, 2, 19, 50, true })
	add(func(c *attnCase) { c.lensQ, c.lensK, c.h, c.hkv = []int32{3, 0, 70, 1}, []int32{5, 4, 66, 0}, 2, 1 })
	add(func(c *attnCase) { c.lensQ, c.lensK, c.causal = []int32{20, 64, 5}, []int32{64, 20, 5}, true })
	add(func(c *attnCase) {
		c.lensQ, c.lensK, c.window, c.h, c.hkv = []int32{0, 33, 0}, []int32{7, 80, 0}, 12, 2, 2
	})
	add(func(c *attnCase) { c.h, c.hkv, c.d, c.lq, c.lk, c.causal = 2, 1, 8, 30, 1100, true }) // several pieces of keys
	add(func(c *attnCase) { c.d, c.lq, c.lk, c.window = 8, 1100, 30, 1080 })
	add(func(c *attnCase) { c.scale = -0.7 })
	add(func(c *attnCase) { c.amplitude, c.lq = 3000, 20 }) // scores of thousands: one key takes all
	for i := range out {
		if out[i].amplitude != 0 {
			continue
		}
		for _, dt := range attnTypes[1:] {
			if i%2 == int(dt)%2 || i < 10 {
				c := out[i]
				c.dt = dt
				out = append(out, c)
			}
		}
	}
	return out
}

func TestAttention(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range attnCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newProblem(dev, c, uint64(i))
				naive := p.naive()
				out, lse := p.forward(t)
				p.check(t, "out", out, p.want.Out, p.want.OutScale(), naive.Out)
				p.check(t, "lse", lse, p.want.LSE, p.lseScale(), nil)
			})
		}
	})
}

// lseScale: the sum of exponentials has the relative error of its terms, whose
// logarithm adds it to half an ulp of itself.
func (p *problem) lseScale() []float64 {
	s := slices.Clone(p.want.Unit)
	for i, v := range p.want.LSE {
		if !math.IsInf(v, 0) {
			s[i] += math.Abs(v)
		}
	}
	return s
}

func TestAttentionBackward(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, c := range attnCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newProblem(dev, c, uint64(i))
				out, lse := p.forward(t)
				dq, dk, dv := dev.New(p.dt, p.in.Q.Shape()...), dev.New(p.dt, p.in.K.Shape()...), dev.New(p.dt, p.in.K.Shape()...)
				var dbias *gpu.Tensor
				if p.in.Bias != nil {
					dbias = dev.New(gpu.Float32, p.in.Bias.Shape()...)
				}
				ops.AttentionBackward(dq, dk, dv, dbias, p.dout, out, lse, p.in, p.cfg)
				want, naive := p.want.Backward(p.gout), p.naive().Backward(p.gout)
				p.check(t, "dq", dq, want.DQ.Value, want.DQ.Scale, naive.DQ.Value)
				p.check(t, "dk", dk, want.DK.Value, want.DK.Scale, naive.DK.Value)
				p.check(t, "dv", dv, want.DV.Value, want.DV.Scale, naive.DV.Value)
				if dbias != nil {
					p.check(t, "dbias", dbias, want.DBias.Value, want.DBias.Scale, naive.DBias.Value)
				}
			})
		}
	})
}

// What may be nil changes nothing else, and two runs give the same bits.
func TestAttentionBackwardOfSome(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, dt := range attnTypes {
			c := attnCase{b: 2, h: 2, hkv: 1, d: 24, lq: 50, lk: 71, biasB: 1, biasH: 2, causal: true, dt: dt}
			if i == 1 {
				c.lq, c.lk, c.biasH = 1100, 20, 1 // several pieces of queries
			}
			p := newProblem(dev, c, 5)
			out, lse := p.forward(t)
			all := gradients(p, out, lse, true, true, true)
			for mask := range 8 {
				some := gradients(p, out, lse, mask&1 > 0, mask&2 > 0, mask&4 > 0)
				want := p.want.Backward(p.gout)
				naive := p.naive().Backward(p.gout)
				p.check(t, "dq", some[0], want.DQ.Value, want.DQ.Scale, naive.DQ.Value)
				for i, g := range some {
					if g != nil && (i > 0 || mask == 7) {
						sameTensor(t, fmt.Sprintf("%v: gradient %d with %03b", dt, i, mask), g, all[i])
					}
				}
			}
		}
	})
}

func gradients(p *problem, out, lse *gpu.Tensor, k, v, bias bool) [4]*gpu.Tensor {
	g := [4]*gpu.Tensor{p.dev.New(p.dt, p.in.Q.Shape()...)}
	if k {
		g[1] = p.dev.New(p.dt, p.in.K.Shape()...)
	}
	if v {
		g[2] = p.dev.New(p.dt, p.in.K.Shape()...)
	}
	if bias {
		g[3] = p.dev.New(gpu.Float32, p.in.Bias.Shape()...)
	}
	ops.AttentionBackward(g[0], g[1], g[2], g[3], p.dout, out, lse, p.in, p.cfg)
	return g
}

func sameTensor(t *testing.T, what string, x, y *gpu.Tensor) {
	t.Helper()
	a, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	b, err := y.Floats()
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: element %d is %g and %g", what, i, a[i], b[i])
		}
	}
}

// A sequence's results are the same bits alone and in a batch.
func TestAttentionBatchIndependence(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range attnTypes {
			p := newProblem(dev, attnCase{b: 3, h: 2, hkv: 1, d: 40, lq: 67, lk: 70, causal: true, dt: dt}, 9)
			out, lse := p.forward(t)
			outs, err := out.Floats()
			if err != nil {
				t.Fatal(err)
			}
			lses, err := lse.Floats()
			if err != nil {
				t.Fatal(err)
			}
			for b := range p.b {
				part := func(x *gpu.Tensor) *gpu.Tensor {
					v, err := x.Floats()
					if err != nil {
						t.Fatal(err)
					}
					s, n := x.Shape(), len(v)/p.b
					return dev.FromAs(dt, v[b*n:(b+1)*n], 1, s[1], s[2], s[3])
				}
				q := &problem{attnCase: p.attnCase, dev: dev, cfg: p.cfg, in: ops.AttentionInput{Q: part(p.in.Q), K: part(p.in.K), V: part(p.in.V)}}
				q.b = 1
				o, l := q.forward(t)
				sameTensor(t, fmt.Sprintf("%v: out of sequence %d", dt, b), o, dev.FromAs(dt, outs[b*len(outs)/3:(b+1)*len(outs)/3], o.Shape()...))
				sameTensor(t, fmt.Sprintf("%v: lse of sequence %d", dt, b), l, dev.FromAs(gpu.Float32, lses[b*len(lses)/3:(b+1)*len(lses)/3], l.Shape()...))
			}
		}
	})
}

// Scores up to the end of float32's range neither overflow nor make NaN.
func TestAttentionHugeScores(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n, d = 70, 8
		for _, size := range []float32{1e4, 1e18} {
			q, k, v := make([]float32, n*d), make([]float32, n*d), make([]float32, n*d)
			for i := range n {
				q[i*d] = size
				k[i*d] = size * (1 - float32(i%7)/8)
				if i%2 == 1 {
					q[i*d] = -size
				}
				v[i*d] = float32(i)
			}
			in := ops.AttentionInput{Q: dev.From(q, 1, n, 1, d), K: dev.From(k, 1, n, 1, d), V: dev.From(v, 1, n, 1, d)}
			out, lse := dev.New(gpu.Float32, 1, n, 1, d), dev.New(gpu.Float32, 1, 1, n)
			ops.Attention(out, lse, in, ops.AttentionConfig{Scale: 1})
			got, err := out.Floats()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				want := float32(0+7+14+21+28+35+42+49+56+63) / 10 // the mean of the keys with the largest score
				if i%2 == 1 {
					want = float32(6+13+20+27+34+41+48+55+62+69) / 10
				}
				if x := got[i*d]; !(math.Abs(float64(x-want)) <= 1e-4) {
					t.Fatalf("size %g: row %d is %g, want %g", size, i, x, want)
				}
			}
		}
	})
}

// No query, no key, no sequence: nothing to do, or zeros.
func TestAttentionOfNothing(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, l := range [][3]int{{0, 3, 4}, {2, 0, 4}, {2, 3, 0}, {0, 0, 0}} {
			p := newProblem(dev, attnCase{b: l[0], h: 2, hkv: 1, d: 8, lq: l[1], lk: l[2]}, 1)
			out, lse := p.forward(t)
			p.check(t, "out", out, p.want.Out, p.want.Out, nil)
			p.check(t, "lse", lse, p.want.LSE, p.want.LSE, nil)
			dq, dk := dev.New(gpu.Float32, p.in.Q.Shape()...), dev.New(gpu.Float32, p.in.K.Shape()...)
			dv := dev.New(gpu.Float32, p.in.K.Shape()...)
			ops.AttentionBackward(dq, dk, dv, nil, p.dout, out, lse, p.in, p.cfg)
			for _, g := range []*gpu.Tensor{dq, dk, dv} {
				v, err := g.Floats()
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range v {
					if x != 0 {
						t.Errorf("%v: gradient %v has %g at %d", l, g.Shape(), x, i)
					}
				}
			}
		}
	})
}
