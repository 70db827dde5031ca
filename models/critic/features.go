package critic

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/nn"
)

// FeatureDistance is how far the features a and b of two batches are apart, [N] for layers of
// shape [N, C, ...]: of each layer the squared distance of unit vectors of channels, weighed
// by the layer's weights, C of any shape, averaged over places; summed over layers (Zhang et
// al. 2018, arXiv 1801.03924). weights is nil for ones everywhere.
func FeatureDistance(a, b, weights []*nn.Var) *nn.Var {
	if len(a) == 0 || len(a) != len(b) || weights != nil && len(weights) != len(a) {
		panic(fmt.Sprintf("critic: FeatureDistance: %d and %d layers with %d weights, want as many of all", len(a), len(b), len(weights)))
	}
	var sum *nn.Var
	for i := range a {
		s := a[i].Shape()
		if len(s) < 2 || !slices.Equal(s, b[i].Shape()) {
			panic(fmt.Sprintf("critic: FeatureDistance: layer %d has shapes %v and %v, want one, [n, channels, ...]", i, s, b[i].Shape()))
		}
		n, c := s[0], s[1]
		d := unit(a[i]).Sub(unit(b[i])).Square()
		if weights != nil {
			if weights[i].Value().Len() != c {
				panic(fmt.Sprintf("critic: FeatureDistance: weights %v for %d channels of layer %d", weights[i].Shape(), c, i))
			}
			d = d.Mul(weights[i].Reshape(c, 1))
		}
		d = d.Sum(1).Mean(2).Reshape(n)
		if sum == nil {
			sum = d
		} else {
			sum = sum.Add(d)
		}
	}
	return sum
}

// unit is x [N, C, ...] as unit vectors of channels, [N, C, places]. Where all channels are 0,
// as after a ReLU, it is 0 and so is its gradient.
func unit(x *nn.Var) *nn.Var {
	s := x.Shape()
	x = x.Reshape(s[0], s[1], -1)
	return x.Div(x.Square().Sum(1).Affine(1, 1e-20).Sqrt().Affine(1, 1e-10))
}

// Taps collects what passes places of a network; see nn.Var.Tap.
type Taps struct {
	names []string
	found []*nn.Var
	hooks []func(*nn.Var) *nn.Var
}

// NewTaps names the places.
func NewTaps(names ...string) *Taps {
	p := &Taps{names: slices.Clone(names), found: make([]*nn.Var, len(names))}
	for i := range names {
		p.hooks = append(p.hooks, func(v *nn.Var) *nn.Var {
			p.found[i] = v
			return v
		})
	}
	return p
}

// Append runs f, a network on tape t, and appends to dst what passed the places, in the order
// of their names. Other hooks at these places end. It panics when f does not pass one.
func (p *Taps) Append(dst []*nn.Var, t *nn.Tape, f func()) []*nn.Var {
	clear(p.found)
	for i, name := range p.names {
		t.OnTap(name, p.hooks[i])
	}
	f()
	for i, name := range p.names {
		t.OnTap(name, nil)
		if p.found[i] == nil {
			panic(fmt.Sprintf("critic: Taps: nothing passed %q", name))
		}
		dst = append(dst, p.found[i])
	}
	return dst
}
