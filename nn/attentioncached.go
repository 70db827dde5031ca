package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// ProjectKV is the keys and values of the states [B, L, context] of a layer's only context,
// each [B, L, heads, D]: a decoder computes them once for all its steps.
func (a *CrossAttention) ProjectKV(states *Var) (k, v *Var) {
	a.mustHaveOne("ProjectKV")
	if s := states.Shape(); len(s) != 3 {
		panic(fmt.Sprintf("nn: CrossAttention.ProjectKV: states of shape %v, want [B, L, width]", s))
	}
	kv := a.Contexts[0]
	return a.split(kv.K.Forward(states), a.o.KVHeads, kv.NormK), a.split(kv.V.Forward(states), a.o.KVHeads, nil)
}

// ForwardKV is Forward with the keys and values that ProjectKV made of a context whose
// sequences have those lengths, nil for all.
func (a *CrossAttention) ForwardKV(x, k, v *Var, lens *gpu.Tensor) *Var {
	a.mustHaveOne("ForwardKV")
	q := a.split(a.Q.Forward(x), a.o.Heads, a.NormQ)
	return a.Merge(a.attend(q, k, v, AttnMask{KeyLens: lens}))
}

func (a *CrossAttention) mustHaveOne(op string) {
	if len(a.Contexts) != 1 {
		panic(fmt.Sprintf("nn: CrossAttention.%s: a layer of %d contexts, want one", op, len(a.Contexts)))
	}
}
