package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Conv2D is a correlation of pictures [N, C, H, W] with kernels W, plus B for each channel.
type Conv2D struct {
	W, B   *Param // [out, in/groups, k, k] and [out]; B may be nil
	Config ops.ConvConfig
}

// NewConv2D registers kernels of k×k and a bias in s. Its result has the pictures' size for
// an odd k, unless Config is changed.
func NewConv2D(s Scope, in, out, k int) *Conv2D {
	return &Conv2D{
		W: s.Param("weight", FanIn, out, in, k, k).of(ConvLayer), B: s.Param("bias", Uniform(invRoot(in*k*k)), out),
		Config: ops.Same(k),
	}
}

// NewGroupConv2D is NewConv2D with channels in groups, each of which sees its own alone; as many
// groups as there are channels are a depthwise convolution.
func NewGroupConv2D(s Scope, in, out, k, groups int) *Conv2D {
	if groups < 1 || in%groups != 0 || out%groups != 0 {
		panic(fmt.Sprintf("nn: NewGroupConv2D: %s: %d to %d channels in %d groups, want a divisor", s.prefix, in, out, groups))
	}
	l := NewConv2D(s, in/groups, out, k)
	l.Config.Groups = groups
	return l
}

// Zero makes the layer start with zeros. It returns l, before Init.
func (l *Conv2D) Zero() *Conv2D {
	l.W.Start = Zeros
	if l.B != nil {
		l.B.Start = Zeros
	}
	return l
}

// Forward is the layer's result.
func (l *Conv2D) Forward(x *Var) *Var {
	t := x.tape
	y := convolve(x, t.Use(l.W), t.maybe(l.B), l.Config)
	if len(l.W.adapters) > 0 {
		y = l.W.adapted(x, y, ops.Identity)
	}
	return y
}

func convolve(x, w, b *Var, cfg ops.ConvConfig) *Var {
	t := x.tape
	xs, ws := x.Shape(), w.Shape()
	if len(xs) != 4 || len(ws) != 4 {
		panic(fmt.Sprintf("nn: Conv2D: pictures %v and kernels %v, want [N, C, H, W] and [O, C, KH, KW]", xs, ws))
	}
	at := 2 // of the height
	if cfg.Last {
		at = 1
	}
	oh, ow := cfg.OutSize(xs[at], xs[at+1], ws[2], ws[3])
	if oh < 1 || ow < 1 {
		panic(fmt.Sprintf("nn: Conv2D: pictures %v are smaller than kernels %v with padding %v", xs, ws, cfg.Pad))
	}
	var val *gpu.Tensor
	if cfg.Last {
		val = t.empty(xs[0], oh, ow, ws[0])
	} else {
		val = t.empty(xs[0], ws[0], oh, ow)
	}
	cfg.BF16 = t.bf16
	xv, wv := t.convOperands(&cfg, x.val, w)
	ops.Conv2D(val, xv, wv, value(b), cfg)
	t.give(xv, x.val)
	cfg.BF16 = t.bf16
	y, n := t.result(val, convBack, x, w, b, nil)
	if n != nil {
		n.ahead, n.conv = convAhead, cfg
	}
	return y
}

// convOperands are what a convolution of pictures, or of the gradient by its result, multiplies. There is no operation that rounds the
// channels of groups: their operands are rounded here, and cfg then is of Full precision.
func (t *Tape) convOperands(cfg *ops.ConvConfig, x *gpu.Tensor, w *Var) (xv, wv *gpu.Tensor) {
	if !cfg.BF16 {
		return x, w.val
	}
	wv, cfg.KnownW = t.weight(w)
	if cfg.Groups > 1 {
		if !cfg.KnownW {
			wv = t.rounded(wv)
		}
		cfg.BF16, cfg.KnownW = false, false
		return t.rounded(x), wv
	}
	return x, wv
}

// give gives back a rounded tensor that was made in place of x.
func (t *Tape) give(made, x *gpu.Tensor) {
	if made != x {
		t.arena.Free(made)
	}
}

