// Package classifier has small networks that tell classes from pictures: their features
// measure samples, their logits judge conditions, and those that know the noise level guide.
package classifier

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Kind is a family of networks.
type Kind int

const (
	// LeNet is two convolutions of 5×5, each with ReLU and a maximum over 2×2, and three
	// linear layers (LeCun et al. 1998, "Gradient-based learning applied to document
	// recognition"; with ReLU and maxima, as it is used today).
	LeNet Kind = iota
	// ResNet is residual blocks of two convolutions of 3×3, of half the size from level to
	// level, and the mean over the picture (He et al. 2016, arXiv 1512.03385), with
	// GroupNorm in place of BatchNorm, so that a sample's result is its own.
	ResNet
)

// Config describes a classifier; Channels, Height, Width and Classes have no default.
type Config struct {
	Kind          Kind
	Channels      int // of pictures
	Height, Width int
	Classes       int
	Widths        []int   // LeNet: channels of both convolutions, then widths of both hidden layers (6, 16, 120, 84); ResNet: channels of each level (32, 64, 128)
	Blocks        int     // ResNet: of each level; 0 stands for 1
	Timed         bool    // ResNet: it is told the time of a noised picture
	Dropout       float64 // share of the features left out while Classifier.Mask has a seed
}

// Presets are configurations for the small data sets.
func Presets() map[string]Config {
	return map[string]Config{
		"mnist-lenet":   {Kind: LeNet, Channels: 1, Height: 28, Width: 28, Classes: 10},
		"mnist-resnet":  {Kind: ResNet, Channels: 1, Height: 28, Width: 28, Classes: 10, Widths: []int{16, 32, 64}},
		"shapes-resnet": {Kind: ResNet, Channels: 3, Height: 32, Width: 32, Classes: 10, Widths: []int{32, 64, 128}},
	}
}

func (c *Config) widths() []int {
	switch {
	case c.Widths != nil:
		return c.Widths
	case c.Kind == LeNet:
		return []int{6, 16, 120, 84}
	}
	return []int{32, 64, 128}
}

// Check says what is wrong with the configuration, by field.
func (c *Config) Check() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("classifier: Config.%s: %s", field, fmt.Sprintf(format, args...))
	}
	for _, f := range []struct {
		name  string
		v, lo int
	}{{"Channels", c.Channels, 1}, {"Height", c.Height, 1}, {"Width", c.Width, 1}, {"Classes", c.Classes, 2}, {"Blocks", c.Blocks, 0}} {
		if f.v < f.lo {
			return bad(f.name, "%d, want at least %d", f.v, f.lo)
		}
	}
	w := c.widths()
	if len(w) == 0 || slices.Min(w) < 1 {
		return bad("Widths", "%v, want at least 1 each", w)
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		return bad("Dropout", "%g, want 0 <= share < 1", c.Dropout)
	}
	halves := len(w) - 1
	switch c.Kind {
	case LeNet:
		if len(w) != 4 {
			return bad("Widths", "%v, want two of convolutions and two of hidden layers", w)
		}
		if c.Timed || c.Blocks > 0 {
			return bad("Timed", "%v and Blocks %d, which a LeNet does not have", c.Timed, c.Blocks)
		}
		halves = 2
	case ResNet:
		for _, x := range w {
			if x%4 != 0 {
				return bad("Widths", "%v, want multiples of 4, the channels of a group", w)
			}
		}
	default:
		return bad("Kind", "%d is none", c.Kind)
	}
	if m := 1 << halves; c.Height%m != 0 || c.Width%m != 0 {
		return bad("Height", "%d×%d, want multiples of %d, which are halved to whole pixels", c.Height, c.Width, m)
	}
	return nil
}

