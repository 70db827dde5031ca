package cpu

import (
	"fmt"
	"sync"
)

// AttnGrads are the operands of AttentionBackward.
type AttnGrads struct {
	DOut, Out  AttnRows // like Q
	LSE        []float32
	DQ, DK, DV AttnRows  // results; DK and DV may be empty, both or one
	DBias      []float32 // result: nil, or like Bias: the gradient summed over the axes that Bias repeats
}

// The keys of a head are cut into pieces until there are about attnItems
// pieces of work, none of fewer than attnPiece keys. Every piece but the only
// one has sums for the queries of its own, which are added up at the end: so
// the cut depends on the sizes alone, never on the number of workers.
const (
	attnItems = 32
	attnPiece = 512
)

// attnBackward is a call of AttentionBackward on its way to the workers.
//
// An item owns some keys of one head of K and V: it goes over the queries of
// all heads that share it (and, where the bias is shared by more, over those
// too), so that every sum has one owner and one order. Without DK and DV an
// item owns some queries instead.
type attnBackward struct {
	Attn
	AttnGrads
	maps       *mapsGrad // nil, or where the gradient of the probabilities comes from instead of DOut·Vᵀ
	byQuery    bool
	batches    int // sequences of an item
	heads      int // heads of K and V of an item
	pieces     int
	piece      int       // keys (or queries) of a piece, a multiple of goTile
	delta      []float32 // like LSE: Σ_d DOut·Out
	sums       int       // how many sums for the queries' gradients there are; 0: they go to DQ
	partial    []float32 // [sums] of them, each like Q
	runDelta   func(w *Worker, item int)
	runItem    func(w *Worker, item int)
	runQueries func(w *Worker, item int)
}

var attnBackwards = sync.Pool{New: func() any {
	g := new(attnBackward)
	g.runDelta, g.runItem, g.runQueries = g.deltas, g.item, g.addQueries
	return g
}}

// AttentionBackward sets DQ, DK, DV and DBias of g to the gradients of a loss,
// given DOut, its gradient by the result of AttentionForward, and that result
// in Out and LSE. Sums are in float32. The bits do not depend on the number of
// workers. It allocates nothing once it has had a problem of this size.
func AttentionBackward(w *Worker, a *Attn, grads *AttnGrads) {
	a.check("AttentionBackward")
	a.checkGrads(grads)
	g := attnBackwards.Get().(*attnBackward)
	g.Attn, g.AttnGrads = *a, *grads
	g.do(w)
	attnBackwards.Put(g)
}

func (g *attnBackward) do(w *Worker) {
	g.plan()
	on(w, g.B*g.H*g.blocks(), g.runDelta)
	clear(g.DBias)
	on(w, g.B/max(1, g.batches)*(g.HKV/g.heads)*g.pieces, g.runItem)
	if g.sums > 0 {
		on(w, g.B*g.H*g.blocks(), g.runQueries)
	}
	g.Attn, g.AttnGrads, g.maps = Attn{}, AttnGrads{}, nil
}

func (a *Attn) checkGrads(g *AttnGrads) {
	q, k := a.Q.len(), a.K.len()
	want := func(name string, got, want int) {
		if got != want {
			panic(fmt.Sprintf("cpu: AttentionBackward: %s has %d elements, want %d", name, got, want))
		}
	}
	want("DOut", g.DOut.len(), q)
	want("Out", g.Out.len(), q)
	want("DQ", g.DQ.len(), q)
	want("V", a.V.len(), k)
	want("LSE", len(g.LSE)*a.D, q)
	if n := g.DK.len(); n != 0 {
		want("DK", n, k)
	}
	if n := g.DV.len(); n != 0 {
		want("DV", n, k)
	}
	if g.DBias != nil {
		want("DBias", len(g.DBias), len(a.Bias))
	}
}

