package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// linearCase is linear attention of some sizes. decay is "", "head" or "column".
type linearCase struct {
	b, t, h, d, e, chunk int
	decay                string
	strength             float64 // of the decays' logarithms
	state                bool
}

var linearCases = []linearCase{
	{b: 2, t: 7, h: 3, d: 5, e: 3, chunk: 3, decay: "head", strength: 1, state: true},
	{b: 2, t: 7, h: 3, d: 5, e: 3, chunk: 3, decay: "column", strength: 1, state: true},
	{b: 1, t: 70, h: 2, d: 33, e: 40, decay: "column", strength: 0.3},
	{b: 1, t: 70, h: 2, d: 40, e: 33, chunk: 16, decay: "head", strength: 0.3, state: true},
	{b: 1, t: 64, h: 1, d: 64, e: 8, state: true},
	{b: 1, t: 21, h: 1, d: 8, e: 65, chunk: 5, decay: "column", strength: 40, state: true}, // next to nothing is left
	{b: 1, t: 21, h: 1, d: 8, e: 4, chunk: 21, decay: "head", strength: 40},
	{b: 2, t: 5, h: 2, d: 4, e: 4, chunk: 1, decay: "column", strength: 1, state: true},
	{b: 1, t: 20, h: 1, d: 100, e: 128, chunk: 10, decay: "column", strength: 0.5, state: true},
	{b: 1, t: 1, h: 1, d: 1, e: 1},
	{b: 2, t: 0, h: 2, d: 3, e: 2, state: true},
	{b: 0, t: 3, h: 2, d: 3, e: 2},
}

// linearResults are results and gradients in float64.
type linearResults struct{ out, end, dq, dk, dv, slope, dstate []float64 }

// define computes them by the sums over all pairs of tokens.
func (c *linearCase) define(q, k, v, decay, state, dout, dend []float64) linearResults {
	d, e := c.d, c.e
	r := linearResults{
		make([]float64, len(v)), make([]float64, c.b*c.h*d*e), make([]float64, len(q)), make([]float64, len(q)),
		make([]float64, len(v)), make([]float64, len(q)), make([]float64, c.b*c.h*d*e),
	}
	for g := range c.b * c.h {
		row := func(t int) int { return (g/c.h*c.t+t)*c.h + g%c.h }
		sums := make([]float64, (c.t+1)*d) // before each token, and after the last
		for t := range c.t {
			for x := range d {
				v := 0.0
				switch c.decay {
				case "head":
					v = decay[row(t)]
				case "column":
					v = decay[row(t)*d+x]
				}
				sums[(t+1)*d+x] = sums[t*d+x] + v
			}
		}
		left := func(i, j, x int) float64 { return math.Exp(sums[(i+1)*d+x] - sums[(j+1)*d+x]) } // j = -1 is the past
		slope := func(i, x int, v float64) {
			if i >= 0 {
				r.slope[row(i)*d+x] += v
			}
		}
		for i := range c.t {
			for j := range i + 1 {
				var score, p float64
				for y := range e {
					p += dout[row(i)*e+y] * v[row(j)*e+y]
				}
				for x := range d {
					w, a, b := left(i, j, x), q[row(i)*d+x], k[row(j)*d+x]
					score += w * a * b
					r.dq[row(i)*d+x] += w * b * p
					r.dk[row(j)*d+x] += w * a * p
					slope(i, x, w*a*b*p)
					slope(j, x, -w*a*b*p)
				}
				for y := range e {
					r.out[row(i)*e+y] += score * v[row(j)*e+y]
					r.dv[row(j)*e+y] += score * dout[row(i)*e+y]
				}
			}
		}
		for x := range d {
			for y := range e {
				at := (g*d+x)*e + y
				for i := range c.t {
					w, a := left(i, -1, x), q[row(i)*d+x]
					r.out[row(i)*e+y] += w * a * state[at]
					r.dq[row(i)*d+x] += w * state[at] * dout[row(i)*e+y]
					r.dstate[at] += w * a * dout[row(i)*e+y]
					slope(i, x, w*a*state[at]*dout[row(i)*e+y])
				}
				for j := range c.t {
					w, b, z := left(c.t-1, j, x), k[row(j)*d+x], v[row(j)*e+y]
					r.end[at] += w * b * z
					r.dk[row(j)*d+x] += w * z * dend[at]
					r.dv[row(j)*e+y] += w * b * dend[at]
					slope(c.t-1, x, w*b*z*dend[at])
					slope(j, x, -w*b*z*dend[at])
				}
				w := left(c.t-1, -1, x)
				r.end[at] += w * state[at]
				r.dstate[at] += w * dend[at]
				slope(c.t-1, x, w*state[at]*dend[at])
			}
		}
	}
	return r
}

