package ops

import "github.com/fidlab/fidlab/internal/cpu"

// A grouped convolution is one of Groups times as many pictures, each of a group's channels,
// which lie next to each other; picture i of those has the kernels of group i mod Groups.
// Where a group has a single channel, as in depthwise convolutions, rows are added up one
// kernel element after the other, and no matrix of patches is made.

// group is picture i's operands: its own, and its group's kernels.
func group[T cpu.Float](p *conv, i int, x, y, w []T) (xi, yi, wi []T) {
	size, area, k := p.c*p.h*p.w, p.o*p.oh*p.ow, p.o*p.rows()
	return x[i*size:][:size], y[i*area:][:area], w[i%p.groups*k:][:k]
}

func convGroupForward(c *call, w *cpu.Worker, i int) {
	if c.double() {
		convGroupForwardOf[float64](c, w, i)
	} else {
		convGroupForwardOf[float32](c, w, i)
	}
}

func convGroupForwardOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.conv
	x, out, k := group(p, i, data[T](c.t[1]), data[T](c.t[0]), data[T](c.t[2]))
	switch area := p.oh * p.ow; {
	case p.c == 1:
		clear(out)
		p.eachRow(func(tap, to, from, n int) {
			axpy(out[to:][:n], x[from:], k[tap], p.stride)
		})
	case p.bare:
		gemm2(w, false, false, p.o, area, p.rows(), k, p.rows(), x, area, false, out)
	default:
		withColumns(p, func(cols []T) {
			toColumns(p, cols, x)
			gemm2(w, false, false, p.o, area, p.rows(), k, p.rows(), cols, area, false, out)
		})
	}
	if bias := data[T](c.t[3]); bias != nil {
		addBias(p, out, bias[i%p.groups*p.o:][:p.o])
	}
}

// withColumns lends f memory for a picture's patches.
func withColumns[T cpu.Float](p *conv, f func(cols []T)) {
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	f(s.take(p.rows() * p.oh * p.ow))
	pool.Put(s)
}

// eachRow calls f for every kernel element of every channel of the result and each row of
// the result that it reaches within the picture, of a group of one channel: with the
// element's place among the kernels, the places of the row's first element in the result and
// in the picture, and how many there are.
func (p *conv) eachRow(f func(tap, to, from, n int)) {
	for o := range p.o {
		for kh := range p.kh {
			y0, y1 := p.span(kh, p.pad[0], p.h, p.oh)
			for kw := range p.kw {
				x0, x1 := p.span(kw, p.pad[2], p.w, p.ow)
				for y := y0; y < y1 && x0 < x1; y++ {
					from := (y*p.stride+kh*p.dilation-p.pad[0])*p.w + x0*p.stride + kw*p.dilation - p.pad[2]
					f((o*p.kh+kh)*p.kw+kw, (o*p.oh+y)*p.ow+x0, from, x1-x0)
				}
			}
		}
	}
}

// axpy adds a times every step-th element of x to y.
func axpy[T cpu.Float](y, x []T, a T, step int) {
	if step == 1 {
		x = x[:len(y)]
		for i, v := range x {
			y[i] += T(a * v)
		}
		return
	}
	for i := range y {
		y[i] += T(a * x[i*step])
	}
}

func convGroupData(c *call, w *cpu.Worker, i int) {
	if c.double() {
		convGroupDataOf[float64](c, w, i)
	} else {
		convGroupDataOf[float32](c, w, i)
	}
}

func convGroupDataOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.conv
	dx, dy, k := group(p, i, data[T](c.t[0]), data[T](c.t[1]), data[T](c.t[2]))
	area := p.oh * p.ow
	if p.bare {
		gemm2(w, true, false, p.rows(), area, p.o, k, p.rows(), dy, area, c.acc, dx)
		return
	}
	if !c.acc {
		clear(dx)
	}
	if p.c == 1 {
		p.eachRow(func(tap, to, from, n int) {
			a, row := k[tap], dy[to:][:n]
			for j, v := range row {
				dx[from+j*p.stride] += T(a * v)
			}
		})
		return
	}
	withColumns(p, func(cols []T) {
		gemm2(w, true, false, p.rows(), area, p.o, k, p.rows(), dy, area, false, cols)
		fromColumns(p, dx, cols)
	})
}

func convGroupWeight(c *call, w *cpu.Worker, i int) {
	if c.double() {
		convGroupWeightOf[float64](c, w, i)
	} else {
		convGroupWeightOf[float32](c, w, i)
	}
}

// convGroupWeightOf is the sum of kernels' gradients over the pictures of a part.
func convGroupWeightOf[T cpu.Float](c *call, w *cpu.Worker, part int) {
	p := &c.conv
	area, rows := p.oh*p.ow, p.rows()
	size := p.groups * p.o * rows
	sum := scratchOf[T](c).v[part*size:][:size]
	clear(sum)
	first := part * c.n[0]
	for i := first * p.groups; i < min(first+c.n[0], p.n)*p.groups; i++ {
		x, dy, to := group(p, i, data[T](c.t[2]), data[T](c.t[1]), sum)
		switch {
		case p.c == 1:
			p.eachRow(func(tap, at, from, n int) {
				var s T
				for j, v := range dy[at:][:n] {
					s += T(v * x[from+j*p.stride])
				}
				to[tap] += s
			})
		case p.bare:
			gemm2(w, false, true, p.o, rows, area, dy, area, x, area, true, to)
		default:
			withColumns(p, func(cols []T) {
				toColumns(p, cols, x)
				gemm2(w, false, true, p.o, rows, area, dy, area, cols, area, true, to)
			})
		}
	}
}