func convBack(t *Tape, n *node) {
	x, w, b, g := n.in[0], n.in[1], n.in[2], n.out.grad
	if to, acc := t.into(w); to != nil {
		if !acc {
			ops.Fill(to, 0)
		}
		gv, xv, cfg := g, x.val, n.conv
		if cfg.BF16 && cfg.Groups > 1 {
			gv, xv, cfg.BF16 = t.rounded(g), t.rounded(x.val), false
		}
		ops.Conv2DBackwardWeight(to, gv, xv, cfg)
		t.give(gv, g)
		t.give(xv, x.val)
	}
	if b != nil {
		if to, acc := t.into(b); to != nil {
			if !n.conv.Last {
				to = t.arena.View(to, to.Len(), 1, 1)
			}
			ops.SumTo(to, g, nil, acc)
		}
	}
	if to, acc := t.into(x); to != nil {
		cfg := n.conv
		gv, wv := t.convOperands(&cfg, g, w)
		ops.Conv2DBackwardData(to, gv, wv, cfg, acc)
		t.give(gv, g)
	}
}

// Upsample repeats every pixel of x [N, C, H, W] k times in both directions.
func (x *Var) Upsample(k int) *Var { return x.upsample(k, false) }

// UpsampleLast is Upsample of x [N, H, W, C].
func (x *Var) UpsampleLast(k int) *Var { return x.upsample(k, true) }

func (x *Var) upsample(k int, last bool) *Var {
	t := x.tape
	s := x.pictures("Upsample", k)
	if last {
		s[1], s[2] = s[1]*k, s[2]*k
	} else {
		s[2], s[3] = s[2]*k, s[3]*k
	}
	val := t.empty(s[:]...)
	ops.Upsample(val, x.val, k, last)
	y, n := t.result(val, upsampleBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.n[0], n.n[1] = upsampleAhead, k, number(last)
	}
	return y
}

func upsampleBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.UpsampleBackward(to, n.out.grad, n.n[0], n.n[1] == 1, acc)
	}
}

// AvgPool is the mean over squares of k×k pixels of x [N, C, H, W], which they must fill.
func (x *Var) AvgPool(k int) *Var {
	s := x.pictures("AvgPool", k)
	if s[2]%k != 0 || s[3]%k != 0 {
		panic(fmt.Sprintf("nn: AvgPool: squares of %d do not fill pictures of %d×%d", k, s[2], s[3]))
	}
	return x.Reshape(s[0], s[1], s[2]/k, k, s[3]/k, k).Mean(3, 5).Reshape(s[0], s[1], s[2]/k, s[3]/k)
}

// AvgPoolLast is AvgPool of x [N, H, W, C].
func (x *Var) AvgPoolLast(k int) *Var {
	s := x.pictures("AvgPool", k)
	if s[1]%k != 0 || s[2]%k != 0 {
		panic(fmt.Sprintf("nn: AvgPool: squares of %d do not fill pictures of %d×%d", k, s[1], s[2]))
	}
	return x.Reshape(s[0], s[1]/k, k, s[2]/k, k, s[3]).Mean(2, 4).Reshape(s[0], s[1]/k, s[2]/k, s[3])
}

func (x *Var) pictures(op string, k int) [4]int {
	if s := x.Shape(); len(s) != 4 || k < 1 {
		panic(fmt.Sprintf("nn: %s: shape %v and factor %d, want [N, C, H, W] and a factor >= 1", op, s, k))
	}
	return [4]int(x.Shape())
}

// Dropout is x/(1-p) without the elements that the mask leaves out. A mask is a function of
// its numbers alone: two networks can share one, and it is not stored for the walk back.
func (x *Var) Dropout(m ops.Mask) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Dropout(val, x.val, m, false)
	y, n := t.result(val, dropoutBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.mask = dropoutAhead, m
	}
	return y
}

func dropoutBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.Dropout(to, n.out.grad, n.mask, acc)
	}
}

// Turn turns pairs of elements of x [B, L, H, D] by angles [L, D/2], the rotary embedding of
// places; see ops.Turn. No gradient flows to the angles.
func (x *Var) Turn(angles *gpu.Tensor, halves bool) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Turn(val, x.val, angles, halves, false, false)
	y, n := t.result(val, turnBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.save[0], n.n[0] = turnAhead, angles, number(halves)
	}
	return y
}

func turnBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.Turn(to, n.out.grad, n.save[0], n.n[0] == 1, true, acc)
	}
}
