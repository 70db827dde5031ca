package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Linear is f(x·Wᵀ + B) over the last axis.
type Linear struct {
	W, B *Param   // [out, in], then perhaps axes of size 1, and [out]; B may be nil
	Func ops.Func // the identity at first
}

// NewLinear registers weight and bias in s.
func NewLinear(s Scope, in, out int) *Linear {
	l := NewLinearNoBias(s, in, out)
	l.B = s.Param("bias", Uniform(invRoot(in)), out)
	return l
}

// NewLinearNoBias registers a weight in s.
func NewLinearNoBias(s Scope, in, out int) *Linear {
	return &Linear{W: s.Param("weight", FanIn, out, in).of(LinearLayer)}
}

// NewPointLinear registers a layer in s whose weight has axes of size 1 at its end, [out, in,
// 1] for one: a convolution of single points, applied to tokens. bias says whether it has one.
func NewPointLinear(s Scope, in, out, axes int, bias bool) *Linear {
	if axes < 0 || axes > 2 {
		panic(fmt.Sprintf("nn: NewPointLinear: %s: %d axes of size 1, want 0 to 2", s.prefix, axes))
	}
	shape := [4]int{out, in, 1, 1}
	l := &Linear{W: s.Param("weight", FanIn, shape[:2+axes]...).of(LinearLayer)}
	if bias {
		l.B = s.Param("bias", Uniform(invRoot(in)), out)
	}
	return l
}

// Zero makes the layer start with zeros, so that what it is added to is unchanged at
// first. It returns l, before Init.
func (l *Linear) Zero() *Linear {
	l.W.Start = Zeros
	if l.B != nil {
		l.B.Start = Zeros
	}
	return l
}

// Then makes f follow the layer, in the same pass. It returns l.
func (l *Linear) Then(f ops.Func) *Linear {
	l.Func = f
	return l
}

// Forward is the layer's result.
func (l *Linear) Forward(x *Var) *Var {
	t := x.tape
	w := t.Use(l.W)
	if s := w.Shape(); len(s) > 2 { // of a convolution of single points
		w = w.Reshape(s[0], s[1])
	}
	if len(l.W.adapters) > 0 {
		return l.W.adapted(x, linear(x, w, t.maybe(l.B), ops.Identity), l.Func)
	}
	return linear(x, w, t.maybe(l.B), l.Func)
}

// maybe is Use of a parameter that may be missing.
func (t *Tape) maybe(p *Param) *Var {
	if p == nil {
		return nil
	}
	return t.Use(p)
}

// Embedding is a table of rows that ids choose from.
type Embedding struct{ W *Param } // [count, width]

// NewEmbedding registers a table in s that starts with normals of standard deviation
// 0.02.
func NewEmbedding(s Scope, count, width int) *Embedding {
	return &Embedding{W: s.Param("weight", Normal(0.02), count, width)}
}

// Forward is the rows of ids, Int32 [...] on the CPU, as [..., width].
func (e *Embedding) Forward(t *Tape, ids *gpu.Tensor) *Var { return t.Use(e.W).Rows(ids) }

// Rows is the rows of x, [K, D], that ids name, Int32 [...] on the CPU: [..., D].
func (x *Var) Rows(ids *gpu.Tensor) *Var {
	t := x.tape
	if len(x.Shape()) != 2 {
		panic(fmt.Sprintf("nn: Rows: shape %v, want [rows, width]", x.Shape()))
	}
	t.shape = append(append(t.shape[:0], ids.Shape()...), x.Shape()[1])
	val := t.empty(t.shape...)
	ops.Gather(val, x.val, ids)
	y, n := t.result(val, rowsBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.save[0] = rowsAhead, ids
	}
	return y
}

func rowsBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		if !acc {
			ops.Fill(to, 0)
		}
		ops.ScatterAdd(to, n.out.grad, n.save[0])
	}
}

