package dit

import "github.com/fidlab/fidlab/nn"

// stem is convolutions at the size of the pictures, before they are cut into patches and after. What lies between pixels they learn
// once, a layer of patches for every place in a patch.
type stem struct {
	first, second *nn.Conv2D // before
	third, last   *nn.Conv2D // after, of the patches' and of the second's channels
}

func newStem(s nn.Scope, c *Config) *stem {
	return &stem{
		first: nn.NewConv2D(s.At("stem.0"), c.Channels+c.Extra, c.Stem, 3), second: nn.NewConv2D(s.At("stem.2"), c.Stem, c.Stem, 3),
		third: nn.NewConv2D(s.At("head.0"), 2*c.Stem, c.Stem, 3), last: nn.NewConv2D(s.At("head.2"), c.Stem, c.out(), 3),
	}
}

// before is what is cut into patches.
func (s *stem) before(x *nn.Var) *nn.Var { return s.second.Forward(s.first.Forward(x).SiLU()) }

// after makes pictures of the patches' channels and of what was cut.
func (s *stem) after(y, x *nn.Var) *nn.Var {
	return s.last.Forward(s.third.Forward(nn.Concat(1, y, x)).SiLU())
}

// convs are the layers.
func (s *stem) convs() []*nn.Conv2D { return []*nn.Conv2D{s.first, s.second, s.third, s.last} }
