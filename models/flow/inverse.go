package flow

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops"
)

// InverseOptions say how a latent becomes a picture; the zero value is the flow's inverse.
type InverseOptions struct {
	Classes *gpu.Tensor // Int32 [B], as for Forward
	// Guidance g > 0 moves a and b away from those without a class: a + g·(a - a'), likewise b;
	// with Anneal, g grows evenly from the first token to the last.
	Guidance float64
	Anneal   bool
}

// ones registers the latent's variance, 1.
func ones(s nn.Scope, c Config) *gpu.Tensor {
	v := make([]float32, c.Tokens()*c.Dim())
	for i := range v {
		v[i] = 1
	}
	x := s.Params().Device().FromAs(s.Params().DType(), v, c.Tokens(), c.Dim())
	s.Buffer("var", x)
	return x
}

// Inverse is the pictures [B, C, H, W] whose latent is z [B, Tokens, Dim] times the square root of
// Var, block by block and token by token, with the keys and values of the tokens before kept. It
// runs steps of t, which it resets. The error is a number that is not finite: its block, sample
// and token.
func (m *Net) Inverse(t *nn.Tape, z *gpu.Tensor, o InverseOptions) (*gpu.Tensor, error) {
	c, s := &m.Config, z.Shape()
	if len(s) != 3 || s[1] != c.Tokens() || s[2] != c.Dim() {
		panic(fmt.Sprintf("flow: a latent of shape %v, want [B, %d, %d]", s, c.Tokens(), c.Dim()))
	}
	if !(o.Guidance >= 0) || o.Guidance > 0 && c.Classes == 0 {
		panic(fmt.Sprintf("flow: guidance %g of a flow with %d classes, want 0, or more with classes", o.Guidance, c.Classes))
	}
	x := z.Like()
	t.Run(func() {
		t.NoGrad(func() { x.Copy(t.Input(z).Mul(t.Input(m.Var).Sqrt()).Value()) })
	})
	for k := len(m.Blocks) - 1; k >= 0; k-- {
		var err error
		if x, err = m.Blocks[k].Inverse(t, x, o); err != nil {
			return nil, fmt.Errorf("flow: block %d: %w", k, err)
		}
	}
	out := z.Device().New(z.DType(), s[0], c.Channels, c.PictureHeight, c.PictureWidth)
	t.Run(func() {
		t.NoGrad(func() {
			out.Copy(t.Input(x).Unpatchify(c.Patch, c.PictureHeight, c.PictureWidth, nn.ChannelsFirst).Value())
		})
	})
	return out, nil
}

// Inverse is the tokens that the block maps to z [B, Tokens, Dim]; see Net.Inverse.
func (b *Block) Inverse(t *nn.Tape, z *gpu.Tensor, o InverseOptions) (*gpu.Tensor, error) {
	batch, n := z.Shape()[0], b.Config.Tokens()
	caches, classes := []*tower.Cache{b.NewCache(t, batch)}, []*gpu.Tensor{o.Classes}
	if o.Guidance > 0 {
		none := make([]int32, batch)
		for i := range none {
			none[i] = int32(b.Config.Classes)
		}
		caches, classes = append(caches, b.NewCache(t, batch)), append(classes, gpu.CPU().FromInt32(none, batch))
	}
	x := z.Like()
	in := z
	if b.Reverse {
		in = z.Like()
		ops.Flip(in, z, 1, false)
	}
	x.Copy(in) // the first token is as it was
	var a, shift [2]*nn.Var
	for i := range n - 1 {
		t.Run(func() {
			t.NoGrad(func() {
				at := t.Input(x).Slice(1, i, 1)
				for k, c := range caches {
					a[k], shift[k] = b.Continue(c, at, classes[k])
				}
				if o.Guidance > 0 {
					g := o.Guidance
					if o.Anneal {
						g *= float64(i+1) / float64(n-1)
					}
					shift[0] = guided(shift[0], shift[1], g)
					if a[0] != nil {
						a[0] = guided(a[0], a[1], g)
					}
				}
				next := t.Input(in).Slice(1, i+1, 1)
				if a[0] != nil {
					next = next.Mul(a[0].Exp())
				}
				ops.PutSlice(x, next.Add(shift[0]).Value(), 1, i+1, false)
			})
		})
	}
	if i, ok := ops.Finite(x); !ok {
		d := b.Config.Dim()
		return nil, fmt.Errorf("no finite number for sample %d at token %d of the block's order; the latent is far from those of pictures, or guidance too strong",
			i/(n*d), i/d%n)
	}
	if b.Reverse {
		y := x.Like()
		ops.Flip(y, x, 1, false)
		x = y
	}
	return x, nil
}

// guided is x + g·(x - without).
func guided(x, without *nn.Var, g float64) *nn.Var { return x.Scale(1 + g).Sub(without.Scale(g)) }

// Denoise is pictures x [B, C, H, W] with noise of standard deviation sigma, moved to where the flow,
// trained on such, expects them to come from: x + sigma²·∇log p(x). It runs a step of t.
func (m *Net) Denoise(t *nn.Tape, x *gpu.Tensor, classes *gpu.Tensor, sigma float64) *gpu.Tensor {
	if !(sigma >= 0) || math.IsInf(sigma, 0) {
		panic(fmt.Sprintf("flow: noise of standard deviation %g, want 0 or more", sigma))
	}
	out := x.Like()
	t.Run(func() {
		leaf := t.Leaf(x)
		g := t.Grad(m.NLL(leaf, classes).Sum(), leaf)[0]
		ops.Affine(out, 1, x, -sigma*sigma, g, 0, false)
	})
	return out
}
