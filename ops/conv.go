package ops

import (
	"slices"
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// ConvConfig is how a kernel moves over a picture: steps of Stride (0 stands for 1), with
// zeros around it: Pad is those above, below, left and right. The kernel's elements are
// Dilation places apart (0 stands for 1: next to each other). With Groups (0 stands for 1)
// channels of the result see those of their group alone: the first of Groups equal parts of
// the picture's channels make the first part of the result's, and so on.
type ConvConfig struct {
	Stride   int
	Pad      [4]int
	Dilation int
	// Last says that channels are the last axis: pictures are [N, H, W, C], results [N, OH,
	// OW, O]. Kernels are [O, C, KH, KW] all the same; there are no groups.
	Last   bool
	Groups int
	// BF16 rounds the elements of the operands, float32, to bfloat16 (to nearest even) before they are multiplied; products are exact,
	// sums and biases float32. KnownW says that the kernels' are bfloat16s already. There are no groups.
	BF16, KnownW bool
}

// Same is the configuration of step 1 whose result has the picture's size, for an odd kernel.
func Same(kernel int) ConvConfig {
	p := kernel / 2
	return ConvConfig{Pad: [4]int{p, p, p, p}}
}

// conv is the sizes of a convolution; c and o are a group's channels.
type conv struct {
	n, c, h, w, o, kh, kw, oh, ow int
	stride, dilation, groups      int
	pad                           [4]int
	bare                          bool // 1×1 without steps or padding: the picture is its own columns
	last                          bool
	bf16, known                   bool // operands are rounded; the kernels are
}

// planes is a shape of pictures as [N, C, H, W], ok where it has four axes.
func (cfg ConvConfig) planes(s []int) (out [4]int, ok bool) {
	if len(s) != 4 {
		return out, false
	}
	if cfg.Last {
		return [4]int{s[0], s[3], s[1], s[2]}, true
	}
	return [4]int(s), true
}

// axes are those of pictures, for messages.
func (cfg ConvConfig) axes() string {
	if cfg.Last {
		return "[N, H, W, C]"
	}
	return "[N, C, H, W]"
}

// OutSize is the height and width of the result for pictures of h×w and kernels of kh×kw,
// 0 where the kernel is greater than the padded picture.
func (cfg ConvConfig) OutSize(h, w, kh, kw int) (oh, ow int) {
	s, kh, kw := max(1, cfg.Stride), cfg.reach(kh), cfg.reach(kw)
	if h+cfg.Pad[0]+cfg.Pad[1] < kh || w+cfg.Pad[2]+cfg.Pad[3] < kw {
		return 0, 0
	}
	return (h+cfg.Pad[0]+cfg.Pad[1]-kh)/s + 1, (w+cfg.Pad[2]+cfg.Pad[3]-kw)/s + 1
}

// reach is how many places k elements of a kernel span.
func (cfg ConvConfig) reach(k int) int { return max(1, cfg.Dilation)*(k-1) + 1 }

func convOf(op string, y, x, w, bias *gpu.Tensor, cfg ConvConfig) conv {
	streamOf(op, y, x, w, bias)
	ws, g := w.Shape(), max(1, cfg.Groups)
	xs, ok := cfg.planes(x.Shape())
	if !ok || len(ws) != 4 || xs[1] != ws[1]*g || ws[0]%g != 0 || min(ws[0], ws[1], ws[2], ws[3]) < 1 {
		fail(op, "pictures %v and kernels %v in %d groups, want %s and [O, C/groups, KH, KW]", x.Shape(), ws, g, cfg.axes())
	}
	if g > 1 && cfg.Last {
		fail(op, "%d groups of channels that are the last axis, want the second axis for groups", g)
	}
	if cfg.BF16 && (g > 1 || y.DType() != gpu.Float32) {
		fail(op, "%v in %d groups, want float32 and one group to round to bfloat16", y.DType(), g)
	}
	if cfg.Stride < 0 || cfg.Dilation < 0 || cfg.Groups < 0 || min(cfg.Pad[0], cfg.Pad[1], cfg.Pad[2], cfg.Pad[3]) < 0 ||
		xs[2]+cfg.Pad[0]+cfg.Pad[1] < cfg.reach(ws[2]) || xs[3]+cfg.Pad[2]+cfg.Pad[3] < cfg.reach(ws[3]) {
		fail(op, "stride %d, dilation %d, padding %v, kernels of %d×%d for pictures of %d×%d, want none below 0 and a kernel within the padded picture",
			cfg.Stride, cfg.Dilation, cfg.Pad, ws[2], ws[3], xs[2], xs[3])
	}
	p := conv{n: xs[0], c: ws[1], h: xs[2], w: xs[3], o: ws[0] / g, groups: g, kh: ws[2], kw: ws[3], stride: max(1, cfg.Stride), dilation: max(1, cfg.Dilation), pad: cfg.Pad, last: cfg.Last, bf16: cfg.BF16, known: cfg.KnownW}
	p.oh, p.ow = cfg.OutSize(p.h, p.w, p.kh, p.kw)
	p.bare = p.kh == 1 && p.kw == 1 && p.stride == 1 && cfg.Pad == [4]int{}
	if ys, ok := cfg.planes(y.Shape()); !ok || ys != [4]int{p.n, ws[0], p.oh, p.ow} {
		fail(op, "the result has shape %v, want %d channels of %d×%d for each of %d pictures, as %s", y.Shape(), ws[0], p.oh, p.ow, p.n, cfg.axes())
	}
	if bias != nil && !slices.Equal(bias.Shape(), ws[:1]) {
		fail(op, "the bias has shape %v, want [%d]", bias.Shape(), ws[0])
	}
	return p
}

// rows is how many elements of a picture an element of the result is made of.
func (p *conv) rows() int { return p.c * p.kh * p.kw }

var columns32, columns64 = sync.Pool{New: func() any { return new(scratch[float32]) }}, sync.Pool{New: func() any { return new(scratch[float64]) }}

func columnPool[T cpu.Float]() *sync.Pool {
	var zero T
	if any(zero) == any(float32(0)) {
		return &columns32
	}
	return &columns64
}

// Conv2D sets out [N, O, OH, OW] to the correlation of the pictures x [N, C, H, W] with the
// kernels w [O, C/Groups, KH, KW], plus bias [O] or nil. It panics when shapes do not fit, and
// unless dtypes (float32 or float64) and devices agree.
//
// In float32 oneDNN does it where it is there. Else, and in float64, each picture's patches
// become the columns of a matrix, which the kernels multiply. On a GPU that matrix is read from
// the pictures, tile by tile, and never stored; with BF16, Last and a multiple of 8 channels tensor cores multiply.
func Conv2D(out, x, w, bias *gpu.Tensor, cfg ConvConfig) {
	p := convOf("Conv2D", out, x, w, bias, cfg)
	if out.Len() == 0 {
		return
	}
	if out.Device().CUDA() {
		p.launch("Conv2D", out, x, w, bias)
		return
	}
	if p.groups > 1 {
		c := newCall(convGroupForward, out, x, w, bias)
		c.conv = p
		c.onWorkers(p.n * p.groups)
		return
	}
	c := newCall(convForward, out, x, w, bias)
	c.conv = p
	c.onWorkers(ceil(p.n, p.perItem()))
}

// A worker takes convBatch pictures at a time, fewer where there are few, so that there is work for
// convItems; fixed, so that the bits do not depend on the number of threads.
const convBatch, convItems = 8, 16

// perItem is how many pictures a worker takes at a time.
func (p *conv) perItem() int { return max(1, min(convBatch, p.n/convItems)) }

// some is pictures first to first+n as oneDNN takes them.
func (p *conv) some(n int) cpu.TrainConv {
	return cpu.TrainConv{N: n, C: p.c, H: p.h, W: p.w, Out: p.o, KH: p.kh, KW: p.kw, Stride: p.stride, Pad: p.pad, Dilation: p.dilation, Last: p.last, BF16: p.bf16, Known: p.known}
}

// batch is the pictures of item i.
func (p *conv) batch(i int) (first, n int) {
	first = i * p.perItem()
	return first, min(p.perItem(), p.n-first)
}

func convForward(c *call, w *cpu.Worker, i int) {
	p := &c.conv
	first, n := p.batch(i)
	if !c.double() && !p.bare {
		size, area := p.c*p.h*p.w, p.oh*p.ow
		q := p.some(n)
		out := c.t[0].F32()[first*p.o*area:][:n*p.o*area]
		if q.Forward(w, out, c.t[1].F32()[first*size:][:n*size], c.t[2].F32(), data[float32](c.t[3])) {
			return
		}
	}
	if p.bare && p.last {
		if c.double() {
			pointForward[float64](c, w, first, n)
		} else {
			pointForward[float32](c, w, first, n)
		}
		return
	}
	for k := first; k < first+n; k++ {
		if c.double() {
			convForwardOf[float64](c, w, k)
		} else {
			convForwardOf[float32](c, w, k)
		}
	}
}

// addBias adds to each channel of results.
func addBias[T cpu.Float](p *conv, out, bias []T) {
	switch area := p.oh * p.ow; {
	case bias == nil:
	case p.last:
		cpu.PairRows(cpu.PairAdd, false, len(out)/p.o, p.o, out, p.o, out, p.o, 1, bias, 0, 1)
	default:
		cpu.PairRows(cpu.PairAdd, false, p.o, area, out, area, out, area, 1, bias, 1, 0)
	}
}

func convForwardOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.conv
	area, rows := p.oh*p.ow, p.rows()
	x := data[T](c.t[1])[i*p.c*p.h*p.w:][:p.c*p.h*p.w]
	out := data[T](c.t[0])[i*p.o*area:][:p.o*area]
	if p.bare {
		convGemm(p, w, false, false, p.o, area, rows, data[T](c.t[2]), rows, x, area, false, out, cpu.RoundedA)
	} else {
		pool := columnPool[T]()
		s := pool.Get().(*scratch[T])
		cols := s.take(rows * area)
		toColumns(p, cols, x)
		if p.last {
			convGemm(p, w, true, true, area, p.o, rows, cols, area, data[T](c.t[2]), rows, false, out, cpu.RoundedB)
		} else {
			convGemm(p, w, false, false, p.o, area, rows, data[T](c.t[2]), rows, cols, area, false, out, cpu.RoundedA)
		}
		pool.Put(s)
	}
	addBias(p, out, data[T](c.t[3]))
}

