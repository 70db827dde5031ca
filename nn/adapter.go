package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/ops"
)

// Adapter changes what a layer gives without changing its parameters: Adapt returns what goes
// on in place of y, the layer's result for x before a function that follows it.
type Adapter interface {
	Adapt(x, y *Var) *Var
}

// LayerKind is what kind of layer a weight belongs to.
type LayerKind uint8

// The kinds whose layers ask for adapters, and all others.
const (
	OtherLayer LayerKind = iota
	LinearLayer
	ConvLayer
	PatchLayer
)

// Layer is the kind of layer that p is the weight of.
func (p *Param) Layer() LayerKind { return p.layer }

// of notes what layer p is the weight of.
func (p *Param) of(kind LayerKind) *Param {
	p.layer = kind
	return p
}

// Attach makes the layer whose weight p is ask a, after those that were attached before. It
// panics where p is no weight of a layer that asks.
func (p *Param) Attach(a Adapter) {
	if p.layer == OtherLayer {
		panic(fmt.Sprintf("nn: Attach: %s is no weight of a linear layer, a convolution or a patch embedding", p.Name))
	}
	p.adapters = append(p.adapters, a)
}

// Detach ends an Attach.
func (p *Param) Detach(a Adapter) {
	i := slices.Index(p.adapters, a)
	if i < 0 {
		panic("nn: Detach: the adapter is not attached to " + p.Name)
	}
	p.adapters = slices.Delete(p.adapters, i, i+1)
}

// adapted is y, the result of p's layer for x, as its adapters change it, and then f of it.
func (p *Param) adapted(x, y *Var, f ops.Func) *Var {
	for _, a := range p.adapters {
		was := y
		y = a.Adapt(x, y)
		if !slices.Equal(y.Shape(), was.Shape()) {
			panic(fmt.Sprintf("nn: an adapter of %s gives shape %v, want %v", p.Name, y.Shape(), was.Shape()))
		}
	}
	if f != ops.Identity {
		y = y.Map(f)
	}
	return y
}

// Prompt is a context of a CrossAttention that its callers do not pass: an adapter adds it to a
// network that knows nothing of it.
type Prompt struct {
	KV      *ContextKV
	Context Context // of the tape's current step; without States the prompt is left out
}

// NewPrompt registers keys and values of a prompt in s, of this network's parameters or of
// others, and makes a attend to it besides its contexts.
func (a *CrossAttention) NewPrompt(s Scope, context int) *Prompt {
	p := &Prompt{KV: a.keys(s, context)}
	p.KV.NormK = a.o.norm(s.At(a.o.Names.NormK), a.o.KVHeads)
	a.prompts = append(a.prompts, p)
	return p
}

// DropPrompt ends a NewPrompt.
func (a *CrossAttention) DropPrompt(p *Prompt) {
	i := slices.Index(a.prompts, p)
	if i < 0 {
		panic("nn: DropPrompt: the prompt is not one of the layer's")
	}
	a.prompts = slices.Delete(a.prompts, i, i+1)
}
