package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// ST is hard, with soft's gradient: the straight-through estimator (Bengio, Léonard and
// Courville 2013, arXiv 1308.3432). Both have one shape; nothing flows to hard.
func ST(hard, soft *Var) *Var {
	t := soft.tape
	if hard.tape != t {
		panic("nn: an operation on Vars of two tapes")
	}
	if !slices.Equal(hard.Shape(), soft.Shape()) {
		panic(fmt.Sprintf("nn: ST: shapes %v and %v, want one", hard.Shape(), soft.Shape()))
	}
	y, n := t.result(t.arena.View(hard.val, soft.Shape()...), reshapeBack, soft, nil, nil, nil)
	if n != nil {
		n.ahead = reshapeAhead
	}
	return y
}

// Gumbel says how a choice is drawn in a way that has a gradient: noise is added to logits
// and a softmax or sigmoid at temperature Tau is taken (Jang, Gu and Poole 2017, arXiv
// 1611.01144; Maddison, Mnih and Teh 2017, arXiv 1611.00712). Tau usually falls during the
// training; an LR serves as its schedule.
type Gumbel struct {
	Tau      float64   // > 0
	Hard     bool      // the value is the choice itself, the gradient that of the soft one
	Quiet    bool      // no noise: the likeliest choice
	OneSided bool      // GumbelSigmoid adds one Gumbel, not the difference of two
	Noise    ops.Noise // of row b of the logits [B, ...]: see ops.Gumbels
}

// noisy is (x + noise)/tau.
func (g *Gumbel) noisy(op string, x *Var, logistic bool) *Var {
	if !(g.Tau > 0) {
		panic(fmt.Sprintf("nn: %s: temperature %g, want > 0", op, g.Tau))
	}
	x.mustHave(op, 0)
	if g.Quiet {
		return x.Scale(1 / g.Tau)
	}
	t := x.tape
	z := t.empty(x.Shape()...)
	ops.Gumbels(z, g.Noise, logistic)
	return x.Add(t.newVar(z)).Scale(1 / g.Tau)
}

// GumbelSoftmax is a choice among the last axis of the logits x [B, ..., n]: one-hot with
// Hard, else near to it. The place of the greatest is a draw from the softmax of x.
func (x *Var) GumbelSoftmax(g Gumbel) *Var {
	t := x.tape
	soft := g.noisy("GumbelSoftmax", x, false).Softmax()
	if !g.Hard {
		return soft
	}
	s := x.Shape()
	at := t.arena.New(gpu.Int32, s[:len(s)-1]...)
	ops.ArgMax(at, nil, soft.val)
	hard := t.empty(s...)
	ops.OneHot(hard, at)
	return ST(t.newVar(hard), soft)
}

// GumbelSigmoid is a choice of yes or no for every logit of x [B, ...]: 1 or 0 with Hard,
// else between. With the difference of two Gumbels, the default, yes has the probability
// σ(x).
func (x *Var) GumbelSigmoid(g Gumbel) *Var {
	t := x.tape
	soft := g.noisy("GumbelSigmoid", x, !g.OneSided).Sigmoid()
	if !g.Hard {
		return soft
	}
	hard := t.empty(x.Shape()...)
	ops.Above(hard, soft.val, 0.5)
	return ST(t.newVar(hard), soft)
}