// pointForward is a 1×1 convolution with channels last: n pictures' pixels are the rows of
// one matrix.
func pointForward[T cpu.Float](c *call, w *cpu.Worker, first, n int) {
	p := &c.conv
	area := p.h * p.w
	out := data[T](c.t[0])[first*area*p.o:][:n*area*p.o]
	convGemm(p, w, false, true, n*area, p.o, p.c, data[T](c.t[1])[first*area*p.c:], p.c, data[T](c.t[2]), p.c, false, out, cpu.RoundedB)
	addBias(p, out, data[T](c.t[3]))
}

func pointData[T cpu.Float](c *call, w *cpu.Worker, first, n int) {
	p := &c.conv
	area := p.h * p.w
	convGemm(p, w, false, false, n*area, p.c, p.o, data[T](c.t[1])[first*area*p.o:], p.o, data[T](c.t[2]), p.c, c.acc, data[T](c.t[0])[first*area*p.c:], cpu.RoundedB)
}

// convGemm is gemm2 in the convolution's precision. kernels is the operand that they are, 0 where it is none.
func convGemm[T cpu.Float](p *conv, w *cpu.Worker, ta, tb bool, m, n, k int, a []T, lda int, b []T, ldb int, acc bool, out []T, kernels cpu.Rounded) {
	if !p.bf16 {
		gemm2(w, ta, tb, m, n, k, a, lda, b, ldb, acc, out)
		return
	}
	if !p.known {
		kernels = 0
	}
	var beta float32
	if acc {
		beta = 1
	}
	cpu.GemmBF16(w, ta, tb, m, n, k, 1, any(a).([]float32), lda, any(b).([]float32), ldb, beta, any(out).([]float32), n, kernels)
}

