//go:build native && cgo

package cpu

// #cgo LDFLAGS: -lm
// #cgo noescape attn_forward
// #cgo nocallback attn_forward
// #cgo noescape attn_backward
// #cgo nocallback attn_backward
// #cgo noescape attn_maps
// #cgo nocallback attn_maps
// #cgo noescape attn_delta
// #cgo nocallback attn_delta
// #include "native.h"
import "C"

import "unsafe"

// attnVectors is how wide attention's vectors are here: 0 there is no code for
// this processor, 1 AVX2, 2 AVX-512.
var attnVectors = int(C.attn_vectors())

// head is one head of sequence s, with the queries i0..i1-1 and the keys j0..j1-1.
func (a *Attn) head(s *attnSeq, i0, i1, j0, j1 int) C.attn_head {
	causal := 0
	if a.Causal {
		causal = 1
	}
	return C.attn_head{
		kind: C.int32_t(a.Q.kind()), causal: C.int32_t(causal),
		d: C.int64_t(a.D), row_q: C.int64_t(a.H * a.D), row_k: C.int64_t(a.HKV * a.D),
		lk: C.int64_t(s.lk), keys: C.int64_t(s.keys), shift: C.int64_t(s.shift), window: C.int64_t(a.Window),
		i0: C.int64_t(i0), i1: C.int64_t(i1), j0: C.int64_t(j0), j1: C.int64_t(j1),
		scale: C.double(a.Scale), share: 1,
	}
}

// kind is how attention.h names the dtype: 0 float32, 1 float16, 2 bfloat16.
func (r *AttnRows) kind() int {
	switch {
	case r.U == nil:
		return 0
	case !r.BF16:
		return 1
	}
	return 2
}

// pointer is that to element at, nil where there is none.
func (r *AttnRows) pointer(at int) unsafe.Pointer {
	switch {
	case at < len(r.F):
		return unsafe.Pointer(&r.F[at])
	case at < len(r.U):
		return unsafe.Pointer(&r.U[at])
	}
	return nil
}

func floatAt(x []float32, at int) *C.float {
	if at >= len(x) {
		return nil
	}
	return (*C.float)(&x[at])
}

func (a *Attn) biasPointer(b, h int) *C.float {
	if a.Bias == nil {
		return nil
	}
	return floatAt(a.Bias, a.biasAt(b, h, 0))
}

// mask is the mask of blocks of a head, nil where there is none.
func (a *Attn) mask(c *C.attn_head, b, h int) *C.uint8_t {
	if len(a.Blocks) == 0 {
		return nil
	}
	at, across := a.blocksAt(b, h)
	c.block, c.across = C.int64_t(a.Block), C.int64_t(across)
	return (*C.uint8_t)(&a.Blocks[at])
}

func attnFloats(d int) int { return int(C.attn_floats(C.int64_t(d))) }

func (f *attnForward) nativeBlock(w *Worker, b, h int, s *attnSeq, i0, i1 int) bool {
	if attnVectors == 0 {
		return false
	}
	calls.attention.Add(1)
	p := f.head(s, i0, i1, 0, s.lk)
	q, k := f.qAt(s, 0, h), f.kAt(s, 0, h/(f.H/f.HKV))
	scratch := w.f32(scratchAttention, attnFloats(f.D))
	C.attn_forward(C.int(attnVectors), &p, f.out.pointer(q), floatAt(f.lse, f.lseAt(s, b, h)),
		f.Q.pointer(q), f.K.pointer(k), f.V.pointer(k), f.biasPointer(b, h), f.mask(&p, b, h), f32(scratch))
	return true
}

