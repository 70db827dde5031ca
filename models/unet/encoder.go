package unet

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// encoder is what a U-Net and a control branch share: the embedding of conditions, the way
// down and the middle.
type encoder struct {
	config  Config
	time    [2]*nn.Linear
	waves   ops.WaveConfig
	freqs   *nn.Param // of random waves, not trained; nil: waves
	labels  *nn.Param // rows or columns of classes
	bias    *nn.Param // of ColumnsFirst
	vectors [][2]*nn.Linear
	input   [][]*block
	middle  []*block
	mid     string // name of the middle's tap
	own     [2]int // where its parameters are in the list of all
}

func (e *encoder) build(s nn.Scope, c Config, p *plan) {
	e.config, e.waves, e.mid = c, c.waves(), s.Name("mid")
	e.own[0] = len(s.Params().All())
	width := c.embed()
	two := func(s nn.Scope, in int) [2]*nn.Linear {
		return [2]*nn.Linear{nn.NewLinear(s.At("0"), in, width).Then(ops.SiLU), nn.NewLinear(s.At("2"), width, width)}
	}
	e.time = two(s.At("time_embed"), e.waves.Width)
	if c.Fourier > 0 {
		e.freqs = s.At("time_proj").Param("weight", nn.Normal(c.Fourier), e.waves.Width/2)
		e.freqs.Frozen = true
	}
	e.buildLabels(s.At("label_emb"), &c)
	for _, v := range c.Vectors {
		e.vectors = append(e.vectors, two(s.At("vector_embed."+v.Name), v.Width))
	}
	for _, st := range p.input {
		e.input = append(e.input, c.stage(s, st))
	}
	e.middle = c.stage(s, p.middle)
	e.own[1] = len(s.Params().All())
}

func (e *encoder) buildLabels(s nn.Scope, c *Config) {
	if c.Classes == 0 {
		return
	}
	switch c.Labels {
	case Rows:
		rows := c.Classes
		if c.NoneRow {
			rows++
		}
		e.labels = nn.NewEmbedding(s, rows, c.embed()).W
	case Columns:
		e.labels = s.Param("weight", nn.Normal(0.02), c.embed(), c.Classes)
	case ColumnsFirst:
		e.labels = s.Param("weight", nn.Normal(0.02), e.waves.Width, c.Classes)
		e.bias = s.Param("bias", nn.Zeros, e.waves.Width)
	}
}

// classes is what the classes of a batch add; no class without a row of its own adds zero.
func (e *encoder) classes(t *nn.Tape, in models.Inputs) *nn.Var {
	table := t.Use(e.labels)
	if e.config.Labels != Rows {
		table = table.Permute(1, 0)
	}
	if !e.config.NoneRow {
		table = nn.Concat(0, table, t.Const(0, 1, table.Shape()[1]))
	}
	x := table.Rows(in.Classes)
	if e.bias != nil {
		x = x.Scale(math.Sqrt(float64(e.config.Classes))).Add(t.Use(e.bias))
	}
	return x
}

func (c *Config) stage(s nn.Scope, st stage) (blocks []*block) {
	for _, l := range st.layers {
		blocks = append(blocks, c.block(s, l))
	}
	return blocks
}

// begin is what the blocks of a pass share, for pictures x of the network's and their times.
func (e *encoder) begin(p *pass, time *nn.Var, in models.Inputs) {
	t := time.Tape()
	waves := e.wavesOf(time)
	if e.bias != nil {
		waves = waves.Add(e.classes(t, in))
	}
	emb := e.time[1].Forward(e.time[0].Forward(waves))
	if e.labels != nil && e.bias == nil {
		emb = emb.Add(e.classes(t, in))
	}
	for i, v := range e.config.Vectors {
		l := e.vectors[i]
		emb = emb.Add(l[1].Forward(l[0].Forward(in.Vectors[v.Name])))
	}
	p.emb = emb.SiLU()
	for i, c := range e.config.Contexts {
		tok := in.Tokens[c.Name]
		p.contexts[i] = nn.Context{States: tok.States, Lens: tok.Lens}
	}
}

func (e *encoder) wavesOf(time *nn.Var) *nn.Var {
	if e.freqs == nil {
		return time.Waves(e.waves)
	}
	n := e.waves.Width / 2
	at := time.Reshape(-1, 1).Mul(time.Tape().Use(e.freqs).Reshape(1, n)).Scale(2 * math.Pi)
	if e.waves.CosFirst {
		return nn.Concat(1, at.Map(ops.Cos), at.Map(ops.Sin))
	}
	return nn.Concat(1, at.Map(ops.Sin), at.Map(ops.Cos))
}

// through is x after the blocks of a stage.
func through(p *pass, x *nn.Var, blocks []*block) *nn.Var {
	for _, b := range blocks {
		x = b.forward(p, x)
	}
	return x
}

// first is x with the extra channels, in squares, with channels as the last axis: convolutions and norms are
// faster so, and attention sees places without copying.
func (e *encoder) first(x *nn.Var, in models.Inputs) *nn.Var {
	if in.Extra != nil {
		x = nn.Concat(1, x, in.Extra)
	}
	if p := e.config.patch(); p > 1 {
		x = x.PixelUnshuffle(p)
	}
	return last(x)
}

// last is pictures [N, C, H, W] as [N, H, W, C].
func last(x *nn.Var) *nn.Var {
	if s := x.Shape(); s[1] == 1 {
		return x.Reshape(s[0], s[2], s[3], 1)
	}
	return x.Permute(0, 2, 3, 1)
}

// channelsFirst is the way back.
func channelsFirst(x *nn.Var) *nn.Var {
	if s := x.Shape(); s[3] == 1 {
		return x.Reshape(s[0], 1, s[1], s[2])
	}
	return x.Permute(0, 3, 1, 2)
}

// mustFit panics where the inputs are not what the network takes.
func mustFit(k models.Takes, x, time *nn.Var, in models.Inputs) {
	if err := k.Check(x.Shape(), in); err != nil {
		panic(err.Error())
	}
	if s := time.Shape(); len(s) != 1 || s[0] != x.Shape()[0] {
		panic(fmt.Sprintf("unet: times of shape %v for pictures %v, want [%d]", s, x.Shape(), x.Shape()[0]))
	}
}
