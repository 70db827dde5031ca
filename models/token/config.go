// Package token has transformers over tokens: causal decoders that predict what comes next
// (Radford et al. 2019, GPT-2), bidirectional networks that fill in what is masked, encoders,
// and the pair of an encoder and a decoder that attends to it (Vaswani et al. 2017, arXiv
// 1706.03762), with a cache of keys and values for generating step by step.
package token

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// Places is how a network knows where a token is.
type Places int

const (
	Learned Places = iota // a trained row for each place, added
	SinCos                // sines and cosines of the place, added
	Rotary                // queries and keys are turned (Su et al. 2021, arXiv 2104.09864)
	None                  // not at all
)

// Config describes a network; zeros stand for the defaults.
type Config struct {
	Vocab  int // ids 0 to Vocab-1; 0: tokens come as vectors of Width (ForwardStates)
	Out    int // logits of each token; 0: Vocab; -1: none, the states are the result
	MaxLen int // places, those in front included
	Width  int
	Depth  int // blocks
	Heads  int

	KVHeads int
	Hidden  int
	Act     tower.Act
	RMS     bool
	Post    bool
	NoBias  bool
	QKNorm  nn.QKNorm
	Eps     float64

	Causal bool // a token sees none after it
	Places Places
	Theta  float64 // of Rotary; 0: 10,000
	Halves bool    // of Rotary: pairs are j and j + D/2 of a head, else neighbours
	Tied   bool    // logits by the embedding's rows

	Cross   int // > 0: width of the states that are attended to, in every block
	Ada     int // > 0: width of a vector that modulates every block
	Classes int // > 0: one token in front names the class; the row Classes is no class
	Front   int // > 0: width of states, a text's, that stand in front as tokens
}

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	switch {
	case c.Vocab < 0:
		return fmt.Errorf("token: Vocab is %d, want 0 for vectors, or the number of ids", c.Vocab)
	case c.Out < -1 || c.Out == 0 && c.Vocab == 0:
		return fmt.Errorf("token: Out is %d with Vocab %d, want a number of logits, or -1 for none", c.Out, c.Vocab)
	case c.MaxLen < 1:
		return fmt.Errorf("token: MaxLen is %d, want at least 1", c.MaxLen)
	case c.Depth < 1:
		return fmt.Errorf("token: Depth is %d, want at least 1", c.Depth)
	case c.Places < Learned || c.Places > None:
		return fmt.Errorf("token: Places %d is none", c.Places)
	case c.Places == SinCos && c.Width%2 != 0:
		return fmt.Errorf("token: Width is %d, want an even number with SinCos", c.Width)
	case !(c.Theta >= 0):
		return fmt.Errorf("token: Theta is %g, want 0 for the default, or more", c.Theta)
	case c.Tied && (c.Vocab == 0 || c.Out != 0 && c.Out != c.Vocab):
		return fmt.Errorf("token: Tied with Out %d and Vocab %d, want as many logits as ids", c.Out, c.Vocab)
	case c.Classes < 0:
		return fmt.Errorf("token: Classes is %d, want 0 for none, or their number", c.Classes)
	case c.Front < 0:
		return fmt.Errorf("token: Front is %d, want 0 for none, or the states' width", c.Front)
	}
	if err := c.block().Check(); err != nil {
		return err
	}
	if d := c.Width / c.Heads; c.Places == Rotary && d%2 != 0 {
		return fmt.Errorf("token: Width %d in %d Heads makes heads of %d, want an even number with Rotary", c.Width, c.Heads, d)
	}
	return nil
}

func (c *Config) block() tower.BlockConfig {
	return tower.BlockConfig{
		Width: c.Width, Heads: c.Heads, KVHeads: c.KVHeads, Hidden: c.Hidden, Act: c.Act, RMS: c.RMS, Post: c.Post,
		Eps: c.Eps, QKNorm: c.QKNorm, Halves: c.Halves, NoBias: c.NoBias, Cross: c.Cross, Ada: c.Ada, Names: tower.GPTNames,
	}
}

// out is the number of logits, 0 for none.
func (c *Config) out() int {
	switch c.Out {
	case -1:
		return 0
	case 0:
		return c.Vocab
	}
	return c.Out
}

// GPT2 is the smallest GPT-2, 124.4 million values.
func GPT2() Config {
	return Config{Vocab: 50257, MaxLen: 1024, Width: 768, Depth: 12, Heads: 12, Act: tower.GELUTanh, Causal: true, Tied: true}
}

// DigitsAR is a causal decoder of pictures of 14×14 binary pixels of ten classes, cut into 7×7
// tokens of 2×2 pixels: 16 ids.
func DigitsAR() Config {
	return Config{Vocab: 16, MaxLen: 49, Width: 96, Depth: 4, Heads: 4, Act: tower.GELUTanh, Causal: true, Classes: 10}
}
