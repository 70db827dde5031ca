package cpu

import (
	"fmt"
	"math"
	"sync"
)

// AttnRows is the storage of one operand of attention: float32 elements in F,
// or the bits of float16 or bfloat16 elements in U.
type AttnRows struct {
	F    []float32
	U    []uint16
	BF16 bool // U holds bfloat16
}

func (r *AttnRows) len() int { return len(r.F) + len(r.U) }

// load is n elements from at on as float32: the storage itself, or a conversion in dst.
func (r *AttnRows) load(dst []float32, at, n int) []float32 {
	if r.U == nil {
		return r.F[at:][:n]
	}
	dst = dst[:n]
	if r.BF16 {
		for i, u := range r.U[at:][:n] {
			dst[i] = math.Float32frombits(uint32(u) << 16)
		}
		return dst
	}
	for i, u := range r.U[at:][:n] {
		dst[i] = F16ToFloat(u)
	}
	return dst
}

// store rounds v to the dtype.
func (r *AttnRows) store(at int, v []float32) {
	switch {
	case r.U == nil:
		copy(r.F[at:], v)
	case r.BF16:
		for i, x := range v {
			r.U[at+i] = uint16(math.Float32bits(RoundBF16(x)) >> 16)
		}
	default:
		for i, x := range v {
			r.U[at+i] = FloatToF16(x)
		}
	}
}

// Attn is a batch of attention problems: Q is [B, LQ, H, D], K and V are
// [B, LK, HKV, D], contiguous. Query i of a sequence sees key j unless one of
// the masks hides it; i+LK-LQ is the query's place among the keys.
type Attn struct {
	B, H, HKV, D int
	LQ, LK       int // with CuQ: the greatest lengths

	Scale  float32 // of the scores, not 0
	Causal bool    // hides keys after the query's place
	Window int     // > 0: hides keys this far from the query's place, or farther

	Q, K, V      AttnRows // V may be empty where it is not used
	KeyLens      []int32  // nil, or [B]: hides keys from KeyLens[b] on
	Bias         []float32
	BiasB, BiasH int     // Bias is [BiasB, BiasH, LQ, LK]; BiasB is 1 or B, BiasH 1 or H
	Blocks       []uint8 // nil, or [BlocksB, BlocksH, ceil(LQ/Block), ceil(LK/Block)]: hides the pairs of a block of Block queries and keys that is 0
	Block        int
	BlocksB      int     // 1 or B
	BlocksH      int     // 1 or H
	Table        []int32 // nil, or [B, LK/Page]: K and V are pages of Page rows, [pages, Page, HKV, D], and KeyLens the lengths of sequences
	Page         int
	CuQ, CuK     []int32 // nil, or [B+1]: where each sequence begins in Q [total, H, D] and K, V [total, HKV, D]
}

// attnSeq is one sequence of a batch: its rows and what masks them.
type attnSeq struct {
	q0, lq int // first row of Q and their number
	k0, lk int // likewise of K; with Table, its first page there
	shift  int // the place of query 0 among the keys
	keys   int // keys from here on are padding
}

func (a *Attn) seq(b int) attnSeq {
	s := attnSeq{q0: b * a.LQ, lq: a.LQ, k0: b * a.LK, lk: a.LK}
	if a.CuQ != nil {
		s.q0, s.lq = int(a.CuQ[b]), int(a.CuQ[b+1]-a.CuQ[b])
		s.k0, s.lk = int(a.CuK[b]), int(a.CuK[b+1]-a.CuK[b])
	}
	if a.Table != nil {
		s.k0, s.lk = b*(a.LK/a.Page), min(max(int(a.KeyLens[b]), 0), s.lk)
	}
	s.shift, s.keys = s.lk-s.lq, s.lk
	if a.KeyLens != nil {
		s.keys = min(max(int(a.KeyLens[b]), 0), s.lk)
	}
	return s
}

// visible is the range of keys that query i of s sees; it is empty where lo >= hi.
func (a *Attn) visible(s *attnSeq, i int) (lo, hi int) {
	hi = s.keys
	if a.Causal {
		hi = min(hi, i+s.shift+1)
	}
	if a.Window > 0 {
		lo = max(0, i+s.shift-a.Window+1)
		hi = min(hi, i+s.shift+a.Window)
	}
	return lo, max(lo, hi)
}

