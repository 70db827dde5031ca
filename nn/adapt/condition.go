package adapt

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// ScalarEmbedding adds numbers, say the size of a picture or where it was taken, to the
// embedding of the time (Podell et al. 2023, arXiv 2307.01952): the waves of each, two linear
// layers. The last starts with zeros.
type ScalarEmbedding struct {
	Waves       ops.WaveConfig
	First, Last *nn.Linear

	count  int
	of     *nn.Param
	values *nn.Var
}

// NewScalarEmbedding registers the layers 0 and 2 of count numbers in s, and attaches them to a
// linear layer, whose results they are added to: the last of a network's time embedding.
func NewScalarEmbedding(s nn.Scope, count int, to *nn.Linear) *ScalarEmbedding {
	if count < 1 {
		panic(fmt.Sprintf("adapt: NewScalarEmbedding: %d numbers, want at least 1", count))
	}
	width := to.W.Shape()[0]
	e := &ScalarEmbedding{Waves: ops.WaveConfig{Width: 64, CosFirst: true}, count: count, of: to.W}
	e.First = nn.NewLinear(s.At("0"), count*e.Waves.Width, width).Then(ops.SiLU)
	e.Last = NewZeroLinear(s.At("2"), width, width)
	to.W.Attach(e)
	return e
}

// Set says what the numbers are, [B, count]; nil leaves them out.
func (e *ScalarEmbedding) Set(values *nn.Var) {
	if values != nil {
		if s := values.Shape(); len(s) != 2 || s[1] != e.count {
			panic(fmt.Sprintf("adapt: ScalarEmbedding: numbers of shape %v, want [B, %d]", s, e.count))
		}
	}
	e.values = values
}

// Adapt is the nn.Adapter's.
func (e *ScalarEmbedding) Adapt(_, y *nn.Var) *nn.Var {
	if e.values == nil {
		return y
	}
	w := e.values.Waves(e.Waves)
	return y.Add(e.Last.Forward(e.First.Forward(w.Reshape(w.Shape()[0], e.count*e.Waves.Width))))
}

// Drop ends the adapter.
func (e *ScalarEmbedding) Drop() { e.of.Detach(e) }

// ImagePrompt makes the cross-attention of a network attend to one more sequence, with keys
// and values of its own for each layer (Ye et al. 2023, arXiv 2308.06721). Values start with
// zeros, and with them what is added.
type ImagePrompt struct {
	layers  []*nn.CrossAttention
	prompts []*nn.Prompt
}

// NewImagePrompt registers keys and values of tokens of that width in s, under the number of
// each layer.
func NewImagePrompt(s nn.Scope, width int, layers ...*nn.CrossAttention) *ImagePrompt {
	if len(layers) == 0 {
		panic("adapt: NewImagePrompt: no layers, want those of cross-attention")
	}
	p := &ImagePrompt{layers: layers}
	for i, l := range layers {
		prompt := l.NewPrompt(s.At(fmt.Sprint(i)), width)
		prompt.KV.V.Zero()
		p.prompts = append(p.prompts, prompt)
	}
	return p
}

// Set says what is attended to, [B, L, width], of which those from lens[b] on are padding, and
// how much of what is found there is added; lens may be nil, and nil states leave the prompt
// out.
func (p *ImagePrompt) Set(states *nn.Var, lens *gpu.Tensor, factor float64) {
	if factor == 0 { // a Context has 0 for 1
		states = nil
	}
	for _, prompt := range p.prompts {
		prompt.Context = nn.Context{States: states, Lens: lens, Factor: factor}
	}
}

// Drop ends the adapter.
func (p *ImagePrompt) Drop() {
	for i, l := range p.layers {
		l.DropPrompt(p.prompts[i])
	}
}
