package arflow

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
)

// sizes of a problem: sequences, pictures, tokens of each, heads, width.
type sizesOf struct{ b, n, l, h, d int }

func (s sizesOf) tokens() int { return s.b * s.n * s.l * s.h }

// problem is operands of hybrid attention.
type problem struct {
	sizesOf
	q, k, v, g, state []float64 // [B, T, H, D], of g [B, T, H], of the state [B, H, D, D]
}

func wide(v []float32, f func(float64) float64) []float64 {
	out := make([]float64, len(v))
	for i, e := range v {
		out[i] = float64(float32(f(float64(e))))
	}
	return out
}

func same(v float64) float64 { return v }

// newProblem draws one; gates are logarithms between -1 and 0.
func newProblem(s sizesOf, seed uint64) *problem {
	return &problem{
		sizesOf: s, q: wide(oracle.Normal(seed, s.tokens()*s.d), same), k: wide(oracle.Normal(seed+1, s.tokens()*s.d), same), v: wide(oracle.Normal(seed+2, s.tokens()*s.d), same),
		g:     wide(oracle.Normal(seed+3, s.tokens()), func(v float64) float64 { return -1 / (1 + math.Exp(v)) }),
		state: wide(oracle.Normal(seed+4, s.b*s.h*s.d*s.d), same),
	}
}

// faults are ways to get it wrong.
type faults struct {
	causal bool // softmax attention sees no later token of the picture
	own    bool // the state has the picture's own tokens
	bare   bool // keys are not divided by the root of the width
	early  bool // the state is decayed before it is read, as tokens of a causal order do
}

// naive is the definition, token by token, with the state that is left.
func (p *problem) naive(gate Gate, state bool, f faults) (out, next []float64) {
	out, next = make([]float64, len(p.q)), make([]float64, p.b*p.h*p.d*p.d)
	at := func(x []float64, b, t, h int) []float64 { return x[((b*p.n*p.l+t)*p.h+h)*p.d:][:p.d] }
	scale := 1 / math.Sqrt(float64(p.d))
	if f.bare {
		scale = 1
	}
	for b := range p.b {
		for h := range p.h {
			s := next[(b*p.h+h)*p.d*p.d:][:p.d*p.d]
			if state {
				copy(s, p.state[(b*p.h+h)*p.d*p.d:])
			}
			for n := range p.n {
				first := n * p.l
				mean := 0.0
				for t := range p.l {
					mean += p.g[(b*p.n*p.l+first+t)*p.h+h] / float64(p.l)
				}
				if gate == NoGate {
					mean = 0
				}
				take := func() {
					for i := range s {
						s[i] *= math.Exp(mean)
					}
					for t := range p.l {
						k, v := at(p.k, b, first+t, h), at(p.v, b, first+t, h)
						for i := range p.d {
							for j := range p.d {
								s[i*p.d+j] += k[i] * scale * v[j]
							}
						}
					}
				}
				if f.own {
					take()
				}
				if f.early {
					for i := range s {
						s[i] *= math.Exp(mean)
					}
				}
				sum := 0.0
				for t := range p.l {
					q, o := at(p.q, b, first+t, h), at(out, b, first+t, h)
					sum += p.g[(b*p.n*p.l+first+t)*p.h+h]
					see := map[Gate]float64{Cumulative: sum, MeanGate: mean, NoGate: 0}[gate]
					seen := p.l
					if f.causal {
						seen = t + 1
					}
					w, total := make([]float64, seen), 0.0
					for u := range seen {
						k := at(p.k, b, first+u, h)
						for i := range p.d {
							w[u] += q[i] * k[i] * scale
						}
						w[u] = math.Exp(w[u])
						total += w[u]
					}
					for u := range seen {
						for j, e := range at(p.v, b, first+u, h) {
							o[j] += w[u] / total * e
						}
					}
					for i := range p.d {
						for j := range p.d {
							o[j] += q[i] * math.Exp(see) * s[i*p.d+j]
						}
					}
				}
				if !f.own {
					take()
				}
			}
		}
	}
	return out, next
}

