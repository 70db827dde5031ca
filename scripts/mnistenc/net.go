package main

import "math"

// Sizes of the network (doc.go) and of a shard, the unit of work of a worker.
const (
	side  = 28
	ch1   = 16
	ch2   = 32
	ch3   = 64
	flat  = ch3 * 7 * 7
	dim   = 64
	class = 10
	shard = 16
)

// param is a tensor of weights.
type param struct {
	name  string
	shape []int
	fanIn int // of the initialisation; 0 for biases, which start at zero
	off   int // where it lies in the flat vector of all weights
	len   int
}

// params lists the weights in the order of the flat vector.
func params() (ps []param, total int) {
	add := func(name string, fanIn int, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		ps = append(ps, param{name, shape, fanIn, total, n})
		total += n
	}
	add("conv1.weight", 9, ch1, 1, 3, 3)
	add("conv1.bias", 0, ch1)
	add("conv2.weight", 9*ch1, ch2, ch1, 3, 3)
	add("conv2.bias", 0, ch2)
	add("conv3.weight", 9*ch2, ch3, ch2, 3, 3)
	add("conv3.bias", 0, ch3)
	add("feat.weight", flat, dim, flat)
	add("feat.bias", 0, dim)
	add("head.weight", dim, class, dim)
	add("head.bias", 0, class)
	return ps, total
}

// weights are views of a flat vector, one per tensor; gradients have the same form.
type weights struct {
	all                            []float32
	w1, b1, w2, b2, w3, b3, wf, bf []float32
	wh, bh                         []float32
}

func newWeights() *weights {
	ps, n := params()
	w := &weights{all: make([]float32, n)}
	for i, v := range []*[]float32{&w.w1, &w.b1, &w.w2, &w.b2, &w.w3, &w.b3, &w.wf, &w.bf, &w.wh, &w.bh} {
		*v = w.all[ps[i].off:][:ps[i].len]
	}
	return w
}

// initialise draws every weight matrix from N(0, 2/fanIn), the scale that keeps
// the variance through rectifiers (He et al. 2015).
func (w *weights) initialise(normal func() float64) {
	ps, _ := params()
	for _, p := range ps {
		if p.fanIn == 0 {
			continue
		}
		s := math.Sqrt(2 / float64(p.fanIn))
		for i := range p.len {
			w.all[p.off+i] = float32(s * normal())
		}
	}
}

// pass holds what one shard needs between forward and backward.
type pass struct {
	x, col1, y1, p1, col2, y2, p2, col3, y3, flat, feat, hid, logits []float32
	at1, at2                                                         []int32
	keep                                                             []float32 // dropout: 0 or 1/(1-rate)
	labels                                                           []uint8
	dcol, d1, d2                                                     []float32
	grad                                                             *weights
	loss                                                             float64
	right                                                            int
}

func newPass() *pass {
	const n1, n2, n3 = shard * 784, shard * 196, shard * 49
	f := func(n int) []float32 { return make([]float32, n) }
	return &pass{
		x: f(n1), col1: f(9 * n1), y1: f(ch1 * n1), p1: f(ch1 * n2), at1: make([]int32, ch1*n2),
		col2: f(9 * ch1 * n2), y2: f(ch2 * n2), p2: f(ch2 * n3), at2: make([]int32, ch2*n3),
		col3: f(9 * ch2 * n3), y3: f(ch3 * n3), flat: f(shard * flat), feat: f(shard * dim), hid: f(shard * dim),
		logits: f(shard * class), keep: f(shard * dim), labels: make([]uint8, shard),
		dcol: f(9 * ch1 * n2), d1: f(ch1 * n1), d2: f(ch1 * n1), grad: newWeights(),
	}
}

