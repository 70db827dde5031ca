package cpu

import (
	"fmt"
	"sync"
)

// AttnSelect chooses probabilities: those of some heads, or their mean over
// these heads, and of some keys.
type AttnSelect struct {
	Heads []int // nil: all; else distinct
	Keys  []int // nil: all; else distinct
	Mean  bool
}

// extents of the maps [B, heads, LQ, keys].
func (a *Attn) mapExtents(sel *AttnSelect) (heads, keys int) {
	heads, keys = a.H, a.LK
	if sel.Heads != nil {
		heads = len(sel.Heads)
	}
	if sel.Keys != nil {
		keys = len(sel.Keys)
	}
	if sel.Mean {
		heads = 1
	}
	return heads, keys
}

func (a *Attn) checkMaps(op string, maps, lse []float32, sel *AttnSelect) {
	a.check(op)
	heads, keys := a.mapExtents(sel)
	if a.CuQ != nil || len(maps) != a.B*heads*a.LQ*keys || len(lse) != a.B*a.H*a.LQ {
		panic(fmt.Sprintf("cpu: %s: maps has %d elements, lse %d, want %dx%dx%dx%d, and %d, and sequences of one length", op, len(maps), len(lse), a.B, heads, a.LQ, keys, a.B*a.H*a.LQ))
	}
	distinct(op, "head", sel.Heads, a.H)
	distinct(op, "key", sel.Keys, a.LK)
}

func distinct(op, what string, sel []int, n int) {
	if sel != nil && len(sel) == 0 {
		panic(fmt.Sprintf("cpu: %s: no %s is chosen", op, what))
	}
	for i, v := range sel {
		if v < 0 || v >= n {
			panic(fmt.Sprintf("cpu: %s: %s %d of %d is chosen", op, what, v, n))
		}
		for _, u := range sel[:i] {
			if u == v {
				panic(fmt.Sprintf("cpu: %s: %s %d is chosen twice", op, what, v))
			}
		}
	}
}

// mapsTile is how many keys of a map are made at a time.
const mapsTile = 256

// attnMaps is a call of AttentionMaps on its way to the workers.
type attnMaps struct {
	Attn
	sel         AttnSelect
	maps, lse   []float32
	heads, keys int
	chosen      []int32 // sel.Keys
	run         func(w *Worker, item int)
}

var attnMapses = sync.Pool{New: func() any {
	m := new(attnMaps)
	m.run = m.item
	return m
}}

// AttentionMaps sets maps [B, heads, LQ, keys] to the chosen probabilities,
// softmax(Scale·Q·Kᵀ + Bias); lse is what AttentionForward gives. V is not
// used. It panics with sequences of several lengths.
func AttentionMaps(w *Worker, a *Attn, maps, lse []float32, sel *AttnSelect) {
	a.checkMaps("AttentionMaps", maps, lse, sel)
	m := attnMapses.Get().(*attnMaps)
	m.Attn, m.sel, m.maps, m.lse = *a, *sel, maps, lse
	m.heads, m.keys = a.mapExtents(sel)
	m.chosen = m.chosen[:0]
	for _, j := range sel.Keys {
		m.chosen = append(m.chosen, int32(j))
	}
	on(w, a.B*m.heads*m.blocks(), m.run)
	m.Attn, m.sel, m.maps, m.lse = Attn{}, AttnSelect{}, nil, nil
	attnMapses.Put(m)
}

// item does a block of queries of one map: of its head, or of all heads that are chosen.
func (m *attnMaps) item(w *Worker, item int) {
	n := m.blocks()
	b, slot, i0 := item/n/m.heads, item/n%m.heads, item%n*m.block()
	s := m.seq(b)
	i1 := min(i0+m.block(), s.lq)
	first, count := slot, 1
	if m.sel.Mean {
		first, count = 0, m.H
		if m.sel.Heads != nil {
			count = len(m.sel.Heads)
		}
	}
	for k := first; k < first+count; k++ {
		h := k
		if m.sel.Heads != nil {
			h = m.sel.Heads[k]
		}
		share := 1 / float32(count)
		if !m.nativeMap(w, &s, b, h, slot, k > first, share, i0, i1) {
			m.goMap(w, &s, b, h, slot, k > first, share, i0, i1)
		}
	}
}

// goMap does some queries of a head, key tile by key tile: it sets the map, or adds to it.
func (m *attnMaps) goMap(w *Worker, s *attnSeq, b, h, slot int, more bool, share float32, i0, i1 int) {
	d, tile := m.D, min(mapsTile, m.keys)
	buf := w.f32(scratchAttention, (i1-i0)*(d+tile)+tile*d)
	queries, buf := buf[:(i1-i0)*d], buf[(i1-i0)*d:]
	scores, keys := buf[:(i1-i0)*tile], buf[(i1-i0)*tile:]
	for i := i0; i < i1; i++ {
		to := queries[(i-i0)*d:][:d]
		copy(to, m.Q.load(to, m.qAt(s, i, h), d))
	}
	for t0 := 0; t0 < m.keys; t0 += tile {
		t1 := min(t0+tile, m.keys)
		for t := t0; t < t1; t++ {
			to := keys[(t-t0)*d:][:d]
			copy(to, m.K.load(to, m.kAt(s, m.key(t), h/(m.H/m.HKV)), d))
		}
		Gemm32(w, false, true, i1-i0, t1-t0, d, m.Scale, queries, d, keys, d, 0, scores, tile)
		for i := i0; i < i1; i++ {
			row := scores[(i-i0)*tile:][:t1-t0]
			m.probabilities(row, s, b, h, i, t0)
			out := m.maps[((b*m.heads+slot)*s.lq+i)*m.keys+t0:][:t1-t0]
			if !more {
				clear(out)
			}
			for t, p := range row {
				out[t] += share * p
			}
		}
	}
}

