// Package dit has transformers that denoise pictures cut into patches: DiT (Peebles and Xie
// 2023, arXiv 2212.09748), SiT (Ma et al. 2024, arXiv 2401.08740), LightningDiT (Yao et al.
// 2025, arXiv 2501.01423), U-ViT (Bao et al. 2023, arXiv 2209.12152) and what lies between,
// all of them one Config. Parameters have the names and shapes of the reference checkpoints.
//
//	net := nn.NewParams(gpu.CPU(), gpu.Float32)
//	c, err := dit.Preset("mnist-dit")
//	...
//	model := dit.New(net.At(""), c)
//	net.Init(seed)
//	v := model.Forward(x, time, models.Inputs{Classes: labels})
//
// Its taps are blocks.N (what block N gives), and blocks.N.attn and blocks.N.mlp (what its
// two branches give, before their gates), besides those of nn.SelfAttention at
// blocks.N.attn; with long skips blocks are in_blocks.N, mid_block and out_blocks.N.
package dit

import (
	"errors"
	"fmt"

	"github.com/fidlab/fidlab/nn"
)

// MLP is the kind of a block's second branch.
type MLP uint8

// The kinds. Gated ones have two thirds of the hidden width, which makes as many weights.
const (
	GELUTanh MLP = iota // fc1, GELU's approximation by tanh, fc2
	GELU                // fc1, GELU, fc2
	SwiGLU
	GEGLU
)

// Norm is how a branch's input is normalised.
type Norm uint8

// The kinds. TimeRMS has a weight that depends on the time (see TimeScale).
const (
	LayerPlain Norm = iota // LayerNorm without weight and bias
	Layer                  // LayerNorm
	RMS                    // RMSNorm with a weight
	TimeRMS
)

// Modulation is how time and class change a block.
type Modulation uint8

// The kinds: shift, scale and gate of each branch, made of the condition by a linear layer
// that starts with zeros (adaLN-Zero); the same without shifts; nothing.
const (
	AdaLNZero Modulation = iota
	AdaLNNoShift
	NoModulation
)

// parts is how many rows of the width a block's modulation has.
func (m Modulation) parts() int { return [...]int{6, 4, 0}[m] }

// Places is the embedding that is added to the tokens of patches.
type Places uint8

// The kinds: fixed sines and cosines, trained rows, none.
const (
	SinCos Places = iota
	Learned
	NoPlaces
)

// Sigma is whether the network has twice as many channels, for variances.
type Sigma uint8

// The kinds: no; yes; yes, but what it gives is the first half, as SiT does.
const (
	NoSigma Sigma = iota
	LearnSigma
	DropSigma
)

// TokenUse is how a block sees sequences besides the picture.
type TokenUse uint8

// The ways: by a branch of cross-attention in each block, between the two others (Chen et
// al. 2024, arXiv 2310.00426); as more tokens of the one sequence.
const (
	CrossTokens TokenUse = iota
	JoinTokens
)

// BlockKind is what a block does with tokens.
type BlockKind uint8

// The kinds. Pool attends to all tokens alike; Merge makes few tokens of many, and Recover
// many again (Chang et al. 2024, arXiv 2412.06028); ConvNeXt has a convolution of 7×7 of each
// channel in place of attention (Liu et al. 2022, arXiv 2201.03545), and without modulation no
// normalisation before it (Liu et al. 2024, arXiv 2406.09416).
const (
	Dense BlockKind = iota
	Pool
	Merge
	Recover
	ConvNeXt
)

// Config is a network's architecture.
type Config struct {
	Height, Width, Channels int
	Extra                   int // channels that Inputs.Extra brings
	Patch                   int
	Dim, Depth, Heads       int // Dim is the tokens' width
	MLP                     MLP
	Ratio                   float64 // hidden width over Dim; 0 stands for 4
	Norm                    Norm
	NormEps                 float64 // 0 stands for 1e-6, of Layer 1e-5, of TimeRMS 1e-8
	Modulation              Modulation
	Places                  Places
	Rotary                  bool      // queries and keys are turned by the places of their patches
	QKNorm                  nn.QKNorm // of each head
	NoQKVBias               bool
	Sigma                   Sigma
	Classes                 int // 0: it knows none

	Tokens     map[string]int // width by name
	TokenUse   TokenUse
	JoinLength int            // of joined tokens, where places are learned
	Vectors    map[string]int // width by name; added to the time's embedding

	TimeFactor float64    // the times are multiplied by that first; 0 stands for 1
	TimeShift  float64    // of the waves' frequencies, see ops.WaveConfig; 1 in diffusers' class of DiT
	TimeToken  bool       // the time is a token
	ClassToken bool       // the class is a token
	PlainTime  bool       // no layers after the time's waves, which have the width Dim
	TimeRamp   [2]float64 // for TimeRMS: p and r of the number p·time + r in [-1, 1]

	LongSkips bool        // U-ViT: blocks of the second half also get what one of the first half gave, by its names
	FinalConv bool        // a convolution of 3×3 at the end
	Stem      int         // > 0: pictures pass convolutions of 3×3 of so many channels before they are cut and after
	Blocks    []BlockKind // Depth of them; nil: all are Dense
	Grid      int         // height and width of the tokens' grid after Merge, unless Options say otherwise
}