// Classifier is a network that gives features and logits.
//
// Its taps are the names of its parts: conv1 and so on, layer1.0 and so on, features, logits;
// in a scope they begin with its name. Inside, channels are the last axis: what passes the
// taps of convolutions is [N, H, W, C].
type Classifier struct {
	// Mask is the stream that dropout draws from; with Seed 0 nothing is dropped. Its P is
	// Config.Dropout's.
	Mask ops.Mask

	config Config
	params *nn.Params
	convs  []*nn.Conv2D // LeNet
	hidden []*nn.Linear
	stem   *nn.Conv2D // ResNet
	norm   *nn.GroupNorm
	levels [][]*block
	time   *nn.TimeEmbed
	last   *nn.Linear
	taps   []string // of convolutions and hidden layers, or of blocks
	name   struct{ stem, features, logits string }
}

// New registers a classifier in s; c is as Check wants it.
func New(s nn.Scope, c Config) *Classifier {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	n := &Classifier{config: c, params: s.Params()}
	n.name.stem, n.name.features, n.name.logits = s.Name("conv1"), s.Name("features"), s.Name("logits")
	if c.Kind == LeNet {
		n.lenet(s)
	} else {
		n.resnet(s)
	}
	return n
}

// Config is what the network was made of.
func (n *Classifier) Config() Config { return n.config }

// Params is the network's parameters, and those of whatever else shares them.
func (n *Classifier) Params() *nn.Params { return n.params }

// FeatureWidth is the width of the features.
func (n *Classifier) FeatureWidth() int {
	w := n.config.widths()
	return w[len(w)-1]
}

// Forward is the logits for pictures x [N, C, H, W], [N, Classes], with times [N] where the
// network is told them, else nil.
func (n *Classifier) Forward(x, time *nn.Var) *nn.Var {
	_, logits := n.Both(x, time)
	return logits
}

// Both is the features, [N, FeatureWidth], and the logits.
func (n *Classifier) Both(x, time *nn.Var) (features, logits *nn.Var) {
	c := &n.config
	if s := x.Shape(); len(s) != 4 || s[1] != c.Channels || s[2] != c.Height || s[3] != c.Width {
		panic(fmt.Sprintf("classifier: pictures of shape %v, want [n, %d, %d, %d]", s, c.Channels, c.Height, c.Width))
	}
	switch {
	case c.Timed && (time == nil || len(time.Shape()) != 1 || time.Shape()[0] != x.Shape()[0]):
		panic(fmt.Sprintf("classifier: pictures %v without times of their number, which the network is told", x.Shape()))
	case !c.Timed && time != nil:
		panic(fmt.Sprintf("classifier: times of shape %v, which the network is not told", time.Shape()))
	}
	x = x.Permute(0, 2, 3, 1)
	if c.Kind == LeNet {
		features = n.lenetFeatures(x)
	} else {
		features = n.resnetFeatures(x, time)
	}
	features = features.Tap(n.name.features)
	h := features
	if n.Mask.Seed != 0 && c.Dropout > 0 {
		m := n.Mask
		m.P = c.Dropout
		h = h.Dropout(m)
	}
	return features, n.last.Forward(h).Tap(n.name.logits)
}

func (n *Classifier) lenet(s nn.Scope) {
	c, w := &n.config, n.config.widths()
	at := c.Channels
	for i, out := range w[:2] {
		name := fmt.Sprintf("conv%d", i+1)
		l := nn.NewConv2D(s.At(name), at, out, 5)
		l.Config.Last = true
		n.convs, n.taps = append(n.convs, l), append(n.taps, s.Name(name))
		at = out
	}
	at *= c.Height / 4 * (c.Width / 4)
	for i, out := range w[2:] {
		name := fmt.Sprintf("fc%d", i+1)
		n.hidden, n.taps = append(n.hidden, nn.NewLinear(s.At(name), at, out).Then(ops.ReLU)), append(n.taps, s.Name(name))
		at = out
	}
	n.last = nn.NewLinear(s.At("fc3"), at, c.Classes)
}

func (n *Classifier) lenetFeatures(x *nn.Var) *nn.Var {
	for i, l := range n.convs {
		x = l.Forward(x).ReLU().MaxPoolLast(2).Tap(n.taps[i])
	}
	x = x.Permute(0, 3, 1, 2).Reshape(x.Shape()[0], -1) // the hidden layers' weights want channels first
	for i, l := range n.hidden {
		x = l.Forward(x).Tap(n.taps[2+i])
	}
	return x
}