// span is the range of keys that some query of i0..i1-1 sees.
func (a *Attn) span(s *attnSeq, i0, i1 int) (lo, hi int) {
	lo, _ = a.visible(s, i0)
	_, hi = a.visible(s, i1-1)
	return min(lo, s.lk), hi
}

func (a *Attn) qAt(s *attnSeq, i, h int) int { return ((s.q0+i)*a.H + h) * a.D }
func (a *Attn) kAt(s *attnSeq, j, hk int) int {
	row := s.k0 + j
	if a.Table != nil {
		row = int(a.Table[s.k0+j/a.Page])*a.Page + j%a.Page
	}
	return (row*a.HKV + hk) * a.D
}

// lseAt is where the log-sum-exp of query 0 is: [B, H, LQ], or [H, total].
func (a *Attn) lseAt(s *attnSeq, b, h int) int {
	if a.CuQ != nil {
		return h*(a.Q.len()/(a.H*a.D)) + s.q0
	}
	return (b*a.H + h) * a.LQ
}

// biasAt is where row i of the bias of sequence b and head h begins.
func (a *Attn) biasAt(b, h, i int) int {
	if a.BiasB == 1 {
		b = 0
	}
	if a.BiasH == 1 {
		h = 0
	}
	return ((b*a.BiasH+h)*a.LQ + i) * a.LK
}

// blocksAt is where the mask of blocks of sequence b and head h begins, and its blocks side by side.
func (a *Attn) blocksAt(b, h int) (at, across int) {
	if a.BlocksB == 1 {
		b = 0
	}
	if a.BlocksH == 1 {
		h = 0
	}
	across = (a.LK + a.Block - 1) / a.Block
	return (b*a.BlocksH + h) * ((a.LQ + a.Block - 1) / a.Block) * across, across
}

// hidden tells whether the mask of blocks hides key j from query i.
func (a *Attn) hidden(b, h, i, j int) bool {
	if a.Blocks == nil {
		return false
	}
	at, across := a.blocksAt(b, h)
	return a.Blocks[at+i/a.Block*across+j/a.Block] == 0
}

// check panics unless the slices hold what the sizes say.
func (a *Attn) check(op string) {
	a.checkBlocks(op)
	rowsQ, rowsK := a.B*a.LQ, a.B*a.LK
	if a.CuQ != nil {
		rowsQ, rowsK = a.offsets(op, "CuQ", a.CuQ, a.LQ), a.offsets(op, "CuK", a.CuK, a.LK)
	}
	if a.D < 1 || a.D > 256 || a.H < 1 || a.HKV < 1 || a.H%a.HKV != 0 {
		panic(fmt.Sprintf("cpu: %s: %d query heads, %d key heads of %d elements; want a multiple and 1 to 256 elements", op, a.H, a.HKV, a.D))
	}
	if n := a.Q.len(); n != rowsQ*a.H*a.D {
		panic(fmt.Sprintf("cpu: %s: Q has %d elements, want %d rows of %d", op, n, rowsQ, a.H*a.D))
	}
	if a.Table != nil {
		rowsK = a.pages(op)
	}
	if n := a.K.len(); n != rowsK*a.HKV*a.D {
		panic(fmt.Sprintf("cpu: %s: K has %d elements, want %d rows of %d", op, n, rowsK, a.HKV*a.D))
	}
	if n := a.V.len(); n != 0 && n != a.K.len() {
		panic(fmt.Sprintf("cpu: %s: V has %d elements, K %d", op, n, a.K.len()))
	}
	if a.KeyLens != nil && len(a.KeyLens) != a.B {
		panic(fmt.Sprintf("cpu: %s: %d key lengths for %d sequences", op, len(a.KeyLens), a.B))
	}
	if a.Bias != nil && len(a.Bias) != a.BiasB*a.BiasH*a.LQ*a.LK {
		panic(fmt.Sprintf("cpu: %s: the bias has %d elements, want %dx%dx%dx%d", op, len(a.Bias), a.BiasB, a.BiasH, a.LQ, a.LK))
	}
}

