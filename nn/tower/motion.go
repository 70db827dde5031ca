package tower

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// MotionConfig describes an encoder of motions beside one of their captions.
type MotionConfig struct {
	Channels int `json:"channels"` // of a row
	Hidden   int `json:"hidden"`   // width of convolutions and recurrent units
	Dim      int `json:"dim"`      // features of a motion
	Outputs  int `json:"outputs"`  // of the heads, all of them
	Vocab    int `json:"vocab"`    // ids of captions; 0 is padding, which no caption begins with
	Word     int `json:"word"`     // width of a word
	Embed    int `json:"embed"`    // width of the space that motions and captions share
}

// Check says what is wrong with a configuration, by field.
func (c MotionConfig) Check() error {
	for _, f := range []struct {
		name string
		v    int
	}{
		{"Channels", c.Channels}, {"Hidden", c.Hidden}, {"Dim", c.Dim}, {"Outputs", c.Outputs}, {"Vocab", c.Vocab}, {"Word", c.Word}, {"Embed", c.Embed},
	} {
		if f.v < 1 {
			return fmt.Errorf("tower: Motion: %s is %d, want at least 1", f.name, f.v)
		}
	}
	return nil
}

// MotionStep is how many rows one place of the recurrent unit stands for: lengths are multiples of it.
const MotionStep = 4

// Motion is an encoder of motions: rows less their mean over their deviation; two convolutions of
// 4 rows with step 2, each with SiLU; a gated recurrent unit, of which the last state and the mean
// of all are taken; a linear layer, whose result is the features; and linear heads on these. Beside
// it is an encoder of captions, a gated recurrent unit over words, into a space that features are
// projected into too: there a motion and its caption are near (as in the evaluator of Guo et al.
// 2022, "Generating Diverse and Natural 3D Human Motions From Text", CVPR, sections 4 and 5).
type Motion struct {
	Config        MotionConfig
	Mean, Inverse *gpu.Tensor // [1, 1, Channels], of rows: buffers mean and inverse
	conv          [2]*nn.Conv1D
	rows, words   *GRU
	last, heads   *nn.Linear
	word          *nn.Embedding
	ofMotion      *nn.Linear
	ofText        *nn.Linear
	LogScale      *nn.Param // logit_scale [], the logarithm of what cosines are multiplied by
}

// NewMotion registers an encoder in s. It panics where Check has an error. Mean is 0 and Inverse 1
// until they are set or loaded.
func NewMotion(s nn.Scope, c MotionConfig) *Motion {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	dev, dt := s.Params().Device(), s.Params().DType()
	m := &Motion{Config: c, Mean: dev.Zeros(dt, 1, 1, c.Channels), Inverse: dev.New(dt, 1, 1, c.Channels)}
	ones := make([]float32, c.Channels)
	for i := range ones {
		ones[i] = 1
	}
	m.Inverse.Set(ones)
	s.Buffer("mean", m.Mean)
	s.Buffer("inverse", m.Inverse)
	from := c.Channels
	for i := range m.conv {
		m.conv[i] = nn.NewConv1D(s.At(fmt.Sprint("conv", i+1)), from, c.Hidden, MotionStep)
		m.conv[i].Config = nn.Conv1DConfig{Stride: 2, Pad: [2]int{1, 1}}
		from = c.Hidden
	}
	m.rows = NewGRU(s.At("rows"), c.Hidden, c.Hidden, 1, false)
	m.last = nn.NewLinear(s.At("features"), 2*c.Hidden, c.Dim)
	m.heads = nn.NewLinear(s.At("heads"), c.Dim, c.Outputs)
	m.word = nn.NewEmbedding(s.At("word"), c.Vocab, c.Word)
	m.words = NewGRU(s.At("words"), c.Word, c.Hidden, 1, false)
	m.ofMotion = nn.NewLinearNoBias(s.At("motion_projection"), c.Dim, c.Embed)
	m.ofText = nn.NewLinearNoBias(s.At("text_projection"), c.Hidden, c.Embed)
	m.LogScale = s.Param("logit_scale", nn.Fill(float32(math.Log(1/0.07))))
	return m
}

