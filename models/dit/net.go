package dit

import (
	"fmt"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Net is a network of a Config; it is a models.Net.
type Net struct {
	Patch  *nn.PatchEmbed
	Time   *nn.TimeEmbed // its layers are nil with PlainTime
	Class  *nn.LabelEmbed
	Join   *nn.Linear // of joined tokens
	Blocks []*Block
	Last   *nn.Linear

	c       Config
	params  *nn.Params
	takes   models.Takes
	names   struct{ tokens, vectors []string }
	vectors []*nn.Linear // by name, in order
	place   *gpu.Tensor  // fixed places, [1, N, Dim]
	learned *nn.Param    // trained ones, [1, all tokens, Dim]
	norm    *norm
	mod     *nn.Linear // of the last layer
	conv    *nn.Conv2D
	stem    *stem
	tokens  int // of the picture
	before  int // time and class

	tables sync.Mutex // guards the tables, which several tapes may ask for
	few    map[int]*few
	angles map[[2]int]*gpu.Tensor
}

var _ models.Net = (*Net)(nil)

// New registers a network in s, which is not laid out yet. It panics where c.Check has an
// error.
func New(s nn.Scope, c Config) *Net {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	n := &Net{c: c, params: s.Params(), few: map[int]*few{}, angles: map[[2]int]*gpu.Tensor{}}
	n.c.Blocks = slices.Clone(c.Blocks)
	n.tokens = c.Height / c.Patch * (c.Width / c.Patch)
	n.names.tokens, n.names.vectors = sorted(c.Tokens), sorted(c.Vectors)
	n.takes = models.Takes{
		Channels: c.Channels, Out: c.Channels, Height: c.Height, Width: c.Width, Multiple: c.Patch,
		Classes: c.Classes, Tokens: c.Tokens, Vectors: c.Vectors, Extra: c.Extra,
	}
	if c.Sigma == LearnSigma {
		n.takes.Out = 2 * c.Channels
	}
	first := len(n.params.All())
	if c.LongSkips {
		n.registerUViT(s)
	} else {
		n.register(s)
	}
	n.start(n.params.All()[first:])
	return n
}

// register makes the parts by the names of DiT.
func (n *Net) register(s nn.Scope) {
	c := &n.c
	in, out := c.cut()
	if c.Stem > 0 {
		n.stem = newStem(s, c)
	}
	n.Patch = nn.NewPatchEmbed(s.At("x_embedder.proj"), in, c.Dim, c.Patch)
	waves := ops.WaveConfig{Width: 256, CosFirst: true, Scale: c.TimeFactor, Shift: c.TimeShift}
	if c.PlainTime {
		waves.Width = c.Dim
		n.Time = &nn.TimeEmbed{Waves: waves}
	} else if n.timed() {
		n.Time = nn.NewTimeEmbed(s.At("t_embedder"), c.Dim, nn.TimeOptions{Waves: waves})
	}
	if c.Classes > 0 {
		n.Class = nn.NewLabelEmbed(s.At("y_embedder"), c.Classes, c.Dim)
	}
	n.registerRest(s)
	for i := range c.Depth {
		n.Blocks = append(n.Blocks, NewBlock(s.At(fmt.Sprint("blocks.", i)), c, c.kind(i), false))
	}
	last := s.At("final_layer")
	n.norm = newNorm(last.At("norm_final"), c)
	n.Last = nn.NewLinear(last.At("linear"), c.Dim, c.Patch*c.Patch*out)
	if c.Modulation != NoModulation {
		n.mod = nn.NewLinear(last.At("adaLN_modulation.1"), c.Dim, 2*c.Dim)
	}
	if c.FinalConv {
		n.conv = nn.NewConv2D(last.At("conv"), c.out(), c.out(), 3)
	}
}

// registerUViT makes the parts by the names of U-ViT.
func (n *Net) registerUViT(s nn.Scope) {
	c := &n.c
	n.Patch = nn.NewPatchEmbed(s.At("patch_embed.proj"), c.Channels+c.Extra, c.Dim, c.Patch)
	n.Time = &nn.TimeEmbed{Waves: ops.WaveConfig{Width: c.Dim, CosFirst: true, Scale: c.TimeFactor, Shift: c.TimeShift}}
	if !c.PlainTime {
		t := s.At("time_embed")
		n.Time.First, n.Time.Second = nn.NewLinear(t.At("0"), c.Dim, 4*c.Dim).Then(ops.SiLU), nn.NewLinear(t.At("2"), 4*c.Dim, c.Dim)
	}
	if c.Classes > 0 {
		n.Class = &nn.LabelEmbed{Classes: c.Classes, W: nn.NewEmbedding(s.At("label_emb"), c.Classes+1, c.Dim).W}
	}
	n.registerRest(s)
	half := c.Depth / 2
	for i := range c.Depth {
		name := "mid_block"
		switch {
		case i < half:
			name = fmt.Sprint("in_blocks.", i)
		case i > half:
			name = fmt.Sprint("out_blocks.", i-half-1)
		}
		n.Blocks = append(n.Blocks, NewBlock(s.At(name), c, Dense, i > half))
	}
	n.norm = newNorm(s.At("norm"), c)
	n.Last = nn.NewLinear(s.At("decoder_pred"), c.Dim, c.Patch*c.Patch*c.out())
	if c.Modulation != NoModulation {
		n.mod = nn.NewLinear(s.At("adaLN_modulation.1"), c.Dim, 2*c.Dim)
	}
	if c.FinalConv {
		n.conv = nn.NewConv2D(s.At("final_layer"), c.out(), c.out(), 3)
	}
}

// timed tells whether the time is embedded.
func (n *Net) timed() bool { return n.c.Modulation != NoModulation || n.c.TimeToken }

// registerRest makes what other networks have no names for, and the places.
func (n *Net) registerRest(s nn.Scope) {
	c := &n.c
	for _, name := range n.names.vectors {
		n.vectors = append(n.vectors, nn.NewLinear(s.At("vector_embedder."+name), c.Vectors[name], c.Dim))
	}
	after := 0
	if c.TokenUse == JoinTokens {
		n.Join = nn.NewLinear(s.At("context_embed"), c.Tokens[n.names.tokens[0]], c.Dim)
		after = c.JoinLength
	}
	for _, is := range [...]bool{c.TimeToken, c.ClassToken} {
		if is {
			n.before++
		}
	}
	switch c.Places {
	case SinCos:
		n.place = nn.SinCos2D(n.params.Device(), n.params.DType(), c.Height/c.Patch, c.Width/c.Patch, c.Dim, 1).View(1, n.tokens, c.Dim)
		s.Buffer("pos_embed", n.place)
	case Learned:
		n.learned = s.Param("pos_embed", nn.TruncNormal(0.02), 1, n.before+after+n.tokens, c.Dim)
	}
}

// start sets how parameters begin: as in the reference code of DiT, or that of U-ViT.
func (n *Net) start(list []*nn.Param) {
	weights := nn.Init(nn.Xavier)
	if n.c.LongSkips {
		weights = nn.TruncNormal(0.02)
	}
	for _, p := range list {
		switch {
		case n.Class != nil && p == n.Class.W || n.isConv(p):
		case len(p.Shape()) == 2:
			p.Start = weights
		case len(p.Shape()) == 1 && p.Name[len(p.Name)-5:] == ".bias":
			p.Start = nn.Zeros
		}
	}
	if n.c.LongSkips {
		n.Patch.W.Start, n.Patch.B.Start = nn.FanIn, nn.Uniform(1/float64(n.Patch.Patch))
	} else if n.Time != nil && n.Time.First != nil {
		n.Time.First.W.Start, n.Time.Second.W.Start = nn.Normal(0.02), nn.Normal(0.02)
	}
	for _, b := range n.Blocks {
		b.start()
	}
	if n.mod != nil {
		n.mod.Zero()
		if n.stem != nil {
			n.stem.last.Zero()
		} else {
			n.Last.Zero()
		}
	}
}

// isConv tells whether p is of a convolution at the size of the pictures, which starts as such layers do.
func (n *Net) isConv(p *nn.Param) bool {
	return slices.ContainsFunc(n.convs(), func(c *nn.Conv2D) bool { return p == c.W || p == c.B })
}

// convs are the convolutions at the size of the pictures.
func (n *Net) convs() []*nn.Conv2D {
	switch {
	case n.conv != nil:
		return []*nn.Conv2D{n.conv}
	case n.stem != nil:
		return n.stem.convs()
	}
	return nil
}

// Params is the models.Net's.
func (n *Net) Params() *nn.Params { return n.params }

// Config is what the network was made of.
func (n *Net) Config() Config { return n.c }

// Takes is the models.Net's.
func (n *Net) Takes() models.Takes { return n.takes }
