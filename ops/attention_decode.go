package ops

import (
	"math"
	"math/bits"
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// PagedKV is the keys and values of a batch of sequences in pages, contiguous, all on one device. Key j of sequence b is row j mod size
// of page Table[b, j/size].
type PagedKV struct {
	// K and V are [pages, size, Hkv, D], Float32, Float16 or BFloat16, the size a power of two.
	K, V *gpu.Tensor
	// Table is [B, most pages of a sequence] Int32. What lies past a sequence's length is not looked at. On the CPU a page that there is
	// not panics; on a GPU it is not checked.
	Table *gpu.Tensor
	// Lens is [B] Int32, the sequences' lengths.
	Lens *gpu.Tensor
	// Work is nil or memory that DecodeWork has given, for one call at a time: a graph cannot take any while it is recorded.
	Work *gpu.Tensor
}

// DecodeWork is memory for calls of AttentionDecode with queries like q and keys and values in pages like kv's.
func DecodeWork(q *gpu.Tensor, kv PagedKV) *gpu.Tensor {
	n := attnSizes{op: "DecodeWork"}
	n.decode(q, kv)
	return q.Device().Empty(n.decodeWork())
}

// decodeQueries is how many queries of a sequence are more than a few: Attention is faster for them.
const decodeQueries = 16

// AttentionDecode sets out, like q, [B, Lq, H, D], and lse, Float32 [B, H, Lq], to Attention's results for the last Lq tokens of each
// sequence over keys and values in pages, which AppendPages has put there: with the sequence's length for Lk, query i has its place at
// i + length - Lq, and configurations mean the same. Lengths are limited to 0..the table's, and a sequence of length 0 has zeros and
// -Inf. Lq is 1 to 16 and H a multiple of Hkv; the heads that share keys are worked on together, which reads those once.
//
// The keys are cut into pieces by the sizes of the tensors alone, so that a graph of the call holds for all lengths; the sums of the
// pieces are put together in their order. Two calls give the same bits, which do not depend on the other sequences' lengths. Without
// kv.Work a GPU's memory for the pieces comes from its pool. It panics on operands that do not fit.
func AttentionDecode(out, lse, q *gpu.Tensor, kv PagedKV, cfg AttentionConfig) {
	n := attnSizes{op: "AttentionDecode"}
	pool := n.decode(q, kv)
	n.onDevice(q.Device(), out, lse, kv.Work)
	n.settings(cfg)
	n.like("out", out, q)
	n.is("lse", lse, n.b, n.h, n.lq)
	if w := kv.Work; w != nil && (w.DType() != gpu.Float32 || len(w.Shape()) != 1 || w.Shape()[0] < n.decodeWork()) {
		n.fail("Work is %v %v, want Float32 [%d], as DecodeWork gives", w.DType(), w.Shape(), n.decodeWork())
	}
	if n.b == 0 {
		return
	}
	if q.Device().CUDA() {
		n.decodeCUDA(out, lse, q, kv, cfg)
		return
	}
	n.inPool(kv, pool)
	a := cpu.Attn{
		B: n.b, H: n.h, HKV: n.hkv, D: n.d, LQ: n.lq, LK: n.lk,
		Scale: n.scale, Causal: cfg.Causal, Window: cfg.Window,
		Q: attnRows(q), K: attnRows(kv.K), V: attnRows(kv.V),
		KeyLens: kv.Lens.I32(), Table: kv.Table.I32(), Page: kv.K.Shape()[1],
	}
	cpu.AttentionForward(nil, &a, attnRows(out), lse.F32())
}

// decode reads the sizes off queries and pages and returns the number of pages.
func (n *attnSizes) decode(q *gpu.Tensor, kv PagedKV) (pool int) {
	if q == nil {
		n.fail("q is nil")
	}
	pool = n.pages(kv)
	n.onDevice(q.Device(), kv.K)
	s := q.Shape()
	if len(s) != 4 || s[3] != n.d || s[0] != n.b {
		n.fail("q is %v, want [%d, Lq, H, %d]", s, n.b, n.d)
	}
	n.lq, n.h = s[1], s[2]
	if n.lq < 1 || n.lq > decodeQueries {
		n.fail("%d queries of each sequence, want 1 to %d; for more call Attention", n.lq, decodeQueries)
	}
	if n.h < 1 || n.h%n.hkv != 0 {
		n.fail("%d query heads over %d key heads, want a multiple", n.h, n.hkv)
	}
	if q.DType() != kv.K.DType() {
		n.fail("q is %v, K %v, want one dtype", q.DType(), kv.K.DType())
	}
	n.queries = n.b * n.lq
	n.atMost("queries of all sequences and heads", n.queries*n.h)
	return pool
}

// AppendPages writes k and v, [B, L, Hkv, D], the last L tokens of each sequence, into kv's pages; kv.Lens has them counted already. Of a
// sequence shorter than L the first rows are padding and left out. A length beyond the table's pages panics on the CPU; on a GPU rows
// that find no page are left out. Sequences may share pages that none of them writes into. It panics on operands that do not fit.
func AppendPages(kv PagedKV, k, v *gpu.Tensor) {
	n := attnSizes{op: "AppendPages"}
	if k == nil {
		n.fail("k is nil")
	}
	pool := n.pages(kv)
	n.onDevice(k.Device(), kv.K, v)
	s := k.Shape()
	if len(s) != 4 || s[0] != n.b || s[2] != n.hkv || s[3] != n.d {
		n.fail("k is %v, want [%d, L, %d, %d]", s, n.b, n.hkv, n.d)
	}
	if k.DType() != kv.K.DType() {
		n.fail("k is %v, the pages are %v, want one dtype", k.DType(), kv.K.DType())
	}
	n.like("v", v, k)
	switch length := s[1]; {
	case n.b == 0 || length == 0:
	case k.Device().CUDA():
		n.appendCUDA(kv, k, v, length, pool)
	default:
		n.inPool(kv, pool)
		n.append(kv, k, v, length)
	}
}

// pages reads sizes off keys and values in pages and returns the number of pages; lk is the greatest length.
func (n *attnSizes) pages(kv PagedKV) (pool int) {
	if kv.K == nil || kv.Table == nil || kv.Lens == nil {
		n.fail("K, Table or Lens is nil")
	}
	n.onDevice(kv.K.Device(), kv.V, kv.Table, kv.Lens)
	if dt := kv.K.DType(); dt != gpu.Float32 && dt != gpu.Float16 && dt != gpu.BFloat16 {
		n.fail("K is %v, want Float32, Float16 or BFloat16", dt)
	}
	s := kv.K.Shape()
	if len(s) != 4 || s[1] < 1 || s[1]&(s[1]-1) != 0 || s[2] < 1 || s[3] < 1 || s[3] > 256 {
		n.fail("K is %v, want [pages, size, heads, D], the size a power of two and D 1 to 256", s)
	}
	n.like("V", kv.V, kv.K)
	n.hkv, n.d = s[2], s[3]
	t := kv.Table.Shape()
	if kv.Table.DType() != gpu.Int32 || len(t) != 2 {
		n.fail("Table is %v %v, want Int32 [B, pages]", kv.Table.DType(), t)
	}
	n.b, n.lk = t[0], t[1]*s[1]
	if kv.Lens.DType() != gpu.Int32 || !slices.Equal(kv.Lens.Shape(), t[:1]) {
		n.fail("Lens is %v %v, want Int32 [%d]", kv.Lens.DType(), kv.Lens.Shape(), n.b)
	}
	n.atMost("pages", s[0])
	if n.lk > attnLimit {
		n.fail("%d pages of %d keys for a sequence, want at most %d keys", t[1], s[1], attnLimit)
	}
	return s[0]
}

// inPool checks, on the CPU, the pages that are in use.
func (n *attnSizes) inPool(kv PagedKV, pool int) {
	table, size := kv.Table.I32(), kv.K.Shape()[1]
	most := n.lk / size
	for b, length := range kv.Lens.I32() {
		for i, page := range table[b*most:][:ceil(min(max(int(length), 0), n.lk), size)] {
			if page < 0 || int(page) >= pool {
				n.fail("page %d of sequence %d is %d, want 0 to %d", i, b, page, pool-1)
			}
		}
	}
}

// append copies rows, a sequence at a time: they are few.
func (n *attnSizes) append(kv PagedKV, k, v *gpu.Tensor, length int) {
	table, size, width := kv.Table.I32(), kv.K.Shape()[1], n.hkv*n.d
	most := n.lk / size
	lens := kv.Lens.I32()
	for b, l := range lens {
		if int(l) > n.lk {
			n.fail("sequence %d has %d tokens, its pages %d", b, l, n.lk)
		}
	}
	for b, l := range lens {
		for t := max(0, length-int(l)); t < length; t++ {
			j := int(l) - length + t
			to, from := (int(table[b*most+j/size])*size+j%size)*width, (b*length+t)*width
			copyValues(kv.K, to, k, from, width)
			copyValues(kv.V, to, v, from, width)
		}
	}
}

// copyValues copies n values between tensors of one dtype.
func copyValues(to *gpu.Tensor, at int, from *gpu.Tensor, first, n int) {
	if to.DType() == gpu.Float32 {
		copy(to.F32()[at:][:n], from.F32()[first:])
	} else {
		copy(to.U16()[at:][:n], from.U16()[first:])
	}
}

type decodeLaunch = func(s *cuda.Stream, g cuda.Grid, part, stats, q, k, v, table, lens cuda.Ptr, scale float32,
	left, right, heads, kvHeads, lq, d, pieces, count, shift, aligned int32)

// The kernels by dtype (attnDType) and by d <= 64, 128, 256: rows are a tile's keys.
var attnDecode = [3][3]attnKernel[decodeLaunch]{
	{{32, 128, 24320, kernels.AttentionDecode64F32}, {32, 128, 44800, kernels.AttentionDecode128F32}, {32, 128, 85760, kernels.AttentionDecode256F32}},
	{{64, 128, 18432, kernels.AttentionDecode64F16}, {64, 128, 36864, kernels.AttentionDecode128F16}, {64, 128, 73728, kernels.AttentionDecode256F16}},
	{{64, 128, 18432, kernels.AttentionDecode64Bf16}, {64, 128, 36864, kernels.AttentionDecode128Bf16}, {64, 128, 73728, kernels.AttentionDecode256Bf16}},
}

var attnDecodeMerge = [3]func(s *cuda.Stream, g cuda.Grid, out, lse, part, stats cuda.Ptr, rows, heads, lq, d, pieces int32){
	kernels.AttentionDecodeMergeF32, kernels.AttentionDecodeMergeF16, kernels.AttentionDecodeMergeBf16,
}

const (
	decodeRows  = 16   // of a block: queries of the heads that share a key head
	decodeFill  = 1024 // blocks that fill a GPU several times over
	decodeMost  = 64   // pieces at most, as attention_decode_merge takes
	decodeLeast = 256  // keys of a piece at least, so that its results are few beside them
)

// decodePieces is how many pieces the keys of a sequence are cut into.
func (n *attnSizes) decodePieces() int {
	blocks := max(1, n.b*n.hkv*ceil(n.h/n.hkv*n.lq, decodeRows))
	return max(1, min(ceil(n.lk, decodeLeast), ceil(decodeFill, blocks), decodeMost))
}

// decodeWork is how many numbers the pieces' results are: sums of values, and two more a row.
func (n *attnSizes) decodeWork() int { return n.queries * n.h * n.decodePieces() * (n.d + 2) }

func (n *attnSizes) decodeCUDA(out, lse, q *gpu.Tensor, kv PagedKV, cfg AttentionConfig) {
	dev := q.Device()
	s := dev.Stream()
	p := n.problem(s, AttentionInput{Q: q}, cfg)
	pieces := n.decodePieces()
	blocks := pieces * n.b * n.hkv * ceil(n.h/n.hkv*n.lq, decodeRows)
	n.atMost("blocks", blocks)
	work := kv.Work
	if work == nil {
		work = dev.Empty(n.decodeWork())
		defer work.Free()
	}
	part := work.Ptr()
	stats := part + cuda.Ptr(4*n.queries*n.h*pieces*n.d)
	size := kv.K.Shape()[1]
	k := attnDecode[p.dt][max(p.width-1, 0)]
	k.launch(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: k.threads, Shared: k.shared},
		part, stats, q.Ptr(), kv.K.Ptr(), kv.V.Ptr(), kv.Table.Ptr(), kv.Lens.Ptr(), n.scale,
		p.left, p.right, p.heads, p.kvHeads, p.lq, p.d, int32(pieces), int32(n.lk/size), int32(bits.TrailingZeros(uint(size))), n.aligned(q, kv.K, kv.V))
	attnDecodeMerge[p.dt](s, cuda.Grid1(n.queries*n.h, 4, 128), out.Ptr(), lse.Ptr(), part, stats,
		int32(n.queries*n.h), p.heads, p.lq, p.d, int32(pieces))
}

func (n *attnSizes) appendCUDA(kv PagedKV, k, v *gpu.Tensor, length, pool int) {
	f, width, unit := kernels.AttentionAppendU32, n.hkv*n.d, k.DType().Size()
	if unit == 2 {
		f = kernels.AttentionAppendU16
	}
	if width*unit%16 == 0 && kv.K.Ptr()%16 == 0 && kv.V.Ptr()%16 == 0 && k.Ptr()%16 == 0 && v.Ptr()%16 == 0 {
		f, width = kernels.AttentionAppendV16, width*unit/16
	}
	blocks := ceil(n.b*length*width, 256)
	if max(blocks, width, length) > math.MaxInt32 {
		n.fail("%v are too many rows at once", k.Shape())
	}
	size := kv.K.Shape()[1]
	f(k.Device().Stream(), cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, kv.K.Ptr(), kv.V.Ptr(), k.Ptr(), v.Ptr(), kv.Table.Ptr(), kv.Lens.Ptr(),
		int32(n.lk/size), int32(bits.TrailingZeros(uint(size))), int32(n.b), int32(length), int32(width), int32(pool))
}