// hidden is the hidden width of a branch of dense layers.
func (c *Config) hidden() int {
	r := c.Ratio
	if r == 0 {
		r = 4
	}
	h := int(float64(c.Dim) * r)
	if c.MLP == SwiGLU || c.MLP == GEGLU {
		h = 2 * h / 3
	}
	return h
}

func (c *Config) eps() float64 {
	switch {
	case c.NormEps != 0:
		return c.NormEps
	case c.Norm == Layer:
		return 1e-5
	case c.Norm == TimeRMS:
		return 1e-8
	}
	return 1e-6
}

// cut is the channels of what is cut into patches, and made of them again.
func (c *Config) cut() (in, out int) {
	if c.Stem > 0 {
		return c.Stem, c.Stem
	}
	return c.Channels + c.Extra, c.out()
}

// out is the channels that the network makes.
func (c *Config) out() int {
	if c.Sigma != NoSigma {
		return 2 * c.Channels
	}
	return c.Channels
}

// kind is what block i is.
func (c *Config) kind(i int) BlockKind {
	if c.Blocks == nil {
		return Dense
	}
	return c.Blocks[i]
}

// Check says which field does not fit.
func (c *Config) Check() error {
	for _, f := range []struct {
		name string
		v    int
	}{{"Height", c.Height}, {"Width", c.Width}, {"Channels", c.Channels}, {"Patch", c.Patch}, {"Dim", c.Dim}, {"Depth", c.Depth}, {"Heads", c.Heads}} {
		if f.v < 1 {
			return fmt.Errorf("dit: Config: %s is %d, want at least 1", f.name, f.v)
		}
	}
	switch {
	case c.Height%c.Patch != 0 || c.Width%c.Patch != 0:
		return fmt.Errorf("dit: Config: Patch %d does not fill Height×Width %d×%d", c.Patch, c.Height, c.Width)
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("dit: Config: Dim %d is no multiple of Heads %d", c.Dim, c.Heads)
	case c.MLP > GEGLU:
		return fmt.Errorf("dit: Config: MLP %d is none", c.MLP)
	case c.hidden() < 1 || c.Ratio < 0:
		return fmt.Errorf("dit: Config: Ratio %g leaves no hidden width, want one above 0", c.Ratio)
	case c.Norm > TimeRMS:
		return fmt.Errorf("dit: Config: Norm %d is none", c.Norm)
	case !(c.NormEps >= 0):
		return fmt.Errorf("dit: Config: NormEps is %g, want >= 0", c.NormEps)
	case c.Norm == TimeRMS && c.TimeRamp[0] == 0:
		return errors.New("dit: Config: TimeRamp is missing, which Norm TimeRMS needs: p and r of p·time + r in [-1, 1]")
	case c.Modulation > NoModulation:
		return fmt.Errorf("dit: Config: Modulation %d is none", c.Modulation)
	case c.Places > NoPlaces:
		return fmt.Errorf("dit: Config: Places %d is none", c.Places)
	case c.Places == SinCos && c.Dim%4 != 0:
		return fmt.Errorf("dit: Config: Dim %d with Places SinCos, want a multiple of 4", c.Dim)
	case c.Rotary && c.Dim/c.Heads%4 != 0:
		return fmt.Errorf("dit: Config: Rotary with heads of width %d, want a multiple of 4", c.Dim/c.Heads)
	case c.QKNorm < nn.QKNone || c.QKNorm > nn.QKRMSWide:
		return fmt.Errorf("dit: Config: QKNorm %d is none", c.QKNorm)
	case c.Sigma > DropSigma:
		return fmt.Errorf("dit: Config: Sigma %d is none", c.Sigma)
	case c.Classes < 0 || c.Extra < 0:
		return fmt.Errorf("dit: Config: Classes %d and Extra %d, want >= 0", c.Classes, c.Extra)
	case c.TimeFactor < 0:
		return fmt.Errorf("dit: Config: TimeFactor is %g, want >= 0", c.TimeFactor)
	case c.TimeShift < 0 || c.TimeShift > 1:
		return fmt.Errorf("dit: Config: TimeShift is %g, want 0 to 1", c.TimeShift)
	case c.PlainTime && (c.Dim%2 != 0 || c.Dim < 4):
		return fmt.Errorf("dit: Config: Dim %d with PlainTime, want an even one of at least 4", c.Dim)
	case c.Modulation == NoModulation && !c.TimeToken && c.Norm != TimeRMS:
		return errors.New("dit: Config: nothing sees the time; want a Modulation, TimeToken or Norm TimeRMS")
	case c.Classes > 0 && c.Modulation == NoModulation && !c.ClassToken:
		return errors.New("dit: Config: nothing sees the Classes; want a Modulation or ClassToken")
	case c.ClassToken && c.Classes == 0:
		return errors.New("dit: Config: ClassToken without Classes")
	case len(c.Vectors) > 0 && c.Modulation == NoModulation && !c.TimeToken:
		return errors.New("dit: Config: nothing sees the Vectors; want a Modulation or TimeToken")
	case c.Stem < 0 || c.Stem > 0 && (c.LongSkips || c.FinalConv):
		return fmt.Errorf("dit: Config: Stem %d with LongSkips %v and FinalConv %v, want at least 0, and neither of those", c.Stem, c.LongSkips, c.FinalConv)
	case c.LongSkips && c.Depth%2 == 0:
		return fmt.Errorf("dit: Config: Depth %d with LongSkips, want an odd one: half, a middle, half", c.Depth)
	}
	if err := c.checkTokens(); err != nil {
		return err
	}
	return c.checkBlocks()
}