// plan cuts the work.
func (g *attnBackward) plan() {
	g.byQuery = g.DK.len()+g.DV.len() == 0
	g.batches, g.heads = 1, 1
	if g.DBias != nil && g.BiasB < g.B {
		g.batches = g.B
	}
	if g.DBias != nil && g.BiasH < g.H {
		g.heads = g.HKV
	}
	n := g.LK
	if g.byQuery {
		n = g.LQ
	}
	owners := max(1, g.B/g.batches*(g.HKV/g.heads))
	g.pieces = max(1, min((attnItems+owners-1)/owners, n/attnPiece))
	g.piece = ((n+g.pieces-1)/g.pieces + goTile - 1) / goTile * goTile
	g.delta = grown(g.delta, len(g.LSE))
	g.sums = 0
	if !g.byQuery && g.pieces > 1 {
		g.sums = g.pieces
	} else if g.DQ.U != nil {
		g.sums = 1 // an item comes to its queries more than once
	}
	g.partial = grown(g.partial, g.sums*g.Q.len())
}

func grown(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

// deltas does the rows of a block: Σ_j P_ij·dP_ij = Σ_d DOut·Out.
func (g *attnBackward) deltas(w *Worker, item int) {
	n := g.blocks()
	b, h, i0 := item/n/g.H, item/n%g.H, item%n*g.block()
	s := g.seq(b)
	buf := w.f32(scratchAttention, 2*g.D)
	delta := g.delta[g.lseAt(&s, b, h):]
	if g.maps != nil {
		i1 := min(i0+g.block(), s.lq)
		if g.maps.of(b, h) == nil || !g.nativeMapDeltas(w, delta, b, h, &s, i0, i1) {
			g.goMapDeltas(buf, delta, b, h, &s, i0, i1)
		}
		return
	}
	for i := i0; i < min(i0+g.block(), s.lq); i++ {
		at := g.qAt(&s, i, h)
		delta[i] = dot(g.DOut.load(buf, at, g.D), g.Out.load(buf[g.D:], at, g.D))
	}
}

func (g *attnBackward) item(w *Worker, item int) {
	lo := item % g.pieces * g.piece
	groups := g.HKV / g.heads
	owner := item / g.pieces
	for b := owner / groups * g.batches; b < (owner/groups+1)*g.batches; b++ {
		s := g.seq(b)
		for hk := owner % groups * g.heads; hk < (owner%groups+1)*g.heads; hk++ {
			p := attnPart{seq: s, b: b, hk: hk, j1: s.lk, i1: s.lq}
			if g.byQuery {
				p.i0, p.i1 = min(lo, s.lq), min(lo+g.piece, s.lq)
			} else {
				p.j0, p.j1 = min(lo, s.lk), min(lo+g.piece, s.lk)
			}
			if g.sums > 0 {
				p.partial = g.partial[item%g.pieces%g.sums*g.Q.len():][:g.Q.len()]
			}
			if !g.nativePart(w, &p) {
				g.goPart(w, &p)
			}
		}
	}
}

// attnPart is one head of K and V, some of its keys and some of the queries:
// the part of the gradients that comes from there.
type attnPart struct {
	seq            attnSeq
	b, hk          int
	i0, i1, j0, j1 int
	partial        []float32 // where the queries' sums go; nil: to DQ
}

// addQueries adds up the pieces' sums of a block.
func (g *attnBackward) addQueries(w *Worker, item int) {
	n := g.blocks()
	b, h, i0 := item/n/g.H, item/n%g.H, item%n*g.block()
	s := g.seq(b)
	sum := w.f32(scratchAttention, g.D)
	for i := i0; i < min(i0+g.block(), s.lq); i++ {
		at := g.qAt(&s, i, h)
		copy(sum, g.partial[at:][:g.D])
		for p := 1; p < g.sums; p++ {
			for d, v := range g.partial[p*g.Q.len()+at:][:g.D] {
				sum[d] += v
			}
		}
		g.DQ.store(at, sum)
	}
}
