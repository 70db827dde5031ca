package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// QKNorm is how queries and keys are normalised before they meet, which keeps scores small
// (Henry et al. 2020, arXiv 2010.04245; Dehghani et al. 2023, arXiv 2302.05442).
type QKNorm int

const (
	QKNone      QKNorm = iota
	QKLayer            // LayerNorm of each head's row
	QKRMS              // RMSNorm of each head's row
	QKLayerWide        // LayerNorm of all heads' row together
	QKRMSWide          // RMSNorm of all heads' row together
)

// AttnNames are what an attention layer's parts are called in a checkpoint.
type AttnNames struct {
	QKV          string // of q, k and v in one layer; "" where each has one of its own
	Q, K, V      string
	Out          string
	NormQ, NormK string
}

var (
	// PackedNames are those of timm's vision transformer and of DiT.
	PackedNames = AttnNames{QKV: "qkv", Out: "proj", NormQ: "q_norm", NormK: "k_norm"}
	// SeparateNames are those of diffusers.
	SeparateNames = AttnNames{Q: "to_q", K: "to_k", V: "to_v", Out: "to_out.0", NormQ: "norm_q", NormK: "norm_k"}
)

// AttnOptions say what an attention layer is like; only Heads has no default.
type AttnOptions struct {
	Heads     int // of queries
	KVHeads   int // of keys and values, a divisor of Heads; 0 stands for Heads
	HeadDim   int // 0 stands for width/Heads
	Out       int // the result's width; 0 stands for the input's
	NoBias    bool
	NoOutBias bool
	QKNorm    QKNorm
	NormEps   float64   // 0 stands for 1e-6
	Scale     float64   // of the scores; 0 stands for 1/√HeadDim
	Halves    bool      // rotary pairs are j and j + D/2, else neighbours; see Var.Turn
	ByHead    bool      // packed rows are q, k, v of one head after the other, else all q, all k, all v
	ByChannel bool      // packed rows are q, k, v of one channel after the other: EDM's
	PointAxes int       // axes of size 1 after those of the projections' weights: 1 or 2 where they were convolutions
	Names     AttnNames // the zero value: PackedNames for self-attention, SeparateNames for cross-attention
}

// heads is what attention layers share: the projection of the queries' side, the norms of
// queries and keys, and the way back to one row.
type heads struct {
	Out          *Linear
	NormQ, NormK *Norm // nil where there is none
	o            AttnOptions
	tap          struct{ q, k, v, maps, out string }
}

// fill checks the options of a layer in scope s and puts the defaults in.
func (o AttnOptions) fill(op string, s Scope, width int, names AttnNames) AttnOptions {
	fail := func(format string, args ...any) {
		panic("nn: " + op + ": " + s.prefix + ": " + fmt.Sprintf(format, args...))
	}
	if o.Heads < 1 {
		fail("%d heads, want at least 1", o.Heads)
	}
	if o.HeadDim == 0 {
		if width%o.Heads != 0 {
			fail("width %d in %d heads, want a multiple, or a HeadDim", width, o.Heads)
		}
		o.HeadDim = width / o.Heads
	}
	if o.KVHeads == 0 {
		o.KVHeads = o.Heads
	}
	if o.KVHeads < 0 || o.Heads%o.KVHeads != 0 {
		fail("%d heads over %d of keys and values, want a multiple", o.Heads, o.KVHeads)
	}
	if o.Names == (AttnNames{}) {
		o.Names = names
	}
	if o.Out == 0 {
		o.Out = width
	}
	if o.NormEps == 0 {
		o.NormEps = 1e-6
	}
	if (o.ByHead || o.ByChannel) && (o.KVHeads != o.Heads || o.Names.QKV == "" || o.ByHead && o.ByChannel) {
		fail("ByHead %v and ByChannel %v with %d heads over %d, packed as %q; want one of them, one packed layer and as many of both", o.ByHead, o.ByChannel, o.Heads, o.KVHeads, o.Names.QKV)
	}
	if o.QKNorm < QKNone || o.QKNorm > QKRMSWide {
		fail("QKNorm %d is none", o.QKNorm)
	}
	return o
}

func (o *AttnOptions) point(s Scope, in, out int, bias bool) *Linear {
	return NewPointLinear(s, in, out, o.PointAxes, bias)
}

func newHeads(s Scope, o AttnOptions) heads {
	h := heads{o: o}
	h.NormQ, h.NormK = o.norm(s.At(o.Names.NormQ), o.Heads), o.norm(s.At(o.Names.NormK), o.KVHeads)
	h.Out = o.point(s.At(o.Names.Out), o.Heads*o.HeadDim, o.Out, !o.NoOutBias)
	h.tap.q, h.tap.k, h.tap.v = s.Name("q"), s.Name("k"), s.Name("v")
	h.tap.maps, h.tap.out = s.Name("maps"), s.Name("out")
	return h
}

func (o *AttnOptions) norm(s Scope, heads int) *Norm {
	var m *Norm
	width := o.HeadDim
	if o.QKNorm == QKLayerWide || o.QKNorm == QKRMSWide {
		width *= heads
	}
	switch o.QKNorm {
	case QKNone:
		return nil
	case QKLayer, QKLayerWide:
		m = NewLayerNorm(s, width)
	default:
		m = NewRMSNorm(s, width)
	}
	m.Eps = o.NormEps
	return m
}