func (c *linearCase) check(t *testing.T, dev *gpu.Device, dt gpu.DType) {
	t.Helper()
	make64 := func(seed uint64, shape ...int) (*gpu.Tensor, []float64) {
		return linearInput(t, dev, dt, seed, shape...)
	}
	q, qv := make64(1, c.b, c.t, c.h, c.d)
	k, kv := make64(2, c.b, c.t, c.h, c.d)
	v, vv := make64(3, c.b, c.t, c.h, c.e)
	dout, dov := make64(4, c.b, c.t, c.h, c.e)
	dend, dev64 := make64(5, c.b, c.h, c.d, c.e)
	in := ops.LinearAttentionInput{Q: q, K: k, V: v, Chunk: c.chunk}
	decayOf := func(shape ...int) []float64 {
		x, g := make64(6, shape...)
		for i := range g {
			g[i] = -c.strength * math.Abs(g[i])
		}
		low := make([]float32, len(g))
		for i := range g {
			low[i] = float32(g[i])
			g[i] = float64(low[i])
		}
		in.Decay = x.Device().FromAs(dt, low, shape...)
		return g
	}
	var decay []float64
	switch c.decay {
	case "head":
		decay = decayOf(c.b, c.t, c.h)
	case "column":
		decay = decayOf(c.b, c.t, c.h, c.d)
	}
	state := make([]float64, c.b*c.h*c.d*c.e)
	if c.state {
		in.State, state = make64(7, c.b, c.h, c.d, c.e)
	}
	want := c.define(qv, kv, vv, decay, state, dov, dev64)

	// NaN is what nobody wrote.
	out, end := dev.New(dt, c.b, c.t, c.h, c.e), dev.New(dt, c.b, c.h, c.d, c.e)
	starts, backs := dev.New(dt, c.b, c.h, in.Chunks(), c.d, c.e), dev.New(dt, c.b, c.h, in.Chunks(), c.d, c.e)
	ops.LinearAttention(out, end, starts, in)
	g := ops.LinearAttentionGrads{Q: q.Like(), K: k.Like(), V: v.Like(), State: end.Like(), Slope: q.Like()}
	ops.LinearAttentionBackward(g, dout, dend, end, starts, backs, in)
	terms := float64(c.t + c.d + c.e)
	if c.decay != "" { // the sums of a chunk's logarithms
		terms += 3 * c.strength * 32
	}
	near := func(name string, x *gpu.Tensor, want []float64) {
		t.Helper()
		biggest := 0.1
		for _, v := range want {
			biggest = max(biggest, math.Abs(v))
		}
		for i, got := range read64(t, x) {
			isNear(t, fmt.Sprintf("%v %+v: element %d of %s", dt, *c, i, name), got, want[i], 2*linearUnit(dt)*terms*biggest)
		}
	}
	near("the result", out, want.out)
	near("the last state", end, want.end)
	near("the gradient by Q", g.Q, want.dq)
	near("the gradient by K", g.K, want.dk)
	near("the gradient by V", g.V, want.dv)
	near("the gradient by the state", g.State, want.dstate)
	near("the slope", g.Slope, want.slope)

	// One gradient alone is the same bits, and without that by the result or by the last state it is theirs.
	only := v.Like()
	ops.LinearAttentionBackward(ops.LinearAttentionGrads{V: only}, dout, dend, nil, starts, backs, in)
	if !slices.Equal(read64(t, only), read64(t, g.V)) {
		t.Fatalf("%v %+v: the gradient by V alone is another", dt, *c)
	}
	zeros := func(v []float64) []float64 { return make([]float64, len(v)) }
	ops.LinearAttentionBackward(g, nil, dend, end, starts, backs, in)
	want = c.define(qv, kv, vv, decay, state, zeros(dov), dev64)
	near("the gradient by Q of the last state", g.Q, want.dq)
	near("the gradient by K of the last state", g.K, want.dk)
	near("the slope of the last state", g.Slope, want.slope)
	ops.LinearAttentionBackward(g, dout, nil, nil, starts, backs, in)
	want = c.define(qv, kv, vv, decay, state, dov, zeros(dev64))
	near("the gradient by V of the result", g.V, want.dv)
	near("the gradient by the state of the result", g.State, want.dstate)
	near("the slope of the result", g.Slope, want.slope)
}

func TestLinearAttentionOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, c := range linearCases {
				c.check(t, dev, dt)
			}
		}
	})
}

// Chunks change rounding alone, and a sequence in two parts is the whole.
func TestLinearAttentionInParts(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const tokens, h, d, e = 50, 2, 6, 5
		dt := gpu.Float64
		of := func(seed uint64, n int) []float32 { return oracle.Normal(seed, tokens*h*n) }
		decay := of(4, d)
		for i := range decay {
			decay[i] = -0.2 * decay[i] * decay[i]
		}
		run := func(chunk, from, to int, state *gpu.Tensor) (*gpu.Tensor, *gpu.Tensor) {
			cut := func(v []float32, n int) *gpu.Tensor { return dev.FromAs(dt, v[from*h*n:to*h*n], 1, to-from, h, n) }
			in := ops.LinearAttentionInput{Q: cut(of(1, d), d), K: cut(of(2, d), d), V: cut(of(3, e), e), Decay: cut(decay, d), State: state, Chunk: chunk}
			out, end := dev.New(dt, 1, to-from, h, e), dev.New(dt, 1, h, d, e)
			ops.LinearAttention(out, end, dev.New(dt, 1, h, in.Chunks(), d, e), in)
			return out, end
		}
		whole, last := run(0, 0, tokens, nil)
		want := slices.Concat(read64(t, whole), read64(t, last))
		for _, chunk := range []int{1, 2, 7, 16, 32} {
			for _, cut := range []int{0, 1, 23, 49, tokens} {
				first, state := run(chunk, 0, cut, nil)
				second, end := run(chunk, cut, tokens, state)
				got := slices.Concat(read64(t, first), read64(t, second), read64(t, end))
				oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return want[i] })
			}
		}
	})
}

func TestLinearAttentionMisuse(t *testing.T) {
	e := func(shape ...int) *gpu.Tensor { return gpu.CPU().Empty(shape...) }
	in := func(change func(in *ops.LinearAttentionInput)) func() {
		return func() {
			in := ops.LinearAttentionInput{Q: e(1, 5, 2, 3), K: e(1, 5, 2, 3), V: e(1, 5, 2, 4)}
			change(&in)
			ops.LinearAttention(e(1, 5, 2, 4), e(1, 2, 3, 4), e(1, 2, 1, 3, 4), in)
		}
	}
	oracle.Refuses(t, map[string]func(){
		"queries [5 2 3] and values":                                 in(func(in *ops.LinearAttentionInput) { in.Q = e(5, 2, 3) }),
		"K has shape [1 4 2 3], want [1 5 2 3]":                      in(func(in *ops.LinearAttentionInput) { in.K = e(1, 4, 2, 3) }),
		"V has shape [1 5 1 4], want [1 5 2 4]":                      in(func(in *ops.LinearAttentionInput) { in.V = e(1, 5, 1, 4) }),
		"Decay has shape [1 5], want [1 5 2]":                        in(func(in *ops.LinearAttentionInput) { in.Decay = e(1, 5) }),
		"Decay has shape [1 5 2 4], want [1 5 2 3]":                  in(func(in *ops.LinearAttentionInput) { in.Decay = e(1, 5, 2, 4) }),
		"State has shape [2 3 4], want [1 2 3 4]":                    in(func(in *ops.LinearAttentionInput) { in.State = e(2, 3, 4) }),
		"chunks of 33 tokens, want 1 to 32":                          in(func(in *ops.LinearAttentionInput) { in.Chunk = 33 }),
		"a tensor of states has shape [1 2 1 3 4], want [1 2 3 3 4]": in(func(in *ops.LinearAttentionInput) { in.Chunk = 2 }),
		"want 1 to 128 columns":                                      in(func(in *ops.LinearAttentionInput) { in.Q, in.K = e(1, 5, 2, 129), e(1, 5, 2, 129) }),
		"without that state": func() {
			in := ops.LinearAttentionInput{Q: e(1, 5, 2, 3), K: e(1, 5, 2, 3), V: e(1, 5, 2, 4)}
			ops.LinearAttentionBackward(ops.LinearAttentionGrads{Slope: e(1, 5, 2, 3)}, nil, e(1, 2, 3, 4), nil, e(1, 2, 1, 3, 4), e(1, 2, 1, 3, 4), in)
		},
	})
}