// checkBlocks panics unless the mask of blocks, where there is one, has the size that it should.
func (a *Attn) checkBlocks(op string) {
	if a.Blocks == nil {
		return
	}
	if a.Block < 1 || a.CuQ != nil || len(a.Blocks) != a.BlocksB*a.BlocksH*((a.LQ+a.Block-1)/a.Block)*((a.LK+a.Block-1)/a.Block) {
		panic(fmt.Sprintf("cpu: %s: the mask has %d blocks of %d, want %dx%d planes of those of %dx%d", op, len(a.Blocks), a.Block, a.BlocksB, a.BlocksH, a.LQ, a.LK))
	}
}

// pages checks the pages of the sequences and returns the number of rows of all that there are.
func (a *Attn) pages(op string) int {
	if a.Page < 1 || a.LK%a.Page != 0 || len(a.Table) != a.B*(a.LK/a.Page) || len(a.KeyLens) != a.B || a.CuQ != nil {
		panic(fmt.Sprintf("cpu: %s: %d pages of %d rows and %d lengths for %d sequences of %d keys", op, len(a.Table), a.Page, len(a.KeyLens), a.B, a.LK))
	}
	return a.K.len() / (a.HKV * a.D * a.Page) * a.Page
}

// offsets checks where sequences begin and returns the number of rows.
func (a *Attn) offsets(op, name string, cu []int32, longest int) int {
	if len(cu) != a.B+1 || cu[0] != 0 {
		panic(fmt.Sprintf("cpu: %s: %s has %d offsets for %d sequences, or does not begin with 0", op, name, len(cu), a.B))
	}
	for b := range a.B {
		if n := cu[b+1] - cu[b]; n < 0 || int(n) > longest {
			panic(fmt.Sprintf("cpu: %s: %s gives sequence %d the length %d, want 0 to %d", op, name, b, n, longest))
		}
	}
	return int(cu[a.B])
}

// block is how many queries a forward item has: enough to make bringing in the
// keys and values a small part of the work, few enough for what belongs to the
// queries to stay in the second cache. Long keys come from farther away.
func (a *Attn) block() int {
	if a.LQ > 2048 && a.LK > 2048 {
		return 384 // attn_block of attention.h is the most
	}
	return 192
}

// attnForward is a call of AttentionForward on its way to the workers.
type attnForward struct {
	Attn
	out AttnRows
	lse []float32
	run func(w *Worker, item int)
}

var attnForwards = sync.Pool{New: func() any {
	f := new(attnForward)
	f.run = f.item
	return f
}}

// AttentionForward sets out, like Q, to softmax(Scale·Q·Kᵀ + Bias)·V per head
// and lse ([B, H, LQ], with CuQ [H, total]) to the natural logarithm of the sum
// of the scores' exponentials; a query that sees no key has zeros and -Inf.
// Sums are in float32. It allocates nothing after its first call. The bits
// depend neither on the number of workers nor on the rest of the batch.
func AttentionForward(w *Worker, a *Attn, out AttnRows, lse []float32) {
	a.check("AttentionForward")
	if out.len() != a.Q.len() || len(lse)*a.D != a.Q.len() || a.V.len() != a.K.len() {
		panic(fmt.Sprintf("cpu: AttentionForward: out has %d elements, lse %d, V %d, want %d, %d, %d", out.len(), len(lse), a.V.len(), a.Q.len(), a.Q.len()/a.D, a.K.len()))
	}
	f := attnForwards.Get().(*attnForward)
	f.Attn, f.out, f.lse = *a, out, lse
	on(w, a.B*a.H*f.blocks(), f.run)
	f.Attn, f.out, f.lse = Attn{}, AttnRows{}, nil
	attnForwards.Put(f)
}

func (a *Attn) blocks() int { return (a.LQ + a.block() - 1) / a.block() }

func (f *attnForward) item(w *Worker, item int) {
	n := f.blocks()
	b, h, i0 := item/n/f.H, item/n%f.H, item%n*f.block()
	s := f.seq(b)
	if i0 >= s.lq {
		return
	}
	i1 := min(i0+f.block(), s.lq)
	if f.Table != nil || !f.nativeBlock(w, b, h, &s, i0, i1) {
		f.goBlock(w, b, h, &s, i0, i1)
	}
}