// split is x [B, L, n·D] or [B, L, n, D] normalised, and as heads [B, L, n, D].
func (h *heads) split(x *Var, n int, m *Norm) *Var {
	s := x.Shape()
	b, l := s[0], s[1]
	if m == nil {
		return x.Reshape(b, l, n, h.o.HeadDim)
	}
	if h.o.QKNorm == QKLayerWide || h.o.QKNorm == QKRMSWide {
		return m.Forward(x.Reshape(b, l, n*h.o.HeadDim)).Reshape(b, l, n, h.o.HeadDim)
	}
	return m.Forward(x.Reshape(b, l, n, h.o.HeadDim))
}

// attend is Attention of q, k and v [B, L, heads, D] as one row of each query, [B, Lq,
// heads·D]. Where somebody taps the maps, the maps that come back are what the values are
// weighted by.
func (h *heads) attend(q, k, v *Var, m AttnMask) *Var {
	q, k, v = q.Tap(h.tap.q), k.Tap(h.tap.k), v.Tap(h.tap.v)
	var y *Var
	if q.tape.tapped(h.tap.maps) {
		y = AttentionFromMaps(AttentionMaps(q, k, h.o.Scale, m, ops.MapSelect{}).Tap(h.tap.maps), v)
	} else {
		y = Attention(q, k, v, h.o.Scale, m)
	}
	s := q.Shape()
	return y.Reshape(s[0], s[1], s[2]*s[3])
}

// tapped tells whether somebody listens at a tap.
func (t *Tape) tapped(name string) bool { return len(t.taps) > 0 && t.taps[name] != nil }

// SelfAttention is attention of tokens to each other (Vaswani et al. 2017, arXiv 1706.03762):
// projections to queries, keys and values, attention of each head, a projection back.
//
// Its taps are the scope's name with .q, .k and .v (heads [B, L, H, D], after norm and
// rotation), .maps (probabilities [B, H, L, L]; what is put in their place is used) and .out.
type SelfAttention struct {
	QKV     *Linear // nil where there are three
	Q, K, V *Linear // nil where there is one
	heads
}

// NewSelfAttention registers a layer for tokens of that width in s, packed where the names
// say so.
func NewSelfAttention(s Scope, width int, o AttnOptions) *SelfAttention {
	o = o.fill("NewSelfAttention", s, width, PackedNames)
	a := &SelfAttention{}
	q, kv := o.Heads*o.HeadDim, o.KVHeads*o.HeadDim
	if o.Names.QKV != "" {
		a.QKV = o.point(s.At(o.Names.QKV), width, q+2*kv, !o.NoBias)
	} else {
		a.Q = o.point(s.At(o.Names.Q), width, q, !o.NoBias)
		a.K, a.V = o.point(s.At(o.Names.K), width, kv, !o.NoBias), o.point(s.At(o.Names.V), width, kv, !o.NoBias)
	}
	a.heads = newHeads(s, o)
	return a
}

// Forward is the layer's result for tokens x [B, L, width], [B, L, Out]. angles is nil or [L,
// HeadDim/2], by which queries and keys are turned.
func (a *SelfAttention) Forward(x *Var, m AttnMask, angles *gpu.Tensor) *Var {
	q, k, v := a.Project(x, angles)
	return a.Merge(a.attend(q, k, v, m))
}

// Project is the queries, keys and values of tokens x [B, L, width], each [B, L, heads, D],
// normalised and turned. A decoder that keeps keys and values uses it with Attention and
// Merge.
func (a *SelfAttention) Project(x *Var, angles *gpu.Tensor) (q, k, v *Var) {
	if len(x.Shape()) != 3 {
		panic(fmt.Sprintf("nn: SelfAttention: tokens of shape %v, want [B, L, width]", x.Shape()))
	}
	o := &a.o
	if a.QKV == nil {
		q, k, v = a.Q.Forward(x), a.K.Forward(x), a.V.Forward(x)
	} else {
		y := a.QKV.Forward(x)
		n, d, axis := o.Heads*o.HeadDim, o.KVHeads*o.HeadDim, 2
		switch b, l := x.Shape()[0], x.Shape()[1]; {
		case o.ByHead:
			y = y.Reshape(b, l, o.Heads, 3*o.HeadDim)
			n, d, axis = o.HeadDim, o.HeadDim, 3
		case o.ByChannel:
			y = y.Reshape(b, l, n, 3).Permute(3, 0, 1, 2)
			n, d, axis = 1, 1, 0
		}
		q, k, v = y.Slice(axis, 0, n), y.Slice(axis, n, d), y.Slice(axis, n+d, d)
		if o.ByChannel {
			s := x.Shape()
			q, k, v = q.Reshape(s[0], s[1], -1), k.Reshape(s[0], s[1], -1), v.Reshape(s[0], s[1], -1)
		}
	}
	q, k, v = a.split(q, o.Heads, a.NormQ), a.split(k, o.KVHeads, a.NormK), a.split(v, o.KVHeads, nil)
	if angles != nil {
		q, k = q.Turn(angles, o.Halves), k.Turn(angles, o.Halves)
	}
	return q, k, v
}

// Merge is the projection back of what the heads found, [B, L, H, D] or [B, L, H·D].
func (h *heads) Merge(y *Var) *Var {
	s := y.Shape()
	return h.Out.Forward(y.Reshape(s[0], s[1], h.o.Heads*h.o.HeadDim)).Tap(h.tap.out)
}
