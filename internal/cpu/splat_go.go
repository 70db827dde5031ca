package cpu

import "math"

// The conversions around products keep the compiler from fusing them with the
// sums that follow; then the bits are those of splat.c and splatback.c. Pixels
// are taken sixteen at a time because sums of gradients are kept by lane.

type splatLanes [16]float32

func (l *splatLanes) fold() float32 {
	for w := 8; w > 0; w /= 2 {
		for j := range w {
			l[j] += l[j+w]
		}
	}
	return l[0]
}

// rowRange is row_range of splat.h: the pixels of a row that can lie within QMax.
func (c *SplatCanvas) rowRange(s *Splat, dy, row float32) (lo, hi int) {
	lo, hi = int(s.X0), int(s.X1)
	if s.QMax == infinity32 {
		return lo, hi
	}
	left := s.QMax - row
	if !(left >= 0) {
		return lo, lo
	}
	half, mid := float32(math.Sqrt(float64(left/s.P))), s.X-float32(s.K*dy)
	a := float32((mid-half-c.origin)*c.inverse) - 1
	b := float32((mid+half-c.origin)*c.inverse) + 2
	if a >= float32(hi) || b <= float32(lo) {
		return lo, lo
	}
	if a > float32(lo) {
		lo = int(int32(a))
	}
	if b < float32(hi) {
		hi = int(int32(b))
	}
	return lo, hi
}

// falloff is exp(-q) of sixteen pixels from x on, 0 where s does not reach, and u.
func (c *SplatCanvas) falloff(s *Splat, x, hi int, ky, row float32, e, u *splatLanes) {
	for j := range e {
		u[j] = (c.xs[x+j] - s.X) + ky
		q := float32(float32(u[j]*s.P)*u[j]) + row
		e[j] = 0
		if x+j < hi && q <= s.QMax {
			e[j] = exp32(-q)
		}
	}
}

func goSplatAdd(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc, z []float32) {
	plane := (y1 - y0) * c.Stride
	var e, u splatLanes
	for _, id := range ids {
		p := &s[id]
		fi := f[int(id)*channels:][:channels]
		for y := max(y0, int(p.Y0)); y < min(y1, int(p.Y1)); y++ {
			dy := c.ys[y] - p.Y
			ky, row := float32(p.K*dy), float32(float32(p.V*dy)*dy)
			lo, hi := c.rowRange(p, dy, row)
			for x := lo; x < hi; x += 16 {
				c.falloff(p, x, hi, ky, row, &e, &u)
				at := (y-y0)*c.Stride + x
				for j := range min(16, hi-x) {
					g := float32(e[j] * p.O)
					if z != nil {
						z[at+j] += g
					}
					for k, fk := range fi {
						acc[k*plane+at+j] += float32(g * fk)
					}
				}
			}
		}
	}
}

func goSplatAlpha(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc []float32, l *SplatLight) {
	plane := (y1 - y0) * c.Stride
	var e, u splatLanes
	for i, id := range ids {
		p := &s[id]
		fi := f[int(id)*channels:][:channels]
		for y := max(y0, int(p.Y0)); y < min(y1, int(p.Y1)); y++ {
			dy := c.ys[y] - p.Y
			ky, row := float32(p.K*dy), float32(float32(p.V*dy)*dy)
			lo, hi := c.rowRange(p, dy, row)
			for x := lo; x < hi; x += 16 {
				c.falloff(p, x, hi, ky, row, &e, &u)
				for j := range min(16, hi-x) {
					at := (y-y0)*c.Stride + x + j
					a, now := min(float32(e[j]*p.O), alphaCap), l.Left[at]
					then := float32(now * (1 - a))
					if l.Open[at] == 0 || !(a >= alphaLeast) {
						continue
					}
					if then <= alphaEnd {
						l.Open[at] = 0
						continue
					}
					l.Left[at], l.Last[at] = then, int32(i+1)
					w := float32(a * now)
					for k, fk := range fi {
						acc[k*plane+at] += float32(w * fk)
					}
				}
			}
		}
	}
}

// splatMoments are the six sums of a Gaussian by lane.
type splatMoments struct{ t, u, y, uu, uy, yy splatLanes }

