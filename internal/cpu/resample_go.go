package cpu

// resampler is Resample.Run in Go. Rows after the first pass live in a ring of
// as many rows as the second needs.
//
// Products are converted explicitly before they are added: that forbids a fused
// multiply-add, which some processors' Go would use, with other bits.
type resampler struct {
	*Resample
	img             []uint8
	inW, outW, outH int // inW in bytes
	dst             []float32
}

func (p *resampler) run(s *ResampleScratch) {
	inW := p.inW
	s.acc = growTo(s.acc, max(inW, 3*p.outW))
	s.line = growTo(s.line, inW)
	if p.VerticalFirst {
		for y := range p.outH {
			p.columns(s.line, s.acc[:inW], y)
			p.along(s.acc[:3*p.outW], s.line)
			p.finish(s.acc[:3*p.outW], y)
		}
		return
	}
	taps, width := p.V.Taps, 3*p.outW
	s.ring = growTo(s.ring, taps*width)
	ready := 0 // rows below are, or were, in the ring
	for y := range p.outH {
		first := int(p.V.Start[y])
		for ready = max(ready, first); ready < first+taps; ready++ {
			for i, b := range p.img[ready*inW:][:inW] {
				s.line[i] = float64(b)
			}
			row := s.ring[ready%taps*width:][:width]
			p.along(row, s.line)
			for i, v := range row {
				row[i] = float64(float32(v))
			}
		}
		w := p.V.Weight[y*taps:][:taps]
		switch taps {
		case 1:
			p.finish(s.ring, y)
			continue
		case 2:
			mix2(s.acc[:width], s.ring[first%2*width:], s.ring[(first+1)%2*width:], w)
		case 4:
			mix4(s.acc[:width], s.ring[first%4*width:], s.ring[(first+1)%4*width:],
				s.ring[(first+2)%4*width:], s.ring[(first+3)%4*width:], w)
		default:
			clear(s.acc[:width])
			for k, wk := range w {
				axpy(s.acc[:width], s.ring[(first+k)%taps*width:], wk)
			}
		}
		p.finish(s.acc[:width], y)
	}
}

func mix2(acc, a, b, w []float64) {
	a, b = a[:len(acc)], b[:len(acc)]
	w0, w1 := w[0], w[1]
	for i := range acc {
		acc[i] = float64(a[i]*w0) + float64(b[i]*w1)
	}
}

func mix4(acc, a, b, c, d, w []float64) {
	a, b, c, d = a[:len(acc)], b[:len(acc)], c[:len(acc)], d[:len(acc)]
	w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
	for i := range acc {
		acc[i] = float64(a[i]*w0) + float64(b[i]*w1) + float64(c[i]*w2) + float64(d[i]*w3)
	}
}

func axpy(acc, x []float64, w float64) {
	x = x[:len(acc)]
	for i := range acc {
		acc[i] += float64(x[i] * w)
	}
}

// along resamples one interleaved row of the picture into three planar rows.
func (p *resampler) along(dst, line []float64) {
	red, green, blue := dst[:p.outW], dst[p.outW:2*p.outW], dst[2*p.outW:3*p.outW]
	taps, weight := p.H.Taps, p.H.Weight
	for x, first := range p.H.Start {
		w := weight[x*taps:][:taps]
		in := line[3*first:][:3*taps]
		var r, g, b float64
		switch taps {
		case 2:
			w0, w1 := w[0], w[1]
			in = in[:6]
			r = float64(in[0]*w0) + float64(in[3]*w1)
			g = float64(in[1]*w0) + float64(in[4]*w1)
			b = float64(in[2]*w0) + float64(in[5]*w1)
		case 4:
			in, w = in[:12], w[:4]
			w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
			r = float64(in[0]*w0) + float64(in[3]*w1) + float64(in[6]*w2) + float64(in[9]*w3)
			g = float64(in[1]*w0) + float64(in[4]*w1) + float64(in[7]*w2) + float64(in[10]*w3)
			b = float64(in[2]*w0) + float64(in[5]*w1) + float64(in[8]*w2) + float64(in[11]*w3)
		default:
			for k, wk := range w {
				t := in[3*k:][:3]
				r += float64(t[0] * wk)
				g += float64(t[1] * wk)
				b += float64(t[2] * wk)
			}
		}
		red[x], green[x], blue[x] = r, g, b
	}
}

// columns makes row y of the vertical pass over the picture itself.
func (p *resampler) columns(dst, acc []float64, y int) {
	clear(acc)
	inW := len(acc)
	for k, wk := range p.V.Weight[y*p.V.Taps:][:p.V.Taps] {
		row := p.img[(int(p.V.Start[y])+k)*inW:][:inW]
		for i, b := range row {
			acc[i] += float64(float64(b) * wk)
		}
	}
	for i, v := range acc {
		dst[i] = float64(float32(v))
	}
}

// finish rounds, clips, scales and stores the three rows of output row y.
func (p *resampler) finish(rows []float64, y int) {
	n := p.outW * p.outH
	for c := range 3 {
		out := p.dst[c*n+y*p.outW:][:p.outW]
		in := rows[c*p.outW:][:len(out)]
		if p.Clip {
			for x := range out {
				v := min(max(float32(in[x]), 0), 255)
				out[x] = float32(v*p.Scale) + p.Offset
			}
			continue
		}
		for x := range out {
			out[x] = float32(float32(in[x])*p.Scale) + p.Offset
		}
	}
}
