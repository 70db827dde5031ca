package imageio

// u8Pass resamples in integers as Pillow does: weights of 22 fractional bits,
// half added, shifted and clipped to 0..255 after each pass.
type u8Pass struct {
	h, v       *table
	img        *Image
	outW, outH int
	put        func(y int, row []int32) // row: three planar rows
}

func clip8(v int32) int32 { return min(max(v>>fixedBits, 0), 255) }

const fixedHalf = 1 << (fixedBits - 1)

func (p *u8Pass) run(verticalFirst bool, s *Scratch) {
	inW, width, taps := 3*p.img.Width, 3*p.outW, p.v.Taps
	s.ints = grow(s.ints, inW+width+taps*width)
	line, acc, ring := s.ints[:inW], s.ints[inW:inW+width], s.ints[inW+width:]
	if verticalFirst {
		for y := range p.outH {
			p.columns(line, y)
			p.along(acc, line)
			p.put(y, acc)
		}
		return
	}
	ready := 0
	for y := range p.outH {
		first := int(p.v.Start[y])
		for ready = max(ready, first); ready < first+taps; ready++ {
			for i, b := range p.img.Pix[ready*inW:][:inW] {
				line[i] = int32(b)
			}
			p.along(ring[ready%taps*width:][:width], line)
		}
		w := p.v.fixed[y*taps:][:taps]
		row := func(k int) []int32 { return ring[(first+k)%taps*width:][:len(acc)] }
		if taps == 4 { // bicubic enlarging, the usual case
			mixFixed4(acc, row(0), row(1), row(2), row(3), w)
			p.put(y, acc)
			continue
		}
		for i := range acc {
			acc[i] = fixedHalf
		}
		for k, wk := range w {
			for i, v := range row(k) {
				acc[i] += v * wk
			}
		}
		for i, v := range acc {
			acc[i] = clip8(v)
		}
		p.put(y, acc)
	}
}

func mixFixed4(acc, a, b, c, d, w []int32) {
	a, b, c, d = a[:len(acc)], b[:len(acc)], c[:len(acc)], d[:len(acc)]
	w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
	for i := range acc {
		acc[i] = clip8(fixedHalf + a[i]*w0 + b[i]*w1 + c[i]*w2 + d[i]*w3)
	}
}

func (p *u8Pass) along(dst, line []int32) {
	red, green, blue := dst[:p.outW], dst[p.outW:2*p.outW], dst[2*p.outW:3*p.outW]
	taps := p.h.Taps
	for x, first := range p.h.Start {
		w := p.h.fixed[x*taps:][:taps]
		in := line[3*first:][:3*taps]
		r, g, b := int32(fixedHalf), int32(fixedHalf), int32(fixedHalf)
		if taps == 4 {
			in, w = in[:12], w[:4]
			w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
			red[x] = clip8(r + in[0]*w0 + in[3]*w1 + in[6]*w2 + in[9]*w3)
			green[x] = clip8(g + in[1]*w0 + in[4]*w1 + in[7]*w2 + in[10]*w3)
			blue[x] = clip8(b + in[2]*w0 + in[5]*w1 + in[8]*w2 + in[11]*w3)
			continue
		}
		for k, wk := range w {
			t := in[3*k:][:3]
			r += t[0] * wk
			g += t[1] * wk
			b += t[2] * wk
		}
		red[x], green[x], blue[x] = clip8(r), clip8(g), clip8(b)
	}
}

func (p *u8Pass) columns(dst []int32, y int) {
	for i := range dst {
		dst[i] = fixedHalf
	}
	for k, wk := range p.v.fixed[y*p.v.Taps:][:p.v.Taps] {
		for i, b := range p.img.Pix[(int(p.v.Start[y])+k)*len(dst):][:len(dst)] {
			dst[i] += int32(b) * wk
		}
	}
	for i, v := range dst {
		dst[i] = clip8(v)
	}
}