func (m *splatMoments) endRow(t, u, uu *splatLanes, dy float32) {
	for j := range t {
		m.t[j] += t[j]
		m.u[j] += u[j]
		m.uu[j] += uu[j]
		ty := float32(t[j] * dy)
		m.y[j] += ty
		m.yy[j] += float32(ty * dy)
		m.uy[j] += float32(u[j] * dy)
	}
}

func (m *splatMoments) store(out []float32) {
	out[0], out[1], out[2] = m.t.fold(), m.u.fold(), m.y.fold()
	out[3], out[4], out[5] = m.uu.fold(), m.uy.fold(), m.yy.fold()
}

func foldLanes(work []float32) float32 {
	l := splatLanes(work[:16])
	return l.fold()
}

func goSplatGather(c *SplatCanvas, s []Splat, lo, hi int, f []float32, channels int, v, offset, work, sums, df []float32) {
	plane := c.Height * c.Stride
	var e, u splatLanes
	for i := lo; i < hi; i++ {
		p := &s[i]
		fi := f[i*channels:][:channels]
		var m splatMoments
		clear(work[:16*channels])
		for y := int(p.Y0); y < int(p.Y1); y++ {
			dy := c.ys[y] - p.Y
			ky, row := float32(p.K*dy), float32(float32(p.V*dy)*dy)
			x0, x1 := c.rowRange(p, dy, row)
			var rt, ru, ruu splatLanes
			for x := x0; x < x1; x += 16 {
				c.falloff(p, x, x1, ky, row, &e, &u)
				for j := range 16 {
					at := y*c.Stride + x + j
					h := float32(0)
					if offset != nil {
						h -= offset[at]
					}
					for k, fk := range fi {
						vk := v[k*plane+at]
						h += float32(vk * fk)
						work[16*k+j] += float32(e[j] * vk)
					}
					t := float32(e[j] * h)
					tu := float32(t * u[j])
					rt[j] += t
					ru[j] += tu
					ruu[j] += float32(tu * u[j])
				}
			}
			m.endRow(&rt, &ru, &ruu, dy)
		}
		m.store(sums[SplatSums*i:])
		for k := range channels {
			df[i*channels+k] = p.O * foldLanes(work[16*k:])
		}
	}
}

func goSplatAlphaBack(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, v, left, behind []float32, last []int32, work, slots []float32) {
	plane := (y1 - y0) * c.Stride
	var e, u splatLanes
	for i := len(ids) - 1; i >= 0; i-- {
		p := &s[ids[i]]
		fi := f[int(ids[i])*channels:][:channels]
		var m splatMoments
		clear(work[:16*channels])
		for y := max(y0, int(p.Y0)); y < min(y1, int(p.Y1)); y++ {
			dy := c.ys[y] - p.Y
			ky, row := float32(p.K*dy), float32(float32(p.V*dy)*dy)
			lo, hi := c.rowRange(p, dy, row)
			var rt, ru, ruu splatLanes
			for x := lo; x < hi; x += 16 {
				c.falloff(p, x, hi, ky, row, &e, &u)
				for j := range 16 {
					at := (y-y0)*c.Stride + x + j
					g := float32(e[j] * p.O)
					a := min(g, alphaCap)
					use := a >= alphaLeast && last[at] > int32(i)
					rest := 1 - a
					before, w := left[at]/rest, float32(0)
					if use {
						w = float32(a * before)
					}
					vf := float32(0)
					for k, fk := range fi {
						vk := v[k*plane+at]
						vf += float32(vk * fk)
						work[16*k+j] += float32(w * vk)
					}
					h := float32(before*vf) - behind[at]/rest
					behind[at] += float32(w * vf)
					if !use {
						continue
					}
					left[at] = before
					if g <= alphaCap {
						t := float32(e[j] * h)
						tu := float32(t * u[j])
						rt[j] += t
						ru[j] += tu
						ruu[j] += float32(tu * u[j])
					}
				}
			}
			m.endRow(&rt, &ru, &ruu, dy)
		}
		out := slots[i*(SplatSums+channels):]
		m.store(out)
		for k := range channels {
			out[SplatSums+k] = foldLanes(work[16*k:])
		}
	}
}
