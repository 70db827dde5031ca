package codec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
)

// MotionConfig describes a Motion. Zeros stand for the defaults.
type MotionConfig struct {
	Channels int // features of a frame
	Width    int
	Downs    int // halvings of the number of frames: 2
	Depth    int // residual blocks of a size, with dilations 3^(Depth-1), …, 3, 1: 3
	// Codes is the books that a latent is coded by, one level an ordinary book. Their Width is
	// the latent's.
	Codes vq.ResidualConfig
}

func (c MotionConfig) filled() MotionConfig {
	if c.Downs == 0 {
		c.Downs = 2
	}
	if c.Depth == 0 {
		c.Depth = 3
	}
	if c.Codes.Levels == 0 {
		c.Codes.Levels = 1
	}
	return c
}

// Check says what is wrong with c.
func (c MotionConfig) Check() error {
	f := c.filled()
	switch {
	case c.Channels < 1:
		return fmt.Errorf("codec: Channels is %d, want >= 1", c.Channels)
	case c.Width < 1:
		return fmt.Errorf("codec: Width is %d, want >= 1", c.Width)
	case f.Downs < 1:
		return fmt.Errorf("codec: Downs is %d, want >= 1", c.Downs)
	case f.Depth < 1 || f.Depth > 20:
		return fmt.Errorf("codec: Depth is %d, want 1 to 20", c.Depth)
	}
	return f.Codes.Check()
}

// Factor is how many frames a latent stands for.
func (c MotionConfig) Factor() int { return 1 << c.filled().Downs }

// CheckMotions says what is wrong with motions of that shape.
func (c MotionConfig) CheckMotions(shape []int) error {
	if len(shape) != 3 || shape[2] != c.Channels {
		return fmt.Errorf("codec: motions of shape %v, want [n, frames, %d]", shape, c.Channels)
	}
	if k := c.Factor(); shape[1] < k || shape[1]%k != 0 {
		return fmt.Errorf("codec: motions of %d frames, want a multiple of %d", shape[1], k)
	}
	return nil
}

// res1D is x + conv1(relu(conv3(relu(x)))), the latter dilated.
type res1D struct{ conv1, conv2 *nn.Conv1D }

func (r *res1D) forward(x *nn.Var) *nn.Var {
	return x.Add(r.conv2.Forward(r.conv1.Forward(x.ReLU()).ReLU()))
}

// stack1D is blocks of falling dilation.
type stack1D []*res1D

func newStack1D(s nn.Scope, width, depth int) (blocks stack1D) {
	dilation := 1
	for range depth - 1 {
		dilation *= 3
	}
	for i := range depth {
		at := s.At(fmt.Sprintf("model.%d", i))
		r := &res1D{nn.NewConv1D(at.At("conv1"), width, width, 3), nn.NewConv1D(at.At("conv2"), width, width, 1)}
		r.conv1.Config = nn.Same1D(3, dilation)
		blocks = append(blocks, r)
		dilation /= 3
	}
	return blocks
}

func (s stack1D) forward(x *nn.Var) *nn.Var {
	for _, r := range s {
		x = r.forward(x)
	}
	return x
}

// Motion is an autoencoder of sequences whose latents are codes of books, or of residual
// books: the tokenizer of T2M-GPT (Zhang et al. 2023, arXiv 2301.06052), MMM (Pinyoanuntapong
// et al. 2024, arXiv 2312.03596) and MoMask. Its parameters have the names of the first two;
// MMMNames turns those of their files.
type Motion struct {
	Config    MotionConfig
	Quantizer *vq.Residual

	encIn, encOut      *nn.Conv1D
	downs              []*nn.Conv1D
	encStacks          []stack1D
	decIn, decMid, out *nn.Conv1D
	ups                []*nn.Conv1D
	decStacks          []stack1D
}

