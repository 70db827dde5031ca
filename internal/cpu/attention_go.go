package cpu

import "math"

var minusInf = float32(math.Inf(-1))

// goTile is how many keys are converted to float32 at a time.
const goTile = 64

// goBlock does queries i0..i1-1 of one head in two passes: all scores, then
// all values.
func (f *attnForward) goBlock(w *Worker, b, h int, s *attnSeq, i0, i1 int) {
	hk, d := h/(f.H/f.HKV), f.D
	lo, hi := f.span(s, i0, i1)
	n := max(0, hi-lo)
	buf := w.f32(scratchAttention, (i1-i0)*(n+2*d)+goTile*d)
	queries, buf := buf[:(i1-i0)*d], buf[(i1-i0)*d:]
	sums, buf := buf[:(i1-i0)*d], buf[(i1-i0)*d:]
	scores, rows := buf[:(i1-i0)*n], buf[(i1-i0)*n:]
	clear(sums)
	for i := i0; i < i1; i++ {
		to := queries[(i-i0)*d:][:d]
		copy(to, f.Q.load(to, f.qAt(s, i, h), d))
	}
	for j0 := lo; j0 < hi; j0 += goTile {
		j1 := min(j0+goTile, hi)
		for j := j0; j < j1; j++ {
			key := f.K.load(rows, f.kAt(s, j, hk), d)
			for i := i0; i < i1; i++ {
				scores[(i-i0)*n+j-lo] = f.score(queries[(i-i0)*d:][:d], key, b, h, i, j)
			}
		}
	}
	lse := f.lse[f.lseAt(s, b, h):]
	for i := i0; i < i1; i++ {
		first, last := f.visible(s, i)
		row := scores[(i-i0)*n:][:n]
		first, last = min(max(first-lo, 0), n), min(max(last-lo, 0), n)
		clear(row[:first])
		clear(row[max(first, last):])
		lse[i] = goSoftmax(row[first:max(first, last)])
	}
	for j := lo; j < hi; j++ {
		value := f.V.load(rows, f.kAt(s, j, hk), d)
		for i := i0; i < i1; i++ {
			if p := scores[(i-i0)*n+j-lo]; p != 0 {
				addScaled(sums[(i-i0)*d:][:d], p, value)
			}
		}
	}
	for i := i0; i < i1; i++ {
		f.out.store(f.qAt(s, i, h), sums[(i-i0)*d:][:d])
	}
}

func (a *Attn) score(query, key []float32, b, h, i, j int) float32 {
	if a.hidden(b, h, i, j) {
		return minusInf
	}
	x := a.Scale * dot(query, key)
	if a.Bias != nil {
		x += a.Bias[a.biasAt(b, h, i)+j]
	}
	return x
}

// goSoftmax makes scores probabilities and returns the logarithm of the sum of
// their exponentials. Where there is none, or all are -Inf, they become zeros
// and the logarithm is -Inf.
func goSoftmax(x []float32) float32 {
	top := minusInf
	for _, v := range x {
		if v > top || v != v {
			top = v
		}
	}
	if top == minusInf {
		clear(x)
		return top
	}
	var sum float32
	for i, v := range x {
		x[i] = exp32(v - top)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
	return top + float32(math.Log(float64(sum)))
}

func dot(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s0 += x[i] * y[i]
		s1 += x[i+1] * y[i+1]
		s2 += x[i+2] * y[i+2]
		s3 += x[i+3] * y[i+3]
	}
	for ; i < len(x); i++ {
		s0 += x[i] * y[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// addScaled adds a·x to y.
func addScaled(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += a * x[i]
	}
}

// goPart goes over tiles of queries and, within, over the keys.
func (g *attnBackward) goPart(w *Worker, p *attnPart) {
	s, d, keys := &p.seq, g.D, p.j1-p.j0
	buf := w.f32(scratchAttention, 2*keys*d+(3*goTile+2)*d)
	cut := func(n int) []float32 {
		part := buf[:n]
		buf = buf[n:]
		return part
	}
	dk, dv := cut(keys*d), cut(keys*d)
	queries, douts, dqs, row, row2 := cut(goTile*d), cut(goTile*d), cut(goTile*d), cut(d), cut(d)
	clear(dk)
	clear(dv)
	group := g.H / g.HKV
	for h := p.hk * group; h < (p.hk+1)*group; h++ {
		at := g.lseAt(s, p.b, h)
		for i0 := p.i0; i0 < p.i1; i0 += goTile {
			i1 := min(i0+goTile, p.i1)
			clear(dqs)
			for i := i0; i < i1; i++ {
				q, do := queries[(i-i0)*d:][:d], douts[(i-i0)*d:][:d]
				copy(q, g.Q.load(q, g.qAt(s, i, h), d))
				if g.maps == nil {
					copy(do, g.DOut.load(do, g.qAt(s, i, h), d))
				}
			}
			lo, hi := g.span(s, i0, i1)
			for j := max(lo, p.j0); j < min(hi, p.j1); j++ {
				key, value := g.K.load(row, g.kAt(s, j, p.hk), d), row2
				if g.maps == nil {
					value = g.V.load(row2, g.kAt(s, j, p.hk), d)
				}
				dkj, dvj := dk[(j-p.j0)*d:][:d], dv[(j-p.j0)*d:][:d]
				for i := i0; i < i1; i++ {
					lse := g.LSE[at+i]
					if first, last := g.visible(s, i); j < first || j >= last || lse == minusInf || g.hidden(p.b, h, i, j) {
						continue
					}
					q, do := queries[(i-i0)*d:][:d], douts[(i-i0)*d:][:d]
					prob := exp32(g.score(q, key, p.b, h, i, j) - lse)
					var dprob float32
					if g.maps != nil {
						dprob = g.maps.at(p.b, h, i, j)
					} else {
						dprob = dot(do, value)
						addScaled(dvj, prob, do)
					}
					ds := prob * (dprob - g.delta[at+i])
					if g.DBias != nil {
						g.DBias[g.biasAt(p.b, h, i)+j] += ds
					}
					addScaled(dkj, g.Scale*ds, q)
					addScaled(dqs[(i-i0)*d:][:d], g.Scale*ds, key)
				}
			}
			for i := i0; i < i1; i++ {
				if p.partial != nil {
					copy(p.partial[g.qAt(s, i, h):], dqs[(i-i0)*d:][:d])
				} else {
					g.DQ.store(g.qAt(s, i, h), dqs[(i-i0)*d:][:d])
				}
			}
		}
	}
	for j := p.j0; j < p.j1; j++ {
		if g.DK.len() > 0 {
			g.DK.store(g.kAt(s, j, p.hk), dk[(j-p.j0)*d:][:d])
		}
		if g.DV.len() > 0 {
			g.DV.store(g.kAt(s, j, p.hk), dv[(j-p.j0)*d:][:d])
		}
	}
}
