package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// PatchOrder is the order of a patch's elements in a token.
type PatchOrder uint8

// The orders: channel, row, column, as a convolution's kernels have them, and row, column,
// channel.
const (
	ChannelsFirst PatchOrder = iota
	ChannelsLast
)

// Patchify cuts pictures x [N, C, H, W] into squares of p×p pixels, row by row: [N,
// (H/p)·(W/p), C·p·p].
func (x *Var) Patchify(p int, order PatchOrder) *Var {
	s := x.pictures("Patchify", p)
	if s[2]%p != 0 || s[3]%p != 0 {
		panic(fmt.Sprintf("nn: Patchify: squares of %d do not fill pictures of %d×%d", p, s[2], s[3]))
	}
	h, w := s[2]/p, s[3]/p
	cut := x.Reshape(s[0], s[1], h, p, w, p)
	if order == ChannelsLast {
		cut = cut.Permute(0, 2, 4, 3, 5, 1)
	} else {
		cut = cut.Permute(0, 2, 4, 1, 3, 5)
	}
	return cut.Reshape(s[0], h*w, s[1]*p*p)
}

// Unpatchify puts tokens x [N, (height/p)·(width/p), C·p·p] together to pictures [N, C,
// height, width]: the reverse of Patchify.
func (x *Var) Unpatchify(p, height, width int, order PatchOrder) *Var {
	s := x.Shape()
	if len(s) != 3 || p < 1 || height%p != 0 || width%p != 0 || s[1] != height/p*(width/p) || s[2]%(p*p) != 0 {
		panic(fmt.Sprintf("nn: Unpatchify: tokens of shape %v as squares of %d in pictures of %d×%d, want [N, squares, C·%d]", s, p, height, width, p*p))
	}
	h, w, c := height/p, width/p, s[2]/(p*p)
	if order == ChannelsLast {
		x = x.Reshape(s[0], h, w, p, p, c).Permute(0, 5, 1, 3, 2, 4)
	} else {
		x = x.Reshape(s[0], h, w, c, p, p).Permute(0, 3, 1, 4, 2, 5)
	}
	return x.Reshape(s[0], c, height, width)
}

// PixelShuffle makes squares of k×k pixels of k·k channels each: x [N, C·k·k, H, W] to [N, C,
// H·k, W·k] (Shi et al. 2016, arXiv 1609.05158).
func (x *Var) PixelShuffle(k int) *Var {
	s := x.pictures("PixelShuffle", k)
	if s[1]%(k*k) != 0 {
		panic(fmt.Sprintf("nn: PixelShuffle: %d channels, want a multiple of %d·%d", s[1], k, k))
	}
	c := s[1] / (k * k)
	return x.Reshape(s[0], c, k, k, s[2], s[3]).Permute(0, 1, 4, 2, 5, 3).Reshape(s[0], c, s[2]*k, s[3]*k)
}

// PixelUnshuffle is the reverse of PixelShuffle: x [N, C, H, W] to [N, C·k·k, H/k, W/k].
func (x *Var) PixelUnshuffle(k int) *Var {
	s := x.pictures("PixelUnshuffle", k)
	if s[2]%k != 0 || s[3]%k != 0 {
		panic(fmt.Sprintf("nn: PixelUnshuffle: squares of %d do not fill pictures of %d×%d", k, s[2], s[3]))
	}
	return x.Reshape(s[0], s[1], s[2]/k, k, s[3]/k, k).Permute(0, 1, 3, 5, 2, 4).Reshape(s[0], s[1]*k*k, s[2]/k, s[3]/k)
}

// PatchEmbed is a linear layer of the patches of pictures: a convolution whose stride is
// the size of its kernels.
type PatchEmbed struct {
	W, B  *Param // [out, in, p, p] and [out]; B may be nil
	Patch int
}

// NewPatchEmbed registers kernels of patch×patch and a bias in s. They start as a linear
// layer of whole patches would by Xavier, and 0.
func NewPatchEmbed(s Scope, in, out, patch int) *PatchEmbed {
	start := func(r *rng.Stream, shape []int, v []float32) { Xavier(r, []int{shape[0], len(v) / shape[0]}, v) }
	return &PatchEmbed{W: s.Param("weight", start, out, in, patch, patch).of(PatchLayer), B: s.Param("bias", Zeros, out), Patch: patch}
}

// Forward is the tokens of pictures x [N, in, H, W]: [N, (H/p)·(W/p), out].
func (l *PatchEmbed) Forward(x *Var) *Var {
	t := x.tape
	w := t.Use(l.W)
	if s := x.pictures("PatchEmbed", l.Patch); s[1] != w.Shape()[1] {
		panic(fmt.Sprintf("nn: PatchEmbed: pictures of shape %v for kernels of shape %v", s, w.Shape()))
	}
	y := linear(x.Patchify(l.Patch, ChannelsFirst), w.Reshape(w.Shape()[0], -1), t.maybe(l.B), ops.Identity)
	if len(l.W.adapters) > 0 {
		y = l.W.adapted(x, y, ops.Identity)
	}
	return y
}
