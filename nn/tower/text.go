package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// TextConfig describes a causal text transformer as CLIP has it.
type TextConfig struct {
	Vocab  int
	MaxLen int
	Width  int
	Depth  int
	Heads  int
	Hidden int // 0: 4·Width
	Act    Act
	End    int // id of the end of a text; -1: the greatest id that occurs in it, as in OpenAI's CLIP
}

// Check says what is wrong with a configuration.
func (c TextConfig) Check() error {
	switch {
	case c.Vocab < 1:
		return fmt.Errorf("tower: Vocab is %d, want at least 1", c.Vocab)
	case c.MaxLen < 1:
		return fmt.Errorf("tower: MaxLen is %d, want at least 1", c.MaxLen)
	case c.Depth < 1:
		return fmt.Errorf("tower: Depth is %d, want at least 1", c.Depth)
	case c.End < -1 || c.End >= c.Vocab:
		return fmt.Errorf("tower: End is %d, want an id below Vocab, %d, or -1 for the greatest of a text", c.End, c.Vocab)
	}
	return c.block().Check()
}

func (c *TextConfig) block() BlockConfig {
	return BlockConfig{Width: c.Width, Heads: c.Heads, Hidden: c.Hidden, Act: c.Act, Names: CLIPNames}
}

// Text is a causal transformer of texts, whose vector is the state at the end of the text. What
// follows the end, padding, changes neither the states before nor the vector. Names of parameters
// are those of Hugging Face's text_model.
type Text struct {
	Config TextConfig
	Tokens *nn.Embedding
	Places *nn.Param // [MaxLen, Width]
	Body   *Stack
	Norm   *nn.Norm
}

// NewText registers a text transformer in s. It panics where Check has an error.
func NewText(s nn.Scope, c TextConfig) *Text {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	e := s.At("embeddings")
	m := &Text{Config: c}
	m.Tokens = nn.NewEmbedding(e.At("token_embedding"), c.Vocab, c.Width)
	m.Places = e.At("position_embedding").Param("weight", nn.Normal(0.01), c.MaxLen, c.Width)
	m.Body = NewStack(s.At("encoder.layers"), c.Depth, c.block())
	m.Norm = nn.NewLayerNorm(s.At("final_layer_norm"), c.Width)
	return m
}

// Width is that of the states and the vector.
func (m *Text) Width() int { return m.Config.Width }

// Forward is the states of ids [B, L], Int32 on the CPU, each with its end, normalised: [B, L,
// Width], and those at the end, [B, Width].
func (m *Text) Forward(t *nn.Tape, ids *gpu.Tensor) (states, pooled *nn.Var) {
	s := ids.Shape()
	if len(s) != 2 || s[1] < 1 || s[1] > m.Config.MaxLen {
		panic(fmt.Sprintf("tower: Text: ids of shape %v, want [B, 1 to %d]", s, m.Config.MaxLen))
	}
	x := m.Tokens.Forward(t, ids).Add(t.Use(m.Places).Slice(0, 0, s[1]))
	states = m.Norm.Forward(m.Body.Forward(x, Call{Mask: nn.AttnMask{Causal: true}}))
	at := host(t, gpu.Int32, s[0])
	for b, l := range m.Lens(t, ids).I32() {
		at.I32()[b] = int32(b*s[1]) + l - 1
	}
	return states, states.Reshape(s[0]*s[1], m.Config.Width).Rows(at)
}

// Lens is the lengths of texts up to their ends, those included, Int32 [B] on the CPU, for those
// who attend to the states. They live as long as the tape's step. It panics on a text without
// an end.
func (m *Text) Lens(t *nn.Tape, ids *gpu.Tensor) *gpu.Tensor {
	s := ids.Shape()
	lens := host(t, gpu.Int32, s[0])
	for b := range lens.I32() {
		row, at := ids.I32()[b*s[1]:][:s[1]], -1
		for i, id := range row {
			if m.Config.End >= 0 && int(id) == m.Config.End && at < 0 || m.Config.End < 0 && (at < 0 || id > row[at]) {
				at = i
			}
		}
		if at < 0 {
			panic(fmt.Sprintf("tower: Text: text %d of shape %v has no end, id %d", b, s, m.Config.End))
		}
		lens.I32()[b] = int32(at + 1)
	}
	return lens
}
