package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Waves is the sinusoidal embedding of the numbers x, [...], as [..., c.Width].
func (x *Var) Waves(c ops.WaveConfig) *Var {
	t := x.tape
	t.shape = append(append(t.shape[:0], x.Shape()...), c.Width)
	val := t.empty(t.shape...)
	ops.Waves(val, x.val, c)
	y, n := t.result(val, wavesBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.n[0], n.n[1] = wavesAhead, c.Width, number(c.CosFirst)
		n.f = [3]float64{c.Shift, c.Scale, c.Period}
	}
	return y
}

func wavesBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		if !acc {
			ops.Fill(to, 0)
		}
		ops.WavesBackward(to, n.out.grad, n.in[0].val, n.waves())
	}
}

func (n *node) waves() ops.WaveConfig {
	return ops.WaveConfig{Width: n.n[0], CosFirst: n.n[1] == 1, Shift: n.f[0], Scale: n.f[1], Period: n.f[2]}
}

// wavesAhead has each half's slopes from the other: those of sines are cosines, and the
// reverse with another sign.
func wavesAhead(t *Tape, n *node) *Var {
	c, s := n.waves(), n.in[0].Shape()
	w := c.Frequencies()
	for i, v := range w {
		if c.CosFirst {
			w[i] = -v
		}
		w = append(w, -w[i])
	}
	last, half := len(s), c.Width/2
	other := Concat(last, n.out.Slice(last, half, half), n.out.Slice(last, 0, half))
	return other.Mul(t.newVar(table(t.dev, t.dt, w, c.Width))).Mul(t.dir(n.in[0]).Reshape(append(append([]int{}, s...), 1)...))
}

// TimeEmbed embeds times: waves, a linear layer, SiLU and another one.
type TimeEmbed struct {
	Waves         ops.WaveConfig
	First, Second *Linear
}

// TimeOptions are the variations of a TimeEmbed; the zero value is that of DiT (Peebles and
// Xie 2023, arXiv 2212.09748).
type TimeOptions struct {
	Waves ops.WaveConfig // Width 0: 256 waves, cosines first
	Names [2]string      // of the layers; "mlp.0" and "mlp.2" where they are empty
}

// NewTimeEmbed registers two layers of that width in s.
func NewTimeEmbed(s Scope, width int, o TimeOptions) *TimeEmbed {
	if o.Waves.Width == 0 {
		o.Waves.Width, o.Waves.CosFirst = 256, true
	}
	if o.Names == [2]string{} {
		o.Names = [2]string{"mlp.0", "mlp.2"}
	}
	return &TimeEmbed{
		Waves: o.Waves,
		First: NewLinear(s.At(o.Names[0]), o.Waves.Width, width).Then(ops.SiLU), Second: NewLinear(s.At(o.Names[1]), width, width),
	}
}

// Forward is the embedding of times [B], as [B, width].
func (e *TimeEmbed) Forward(times *Var) *Var {
	if len(times.Shape()) != 1 {
		panic(fmt.Sprintf("nn: TimeEmbed: times of shape %v, want [B]", times.Shape()))
	}
	return e.Second.Forward(e.First.Forward(times.Waves(e.Waves)))
}

// LabelEmbed is a table of classes' embeddings with a last row for none, which stands in
// where a label is left out (Ho and Salimans 2022, arXiv 2207.12598).
type LabelEmbed struct {
	Classes int
	W       *Param // [Classes+1, width]
}

// NewLabelEmbed registers the table embedding_table.weight in s.
func NewLabelEmbed(s Scope, classes, width int) *LabelEmbed {
	return &LabelEmbed{Classes: classes, W: NewEmbedding(s.At("embedding_table"), classes+1, width).W}
}

// Forward is the rows of labels, Int32 [B] on the CPU, as [B, width]; the number of classes
// stands for none. Labels whose element of dropped, Int32 [B] or nil, is not 0 are taken for
// none: who trains two networks on the same samples gives both the same.
func (e *LabelEmbed) Forward(t *Tape, labels, dropped *gpu.Tensor) *Var {
	if len(labels.Shape()) != 1 || dropped != nil && dropped.Len() != labels.Len() {
		got := labels.Shape()
		if dropped != nil {
			got = append(append([]int{}, got...), dropped.Shape()...)
		}
		panic(fmt.Sprintf("nn: LabelEmbed: labels and what is dropped have shape %v, want [B] each", got))
	}
	if dropped != nil {
		kept := t.Ids(labels.Len())
		for i, c := range labels.I32() {
			if dropped.I32()[i] != 0 {
				c = int32(e.Classes)
			}
			kept.I32()[i] = c
		}
		labels = kept
	}
	return t.Use(e.W).Rows(labels)
}

// Ids is room for n whole numbers of this step, Int32 [n], on the CPU, where operations take
// them whatever device they run on.
func (t *Tape) Ids(n int) *gpu.Tensor {
	if t.dev.CUDA() {
		return gpu.CPU().New(gpu.Int32, n)
	}
	return t.arena.New(gpu.Int32, n)
}