// gemm2 is op(a)·op(b) in either dtype, added to what out holds where acc is set.
func gemm2[T cpu.Float](w *cpu.Worker, ta, tb bool, m, n, k int, a []T, lda int, b []T, ldb int, acc bool, out []T) {
	beta := 0.0
	if acc {
		beta = 1
	}
	switch out := any(out).(type) {
	case []float32:
		cpu.Gemm32(w, ta, tb, m, n, k, 1, any(a).([]float32), lda, any(b).([]float32), ldb, float32(beta), out, n)
	case []float64:
		cpu.Gemm64(w, ta, tb, m, n, k, 1, any(a).([]float64), lda, any(b).([]float64), ldb, beta, out, n)
	}
}

// Conv2DBackwardData sets dx, like x, to the gradient by the pictures, given dy, that by
// the result of Conv2D, or adds it to dx.
func Conv2DBackwardData(dx, dy, w *gpu.Tensor, cfg ConvConfig, acc bool) {
	p := convOf("Conv2DBackwardData", dy, dx, w, nil, cfg)
	if dx.Len() == 0 || dy.Len() == 0 {
		if !acc {
			Fill(dx, 0)
		}
		return
	}
	if dx.Device().CUDA() {
		p.launchData("Conv2DBackwardData", dx, dy, w, acc)
		return
	}
	if p.groups > 1 {
		c := newCall(convGroupData, dx, dy, w)
		c.conv, c.acc = p, acc
		c.onWorkers(p.n * p.groups)
		return
	}
	c := newCall(convData, dx, dy, w)
	c.conv, c.acc = p, acc
	c.onWorkers(ceil(p.n, p.perItem()))
}

