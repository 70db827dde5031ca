package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
)

// attnSizes is what a call of attention found in its operands.
type attnSizes struct {
	op           string
	b            int // sequences
	h, hkv, d    int
	lq, lk       int  // of every sequence, or the bounds MaxQ and MaxK
	queries      int  // rows of Q in all: b·lq, or the total
	keys         int  // rows of K in all
	varlen       bool // CuQ and CuK say where sequences begin
	biasB, biasH int  // extents of Bias, 0 without one
	scale        float32

	blocksB, blocksH int // extents of Blocks, 0 without them
}

func (n *attnSizes) fail(format string, args ...any) {
	panic("ops: " + n.op + ": " + fmt.Sprintf(format, args...))
}

// maxAttnExtent bounds every extent, the rows of an operand and their number
// times heads: kernels count those in 32 bits.
const maxAttnExtent = math.MaxInt32

// attnCheck checks what all passes have in common. The rest are the tensors
// that a pass has beside the input, nil where it was not given them.
func attnCheck(op string, in AttentionInput, cfg AttentionConfig, rest ...*gpu.Tensor) attnSizes {
	n := attnSizes{op: op, varlen: in.CuQ != nil}
	if in.Q == nil || in.K == nil {
		n.fail("Q or K is nil")
	}
	n.onDevice(in.Q.Device(), in.K, in.V, in.Bias, in.Blocks, in.CuQ, in.CuK)
	if in.KeyLens != nil && in.KeyLens.Device().CUDA() {
		n.onDevice(in.Q.Device(), in.KeyLens)
	}
	n.onDevice(in.Q.Device(), rest...)
	if dt := in.Q.DType(); dt != gpu.Float32 && dt != gpu.Float16 && dt != gpu.BFloat16 {
		n.fail("Q is %v, want Float32, Float16 or BFloat16", dt)
	}
	n.shapes(in)
	n.atMost("sequences", n.b)
	n.atMost("heads", n.h)
	n.atMost("queries", n.lq)
	n.atMost("keys", n.lk)
	n.atMost("queries of all sequences and heads", n.queries*n.h)
	n.atMost("keys of all sequences and heads", n.keys*n.hkv)
	n.settings(cfg)
	return n
}

// settings checks the configuration.
func (n *attnSizes) settings(cfg AttentionConfig) {
	n.scale = attnScale(cfg, n.d)
	if !(math.Abs(float64(n.scale)) <= math.MaxFloat32) {
		n.fail("Scale is %g, want a finite number", cfg.Scale)
	}
	if cfg.Window < 0 {
		n.fail("Window is %d, want 0 (no window) or more", cfg.Window)
	}
}

func (n *attnSizes) atMost(what string, count int) {
	if count > maxAttnExtent {
		n.fail("%d %s, want at most %d", count, what, maxAttnExtent)
	}
}

func (n *attnSizes) onDevice(dev *gpu.Device, ts ...*gpu.Tensor) {
	for _, t := range ts {
		if t != nil && t.Device() != dev {
			n.fail("operands are on %v and on %v; move them to one device", dev, t.Device())
		}
	}
}

// shapes reads the sizes off Q and K and checks the input against them.
func (n *attnSizes) shapes(in AttentionInput) {
	q, k := in.Q.Shape(), in.K.Shape()
	rank, form := 4, "[B, L, heads, D]"
	if n.varlen {
		rank, form = 3, "[total, heads, D]"
	}
	if len(q) != rank || len(k) != rank {
		n.fail("shapes %v of Q and %v of K, want %s", q, k, form)
	}
	n.h, n.hkv, n.d = q[rank-2], k[rank-2], q[rank-1]
	if k[rank-1] != n.d || n.d < 1 || n.d > 256 {
		n.fail("shapes %v of Q and %v of K: heads have %d and %d elements, want as many, 1 to 256", q, k, n.d, k[rank-1])
	}
	if n.h < 1 || n.hkv < 1 || n.h%n.hkv != 0 {
		n.fail("%d query heads over %d key heads, want a multiple", n.h, n.hkv)
	}
	if in.K.DType() != in.Q.DType() {
		n.fail("Q is %v, K %v, want one dtype", in.Q.DType(), in.K.DType())
	}
	if (in.CuQ == nil) != (in.CuK == nil) {
		n.fail("CuQ and CuK go together, and one of them is nil")
	}
	if n.varlen {
		n.variable(in, q, k)
		return
	}
	n.b, n.lq, n.lk = q[0], q[1], k[1]
	n.queries, n.keys = n.b*n.lq, n.b*n.lk
	if k[0] != n.b {
		n.fail("shapes %v of Q and %v of K: %d and %d sequences", q, k, n.b, k[0])
	}
	if t := in.KeyLens; t != nil && (t.DType() != gpu.Int32 || !slices.Equal(t.Shape(), []int{n.b})) {
		n.fail("KeyLens is %v %v, want Int32 [%d]", t.DType(), t.Shape(), n.b)
	}
	if t := in.Bias; t != nil {
		s := t.Shape()
		if t.DType() != gpu.Float32 || len(s) != 4 || s[0] != 1 && s[0] != n.b || s[1] != 1 && s[1] != n.h || s[2] != n.lq || s[3] != n.lk {
			n.fail("Bias is %v %v, want Float32 [%d or 1, %d or 1, %d, %d]", t.DType(), s, n.b, n.h, n.lq, n.lk)
		}
		n.biasB, n.biasH = s[0], s[1]
	}
	n.blocks(in)
}