// forward computes features and logits of the shard's images. keep is applied
// to the rectified features when train is set.
func (p *pass) forward(g gemm, w *weights, train bool) {
	const n1, n2, n3 = shard * 784, shard * 196, shard * 49
	im2col(p.col1, p.x, 1, shard, 28, 28)
	g.mul(false, false, ch1, n1, 9, w.w1, p.col1, p.y1)
	biasReLU(p.y1, w.b1, n1)
	maxPool(p.p1, p.at1, p.y1, ch1*shard, 28, 28)

	im2col(p.col2, p.p1, ch1, shard, 14, 14)
	g.mul(false, false, ch2, n2, 9*ch1, w.w2, p.col2, p.y2)
	biasReLU(p.y2, w.b2, n2)
	maxPool(p.p2, p.at2, p.y2, ch2*shard, 14, 14)

	im2col(p.col3, p.p2, ch2, shard, 7, 7)
	g.mul(false, false, ch3, n3, 9*ch2, w.w3, p.col3, p.y3)
	biasReLU(p.y3, w.b3, n3)
	flatten(p.flat, p.y3, ch3, shard, 49)

	g.mul(false, true, shard, dim, flat, p.flat, w.wf, p.feat)
	for i := range p.feat {
		p.feat[i] += w.bf[i%dim]
		p.hid[i] = max(p.feat[i], 0)
		if train {
			p.hid[i] *= p.keep[i]
		}
	}
	g.mul(false, true, shard, class, dim, p.hid, w.wh, p.logits)
	for i := range p.logits {
		p.logits[i] += w.bh[i%class]
	}
}

// backward leaves in p.grad the gradient of the mean smoothed cross-entropy
// over a batch of the given size, as far as this shard contributes to it.
func (p *pass) backward(g gemm, w *weights, batch int, smooth float64) {
	const n1, n2, n3 = shard * 784, shard * 196, shard * 49
	d := p.grad
	clear(d.all)
	p.loss, p.right = crossEntropy(p.logits, p.labels, smooth, 1/float64(batch))
	g.mul(true, false, class, dim, shard, p.logits, p.hid, d.wh)
	sumRows(d.bh, p.logits)

	dh := p.hid // no longer needed once the head's gradient is known
	g.mul(false, false, shard, dim, class, p.logits, w.wh, dh)
	for i := range dh {
		if p.feat[i] <= 0 {
			dh[i] = 0
		}
		dh[i] *= p.keep[i]
	}
	g.mul(true, false, dim, flat, shard, dh, p.flat, d.wf)
	sumRows(d.bf, dh)
	g.mul(false, false, shard, flat, dim, dh, w.wf, p.flat)

	d3 := p.d1[:ch3*n3]
	unflatten(d3, p.flat, ch3, shard, 49)
	reluBack(d3, p.y3, d.b3, n3)
	g.mul(false, true, ch3, 9*ch2, n3, d3, p.col3, d.w3)
	dc := p.dcol[:9*ch2*n3]
	g.mul(true, false, 9*ch2, n3, ch3, w.w3, d3, dc)
	dp2 := p.d2[:ch2*n3]
	col2im(dp2, dc, ch2, shard, 7, 7)

	dy2 := p.d1[:ch2*n2]
	maxPoolBack(dy2, dp2, p.at2)
	reluBack(dy2, p.y2, d.b2, n2)
	g.mul(false, true, ch2, 9*ch1, n2, dy2, p.col2, d.w2)
	dc = p.dcol[:9*ch1*n2]
	g.mul(true, false, 9*ch1, n2, ch2, w.w2, dy2, dc)
	dp1 := p.d2[:ch1*n2]
	col2im(dp1, dc, ch1, shard, 14, 14)

	dy1 := p.d1[:ch1*n1]
	maxPoolBack(dy1, dp1, p.at1)
	reluBack(dy1, p.y1, d.b1, n1)
	g.mul(false, true, ch1, 9, n1, dy1, p.col1, d.w1)
}

// sumRows adds the rows of x [n, len(dst)] to dst.
func sumRows(dst, x []float32) {
	for i, v := range x {
		dst[i%len(dst)] += v
	}
}