func convData(c *call, w *cpu.Worker, i int) {
	p := &c.conv
	first, n := p.batch(i)
	if !c.double() && !p.bare {
		size, area := p.c*p.h*p.w, p.o*p.oh*p.ow
		q := p.some(n)
		dx, dy := c.t[0].F32()[first*size:][:n*size], c.t[1].F32()[first*area:][:n*area]
		if !c.acc {
			if q.Data(w, dx, dy, c.t[2].F32()) {
				return
			}
		} else {
			s := columns32.Get().(*scratch[float32])
			to := s.take(n * size)
			done := q.Data(w, to, dy, c.t[2].F32())
			if done {
				cpu.PairRows(cpu.PairAdd, false, 1, n*size, dx, n*size, dx, n*size, 1, to, n*size, 1)
			}
			columns32.Put(s)
			if done {
				return
			}
		}
	}
	if p.bare && p.last {
		if c.double() {
			pointData[float64](c, w, first, n)
		} else {
			pointData[float32](c, w, first, n)
		}
		return
	}
	for k := first; k < first+n; k++ {
		if c.double() {
			convDataOf[float64](c, w, k)
		} else {
			convDataOf[float32](c, w, k)
		}
	}
}

func convDataOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.conv
	area, rows := p.oh*p.ow, p.rows()
	dx := data[T](c.t[0])[i*p.c*p.h*p.w:][:p.c*p.h*p.w]
	dy := data[T](c.t[1])[i*p.o*area:][:p.o*area]
	if p.bare {
		convGemm(p, w, true, false, rows, area, p.o, data[T](c.t[2]), rows, dy, area, c.acc, dx, cpu.RoundedA)
		return
	}
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	cols := s.take(rows * area)
	if p.last {
		convGemm(p, w, true, true, rows, area, p.o, data[T](c.t[2]), rows, dy, p.o, false, cols, cpu.RoundedA)
	} else {
		convGemm(p, w, true, false, rows, area, p.o, data[T](c.t[2]), rows, dy, area, false, cols, cpu.RoundedA)
	}
	if !c.acc {
		clear(dx)
	}
	fromColumns(p, dx, cols)
	pool.Put(s)
}