func (n *attnSizes) blocks(in AttentionInput) {
	if in.Blocks == nil {
		return
	}
	if in.Block != 64 && in.Block != 128 {
		n.fail("Block is %d, want 64 or 128", in.Block)
	}
	s, down, across := in.Blocks.Shape(), ceil(n.lq, in.Block), ceil(n.lk, in.Block)
	if in.Blocks.DType() != gpu.Uint8 || len(s) != 4 || s[0] != 1 && s[0] != n.b || s[1] != 1 && s[1] != n.h || s[2] != down || s[3] != across {
		n.fail("Blocks is %v %v, want Uint8 [%d or 1, %d or 1, %d, %d]", in.Blocks.DType(), s, n.b, n.h, down, across)
	}
	n.blocksB, n.blocksH = s[0], s[1]
}

func (n *attnSizes) variable(in AttentionInput, q, k []int) {
	if in.KeyLens != nil || in.Bias != nil || in.Blocks != nil {
		n.fail("sequences of several lengths (CuQ) go with neither KeyLens nor Bias nor Blocks")
	}
	s := in.CuQ.Shape()
	if len(s) != 1 || s[0] < 1 || !slices.Equal(s, in.CuK.Shape()) || in.CuQ.DType() != gpu.Int32 || in.CuK.DType() != gpu.Int32 {
		n.fail("CuQ is %v %v, CuK %v %v, want Int32 [B+1] both", in.CuQ.DType(), s, in.CuK.DType(), in.CuK.Shape())
	}
	n.b, n.lq, n.lk, n.queries, n.keys = s[0]-1, in.MaxQ, in.MaxK, q[0], k[0]
	if n.lq < 0 || n.lk < 0 || n.lq > n.queries || n.lk > n.keys || n.queries > n.b*n.lq || n.keys > n.b*n.lk {
		n.fail("MaxQ is %d and MaxK %d for %d sequences of %d queries and %d keys in all, want the greatest lengths", n.lq, n.lk, n.b, n.queries, n.keys)
	}
}

// offsets checks where sequences begin, on the CPU.
func (n *attnSizes) offsets(name string, cu []int32, longest, total int) {
	if cu[0] != 0 || int(cu[n.b]) != total {
		n.fail("%s goes from %d to %d, want 0 to the total, %d", name, cu[0], cu[n.b], total)
	}
	for b := range n.b {
		if l := int(cu[b+1]) - int(cu[b]); l < 0 || l > longest {
			n.fail("%s gives sequence %d the length %d, want 0 to %d", name, b, l, longest)
		}
	}
}

// like panics unless t is there and has the dtype and shape of x.
func (n *attnSizes) like(name string, t, x *gpu.Tensor) {
	if t == nil {
		n.fail("%s is nil", name)
	}
	if t.DType() != x.DType() || !slices.Equal(t.Shape(), x.Shape()) {
		n.fail("%s is %v %v, want %v %v", name, t.DType(), t.Shape(), x.DType(), x.Shape())
	}
}

func (n *attnSizes) likeOrNil(name string, t, x *gpu.Tensor) {
	if t != nil {
		n.like(name, t, x)
	}
}

func (n *attnSizes) isLSE(t *gpu.Tensor) {
	if n.varlen {
		n.is("lse", t, n.h, n.queries)
	} else {
		n.is("lse", t, n.b, n.h, n.lq)
	}
}

// is panics unless t is Float32 of that shape.
func (n *attnSizes) is(name string, t *gpu.Tensor, shape ...int) {
	if t == nil {
		n.fail("%s is nil", name)
	}
	if t.DType() != gpu.Float32 || !slices.Equal(t.Shape(), shape) {
		n.fail("%s is %v %v, want Float32 %v", name, t.DType(), t.Shape(), slices.Clone(shape))
	}
}

func (n *attnSizes) biasGradient(dbias, bias *gpu.Tensor) {
	if bias == nil {
		n.fail("dbias is wanted and there is no Bias")
	}
	n.like("dbias", dbias, bias)
}
