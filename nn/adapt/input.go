package adapt

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
)

// ExtraInput gives a network's first layer more channels than it was made with. Its weights of
// the new channels start with zeros.
type ExtraInput struct {
	layer interface{ Forward(x *nn.Var) *nn.Var }
	of    *nn.Param
	extra *nn.Var
}

// ExtendConv registers weights of more channels of a convolution in s.
func ExtendConv(s nn.Scope, conv *nn.Conv2D, channels int) *ExtraInput {
	w, cfg := conv.W.Shape(), conv.Config
	cfg.Groups = 0 // all of the result's channels see the new ones
	return extend(conv.W, &nn.Conv2D{W: s.Param("weight", nn.Zeros, w[0], channels, w[2], w[3]), Config: cfg})
}

// ExtendPatch registers weights of more channels of a patch embedding in s.
func ExtendPatch(s nn.Scope, embed *nn.PatchEmbed, channels int) *ExtraInput {
	return extend(embed.W, &nn.PatchEmbed{W: s.Param("weight", nn.Zeros, embed.W.Shape()[0], channels, embed.Patch, embed.Patch), Patch: embed.Patch})
}

// ExtendLinear registers weights of more inputs of a linear layer in s.
func ExtendLinear(s nn.Scope, l *nn.Linear, inputs int) *ExtraInput {
	return extend(l.W, &nn.Linear{W: s.Param("weight", nn.Zeros, l.W.Shape()[0], inputs)})
}

func extend(of *nn.Param, layer interface{ Forward(x *nn.Var) *nn.Var }) *ExtraInput {
	e := &ExtraInput{layer: layer, of: of}
	of.Attach(e)
	return e
}

// Set says what the new channels hold, of the shape of the layer's input but for the
// channels; nil leaves them out.
func (e *ExtraInput) Set(extra *nn.Var) { e.extra = extra }

// Adapt is the nn.Adapter's.
func (e *ExtraInput) Adapt(_, y *nn.Var) *nn.Var {
	if e.extra == nil {
		return y
	}
	return y.Add(e.layer.Forward(e.extra))
}

// Drop ends the adapter.
func (e *ExtraInput) Drop() { e.of.Detach(e) }

// Widen sets dst, a weight [out, more, ...] of a network that takes more channels, to src [out,
// in, ...] and to zeros for those that src lacks, which come last.
func Widen(dst, src *nn.Param) error {
	d, s := dst.Shape(), src.Shape()
	fit := len(d) == len(s) && len(d) >= 2 && d[0] == s[0] && d[1] >= s[1]
	for i := 2; fit && i < len(d); i++ {
		fit = d[i] == s[i]
	}
	if !fit {
		return fmt.Errorf("adapt: %s has shape %v, want that of %s, %v, with at least as many inputs", dst.Name, d, src.Name, s)
	}
	from, err := values(src.Value)
	if err != nil {
		return err
	}
	to := make([]float64, dst.Value.Len())
	run, wide := len(from)/s[0], len(to)/s[0]
	for o := range s[0] {
		copy(to[o*wide:], from[o*run:][:run])
	}
	put(dst.Value, to)
	return nil
}