// tensors are the operands on a device.
func (p *problem) tensors(dev *gpu.Device, dt gpu.DType) []*gpu.Tensor {
	put := func(v []float64, shape ...int) *gpu.Tensor {
		f := make([]float32, len(v))
		for i, e := range v {
			f[i] = float32(e)
		}
		if dt == gpu.Float64 { // also what float32 does not have
			return dev.From64(v, shape...)
		}
		return dev.FromAs(dt, f, shape...)
	}
	t := p.n * p.l
	return []*gpu.Tensor{put(p.q, p.b, t, p.h, p.d), put(p.k, p.b, t, p.h, p.d), put(p.v, p.b, t, p.h, p.d), put(p.g, p.b, t, p.h), put(p.state, p.b, p.h, p.d, p.d)}
}

// hybrid is what Hybrid makes of a problem, in chunks of l tokens.
func (p *problem) hybrid(dev *gpu.Device, dt gpu.DType, gate Gate, state bool, l int) (out, next []float64) {
	tape := nn.NewTape(dev, dt)
	tape.Run(func() {
		var x []*nn.Var
		for _, t := range p.tensors(dev, dt) {
			x = append(x, tape.Input(t))
		}
		past := Past{Gates: x[3], Gate: gate, Chunk: l, Keep: true}
		if state {
			past.State = x[4]
		}
		y, s := Hybrid(x[0], x[1], x[2], past)
		out, next = make([]float64, y.Value().Len()), make([]float64, s.Value().Len())
		if err := y.Value().Read64(out); err != nil {
			panic(err)
		}
		if err := s.Value().Read64(next); err != nil {
			panic(err)
		}
	})
	return out, next
}

func apart(a, b []float64) (most float64) {
	for i := range a {
		most = max(most, math.Abs(a[i]-b[i])/(1+math.Abs(b[i])))
	}
	return most
}

// The form in chunks is the recurrence: 1e-12 in float64, 1e-5 in float32, on every device, for every gate, with a state and without.
func TestHybridIsTheRecurrence(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, s := range []sizesOf{{2, 5, 4, 3, 8}, {1, 1, 16, 2, 16}, {3, 2, 1, 1, 5}, {1, 7, 3, 2, 33}, {2, 3, 49, 1, 4}} {
			p := newProblem(s, 3)
			for _, gate := range Gates {
				for _, state := range []bool{false, true} {
					want, left := p.naive(gate, state, faults{})
					for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-5, gpu.Float64: 1e-12} {
						out, next := p.hybrid(dev, dt, gate, state, s.l)
						if e, f := apart(out, want), apart(next, left); e > tol || f > tol {
							t.Errorf("%+v, gate %q, state %t, %v: %g and %g from the recurrence, want %g", s, gate, state, dt, e, f, tol)
						}
					}
				}
			}
		}
	})
}

// Pictures in one sequence are the same as one after the other with the state between them.
func TestHybridGoesOn(t *testing.T) {
	all := newProblem(sizesOf{2, 6, 4, 2, 8}, 9)
	for _, gate := range Gates {
		want, left := all.hybrid(gpu.CPU(), gpu.Float64, gate, true, 4)
		state := all.state
		var last []float64
		for first := 0; first < 6; first += 2 {
			part := &problem{sizesOf: sizesOf{2, 2, 4, 2, 8}, state: state}
			cut := func(x []float64, width int) (out []float64) {
				for b := range 2 {
					out = append(out, x[(b*24+first*4)*width:][:8*width]...)
				}
				return out
			}
			part.q, part.k, part.v, part.g = cut(all.q, 16), cut(all.k, 16), cut(all.v, 16), cut(all.g, 2)
			var out []float64
			out, state = part.hybrid(gpu.CPU(), gpu.Float64, gate, true, 4)
			last = state
			if e := apart(out, cut(want, 16)); e > 1e-12 {
				t.Errorf("gate %q, pictures from %d on: %g apart", gate, first, e)
			}
		}
		if e := apart(last, left); e > 1e-12 {
			t.Errorf("gate %q: last states %g apart", gate, e)
		}
	}
}