// Norm normalises rows of the last axis: to mean 0 and variance 1 (LayerNorm: Ba, Kiros
// and Hinton 2016, arXiv 1607.06450), or to mean square 1 (RMSNorm: Zhang and Sennrich
// 2019, arXiv 1910.07467).
type Norm struct {
	W, B *Param // nil where it has none
	RMS  bool
	Eps  float64
}

// NewLayerNorm registers weight and bias in s.
func NewLayerNorm(s Scope, width int) *Norm {
	return &Norm{W: s.Param("weight", Ones, width), B: s.Param("bias", Zeros, width), Eps: 1e-5}
}

// NewRMSNorm registers a weight in s.
func NewRMSNorm(s Scope, width int) *Norm {
	return &Norm{W: s.Param("weight", Ones, width), RMS: true, Eps: 1e-6}
}

// Forward is x normalised.
func (m *Norm) Forward(x *Var) *Var { return m.Modulate(x, nil, nil) }

// Modulate is u·(1 + scale) + shift of the normalised x, u, in one pass. scale and shift
// are [B, D] for x [B, ..., D], either may be nil.
func (m *Norm) Modulate(x, scale, shift *Var) *Var {
	t := x.tape
	return normalise(x, normNode{rms: m.RMS, eps: m.Eps, w: t.maybe(m.W), b: t.maybe(m.B), scale: scale, shift: shift})
}

// GroupNorm normalises groups of channels of [N, C, ...] (Wu and He 2018, arXiv 1803.08494).
type GroupNorm struct {
	W, B   *Param // nil where it has none
	Groups int
	Eps    float64
	Last   bool     // channels are the last axis: [N, ..., C]
	Func   ops.Func // follows; the identity at first. SiLU with Last is the same pass
}

// Then makes f follow the layer. It returns m.
func (m *GroupNorm) Then(f ops.Func) *GroupNorm {
	m.Func = f
	return m
}

// NewGroupNorm registers weight and bias of each channel in s.
func NewGroupNorm(s Scope, groups, channels int) *GroupNorm {
	if groups < 1 || channels%groups != 0 {
		panic(fmt.Sprintf("nn: NewGroupNorm: %s: %d channels in %d groups, want a divisor", s.prefix, channels, groups))
	}
	return &GroupNorm{W: s.Param("weight", Ones, channels), B: s.Param("bias", Zeros, channels), Groups: groups, Eps: 1e-5}
}

// Forward is x normalised.
func (m *GroupNorm) Forward(x *Var) *Var { return m.Modulate(x, nil, nil) }

// Modulate is u·(1 + scale) + shift of the normalised x, u, with scale and shift [N, C], before
// Func.
func (m *GroupNorm) Modulate(x, scale, shift *Var) *Var {
	t := x.tape
	x.mustHave("GroupNorm", 1)
	fused := m.Last && m.Func == ops.SiLU
	y := normalise(x, normNode{groups: m.Groups, last: m.Last, silu: fused, eps: m.Eps, w: t.maybe(m.W), b: t.maybe(m.B), scale: scale, shift: shift})
	if fused || m.Func == ops.Identity {
		return y
	}
	return y.Map(m.Func)
}

// MLP is linear layers with a function between them.
type MLP struct{ Layers []*Linear }

// NewMLP registers layers 0, 1, … in s, from widths[0] inputs to the last width; f follows
// all but the last.
func NewMLP(s Scope, f ops.Func, widths ...int) *MLP {
	m := &MLP{}
	for i := range len(widths) - 1 {
		l := NewLinear(s.At(fmt.Sprint(i)), widths[i], widths[i+1])
		if i < len(widths)-2 {
			l.Then(f)
		}
		m.Layers = append(m.Layers, l)
	}
	if len(m.Layers) == 0 {
		panic("nn: NewMLP: want at least two widths")
	}
	return m
}

// Forward is the network's result.
func (m *MLP) Forward(x *Var) *Var {
	for _, l := range m.Layers {
		x = l.Forward(x)
	}
	return x
}
