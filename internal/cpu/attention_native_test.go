//go:build native && cgo

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// attnProblem is everything that attention computes, of random operands.
type attnProblem struct {
	Attn
	sel                   AttnSelect
	dout, out, dq, dk, dv AttnRows
	lse, maps, dbias      []float32
	mapDQ, mapDK          AttnRows
}

func randomAttention(a Attn, kind int, sel AttnSelect, seed uint64) *attnProblem {
	r := rand.New(rand.NewPCG(seed, 5))
	rows := func(n int) AttnRows {
		x := random32(r, n)
		if kind == 0 {
			return AttnRows{F: x}
		}
		u := AttnRows{U: make([]uint16, n), BF16: kind == 2}
		u.store(0, x)
		return u
	}
	rowsQ, rowsK := a.B*a.LQ, a.B*a.LK
	if a.CuQ != nil {
		rowsQ, rowsK = int(a.CuQ[a.B]), int(a.CuK[a.B])
	}
	nq, nk := rowsQ*a.H*a.D, rowsK*a.HKV*a.D
	a.Q, a.K, a.V = rows(nq), rows(nk), rows(nk)
	p := &attnProblem{sel: sel, dout: rows(nq), out: rows(nq), dq: rows(nq), dk: rows(nk), dv: rows(nk), mapDQ: rows(nq), mapDK: rows(nk)}
	if a.BiasB > 0 {
		a.Bias = random32(r, a.BiasB*a.BiasH*a.LQ*a.LK)
		a.Bias[len(a.Bias)/2] = minusInf
		p.dbias = make([]float32, len(a.Bias))
	}
	p.Attn, p.lse = a, make([]float32, rowsQ*a.H)
	if a.CuQ == nil {
		heads, keys := a.mapExtents(&sel)
		p.maps = random32(r, a.B*heads*a.LQ*keys)
	}
	return p
}

// run computes all of it with vectors of a kind, 0 for pure Go, and returns copies.
func (p *attnProblem) run(w *Worker, vectors int) map[string][]float32 {
	defer func(v int) { attnVectors = v }(attnVectors)
	attnVectors = vectors
	got := map[string][]float32{}
	keep := func(name string, r AttnRows) {
		got[name] = append([]float32(nil), r.load(make([]float32, r.len()), 0, r.len())...)
	}
	AttentionForward(w, &p.Attn, p.out, p.lse)
	AttentionBackward(w, &p.Attn, &AttnGrads{DOut: p.dout, Out: p.out, LSE: p.lse, DQ: p.dq, DK: p.dk, DV: p.dv, DBias: p.dbias})
	keep("out", p.out)
	keep("lse", AttnRows{F: p.lse})
	keep("dq", p.dq)
	keep("dk", p.dk)
	keep("dv", p.dv)
	keep("dbias", AttnRows{F: p.dbias})
	AttentionBackward(w, &p.Attn, &AttnGrads{DOut: p.dout, Out: p.out, LSE: p.lse, DQ: p.dq})
	keep("dq alone", p.dq)
	if p.CuQ == nil {
		AttentionMapsBackward(w, &p.Attn, p.mapDQ, p.mapDK, p.maps, p.lse, &p.sel)
		keep("dq of maps", p.mapDQ)
		keep("dk of maps", p.mapDK)
		maps := append([]float32(nil), p.maps...)
		AttentionMaps(w, &p.Attn, maps, p.lse, &p.sel)
		keep("maps", AttnRows{F: maps})
	}
	return got
}

func attnProblems() []Attn {
	return []Attn{
		{B: 1, H: 2, HKV: 1, D: 64, LQ: 200, LK: 300, Scale: 0.2},
		{B: 2, H: 2, HKV: 2, D: 40, LQ: 65, LK: 129, Scale: -0.1, Causal: true},
		{B: 1, H: 1, HKV: 1, D: 256, LQ: 50, LK: 70, Scale: 0.1, Window: 20, BiasB: 1, BiasH: 1},
		{B: 2, H: 4, HKV: 2, D: 7, LQ: 33, LK: 1300, Scale: 0.3, KeyLens: []int32{1290, 5}, BiasB: 2, BiasH: 4},
		{B: 1, H: 2, HKV: 1, D: 9, LQ: 1200, LK: 40, Scale: 0.3, Causal: true},
		{B: 2, H: 2, HKV: 1, D: 24, LQ: 13, LK: 1100, Scale: 0.3, Causal: true, BiasB: 1, BiasH: 1},
		{B: 3, H: 2, HKV: 1, D: 17, LQ: 150, LK: 60, Scale: 0.3, Causal: true, Window: 33, CuQ: []int32{0, 150, 150, 170}, CuK: []int32{0, 60, 65, 65}},
		{B: 1, H: 1, HKV: 1, D: 5, LQ: 2100, LK: 2100, Scale: 0.3, Window: 70, CuQ: []int32{0, 2100}, CuK: []int32{0, 2100}},
	}
}

// The three versions agree: AVX-512 and AVX2 to the bit, with pure Go up to the
// order of sums and the exponentials, which each is held to in package ops.
func TestAttentionVersions(t *testing.T) {
	if attnVectors == 0 {
		t.Skip("this processor has neither AVX2 nor AVX-512")
	}
	for i, a := range attnProblems() {
		for kind := range 3 {
			if testing.Short() && kind != i%3 {
				continue
			}
			for k, sel := range []AttnSelect{{Mean: i%2 == 0}, {Heads: []int{a.H - 1}, Keys: []int{a.LK - 1, 0, 12}}} {
				t.Run(fmt.Sprintf("%d/kind=%d/%d", i, kind, k), func(t *testing.T) {
					p := randomAttention(a, kind, sel, uint64(i))
					before := calls.attention.Load()
					got := p.run(nil, attnVectors)
					ranNatively(t, "attention", before, calls.attention.Load())
					if attnVectors == 2 {
						for what, v := range p.run(nil, 1) {
							sameBits(t, what+" with AVX2", v, got[what])
						}
					}
					Do(func(w *Worker) {
						for what, v := range p.run(w, attnVectors) {
							sameBits(t, what+" on one worker", v, got[what])
						}
					})
					for what, v := range p.run(nil, 0) {
						close32(t, what, got[what], v, kind)
					}
				})
			}
		}
	}
}

// close32 compares up to rounding: the largest difference with the largest element.
func close32(t *testing.T, what string, x, y []float32, kind int) {
	t.Helper()
	var size, worst float64
	for i := range y {
		if x[i] == y[i] { // infinities too
			if !math.IsInf(float64(y[i]), 0) {
				size = math.Max(size, math.Abs(float64(y[i])))
			}
			continue
		}
		worst = math.Max(worst, math.Abs(float64(x[i]-y[i])))
		if !(worst >= 0) {
			t.Fatalf("%s: element %d is %g natively, %g in Go", what, i, x[i], y[i])
		}
		size = math.Max(size, math.Abs(float64(y[i])))
	}
	if tol := []float64{0x1p-17, 0x1p-9, 0x1p-6}[kind] * size; worst > tol {
		t.Errorf("%s: native and Go differ by %g, the largest element is %g", what, worst, size)
	}
}