// NewMotion registers an autoencoder in s.
func NewMotion(s nn.Scope, c MotionConfig) *Motion {
	must(c.Check())
	c = c.filled()
	m := &Motion{Config: c}
	e, d, latent := s.At("encoder.model"), s.At("decoder.model"), c.Codes.Book.Width
	at := func(s nn.Scope, i int) nn.Scope { return s.At(strconv.Itoa(i)) }
	m.encIn, m.decIn = nn.NewConv1D(at(e, 0), c.Channels, c.Width, 3), nn.NewConv1D(at(d, 0), latent, c.Width, 3)
	for i := range c.Downs {
		down := nn.NewConv1D(at(at(e, 2+i), 0), c.Width, c.Width, 4)
		down.Config = nn.Conv1DConfig{Stride: 2, Pad: [2]int{1, 1}}
		m.downs = append(m.downs, down)
		m.encStacks = append(m.encStacks, newStack1D(at(at(e, 2+i), 1), c.Width, c.Depth))
		m.decStacks = append(m.decStacks, newStack1D(at(at(d, 2+i), 0), c.Width, c.Depth))
		m.ups = append(m.ups, nn.NewConv1D(at(at(d, 2+i), 2), c.Width, c.Width, 3))
	}
	m.encOut = nn.NewConv1D(at(e, 2+c.Downs), c.Width, latent, 3)
	m.decMid, m.out = nn.NewConv1D(at(d, 2+c.Downs), c.Width, c.Width, 3), nn.NewConv1D(at(d, 4+c.Downs), c.Width, c.Channels, 3)
	m.Quantizer = vq.NewResidual(s.At("quantizer"), c.Codes)
	return m
}

// MMMNames is a LoadOptions.Rename from the names of the files of T2M-GPT and MMM. They lack
// the averages of the book: load with Missing and call Loaded of the book.
func MMMNames(name string) string {
	name = strings.TrimPrefix(name, "vqvae.")
	if name == "quantizer.codebook" {
		return "quantizer.layers.0.embedding.weight"
	}
	return name
}

// Features is what codes are chosen for, [N, T/f, latent], of motions x [N, T, Channels].
func (m *Motion) Features(x *nn.Var) *nn.Var {
	must(m.Config.CheckMotions(x.Shape()))
	h := m.encIn.Forward(x.Permute(0, 2, 1)).ReLU()
	for i, d := range m.downs {
		h = m.encStacks[i].forward(d.Forward(h))
	}
	return m.encOut.Forward(h).Permute(0, 2, 1)
}

// Encode is the codes of motions x [N, T, Channels], [N, T/f, latent], and what else the
// books make of them: indices [N·T/f, Levels] and loss. step as for vq.Residual.Quantize.
// After Backward, training gives it to Quantizer.Update.
func (m *Motion) Encode(x *nn.Var, train bool, step uint64) (z *nn.Var, made vq.Residuals) {
	h := m.Features(x)
	s := h.Shape()
	made = m.Quantizer.Quantize(h.Reshape(s[0]*s[1], s[2]), train, step)
	return made.Codes.Reshape(s...), made
}

// Decode is the motions of codes z [N, L, latent], [N, L·f, Channels].
func (m *Motion) Decode(z *nn.Var) *nn.Var {
	if s := z.Shape(); len(s) != 3 || s[2] != m.Config.Codes.Book.Width {
		panic(fmt.Sprintf("codec: Motion: codes of shape %v, want [n, length, %d]", s, m.Config.Codes.Book.Width))
	}
	h := m.decIn.Forward(z.Permute(0, 2, 1)).ReLU()
	for i, u := range m.ups {
		h = u.Forward(m.decStacks[i].forward(h).Upsample1D(2))
	}
	return m.out.Forward(m.decMid.Forward(h).ReLU()).Permute(0, 2, 1)
}

// DecodeIndices is the motions of indices, Int32 [N, L, Levels] on the CPU, by their first
// levels; an index -1 adds nothing.
func (m *Motion) DecodeIndices(t *nn.Tape, idx *gpu.Tensor, levels int) *nn.Var {
	s := idx.Shape()
	if len(s) != 3 || s[2] != m.Config.Codes.Levels {
		panic(fmt.Sprintf("codec: Motion: indices of shape %v, want [n, length, %d]", s, m.Config.Codes.Levels))
	}
	return m.Decode(m.Quantizer.Decode(t, idx.View(s[0]*s[1], s[2]), levels).Reshape(s[0], s[1], m.Config.Codes.Book.Width))
}

// MotionLoss is the smooth L1 distance of motions, mean over all, plus weight times that of n
// channels from first on: the positions of joints, 4 to 66 of HumanML3D's 263, get 0.5.
func MotionLoss(x, y *nn.Var, first, n int, weight float64) *nn.Var {
	loss := nn.SmoothL1(x, y, 1).Mean()
	if weight == 0 {
		return loss
	}
	last := len(x.Shape()) - 1
	return loss.Add(nn.SmoothL1(x.Slice(last, first, n), y.Slice(last, first, n), 1).Mean().Scale(weight))
}