// Forward is the features [B, Dim] of motions x [B, T, Channels], T a multiple of MotionStep. lens
// is nil or Int32 [B], multiples too: what is from lens[b] on is padding, which nothing depends on.
func (m *Motion) Forward(x *nn.Var, lens *gpu.Tensor) *nn.Var {
	s := x.Shape()
	if len(s) != 3 || s[2] != m.Config.Channels || s[1] < MotionStep || s[1]%MotionStep != 0 {
		panic(fmt.Sprintf("tower: Motion: motions of shape %v, want [B, a multiple of %d, %d]", s, MotionStep, m.Config.Channels))
	}
	if lens != nil && lens.Len() != s[0] {
		panic(fmt.Sprintf("tower: Motion: %d lengths for motions of shape %v", lens.Len(), s))
	}
	t, b, l := x.Tape(), s[0], s[1]
	own := lens
	if lens != nil {
		own = host(t, gpu.Int32, b)
		copy(own.I32(), lens.I32())
		for i, n := range own.I32() {
			if n < MotionStep || int(n) > l || n%MotionStep != 0 {
				panic(fmt.Sprintf("tower: Motion: motion %d has %d rows of %d, want a multiple of %d", i, n, l, MotionStep))
			}
		}
	}
	x = x.Sub(t.Input(m.Mean)).Mul(t.Input(m.Inverse))
	if own != nil {
		x = x.Mul(present(t, own, b, l))
	}
	x = x.Permute(0, 2, 1)
	for _, conv := range m.conv {
		x, l = conv.Forward(x).SiLU(), l/2
		if own != nil {
			half(own)
			x = x.Mul(present(t, own, b, l).Reshape(b, 1, l))
		}
	}
	states, last := m.rows.Forward(x.Permute(0, 2, 1), own)
	mean := states.Sum(1).Reshape(b, m.Config.Hidden)
	if own == nil {
		mean = mean.Scale(1 / float64(l))
	} else {
		mean = mean.Div(present(t, own, b, l).Sum(1).Reshape(b, 1))
	}
	return m.last.Forward(nn.Concat(1, last, mean))
}

func half(lens *gpu.Tensor) {
	for i := range lens.I32() {
		lens.I32()[i] /= 2
	}
}

// Heads is what the heads say of features [B, Dim], [B, Outputs].
func (m *Motion) Heads(features *nn.Var) *nn.Var { return m.heads.Forward(features) }

// MotionEmbedding is the unit vectors [B, Embed] of features [B, Dim].
func (m *Motion) MotionEmbedding(features *nn.Var) *nn.Var {
	return m.ofMotion.Forward(features).Unit(1e-12)
}

// TextEmbedding is the unit vectors [B, Embed] of captions, ids [B, L] on the CPU, each at least one
// id that is not 0.
func (m *Motion) TextEmbedding(t *nn.Tape, ids *gpu.Tensor) *nn.Var {
	s := ids.Shape()
	if len(s) != 2 {
		panic(fmt.Sprintf("tower: Motion: captions of shape %v, want [B, L]", s))
	}
	b, l := s[0], s[1]
	lens := host(t, gpu.Int32, b)
	for i := range b {
		n := l
		for n > 0 && ids.I32()[i*l+n-1] == 0 {
			n--
		}
		if n == 0 {
			panic(fmt.Sprintf("tower: Motion: caption %d is all padding", i))
		}
		lens.I32()[i] = int32(n)
	}
	_, last := m.words.Forward(m.word.Forward(t, ids), lens)
	return m.ofText.Forward(last).Unit(1e-12)
}

// Loss is the mean of InfoNCE from motions to captions and back, over unit vectors of as many of
// both, the i-th of which belong together.
func (m *Motion) Loss(motion, caption *nn.Var) *nn.Var {
	scale := motion.Tape().Use(m.LogScale).Exp()
	o := NCE{InBatch: true}
	return o.Loss(motion, caption, nil, scale).Add(o.Loss(caption, motion, nil, scale)).Scale(0.5)
}
