package classifier

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// block is two convolutions with norms beside a skip path.
type block struct {
	conv1, conv2, skip   *nn.Conv2D
	norm1, norm2, normed *nn.GroupNorm // normed is the skip path's
	emb                  *nn.Linear    // to scale and shift of the second norm; nil where no time is told
	tap                  string
}

func norm(s nn.Scope, channels int) *nn.GroupNorm {
	m := nn.NewGroupNorm(s, channels/4, channels)
	m.Last = true
	return m
}

// bare is a convolution without a bias, which the norm after it would take away again.
func bare(s nn.Scope, in, out, k, step int) *nn.Conv2D {
	return &nn.Conv2D{
		W:      s.Param("weight", nn.FanIn, out, in, k, k),
		Config: ops.ConvConfig{Stride: step, Pad: [4]int{k / 2, k / 2, k / 2, k / 2}, Last: true},
	}
}

func (n *Classifier) resnet(s nn.Scope) {
	c, w := &n.config, n.config.widths()
	ch := w[0]
	n.stem, n.norm = bare(s.At("conv1"), c.Channels, ch, 3, 1), norm(s.At("norm1"), ch)
	width := 4 * ch
	if c.Timed {
		n.time = nn.NewTimeEmbed(s.At("time_embed"), width, nn.TimeOptions{Waves: ops.WaveConfig{Width: ch, CosFirst: true}, Names: [2]string{"0", "2"}})
	}
	for i, out := range w {
		var level []*block
		for j := range max(1, c.Blocks) {
			step := 1
			if i > 0 && j == 0 {
				step = 2
			}
			at := s.At(fmt.Sprintf("layer%d.%d", i+1, j))
			b := &block{
				conv1: bare(at.At("conv1"), ch, out, 3, step), norm1: norm(at.At("norm1"), out),
				conv2: bare(at.At("conv2"), out, out, 3, 1), norm2: norm(at.At("norm2"), out), tap: at.Name(""),
			}
			if step > 1 || ch != out {
				b.skip, b.normed = bare(at.At("downsample.0"), ch, out, 1, step), norm(at.At("downsample.1"), out)
			}
			if c.Timed {
				b.emb = nn.NewLinear(at.At("emb"), width, 2*out)
			}
			level = append(level, b)
			ch = out
		}
		n.levels = append(n.levels, level)
	}
	n.last = nn.NewLinear(s.At("fc"), ch, c.Classes)
}

func (n *Classifier) resnetFeatures(x, time *nn.Var) *nn.Var {
	var emb *nn.Var
	if n.time != nil {
		emb = n.time.Forward(time).SiLU()
	}
	x = n.norm.Forward(n.stem.Forward(x)).ReLU().Tap(n.name.stem)
	for _, level := range n.levels {
		for _, b := range level {
			x = b.forward(x, emb)
		}
	}
	s := x.Shape()
	return x.Reshape(s[0], s[1]*s[2], s[3]).Mean(1).Reshape(s[0], s[3])
}

func (b *block) forward(x, emb *nn.Var) *nn.Var {
	h := b.conv2.Forward(b.norm1.Forward(b.conv1.Forward(x)).ReLU())
	if b.emb != nil {
		e := b.emb.Forward(emb)
		ch := h.Shape()[3]
		h = b.norm2.Modulate(h, e.Slice(1, 0, ch), e.Slice(1, ch, ch))
	} else {
		h = b.norm2.Forward(h)
	}
	if b.skip != nil {
		x = b.normed.Forward(b.skip.Forward(x))
	}
	return x.Add(h).ReLU().Tap(b.tap)
}
