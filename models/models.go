// Package models has the networks that predict noise, and what all of them share:
// what a network takes besides noised pictures and their times, and the check of it.
// The networks themselves are its subpackages, one a family.
//
// A Net gives its raw prediction; package diffusion converts predictions, and
// samplers see a denoiser made of both.
package models

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Net is a network that predicts something about noised pictures.
type Net interface {
	Params() *nn.Params
	// Takes is what Forward may be given.
	Takes() Takes
	// Forward is the prediction for x [B, C, H, W] at the network's own times [B], on
	// the tape of x: [B, Takes().Out, H, W]. It panics where Takes().Check has an error.
	Forward(x, time *nn.Var, in Inputs) *nn.Var
}

// Layered is a network whose blocks can be left out one by one: the residual and attention blocks of a U-Net, the blocks of
// a transformer.
type Layered interface {
	Net
	// Layers names those blocks, in the order in which they run.
	Layers() []string
	// Without is the network without some of them, by their numbers among Layers. It has the same parameters, and takes turns with
	// the network and whatever else was made of it.
	Without(skip []int) Net
}

// Inputs is what a network may be told besides x and the time; the zero value is nothing.
type Inputs struct {
	Classes *gpu.Tensor        // Int32 [B] on the CPU; the number of classes stands for none
	Tokens  map[string]Tokens  // sequences to attend to: "text", "image", "neighbours"
	Vectors map[string]*nn.Var // [B, width], added to the time's embedding: "pooled", "size"
	Extra   *nn.Var            // [B, Takes().Extra, H, W], channels after those of x
	Control *Residuals         // of another network, added inside this one
}

// Tokens is a sequence for each sample.
type Tokens struct {
	States *nn.Var     // [B, L, width]
	Lens   *gpu.Tensor // Int32 [B] on the CPU: those from Lens[b] on are padding; nil: there is none
}

// Residuals are added to what a U-Net hands from its way down to its way up (Zhang et al.
// 2023, arXiv 2302.05543): one a skip, in the order in which they arise, and the middle, all
// [B, height, width, channels].
type Residuals struct {
	Skips  []*nn.Var
	Middle *nn.Var
}

// Takes is what a network can be given.
type Takes struct {
	Channels      int            // of x
	Out           int            // channels of the prediction
	Height, Width int            // of x; 0 for any multiple of Multiple
	Multiple      int            // of height and width
	Classes       int            // 0: it knows none
	Tokens        map[string]int // width by name
	Vectors       map[string]int
	Extra         int
	Skips         []int // channels of the residuals that it takes, by skip; nil: it takes none
}

// Check says what is wrong with inputs for an x of that shape.
func (k Takes) Check(x []int, in Inputs) error {
	if len(x) != 4 || x[1] != k.Channels {
		return fmt.Errorf("models: pictures of shape %v, want [n, %d, height, width]", x, k.Channels)
	}
	if k.Height != 0 && (x[2] != k.Height || x[3] != k.Width) {
		return fmt.Errorf("models: pictures of %d×%d, want %d×%d", x[2], x[3], k.Height, k.Width)
	}
	if m := max(k.Multiple, 1); x[2]%m != 0 || x[3]%m != 0 {
		return fmt.Errorf("models: pictures of %d×%d, want multiples of %d", x[2], x[3], m)
	}
	if err := k.checkClasses(x[0], in.Classes); err != nil {
		return err
	}
	for name, width := range k.Tokens {
		tok, ok := in.Tokens[name]
		if !ok {
			return fmt.Errorf("models: the network wants tokens %q", name)
		}
		s := tok.States.Shape()
		if len(s) != 3 || s[0] != x[0] || s[2] != width {
			return fmt.Errorf("models: tokens %q of shape %v, want [%d, length, %d]", name, s, x[0], width)
		}
		if tok.Lens != nil && !slices.Equal(tok.Lens.Shape(), x[:1]) {
			return fmt.Errorf("models: lengths of tokens %q of shape %v, want %v", name, tok.Lens.Shape(), x[:1])
		}
	}
	for name := range in.Tokens {
		if _, ok := k.Tokens[name]; !ok {
			return fmt.Errorf("models: tokens %q are unknown to the network, which takes %s", name, names(k.Tokens))
		}
	}
	for name, width := range k.Vectors {
		v, ok := in.Vectors[name]
		if !ok {
			return fmt.Errorf("models: the network wants a vector %q", name)
		}
		if s := v.Shape(); len(s) != 2 || s[0] != x[0] || s[1] != width {
			return fmt.Errorf("models: vector %q of shape %v, want [%d %d]", name, s, x[0], width)
		}
	}
	for name := range in.Vectors {
		if _, ok := k.Vectors[name]; !ok {
			return fmt.Errorf("models: vector %q is unknown to the network, which takes %s", name, names(k.Vectors))
		}
	}
	if err := k.checkExtra(x, in.Extra); err != nil {
		return err
	}
	if in.Control != nil && len(in.Control.Skips) != len(k.Skips) {
		return fmt.Errorf("models: control of %d skips, the network has %d that take it", len(in.Control.Skips), len(k.Skips))
	}
	return nil
}

func (k Takes) checkExtra(x []int, extra *nn.Var) error {
	switch {
	case extra == nil && k.Extra == 0:
		return nil
	case extra == nil:
		return fmt.Errorf("models: the network wants %d extra channels", k.Extra)
	case k.Extra == 0:
		return fmt.Errorf("models: extra channels of shape %v, the network takes none", extra.Shape())
	}
	if s := extra.Shape(); len(s) != 4 || s[0] != x[0] || s[1] != k.Extra || s[2] != x[2] || s[3] != x[3] {
		return fmt.Errorf("models: extra channels of shape %v, want [%d %d %d %d]", s, x[0], k.Extra, x[2], x[3])
	}
	return nil
}

func (k Takes) checkClasses(n int, classes *gpu.Tensor) error {
	switch {
	case classes == nil && k.Classes == 0:
		return nil
	case classes == nil:
		return fmt.Errorf("models: the network wants classes, 0 to %d, and %d for none", k.Classes-1, k.Classes)
	case k.Classes == 0:
		return fmt.Errorf("models: the network knows no classes")
	case classes.Len() != n:
		return fmt.Errorf("models: %d classes for %d pictures", classes.Len(), n)
	}
	for i, c := range classes.I32() {
		if c < 0 || int(c) > k.Classes {
			return fmt.Errorf("models: class %d of picture %d, want 0 to %d, and %d for none", c, i, k.Classes-1, k.Classes)
		}
	}
	return nil
}

// names lists what there is, in order.
func names(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
