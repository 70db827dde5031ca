package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// Context is a sequence for each sample that queries of another attend to.
type Context struct {
	States *Var        // [B, L, width]; nil leaves the context out
	Lens   *gpu.Tensor // Int32 [B] on the CPU: those from Lens[b] on are padding; nil: there is none
	Factor float64     // of what it adds; 0 stands for 1
}

// CrossAttention is attention of tokens to one context or several. Each context has keys and
// values of its own; the results of one softmax each are added before the projection back
// (decoupled cross-attention: Ye et al. 2023, arXiv 2308.06721).
//
// Its taps are the scope's name with .q, .k, .v, .maps [B, H, Lq, Lk] and .out; those of the
// second context and later ones begin with their own scope's name.
type CrossAttention struct {
	Q        *Linear
	Contexts []*ContextKV
	prompts  []*Prompt
	heads
}

// ContextKV is the keys and values of one context.
type ContextKV struct {
	K, V  *Linear
	NormK *Norm
	names struct{ k, v, maps string }
}

// NewCrossAttention registers a layer in s for tokens of that width and a context of its own.
func NewCrossAttention(s Scope, width, context int, o AttnOptions) *CrossAttention {
	o = o.fill("NewCrossAttention", s, width, SeparateNames)
	a := &CrossAttention{Q: o.point(s.At(o.Names.Q), width, o.Heads*o.HeadDim, !o.NoBias)}
	a.o = o
	first := a.keys(s, context)
	a.heads = newHeads(s, o)
	first.NormK = a.NormK
	a.Contexts = append(a.Contexts, first)
	return a
}

func (a *CrossAttention) keys(s Scope, context int) *ContextKV {
	n := a.o.KVHeads * a.o.HeadDim
	c := &ContextKV{
		K: a.o.point(s.At(a.o.Names.K), context, n, !a.o.NoBias),
		V: a.o.point(s.At(a.o.Names.V), context, n, !a.o.NoBias),
	}
	c.names.k, c.names.v, c.names.maps = s.Name("k"), s.Name("v"), s.Name("maps")
	return c
}

// Add registers keys and values of one more context in s. It returns a, before Init.
func (a *CrossAttention) Add(s Scope, context int) *CrossAttention {
	c := a.keys(s, context)
	c.NormK = a.o.norm(s.At(a.o.Names.NormK), a.o.KVHeads)
	a.Contexts = append(a.Contexts, c)
	return a
}

// Forward is the layer's result for tokens x [B, L, width], [B, L, Out], with as many
// contexts as there are keys and values. A token that sees no key of any context gets the
// projection's bias alone.
func (a *CrossAttention) Forward(x *Var, contexts ...Context) *Var {
	if len(x.Shape()) != 3 {
		panic(fmt.Sprintf("nn: CrossAttention: tokens of shape %v, want [B, L, width]", x.Shape()))
	}
	if len(contexts) != len(a.Contexts) {
		panic(fmt.Sprintf("nn: CrossAttention: %d contexts, the layer has keys and values of %d", len(contexts), len(a.Contexts)))
	}
	q := a.split(a.Q.Forward(x), a.o.Heads, a.NormQ)
	var sum *Var
	for i, c := range contexts {
		sum = a.addOne(sum, q, a.Contexts[i], c)
	}
	for _, p := range a.prompts {
		sum = a.addOne(sum, q, p.KV, p.Context)
	}
	if sum == nil {
		s := x.Shape()
		sum = x.tape.Const(0, s[0], s[1], a.o.Heads*a.o.HeadDim)
	}
	return a.Merge(sum)
}

// addOne is sum and what the queries find in a context; nil is nothing.
func (a *CrossAttention) addOne(sum, q *Var, kv *ContextKV, c Context) *Var {
	if c.States == nil {
		return sum
	}
	y := a.one(q, kv, c)
	if c.Factor != 0 && c.Factor != 1 {
		y = y.Scale(c.Factor)
	}
	if sum == nil {
		return y
	}
	return sum.Add(y)
}

func (a *CrossAttention) one(q *Var, kv *ContextKV, c Context) *Var {
	if s := c.States.Shape(); len(s) != 3 || s[0] != q.Shape()[0] {
		panic(fmt.Sprintf("nn: CrossAttention: a context of shape %v for %d samples, want [B, L, width]", s, q.Shape()[0]))
	}
	h := a.heads
	h.tap.k, h.tap.v, h.tap.maps = kv.names.k, kv.names.v, kv.names.maps
	k, v := a.split(kv.K.Forward(c.States), a.o.KVHeads, kv.NormK), a.split(kv.V.Forward(c.States), a.o.KVHeads, nil)
	return h.attend(q, k, v, AttnMask{KeyLens: c.Lens})
}