func (c *Config) checkTokens() error {
	for _, m := range []map[string]int{c.Tokens, c.Vectors} {
		for name, w := range m {
			if w < 1 || name == "" {
				return fmt.Errorf("dit: Config: Tokens or Vectors %q have width %d, want a name and at least 1", name, w)
			}
		}
	}
	switch {
	case c.TokenUse > JoinTokens:
		return fmt.Errorf("dit: Config: TokenUse %d is none", c.TokenUse)
	case c.TokenUse == JoinTokens && len(c.Tokens) != 1:
		return fmt.Errorf("dit: Config: TokenUse JoinTokens with %d Tokens, want one sequence", len(c.Tokens))
	case c.TokenUse == JoinTokens && c.Places == Learned && c.JoinLength < 1:
		return fmt.Errorf("dit: Config: JoinLength is %d, want the length of the joined tokens, whose places are learned", c.JoinLength)
	}
	return nil
}

func (c *Config) checkBlocks() error {
	if c.Blocks == nil {
		return nil
	}
	if len(c.Blocks) != c.Depth {
		return fmt.Errorf("dit: Config: %d Blocks for Depth %d", len(c.Blocks), c.Depth)
	}
	if c.LongSkips || c.TimeToken || c.ClassToken || c.TokenUse == JoinTokens {
		return errors.New("dit: Config: Blocks with LongSkips, TimeToken, ClassToken or JoinTokens; their tokens are those of the picture alone")
	}
	few := false
	for i, k := range c.Blocks {
		switch {
		case k > ConvNeXt:
			return fmt.Errorf("dit: Config: Blocks: block %d is of kind %d, which is none", i, k)
		case k == Recover && !few:
			return fmt.Errorf("dit: Config: Blocks: block %d recovers tokens that none before it merged", i)
		case k == Merge:
			few = true
		case k == Recover:
			few = false
		}
		if k == Merge {
			if err := c.checkGrid(c.Grid); err != nil {
				return err
			}
		}
	}
	if few {
		return errors.New("dit: Config: Blocks: the last merged tokens are not recovered")
	}
	return nil
}

// checkGrid says whether tokens can be merged to a grid.
func (c *Config) checkGrid(grid int) error {
	if h, w := c.Height/c.Patch, c.Width/c.Patch; grid < 1 || grid > min(h, w) {
		return fmt.Errorf("dit: Grid is %d, want 1 to %d, for tokens of %d×%d", grid, min(h, w), h, w)
	}
	return nil
}
