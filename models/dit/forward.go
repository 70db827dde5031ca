package dit

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// Options change one pass through a network.
type Options struct {
	Gates  *nn.Var // [B, Depth]: a block's result counts that much, its input the rest; nil: ones
	Skip   []bool  // Depth of them: blocks that are left out; nil: none
	Grid   int     // of merged tokens; 0: the Config's
	Places *nn.Var // [B or 1, patches, Dim], added to the patches' tokens, with NoPlaces in place of any others
}

// Forward is the models.Net's.
func (n *Net) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	return n.ForwardWith(x, time, in, Options{})
}

// ForwardWith is Forward with options.
func (n *Net) ForwardWith(x, time *nn.Var, in models.Inputs, o Options) *nn.Var {
	n.check(x, time, in, &o)
	c, tape := &n.c, x.Tape()
	if in.Extra != nil {
		x = nn.Concat(1, x, in.Extra)
	}
	batch := x.Shape()[0]
	if n.stem != nil {
		x = n.stem.before(x)
	}
	h := n.Patch.Forward(x)
	if o.Places != nil {
		h = h.Add(o.Places)
	}
	var room [4]nn.Context
	var at BlockInput
	contexts := room[:0]
	if n.Join == nil {
		contexts = n.contexts(contexts, in)
	}
	cond := n.embed(tape, time, in, &h, &at)
	before, after := n.before, h.Shape()[1]-n.before-n.tokens
	if c.Modulation != NoModulation {
		at.Cond = cond.SiLU()
	}
	if c.Norm == TimeRMS {
		at.Time = time.Affine(c.TimeRamp[0], c.TimeRamp[1]).Reshape(batch, 1)
	}
	at.Angles = n.anglesOf(before, after)
	h = n.blocks(h, at, contexts, &o)
	if before+after > 0 {
		h = h.Slice(1, before, n.tokens)
	}
	var scale, shift *nn.Var
	if n.mod != nil {
		m := n.mod.Forward(at.Cond)
		shift, scale = m.Slice(1, 0, c.Dim), m.Slice(1, c.Dim, c.Dim)
	}
	y := n.Last.Forward(n.norm.forward(h, scale, shift, at.Time)).Unpatchify(c.Patch, c.Height, c.Width, nn.ChannelsLast)
	switch {
	case n.conv != nil:
		y = n.conv.Forward(y)
	case n.stem != nil:
		y = n.stem.after(y, x)
	}
	if c.Sigma == DropSigma {
		y = y.Slice(1, 0, c.Channels)
	}
	return y
}

func (n *Net) check(x, time *nn.Var, in models.Inputs, o *Options) {
	if err := n.takes.Check(x.Shape(), in); err != nil {
		panic(err.Error())
	}
	if in.Control != nil {
		panic("dit: Forward: a control, which the network does not take")
	}
	batch := x.Shape()[0]
	if s := time.Shape(); len(s) != 1 || s[0] != batch {
		panic(fmt.Sprintf("dit: Forward: times of shape %v for %d pictures, want [B]", s, batch))
	}
	if o.Gates != nil {
		if s := o.Gates.Shape(); len(s) != 2 || s[0] != batch || s[1] != n.c.Depth {
			panic(fmt.Sprintf("dit: Forward: gates of shape %v, want [%d, %d]", s, batch, n.c.Depth))
		}
	}
	if o.Places != nil {
		if s := o.Places.Shape(); len(s) != 3 || s[0] != 1 && s[0] != batch || s[1] != n.tokens || s[2] != n.c.Dim {
			panic(fmt.Sprintf("dit: Forward: places of shape %v, want [%d or 1, %d, %d]", s, batch, n.tokens, n.c.Dim))
		}
	}
	if o.Skip != nil {
		if len(o.Skip) != n.c.Depth {
			panic(fmt.Sprintf("dit: Forward: Skip of %d blocks, the network has %d", len(o.Skip), n.c.Depth))
		}
		for i, skip := range o.Skip {
			if k := n.Blocks[i].Kind; skip && (k == Merge || k == Recover) {
				panic(fmt.Sprintf("dit: Forward: block %d is left out, which merges or recovers tokens", i))
			}
		}
	}
	if o.Grid == 0 {
		o.Grid = n.c.Grid
	} else if err := n.c.checkGrid(o.Grid); err != nil {
		panic(err.Error())
	}
}

