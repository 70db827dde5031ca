package cpu

import (
	"fmt"
	"sync"
)

// AttnMapped is a batch of products maps·V: Maps is [B, H, LQ, LK], V
// [B, LK, HKV, D], the result [B, LQ, H, D].
type AttnMapped struct {
	B, H, HKV, D, LQ, LK int
	Maps                 []float32
	V                    AttnRows
}

func (a *AttnMapped) check(op string, out AttnRows) {
	if a.D < 1 || a.H < 1 || a.HKV < 1 || a.H%a.HKV != 0 {
		panic(fmt.Sprintf("cpu: %s: %d heads of maps, %d of V with %d elements; want a multiple and at least one element", op, a.H, a.HKV, a.D))
	}
	if len(a.Maps) != a.B*a.H*a.LQ*a.LK || a.V.len() != a.B*a.LK*a.HKV*a.D || out.len() != a.B*a.LQ*a.H*a.D {
		panic(fmt.Sprintf("cpu: %s: maps has %d elements, V %d, the result %d, want %d, %d, %d", op, len(a.Maps), a.V.len(), out.len(),
			a.B*a.H*a.LQ*a.LK, a.B*a.LK*a.HKV*a.D, a.B*a.LQ*a.H*a.D))
	}
}

func (a *AttnMapped) outAt(b, h, i int) int  { return ((b*a.LQ+i)*a.H + h) * a.D }
func (a *AttnMapped) vAt(b, hk, j int) int   { return ((b*a.LK+j)*a.HKV + hk) * a.D }
func (a *AttnMapped) mapAt(b, h int) int     { return (b*a.H + h) * a.LQ * a.LK }
func (a *AttnMapped) value(h int) (head int) { return h / (a.H / a.HKV) }

// mapped is a call of AttentionFromMaps or of its backward on its way to the workers.
type mapped struct {
	AttnMapped
	out, dv AttnRows // out is DOut in the backward
	dmaps   []float32
	forward func(w *Worker, item int)
	byMaps  func(w *Worker, item int)
	byV     func(w *Worker, item int)
}

var mappeds = sync.Pool{New: func() any {
	m := new(mapped)
	m.forward, m.byMaps, m.byV = m.product, m.gradMaps, m.gradV
	return m
}}

// AttentionFromMaps sets out to maps·V per head.
func AttentionFromMaps(w *Worker, a *AttnMapped, out AttnRows) {
	a.check("AttentionFromMaps", out)
	m := mappeds.Get().(*mapped)
	m.AttnMapped, m.out = *a, out
	on(w, a.B*a.H, m.forward)
	m.AttnMapped, m.out = AttnMapped{}, AttnRows{}
	mappeds.Put(m)
}

// AttentionFromMapsBackward sets dmaps, like Maps, and dv, like V, to the
// gradients of a loss, given dout, its gradient by the result. Either may be
// empty.
func AttentionFromMapsBackward(w *Worker, a *AttnMapped, dmaps []float32, dv, dout AttnRows) {
	a.check("AttentionFromMapsBackward", dout)
	if len(dmaps) != 0 && len(dmaps) != len(a.Maps) || dv.len() != 0 && dv.len() != a.V.len() {
		panic(fmt.Sprintf("cpu: AttentionFromMapsBackward: dmaps has %d elements, dv %d, want %d and %d", len(dmaps), dv.len(), len(a.Maps), a.V.len()))
	}
	m := mappeds.Get().(*mapped)
	m.AttnMapped, m.out, m.dmaps, m.dv = *a, dout, dmaps, dv
	if len(dmaps) > 0 {
		on(w, a.B*a.H, m.byMaps)
	}
	if dv.len() > 0 {
		on(w, a.B*a.HKV, m.byV)
	}
	m.AttnMapped, m.out, m.dmaps, m.dv = AttnMapped{}, AttnRows{}, nil, AttnRows{}
	mappeds.Put(m)
}

// head is n rows of one head as float32: the storage itself with its stride, or a copy in buf.
func (a *AttnMapped) head(r *AttnRows, buf []float32, at, stride, n int) (rows []float32, ld int) {
	if r.U == nil {
		return r.F[at:], stride
	}
	for i := range n {
		r.load(buf[i*a.D:], at+i*stride, a.D)
	}
	return buf, a.D
}

func (m *mapped) product(w *Worker, item int) {
	b, h := item/m.H, item%m.H
	if m.LQ == 0 {
		return
	}
	buf := w.f32(scratchAttention, (m.LQ+m.LK)*m.D)
	sums := buf[:m.LQ*m.D]
	clear(sums)
	if m.LK > 0 {
		v, ld := m.head(&m.V, buf[m.LQ*m.D:], m.vAt(b, m.value(h), 0), m.HKV*m.D, m.LK)
		Gemm32(w, false, false, m.LQ, m.D, m.LK, 1, m.Maps[m.mapAt(b, h):], m.LK, v, ld, 0, sums, m.D)
	}
	for i := range m.LQ {
		m.out.store(m.outAt(b, h, i), sums[i*m.D:][:m.D])
	}
}

func (m *mapped) gradMaps(w *Worker, item int) {
	b, h := item/m.H, item%m.H
	if m.LQ == 0 || m.LK == 0 {
		return
	}
	buf := w.f32(scratchAttention, (m.LQ+m.LK)*m.D)
	g, ldg := m.head(&m.out, buf, m.outAt(b, h, 0), m.H*m.D, m.LQ)
	v, ldv := m.head(&m.V, buf[m.LQ*m.D:], m.vAt(b, m.value(h), 0), m.HKV*m.D, m.LK)
	Gemm32(w, false, true, m.LQ, m.LK, m.D, 1, g, ldg, v, ldv, 0, m.dmaps[m.mapAt(b, h):], m.LK)
}

func (m *mapped) gradV(w *Worker, item int) {
	b, hk, group := item/m.HKV, item%m.HKV, m.H/m.HKV
	buf := w.f32(scratchAttention, (m.LQ+m.LK)*m.D)
	sums := buf[m.LQ*m.D:]
	clear(sums)
	for h := hk * group; h < (hk+1)*group && m.LQ > 0; h++ {
		g, ld := m.head(&m.out, buf, m.outAt(b, h, 0), m.H*m.D, m.LQ)
		Gemm32(w, true, false, m.LK, m.D, m.LQ, 1, m.Maps[m.mapAt(b, h):], m.LK, g, ld, 1, sums, m.D)
	}
	for j := range m.LK {
		m.dv.store(m.vAt(b, hk, j), sums[j*m.D:][:m.D])
	}
}