// convParts is how many sums of weight gradients are made side by side; fixed, so that the
// bits do not depend on the number of threads.
const convParts = 8

// Conv2DBackwardWeight adds to dw, like w, the gradient by the kernels, given the pictures x
// and dy, the gradient by the result of Conv2D. (That by the bias is a sum: SumTo.)
func Conv2DBackwardWeight(dw, dy, x *gpu.Tensor, cfg ConvConfig) {
	p := convOf("Conv2DBackwardWeight", dy, x, dw, nil, cfg)
	if dy.Len() == 0 {
		return
	}
	if dw.Device().CUDA() {
		p.launchWeight("Conv2DBackwardWeight", dw, dy, x)
		return
	}
	c := newCall(convWeight, dw, dy, x)
	if p.groups > 1 {
		c.fn = convGroupWeight
	}
	c.conv = p
	c.n[0] = ceil(p.n, convParts)
	if c.double() {
		convWeights[float64](c)
	} else {
		convWeights[float32](c)
	}
}

func convWeights[T cpu.Float](c *call) {
	p := &c.conv
	parts, size := ceil(p.n, c.n[0]), p.groups*p.o*p.rows()
	scratchOf[T](c).take(parts * size)
	cpu.Each(parts, c.run)
	c.fn, c.n[1], c.n[2] = addParts, parts, size
	cpu.Join(ceil(size, mapBlock), c.run)
	c.drop()
}

// addParts adds a stretch of the sums to the gradient, one after the other.
func addParts(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		addPartsOf[float64](c, i)
	} else {
		addPartsOf[float32](c, i)
	}
}

func addPartsOf[T cpu.Float](c *call, i int) {
	parts, size := c.n[1], c.n[2]
	lo := i * mapBlock
	n := min(mapBlock, size-lo)
	dw := data[T](c.t[0])[lo : lo+n]
	for k := range parts {
		cpu.PairRows(cpu.PairAdd, false, 1, n, dw, n, dw, n, 1, scratchOf[T](c).v[k*size+lo:], n, 1)
	}
}

func convWeight(c *call, w *cpu.Worker, i int) {
	p := &c.conv
	if c.double() {
		convWeightOf[float64](c, w, i)
		return
	}
	first := i * c.n[0]
	n := min(c.n[0], p.n-first)
	in, out, size := p.c*p.h*p.w, p.o*p.oh*p.ow, p.o*p.rows()
	q := p.some(n)
	if p.bare || !q.Weights(w, c.f32.v[i*size:][:size], c.t[1].F32()[first*out:][:n*out], c.t[2].F32()[first*in:][:n*in]) {
		convWeightOf[float32](c, w, i)
	}
}

func convWeightOf[T cpu.Float](c *call, w *cpu.Worker, part int) {
	p := &c.conv
	area, rows := p.oh*p.ow, p.rows()
	size := p.o * rows
	sum := scratchOf[T](c).v[part*size:][:size]
	first := part * c.n[0]
	if p.bare && p.last {
		n := area * min(c.n[0], p.n-first)
		convGemm(p, w, true, false, p.o, p.c, n, data[T](c.t[1])[first*area*p.o:], p.o, data[T](c.t[2])[first*area*p.c:], p.c, false, sum, 0)
		return
	}
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	for i := first; i < min(first+c.n[0], p.n); i++ {
		x := data[T](c.t[2])[i*p.c*p.h*p.w:][:p.c*p.h*p.w]
		cols := x
		if !p.bare {
			cols = s.take(rows * area)
			toColumns(p, cols, x)
		}
		dy := data[T](c.t[1])[i*p.o*area:]
		if p.last {
			convGemm(p, w, true, true, p.o, rows, area, dy, p.o, cols, area, i > first, sum, 0)
		} else {
			convGemm(p, w, false, true, p.o, rows, area, dy, area, cols, area, i > first, sum, 0)
		}
	}
	pool.Put(s)
}