// embed puts places and tokens of other kinds to those of the patches, h, sets what blocks see
// of other sequences, and returns the condition.
func (n *Net) embed(tape *nn.Tape, time *nn.Var, in models.Inputs, h **nn.Var, at *BlockInput) *nn.Var {
	c, batch := &n.c, time.Shape()[0]
	var te, cond *nn.Var
	if n.Time != nil {
		if n.Time.First == nil {
			te = time.Waves(n.Time.Waves)
		} else {
			te = n.Time.Forward(time)
		}
		for i, name := range n.names.vectors {
			te = te.Add(n.vectors[i].Forward(in.Vectors[name]))
		}
		cond = te
	}
	var class *nn.Var
	if n.Class != nil {
		class = n.Class.Forward(tape, in.Classes, nil)
		if cond != nil {
			cond = cond.Add(class)
		}
	}
	if n.place != nil {
		*h = (*h).Add(tape.Input(n.place))
	}
	text := 0
	if n.Join != nil {
		t := in.Tokens[n.names.tokens[0]]
		text = t.States.Shape()[1]
		if n.learned != nil && text != c.JoinLength {
			panic(fmt.Sprintf("dit: Forward: %d joined tokens, want %d, whose places are learned", text, c.JoinLength))
		}
		*h = nn.Concat(1, *h, n.Join.Forward(t.States)) // at the end, where padding can be told by a length
		if t.Lens != nil {
			at.Mask.KeyLens = n.keyLens(tape, t.Lens)
		}
	}
	if c.TimeToken {
		*h = nn.Concat(1, te.Reshape(batch, 1, c.Dim), *h)
	}
	if c.ClassToken {
		*h = nn.Concat(1, class.Reshape(batch, 1, c.Dim), *h)
	}
	if n.learned != nil {
		p := tape.Use(n.learned)
		if text > 0 { // the reference has the text before the patches
			p = nn.Concat(1, p.Slice(1, 0, n.before), p.Slice(1, n.before+text, n.tokens), p.Slice(1, n.before, text))
		}
		*h = (*h).Add(p)
	}
	return cond
}

// contexts appends the sequences that blocks attend to, in order.
func (n *Net) contexts(to []nn.Context, in models.Inputs) []nn.Context {
	for _, name := range n.names.tokens {
		to = append(to, nn.Context{States: in.Tokens[name].States, Lens: in.Tokens[name].Lens})
	}
	return to
}

// keyLens is how many tokens are none of padding: those before the text, and the text's.
func (n *Net) keyLens(tape *nn.Tape, lens *gpu.Tensor) *gpu.Tensor {
	out := tape.Ids(lens.Len())
	for i, l := range lens.I32() {
		out.I32()[i] = int32(n.before+n.tokens) + l
	}
	return out
}

// blocks goes through all of them.
func (n *Net) blocks(h *nn.Var, at BlockInput, contexts []nn.Context, o *Options) *nn.Var {
	half, tape := n.c.Depth/2, h.Tape()
	var room [32]*nn.Var
	skips, dense := room[:0], at.Angles
	at.Width = n.c.Width / n.c.Patch
	for i, b := range n.Blocks {
		switch {
		case b.Kind == Merge && at.Dense == nil:
			f := n.fewOf(o.Grid)
			at.Dense, at.Angles, at.Width = h, f.angles, o.Grid
			h = tape.Input(f.pool).MatMul(h)
		case b.Kind == Recover:
			at.Repeat = n.repeat(tape, n.fewOf(o.Grid), h.Shape()[0], h.Shape()[1])
		}
		if n.c.LongSkips && i > half {
			at.Skip = skips[len(skips)-1]
			skips = skips[:len(skips)-1]
		}
		if o.Skip == nil || !o.Skip[i] {
			h = n.one(i, h, at, contexts, o)
		}
		if b.Kind == Recover {
			at.Dense, at.Angles, at.Width = nil, dense, n.c.Width/n.c.Patch
		}
		if n.c.LongSkips && i < half {
			skips = append(skips, h)
		}
	}
	return h
}

// one is block i with its gate.
func (n *Net) one(i int, h *nn.Var, at BlockInput, contexts []nn.Context, o *Options) *nn.Var {
	b := n.Blocks[i]
	y := b.Forward(h, at, contexts...)
	if o.Gates == nil {
		return y
	}
	if b.Kind == Recover {
		h = at.Dense
	}
	g := o.Gates.Slice(1, i, 1).Reshape(h.Shape()[0], 1, 1)
	return y.Mul(g).AddMul(h, g.Affine(-1, 1)) // exact where a gate is 0 or 1
}

// repeat is which of all samples' few tokens stands at each of all places.
func (n *Net) repeat(tape *nn.Tape, f *few, batch, count int) *gpu.Tensor {
	ids := tape.Ids(batch * n.tokens)
	for i := range ids.I32() {
		ids.I32()[i] = int32(i/n.tokens*count) + f.repeat[i%n.tokens]
	}
	return ids
}
