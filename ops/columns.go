package ops

import "github.com/fidlab/fidlab/internal/cpu"

// strides are the elements from a channel to the next, and from a pixel to the next in its row.
func (p *conv) strides() (channel, pixel int) {
	if p.last {
		return 1, p.c
	}
	return p.h * p.w, 1
}

// span is the places of the result, along one axis of n, that kernel element k sees within a
// picture of size.
func (p *conv) span(k, pad, size, n int) (lo, hi int) {
	at := k*p.dilation - pad
	for lo = 0; lo < n && lo*p.stride+at < 0; lo++ {
	}
	for hi = n; hi > lo && (hi-1)*p.stride+at >= size; hi-- {
	}
	return lo, hi
}

// toColumns writes the element that each kernel element sees, for every place of the result.
func toColumns[T cpu.Float](p *conv, cols, x []T) {
	between, step := p.strides()
	for c := range p.c {
		plane := x[c*between:]
		for kh := range p.kh {
			y0, y1 := p.span(kh, p.pad[0], p.h, p.oh)
			for kw := range p.kw {
				x0, x1 := p.span(kw, p.pad[2], p.w, p.ow)
				to := cols[((c*p.kh+kh)*p.kw+kw)*p.oh*p.ow:][:p.oh*p.ow]
				clear(to[:y0*p.ow])
				clear(to[y1*p.ow:])
				for y := y0; y < y1; y++ {
					row := to[y*p.ow:][:p.ow]
					from := plane[(y*p.stride+kh*p.dilation-p.pad[0])*p.w*step:]
					clear(row[:x0])
					clear(row[x1:])
					if x1 <= x0 {
						continue
					}
					at := x0*p.stride + kw*p.dilation - p.pad[2]
					if p.stride == 1 && step == 1 {
						copy(row[x0:x1], from[at:])
						continue
					}
					for i := x0; i < x1; i++ {
						row[i] = from[at*step]
						at += p.stride
					}
				}
			}
		}
	}
}

// fromColumns adds what toColumns wrote to where it came from.
func fromColumns[T cpu.Float](p *conv, x, cols []T) {
	between, step := p.strides()
	for c := range p.c {
		plane := x[c*between:]
		for kh := range p.kh {
			y0, y1 := p.span(kh, p.pad[0], p.h, p.oh)
			for kw := range p.kw {
				x0, x1 := p.span(kw, p.pad[2], p.w, p.ow)
				if x1 <= x0 {
					continue
				}
				from := cols[((c*p.kh+kh)*p.kw+kw)*p.oh*p.ow:][:p.oh*p.ow]
				for y := y0; y < y1; y++ {
					to := plane[(y*p.stride+kh*p.dilation-p.pad[0])*p.w*step:]
					at := x0*p.stride + kw*p.dilation - p.pad[2]
					for _, v := range from[y*p.ow+x0 : y*p.ow+x1] {
						to[at*step] += v
						at += p.stride
					}
				}
			}
		}
	}
}