// With pictures of one token the method is causal linear attention but for the token itself, which softmax attention sees:
// ops.LinearAttention is its S_n q of tokens up to its own.
func TestSingleTokensAreLinearAttention(t *testing.T) {
	p := newProblem(sizesOf{2, 9, 1, 2, 8}, 21)
	out, next := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, true, 1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x := p.tensors(gpu.CPU(), gpu.Float64)
		k := tape.Input(x[1]).Scale(1 / math.Sqrt(8))
		y, s := nn.LinearAttention(tape.Input(x[0]), k, tape.Input(x[2]), nn.LinearMemory{Decay: tape.Input(x[3]), State: tape.Input(x[4])})
		own := tape.Input(x[0]).Mul(k).Sum(3).Reshape(2, 9, 2, 1).Mul(tape.Input(x[2]))
		want := y.Sub(own).Add(tape.Input(x[2]))
		if e := apart(out, want.Value().F64()); e > 1e-12 {
			t.Errorf("%g apart", e)
		}
		if e := apart(next, s.Value().F64()); e > 1e-12 {
			t.Errorf("states %g apart", e)
		}
	})
}

// Every fault is further from the method than rounding is, so the tests above would tell.
func TestFaultsAreSeen(t *testing.T) {
	p := newProblem(sizesOf{2, 3, 4, 2, 8}, 5)
	out, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, true, 4)
	for _, f := range []faults{{causal: true}, {own: true}, {bare: true}, {early: true}} {
		if bad, _ := p.naive(Cumulative, true, f); apart(out, bad) < 1e-2 {
			t.Errorf("%+v is %g from the method", f, apart(out, bad))
		}
	}
	for _, l := range []int{1, 2, 12} { // chunks that are no picture
		if bad, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, true, l); apart(out, bad) < 1e-2 {
			t.Errorf("chunks of %d tokens are %g from pictures of 4", l, apart(out, bad))
		}
	}
}

// A picture changes: those before it do not, bit by bit, those after it do; of its own result only softmax attention's part does, for
// keys and values are not in the state that it reads.
func TestNoPictureLeaks(t *testing.T) {
	s := sizesOf{1, 4, 4, 2, 8}
	p := newProblem(s, 7)
	const changed = 2
	row := s.l * s.h * s.d
	before, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, false, s.l)
	inner := func(p *problem) []float64 { // of the changed picture alone
		one := &problem{sizesOf: sizesOf{1, 1, s.l, s.h, s.d}, state: p.state}
		cut := func(x []float64, n int) []float64 { return x[changed*n:][:n] }
		one.q, one.k, one.v, one.g = cut(p.q, row), cut(p.k, row), cut(p.v, row), cut(p.g, s.l*s.h)
		out, _ := one.hybrid(gpu.CPU(), gpu.Float64, Cumulative, false, s.l)
		return out
	}
	innerBefore := inner(p)
	for i := range row {
		p.k[changed*row+i] += 0.5
		p.v[changed*row+i] -= 0.7
	}
	after, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, false, s.l)
	innerAfter := inner(p)
	for n := range s.n {
		a, b := before[n*row:][:row], after[n*row:][:row]
		switch {
		case n < changed && apart(a, b) != 0:
			t.Errorf("picture %d sees picture %d", n, changed)
		case n > changed && apart(a, b) < 1e-3:
			t.Errorf("picture %d does not see picture %d", n, changed)
		case n == changed:
			cross := func(out, in []float64) []float64 {
				d := make([]float64, row)
				for i := range d {
					d[i] = out[i] - in[i]
				}
				return d
			}
			if e := apart(cross(a, innerBefore), cross(b, innerAfter)); e > 1e-12 {
				t.Errorf("the state that picture %d reads has its own tokens: %g", n, e)
			}
			if apart(innerBefore, innerAfter) < 1e-3 {
				t.Error("softmax attention does not see the picture")
			}
		}
	}
	// Both ways within a picture: the first token sees the last one.
	out, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, false, s.l)
	for i := range s.h * s.d {
		p.v[3*s.h*s.d+i] += 1
	}
	if now, _ := p.hybrid(gpu.CPU(), gpu.Float64, Cumulative, false, s.l); apart(out[:s.h*s.d], now[:s.h*s.d]) < 1e-3 {
		t.Error("the first token of a picture does not see its last one")
	}
}

