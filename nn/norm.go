package nn

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// normNode is what a normalisation keeps: which of its node's operands are what.
type normNode struct {
	rms    bool
	groups int  // 0: rows of the last axis
	last   bool // groups of channels that are the last axis
	silu   bool // SiLU follows; only with last
	eps    float64
	w, b   *Var
	scale  *Var
	shift  *Var
}

func value(v *Var) *gpu.Tensor {
	if v == nil {
		return nil
	}
	return v.val
}

func (p *normNode) rows() ops.NormConfig {
	return ops.NormConfig{RMS: p.rms, Eps: p.eps, Weight: value(p.w), Bias: value(p.b), Scale: value(p.scale), Shift: value(p.shift)}
}

func (p *normNode) group() ops.GroupNormConfig {
	return ops.GroupNormConfig{Groups: p.groups, Eps: p.eps, Weight: value(p.w), Bias: value(p.b), Scale: value(p.scale), Shift: value(p.shift)}
}

func normalise(x *Var, p normNode) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	n := 1
	if p.groups > 0 {
		n = x.Shape()[0] * p.groups
	} else if s := x.Shape(); len(s) > 0 && s[len(s)-1] > 0 {
		n = x.val.Len() / s[len(s)-1]
	}
	mean, inv := t.empty(n), t.empty(n)
	switch {
	case p.groups > 0 && p.last:
		ops.GroupNormLast(val, mean, inv, x.val, p.silu, p.group())
	case p.groups > 0:
		ops.GroupNorm(val, mean, inv, x.val, p.group())
	default:
		ops.Norm(val, mean, inv, x.val, p.rows())
	}
	// A node has room for four operands: of each pair the one that may need a gradient stands for both.
	y, node := t.result(val, normBack, x, first(p.w, p.b), first(p.scale, p.shift), nil)
	if node != nil {
		node.ahead = normAhead
		node.norm, node.save[0], node.save[1] = p, mean, inv
		start := len(t.lists)
		for _, v := range [...]*Var{p.w, p.b, p.scale, p.shift} {
			if v != nil {
				t.lists = append(t.lists, v)
			}
		}
		node.more = t.lists[start:len(t.lists):len(t.lists)]
	}
	return y
}

// first is the one of two that a gradient is wanted for, else one that is there.
func first(a, b *Var) *Var {
	if a == nil || b != nil && b.needs {
		return b
	}
	return a
}

// backward is the gradient by x, given dy, and those of g's parts, with what n saved.
func (p *normNode) backward(dx *gpu.Tensor, acc bool, g ops.NormGrads, dy, x *gpu.Tensor, n *node) {
	mean, inv := n.save[0], n.save[1]
	switch {
	case p.groups > 0 && p.last:
		ops.GroupNormLastBackward(dx, acc, g, dy, x, mean, inv, p.silu, p.group())
	case p.groups > 0:
		ops.GroupNormBackward(dx, acc, g, dy, x, mean, inv, p.group())
	default:
		ops.NormBackward(dx, acc, g, dy, x, mean, inv, p.rows())
	}
}

func normBack(t *Tape, n *node) {
	p := &n.norm
	var g ops.NormGrads
	for _, part := range [...]struct {
		to *(*gpu.Tensor)
		v  *Var
	}{{&g.Weight, p.w}, {&g.Bias, p.b}, {&g.Scale, p.scale}, {&g.Shift, p.shift}} {
		if to, acc := t.into(part.v); to != nil {
			if !acc {
				ops.Fill(to, 0)
			}
			*part.to = to
		}
	}
	x := n.in[0]
	to, acc := t.into(x)
	var spare *gpu.Tensor
	if to == nil { // only the parts' gradients are wanted
		spare = t.empty(x.Shape()...)
		to, acc = spare, false
	}
	p.backward(to, acc, g, n.out.grad, x.val, n)
	if spare != nil {
		t.arena.Free(spare)
	}
}
