package tower

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// GRU is a gated recurrent unit (Cho et al. 2014, arXiv 1406.1078) of one layer or several, in
// one direction or both, as torch has it:
//
//	r, z = σ(W_i·x + b_i + W_h·h + b_h), n = tanh(W_i·x + b_i + r·(W_h·h + b_h)), h' = (1-z)·n + z·h
//
// with W and b of each cut in three, in the order r, z, n. Names of parameters are those of
// torch.nn.GRU.
type GRU struct {
	In, Hidden int
	layers     [][]gruCell // by layer and direction
	parts      sync.Pool   // of *[]*nn.Var, the states of one layer
}

type gruCell struct {
	in, state *nn.Linear
	back      bool
}

// NewGRU registers layers in s.
func NewGRU(s nn.Scope, in, hidden, layers int, bidirectional bool) *GRU {
	if in < 1 || hidden < 1 || layers < 1 {
		panic(fmt.Sprintf("tower: NewGRU: %d inputs, %d hidden, %d layers, want at least 1 of each", in, hidden, layers))
	}
	m := &GRU{In: in, Hidden: hidden}
	m.parts.New = func() any { return new([]*nn.Var) }
	limit := 1 / math.Sqrt(float64(hidden))
	suffixes := []string{"", "_reverse"}
	if !bidirectional {
		suffixes = suffixes[:1]
	}
	for i := range layers {
		var cells []gruCell
		for _, suffix := range suffixes {
			start := func(name string, shape ...int) *nn.Param {
				return s.Param(fmt.Sprintf("%s_l%d%s", name, i, suffix), nn.Uniform(limit), shape...)
			}
			c := gruCell{back: suffix != ""}
			c.in = &nn.Linear{W: start("weight_ih", 3*hidden, in)}
			c.state = &nn.Linear{W: start("weight_hh", 3*hidden, hidden)}
			c.in.B, c.state.B = start("bias_ih", 3*hidden), start("bias_hh", 3*hidden)
			cells = append(cells, c)
		}
		m.layers = append(m.layers, cells)
		in = hidden * len(cells)
	}
	return m
}

// Forward is the last layer's states of sequences x [B, L, In], [B, L, n·Hidden] with n
// directions side by side, and its last state of each direction, [B, n·Hidden]. lens is nil or
// Int32 [B]: what is from lens[b] on is padding, whose states are 0, and which no state depends
// on.
func (m *GRU) Forward(x *nn.Var, lens *gpu.Tensor) (states, last *nn.Var) {
	s := x.Shape()
	if len(s) != 3 || s[2] != m.In || s[1] < 1 {
		panic(fmt.Sprintf("tower: GRU: sequences of shape %v, want [B, at least 1, %d]", s, m.In))
	}
	if lens != nil && lens.Len() != s[0] {
		panic(fmt.Sprintf("tower: GRU: %d lengths for sequences of shape %v", lens.Len(), s))
	}
	keep := present(x.Tape(), lens, s[0], s[1])
	for _, cells := range m.layers {
		states, last = m.run(x, keep, &cells[0])
		if len(cells) == 2 {
			back, first := m.run(x, keep, &cells[1])
			states, last = nn.Concat(2, states, back), nn.Concat(1, last, first)
		}
		x = states
	}
	return states, last
}

// present is 1 where there is a sequence's element and 0 in its padding, [B, L, 1]; nil without
// lengths.
func present(t *nn.Tape, lens *gpu.Tensor, b, l int) *nn.Var {
	if lens == nil {
		return nil
	}
	x := host(t, gpu.Uint8, b, l, 1)
	for i := range x.U8() {
		x.U8()[i] = 0
		if i%l >= int(lens.I32()[i/l]) {
			x.U8()[i] = 1
		}
	}
	return t.Const(1, b, l, 1).MaskedFill(x, 0)
}

// run is one direction of one layer.
func (m *GRU) run(x, keep *nn.Var, c *gruCell) (states, last *nn.Var) {
	t, b, l, w := x.Tape(), x.Shape()[0], x.Shape()[1], m.Hidden
	in := c.in.Forward(x)
	h := t.Const(0, b, w)
	list := m.parts.Get().(*[]*nn.Var)
	defer m.parts.Put(list)
	if cap(*list) < l {
		*list = make([]*nn.Var, l)
	}
	parts := (*list)[:l]
	defer clear(parts)
	for k := range l {
		i := k
		if c.back {
			i = l - 1 - k
		}
		a, g := in.Slice(1, i, 1).Reshape(b, 3*w), c.state.Forward(h)
		gates := a.Slice(1, 0, 2*w).Add(g.Slice(1, 0, 2*w)).Sigmoid()
		r, z := gates.Slice(1, 0, w), gates.Slice(1, w, w)
		n := a.Slice(1, 2*w, w).AddMul(r, g.Slice(1, 2*w, w)).Tanh()
		next := n.AddMul(z, h.Sub(n))
		if keep != nil { // padding changes nothing
			there := keep.Slice(1, i, 1).Reshape(b, 1)
			next = h.AddMul(there, next.Sub(h))
			parts[i] = next.Mul(there).Reshape(b, 1, w)
		} else {
			parts[i] = next.Reshape(b, 1, w)
		}
		h = next
	}
	return nn.Concat(1, parts...), h
}