func (m *attnMaps) key(t int) int {
	if m.sel.Keys == nil {
		return t
	}
	return m.sel.Keys[t]
}

// probabilities makes them of the scores of query i with the chosen keys from t0 on.
func (m *attnMaps) probabilities(row []float32, s *attnSeq, b, h, i, t0 int) {
	lse := m.lse[m.lseAt(s, b, h)+i]
	lo, hi := m.visible(s, i)
	for t := range row {
		j := m.key(t0 + t)
		if j < lo || j >= hi || lse == minusInf {
			row[t] = minusInf
			continue
		}
		if m.Bias != nil {
			row[t] += m.Bias[m.biasAt(b, h, i)+j]
		}
		row[t] -= lse
	}
	expSpan(row, row)
}

// mapsGrad is the gradient by maps, and where a head and a key are in them.
type mapsGrad struct {
	grad        []float32
	heads, keys int
	head, key   []int32 // -1: not chosen; key is for keyList
	keyList     []int   // the chosen keys; nil: all
	share       float32 // of a head in a mean
	lq          int
}

// at is the gradient by the probability that head h of sequence b gives key j for query i.
func (m *mapsGrad) at(b, h, i, j int) float32 {
	slot := int(m.head[h])
	if m.keyList != nil {
		j = int(m.key[j])
	}
	if slot < 0 || j < 0 {
		return 0
	}
	return m.share * m.grad[((b*m.heads+slot)*m.lq+i)*m.keys+j]
}

// of is the map of a head, nil where it is not chosen.
func (m *mapsGrad) of(b, h int) []float32 {
	if m.head[h] < 0 {
		return nil
	}
	return m.grad[(b*m.heads+int(m.head[h]))*m.lq*m.keys:]
}

func (m *mapsGrad) set(a *Attn, grad []float32, sel *AttnSelect) {
	m.grad, m.keyList, m.share, m.lq = grad, sel.Keys, 1, a.LQ
	m.heads, m.keys = a.mapExtents(sel)
	m.head = slotsOf(m.head, a.H, sel.Heads)
	if sel.Keys != nil {
		m.key = slotsOf(m.key, a.LK, sel.Keys)
	}
	if sel.Mean {
		n := a.H
		if sel.Heads != nil {
			n = len(sel.Heads)
		}
		m.share = 1 / float32(max(1, n))
		for h, slot := range m.head {
			m.head[h] = min(slot, 0)
		}
	}
}

// slotsOf is the inverse of sel over n: -1 where it does not choose.
func slotsOf(dst []int32, n int, sel []int) []int32 {
	dst = dst[:0]
	for i := range n {
		if sel == nil {
			dst = append(dst, int32(i))
		} else {
			dst = append(dst, -1)
		}
	}
	for slot, i := range sel {
		dst[i] = int32(slot)
	}
	return dst
}

var mapsGrads = sync.Pool{New: func() any { return new(mapsGrad) }}

// AttentionMapsBackward sets dq and dk (which may be empty) to the gradients
// of a loss, given its gradient by the maps of AttentionMaps.
func AttentionMapsBackward(w *Worker, a *Attn, dq, dk AttnRows, dmaps, lse []float32, sel *AttnSelect) {
	a.checkMaps("AttentionMapsBackward", dmaps, lse, sel)
	if dq.len() != a.Q.len() || dk.len() != 0 && dk.len() != a.K.len() {
		panic(fmt.Sprintf("cpu: AttentionMapsBackward: dq has %d elements, dk %d, want %d and %d", dq.len(), dk.len(), a.Q.len(), a.K.len()))
	}
	m := mapsGrads.Get().(*mapsGrad)
	m.set(a, dmaps, sel)
	g := attnBackwards.Get().(*attnBackward)
	g.Attn, g.AttnGrads, g.maps = *a, AttnGrads{LSE: lse, DQ: dq, DK: dk}, m
	g.V = AttnRows{}
	g.do(w)
	attnBackwards.Put(g)
	m.grad, m.keyList = nil, nil
	mapsGrads.Put(m)
}

// goMapDeltas is deltas for maps: Σ_j P_ij·dP_ij over the chosen keys.
func (g *attnBackward) goMapDeltas(row, delta []float32, b, h int, s *attnSeq, i0, i1 int) {
	clear(delta[i0:i1])
	if g.maps.head[h] < 0 {
		return
	}
	query, key := row[:g.D], row[g.D:]
	at := g.lseAt(s, b, h)
	for i := i0; i < i1; i++ {
		q := g.Q.load(query, g.qAt(s, i, h), g.D)
		lo, hi := g.visible(s, i)
		lse := g.LSE[at+i]
		if lse == minusInf {
			continue
		}
		add := func(j int) {
			if j >= lo && j < hi {
				k := g.K.load(key, g.kAt(s, j, h/(g.H/g.HKV)), g.D)
				delta[i] += exp32(g.score(q, k, b, h, i, j)-lse) * g.maps.at(b, h, i, j)
			}
		}
		if g.maps.keyList != nil {
			for _, j := range g.maps.keyList {
				add(j)
			}
			continue
		}
		for j := range s.lk {
			add(j)
		}
	}
}