// nativePart is goPart a head at a time.
func (g *attnBackward) nativePart(w *Worker, p *attnPart) bool {
	if attnVectors == 0 {
		return false
	}
	calls.attention.Add(1)
	s, keys, pad := &p.seq, p.j1-p.j0, (g.D+15)/16*16
	buf := w.f32(scratchAttention, attnFloats(g.D)+2*keys*pad)
	var dk, dv []float32
	if g.DK.len() > 0 {
		dk, buf = buf[:keys*pad], buf[keys*pad:]
		clear(dk)
	}
	if g.DV.len() > 0 {
		dv, buf = buf[:keys*pad], buf[keys*pad:]
		clear(dv)
	}
	dq := p.partial
	if dq == nil {
		dq = g.DQ.F
	}
	c, group, k := g.head(s, p.i0, p.i1, p.j0, p.j1), g.H/g.HKV, g.kAt(s, 0, p.hk)
	for h := p.hk * group; h < (p.hk+1)*group; h++ {
		q, lse := g.qAt(s, 0, h), g.lseAt(s, p.b, h)
		var grad []float32
		var slot *C.int32_t
		if g.maps != nil {
			if grad = g.maps.of(p.b, h); grad == nil { // not in the maps
				for i := p.i0; i < p.i1; i++ {
					clear(dq[g.qAt(s, i, h):][:g.D])
				}
				continue
			}
			slot = g.maps.slots()
			c.row_maps, c.share = C.int64_t(g.maps.keys), C.float(g.maps.share)
		}
		var dbias *C.float
		if g.DBias != nil {
			dbias = floatAt(g.DBias, g.biasAt(p.b, h, 0))
		}
		C.attn_backward(C.int(attnVectors), &c, floatAt(dq, q), floatAt(dk, 0), floatAt(dv, 0), dbias,
			g.Q.pointer(q), g.K.pointer(k), g.V.pointer(k), g.DOut.pointer(q),
			floatAt(g.LSE, lse), floatAt(g.delta, lse), g.biasPointer(p.b, h), g.mask(&c, p.b, h), floatAt(grad, 0), slot, f32(buf))
	}
	for j := range keys {
		if dk != nil {
			row := dk[j*pad:][:g.D]
			for d := range row {
				row[d] *= g.Scale
			}
			g.DK.store(g.kAt(s, p.j0+j, p.hk), row)
		}
		if dv != nil {
			g.DV.store(g.kAt(s, p.j0+j, p.hk), dv[j*pad:][:g.D])
		}
	}
	return true
}

// slots is the column of each key in the maps; nil where all are, in order.
func (m *mapsGrad) slots() *C.int32_t {
	if m.keyList == nil {
		return nil
	}
	return (*C.int32_t)(&m.key[0])
}

func (g *attnBackward) nativeMapDeltas(w *Worker, delta []float32, b, h int, s *attnSeq, i0, i1 int) bool {
	if attnVectors == 0 {
		return false
	}
	calls.attention.Add(1)
	p := g.head(s, i0, i1, 0, s.lk)
	p.row_maps, p.share = C.int64_t(g.maps.keys), C.float(g.maps.share)
	q, k := g.qAt(s, 0, h), g.kAt(s, 0, h/(g.H/g.HKV))
	C.attn_delta(C.int(attnVectors), &p, floatAt(delta, 0), g.Q.pointer(q), g.K.pointer(k), floatAt(g.LSE, g.lseAt(s, b, h)),
		g.biasPointer(b, h), floatAt(g.maps.of(b, h), 0), g.maps.slots(), f32(w.f32(scratchAttention, attnFloats(g.D))))
	return true
}

func (m *attnMaps) nativeMap(w *Worker, s *attnSeq, b, h, slot int, more bool, share float32, i0, i1 int) bool {
	if attnVectors == 0 {
		return false
	}
	calls.attention.Add(1)
	p := m.head(s, i0, i1, 0, s.lk)
	p.row_maps, p.share = C.int64_t(m.keys), C.float(share)
	q, k := m.qAt(s, 0, h), m.kAt(s, 0, h/(m.H/m.HKV))
	var chosen *C.int32_t
	if m.sel.Keys != nil {
		chosen = (*C.int32_t)(&m.chosen[0])
	}
	C.attn_maps(C.int(attnVectors), &p, floatAt(m.maps, (b*m.heads+slot)*s.lq*m.keys), flag(more), m.Q.pointer(q), m.K.pointer(k),
		floatAt(m.lse, m.lseAt(s, b, h)), m.biasPointer(b, h), chosen, C.int64_t(m.keys), f32(w.f32(scratchAttention, attnFloats(m.D))))
	return true
}