// Gradients by every operand, also through the state that is left, are the differences of the result.
func TestHybridGradients(t *testing.T) {
	for _, gate := range Gates {
		p := newProblem(sizesOf{2, 3, 2, 2, 3}, 11)
		weights := wide(oracle.Normal(99, p.tokens()*p.d+len(p.state)), same)
		value := func() (v float64) {
			out, next := p.hybrid(gpu.CPU(), gpu.Float64, gate, true, p.l)
			for i, e := range append(out, next...) {
				v += e * weights[i]
			}
			return v
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		var grads []*gpu.Tensor
		tape.Run(func() {
			var x []*nn.Var
			for _, v := range p.tensors(gpu.CPU(), gpu.Float64) {
				x = append(x, tape.Leaf(v))
			}
			y, s := Hybrid(x[0], x[1], x[2], Past{Gates: x[3], Gate: gate, Chunk: p.l, State: x[4], Keep: true})
			n := y.Value().Len()
			w := func(v []float64, shape []int) *nn.Var { return tape.Input(gpu.CPU().From64(v, shape...)) }
			loss := y.Mul(w(weights[:n], y.Shape())).Sum().Add(s.Mul(w(weights[n:], s.Shape())).Sum())
			wrt := x
			if gate == NoGate {
				wrt = []*nn.Var{x[0], x[1], x[2], x[4]}
			}
			for _, g := range tape.Grad(loss, wrt...) {
				grads = append(grads, g.To(gpu.CPU()))
			}
			ops := [][]float64{p.q, p.k, p.v, p.g, p.state}
			if gate == NoGate {
				ops = [][]float64{p.q, p.k, p.v, p.state}
			}
			for i, op := range ops {
				g := grads[i].F64()
				for j := range op {
					const step = 1e-5
					was := op[j]
					op[j] = was + step
					hi := value()
					op[j] = was - step
					lo := value()
					op[j] = was
					if want := (hi - lo) / (2 * step); math.Abs(g[j]-want) > 1e-7*(1+math.Abs(want)) {
						t.Fatalf("gate %q: gradient %d of operand %d is %g, differences say %g", gate, j, i, g[j], want)
					}
				}
			}
		})
	}
}

func TestHybridRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, g := tape.Const(0, 1, 6, 2, 4), tape.Const(0, 1, 6, 2)
	bad := map[string]func(){}
	for i, p := range []Past{{Gates: g, Chunk: 4}, {Gates: g}, {Chunk: 3}, {Gates: g, Chunk: 3, Gate: "loud"}, {Gates: tape.Const(0, 1, 6), Chunk: 3}} {
		bad[fmt.Sprintf("in chunks of %d tokens, gate %q", p.Chunk, p.Gate)] = func() { Hybrid(x, x, x, p) }
		_ = i
	}
	bad["want [B, T, heads, D]"] = func() { Hybrid(x, tape.Const(0, 1, 6, 2, 3), x, Past{Gates: g, Chunk: 3}) }
	oracle.Refuses(t, bad)
}
