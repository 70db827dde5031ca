package ops

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Conv16Config is how Conv16's kernel moves over a picture, what becomes of its sums, and where in a pixel's channels operands lie.
type Conv16Config struct {
	StrideH, StrideW int    // steps down and to the right; 0 stands for 1
	Pad              [4]int // zeros above, below, left and right
	Dilation         int    // between elements of the kernel; 0 stands for 1: next to each other
	F                Func   // of the sum and the bias
	// InPitch and OutPitch are how many channels a pixel of x and of out has, 0 for as many as the tensor's last axis; InAt and OutAt
	// are the first that count: a result can be a part of a concatenation, and a part an operand.
	InPitch, InAt, OutPitch, OutAt int
}

// conv16 is the sizes of a convolution.
type conv16 struct {
	n, h, w, c, o, kh, kw, oh, ow  int
	strideH, strideW, dilation     int
	pad                            [4]int
	inPitch, inAt, outPitch, outAt int
	f                              Func
	bf16                           bool
	acc                            bool // what out holds is added to the sums
}

// conv16Most is the greatest height and width of padded pictures on a GPU, where places are halves of a word.
const conv16Most = 1 << 14

// Conv16 sets channels cfg.OutAt to cfg.OutAt + O of out [N, OH, OW, channels] to f(the correlation of the pictures x [N, H, W, channels]
// with the kernels w [O, KH, KW, C] + bias), f being cfg.F; of a pixel of x channels cfg.InAt to cfg.InAt + C count, and out's other
// channels stay as they are. x and w are both Float16 or both BFloat16, bias [O] is Float32 or nil, and out is of x's dtype or Float32.
// out is no operand; it may lie in x's memory where channels are others. It panics when shapes do not fit, and unless dtypes and
// devices agree.
//
// Products are exact. Sums, of K = KH·KW·C products in the order of w, the bias and f are float32, and the result is rounded once, to
// nearest even. With u = 2^-24 a sum's error is at most (K+2)·u·Σ|a·b| on the CPU, and twice that on a GPU, whose tensor cores cut off
// what they do not keep; half a unit in the last place of out's dtype comes on top. Bits are the same at any N.
//
// On a GPU C, the channels of a pixel of x and InAt should be multiples of 8: others are right but read value by value.
func Conv16(out, x, w, bias *gpu.Tensor, cfg Conv16Config) {
	p := conv16Of("Conv16", out, x, w, bias, cfg)
	if p.n*p.oh*p.ow == 0 {
		return
	}
	if out.Device().CUDA() {
		p.launch("Conv16", out, x.Ptr(), w.Ptr(), ptr(bias))
		return
	}
	p.run(out, x, w, bias)
}

func conv16Of(op string, out, x, w, bias *gpu.Tensor, cfg Conv16Config) conv16 {
	sameDevice(op, out, x, w, bias)
	dt := x.DType()
	if !dt.Half() || w.DType() != dt || out.DType() != dt && out.DType() != gpu.Float32 || bias != nil && bias.DType() != gpu.Float32 {
		fail(op, "pictures are %v, kernels %v, the result %v%s, want float16 or bfloat16 for both operands, the same or float32 for the result, "+
			"and float32 for a bias", dt, w.DType(), out.DType(), ofBias(bias))
	}
	xs, ws, os := x.Shape(), w.Shape(), out.Shape()
	if len(xs) != 4 || len(ws) != 4 || len(os) != 4 || slices.Min(ws) < 1 {
		fail(op, "pictures %v, kernels %v and result %v, want [N, H, W, C], [O, KH, KW, C] and [N, OH, OW, O]", xs, ws, os)
	}
	if cfg.StrideH < 0 || cfg.StrideW < 0 || cfg.Dilation < 0 || slices.Min(cfg.Pad[:]) < 0 {
		fail(op, "strides %d and %d, dilation %d, padding %v, want none below 0", cfg.StrideH, cfg.StrideW, cfg.Dilation, cfg.Pad)
	}
	p := conv16{
		n: xs[0], h: xs[1], w: xs[2], c: ws[3], o: ws[0], kh: ws[1], kw: ws[2],
		strideH: max(1, cfg.StrideH), strideW: max(1, cfg.StrideW), dilation: max(1, cfg.Dilation), pad: cfg.Pad,
		inPitch: cfg.InPitch, inAt: cfg.InAt, outPitch: cfg.OutPitch, outAt: cfg.OutAt, f: cfg.F, bf16: dt == gpu.BFloat16,
	}
	if p.inPitch == 0 {
		p.inPitch = xs[3]
	}
	if p.outPitch == 0 {
		p.outPitch = os[3]
	}
	if p.inPitch != xs[3] || p.inAt < 0 || p.inAt+p.c > p.inPitch {
		fail(op, "channels %d to %d of pixels of %d in pictures %v, want a part of the last axis, whole pixels apart", p.inAt, p.inAt+p.c, p.inPitch, xs)
	}
	if p.outPitch != os[3] || p.outAt < 0 || p.outAt+p.o > p.outPitch {
		fail(op, "channels %d to %d of pixels of %d in the result %v, want a part of the last axis, whole pixels apart", p.outAt, p.outAt+p.o, p.outPitch, os)
	}
	high, wide := p.h+p.pad[0]+p.pad[1]-p.dilation*(p.kh-1), p.w+p.pad[2]+p.pad[3]-p.dilation*(p.kw-1)
	if high < 1 || wide < 1 {
		fail(op, "kernels of %d×%d, %d apart, for pictures of %d×%d with padding %v, want a kernel within the padded picture",
			p.kh, p.kw, p.dilation, p.h, p.w, p.pad)
	}
	p.oh, p.ow = (high-1)/p.strideH+1, (wide-1)/p.strideW+1
	if os[0] != p.n || os[1] != p.oh || os[2] != p.ow {
		fail(op, "the result has shape %v, want %d pictures of %d×%d", os, p.n, p.oh, p.ow)
	}
	if bias != nil && !slices.Equal(bias.Shape(), ws[:1]) {
		fail(op, "the bias has shape %v, want [%d]", bias.Shape(), p.o)
	}
	return p
}

// ofBias names a bias's dtype, for messages.
func ofBias(bias *gpu.Tensor) string {
	if bias == nil {
		return ""
	}
	return ", the bias " + bias.DType().String()
}

// k is how many products a sum has.
func (p *conv16) k() int { return p.kh * p.kw * p.c }

// tile16 is a version of the kernels on tensor cores.
type tile16 struct {
	rows, cols, threads, shared int
	speed                       float64 // of a full multiprocessor, against that of the middle one
	alone                       float64 // share of it that one block reaches
}

// tiles16 are the versions of conv16: large, middle, narrow and small. matmul16 has all but the narrow one. What speeds are beside
// another comes from the shared memory and L2 that a product of the tile reads (mma_tile.h), and is no measurement.
var tiles16 = [4]tile16{{256, 128, 256, 98304, 1.2, 1}, {128, 128, 128, 65536, 1, 0.6}, {128, 64, 128, 49152, 0.7, 0.45}, {64, 64, 128, 32768, 0.5, 0.35}}

// The numbers of the versions.
const (
	largeTile = iota
	middleTile
	narrowTile
	smallTile16
)

// forcedTile is the version that is taken whatever the sizes, where it is not negative and there is a choice of it. A variable so that
// tests see all at small sizes.
var forcedTile = -1

// tileFor is the version of those given that is through first with batch times m by n sums of k products, and into how many pieces, at most
// cuts, it cuts them: by what tiles waste beyond the edges, multiprocessors that have few blocks or none, and what it takes to add pieces
// up. Sums that are not cut have the same bits with all.
func tileFor(m, n, k, batch, cuts int, of ...int) (t, pieces int) {
	if slices.Contains(of, forcedTile) {
		of = []int{forcedTile}
	}
	const (
		many = fullBlocks / 2 // multiprocessors
		rate = 1000           // products that one makes in a clock, with the middle version
		wide = 20             // bytes that it moves meanwhile
		more = 5000           // clocks of another kernel
	)
	least := math.Inf(1)
	for _, i := range of {
		v := tiles16[i]
		blocks := batch * ceil(m, v.rows) * ceil(n, v.cols)
		most := max(1, min(int(many/v.alone)/blocks, cuts))
		for _, p := range []int{1, most} {
			time := float64(v.rows*v.cols) * float64(k) / rate / v.speed / float64(p) * max(float64(ceil(blocks*p, many)), 1/v.alone)
			if p > 1 {
				time += more + float64(batch*m*n)*float64(8*p)/(many*wide)
			}
			if time < least {
				t, pieces, least = i, p, time
			}
		}
	}
	return t, pieces
}

// launch is a convolution on a GPU, of x's and w's memory.
func (p *conv16) launch(op string, out *gpu.Tensor, x, w, bias cuda.Ptr) {
	m := p.n * p.oh * p.ow
	which, _ := tileFor(m, p.o, p.k(), 1, 1, middleTile, largeTile, narrowTile, smallTile16)
	t := tiles16[which]
	g := cuda.Grid{X: ceil(m, t.rows) * ceil(p.o, t.cols), Y: 1, Z: 1, BX: t.threads, BY: 1, BZ: 1, Shared: t.shared}
	if max(m, p.n*p.h*p.w, p.k(), g.X, p.inPitch, p.outPitch) > math.MaxInt32 {
		fail(op, "%d pictures of %d×%d are too many for a GPU, want fewer than 2^31 pixels; use a smaller batch", p.n, p.h, p.w)
	}
	if high, wide := p.h+p.pad[0]+p.pad[1], p.w+p.pad[2]+p.pad[3]; max(high, wide) >= conv16Most {
		fail(op, "padded pictures of %d×%d, want less than %d on a GPU", high, wide, conv16Most)
	}
	f := [4][2]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32, int32, int32, int32, int32, int32, int32,
		int32, int32, int32, int32, int32, int32, int32, int32, int32, int32, float64, float64){
		{kernels.Conv16LargeF16, kernels.Conv16LargeBf16},
		{kernels.Conv16F16, kernels.Conv16Bf16},
		{kernels.Conv16NarrowF16, kernels.Conv16NarrowBf16},
		{kernels.Conv16SmallF16, kernels.Conv16SmallBf16},
	}[which][number(p.bf16)]
	f(out.Device().Stream(), g, out.Ptr(), x, w, bias, int32(p.n), int32(p.h), int32(p.w), int32(p.c), int32(p.inPitch), int32(p.inAt), int32(p.o),
		int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.strideH), int32(p.strideW), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]),
		int32(p.outPitch), int32(p.outAt), number(p.acc), number(out.DType() == gpu.Float32), int32(p.f.f), p.f.a, p.f.b)
}

// conv16Rows is how many pixels of the result the CPU makes of patches at a time; fixed, so that bits depend on no number of threads.
const conv16Rows = 256

// run is the convolution on the CPU: patches of some pixels, in float32 or widened to it, times the kernels.
func (p *conv16) run(out, x, w, bias *gpu.Tensor) {
	k, kernels := p.k(), widened(w).F32()
	parts := ceil(p.oh*p.ow, conv16Rows) // of a picture
	cpu.Each(p.n*parts, func(worker *cpu.Worker, i int) {
		s, sums := columns32.Get().(*scratch[float32]), columns32.Get().(*scratch[float32])
		defer columns32.Put(s)
		defer columns32.Put(sums)
		first := i % parts * conv16Rows
		rows := min(conv16Rows, p.oh*p.ow-first)
		cols, y := s.take(rows*k), sums.take(rows*p.o)
		p.patches(cols, x, i/parts, first, rows)
		cpu.Gemm32(worker, false, true, rows, p.o, k, 1, cols, k, kernels, k, 0, y, p.o)
		if bias != nil {
			cpu.PairRows(cpu.PairAdd, false, rows, p.o, y, p.o, y, p.o, 1, bias.F32(), 0, 1)
		}
		if p.f.f != cpu.FuncIdentity {
			cpu.Func32(p.f.f, p.f.a, p.f.b, y, y)
		}
		for r := range rows {
			at := (i/parts*p.oh*p.ow+first+r)*p.outPitch + p.outAt
			from := y[r*p.o:][:p.o]
			if out.DType() == gpu.Float32 {
				copy(out.F32()[at:][:p.o], from)
			} else {
				narrow16(out.U16()[at:][:p.o], from, p.bf16)
			}
		}
	})
}

// patches are the operands of pixels first to first+rows of picture i's result, in the order of the kernels.
func (p *conv16) patches(cols []float32, x *gpu.Tensor, i, first, rows int) {
	for r := range rows {
		y0, x0 := (first+r)/p.ow*p.strideH-p.pad[0], (first+r)%p.ow*p.strideW-p.pad[2]
		for t := range p.kh * p.kw {
			to := cols[(r*p.kh*p.kw+t)*p.c:][:p.c]
			py, px := y0+t/p.kw*p.dilation, x0+t%p.kw*p.dilation
			if py < 0 || py >= p.h || px < 0 || px >= p.w {
				clear(to)
				continue
			}
			if at := ((i*p.h+py)*p.w+px)*p.inPitch + p.inAt; x.DType().Half() {
				widen16(to, x.U16()[at:][:p.c], p.bf16)
			} else {
				copy(to, x.F32()[at:])
			}
		}
	}
}

// widen16 sets out to the values of 16-bit floats.
func widen16(out []float32, x []uint16, bf16 bool) {
	if bf16 {
		for i, v := range x {
			out[i] = gpu.BF16ToFloat(v)
		}
		return
	}
	for i, v := range x {
		out[i] = gpu.F16ToFloat(v)
	}
}

// narrow16 rounds x to 16-bit floats, to nearest even.
func narrow16(out []uint16, x []float32, bf16 bool) {
	if bf16 {
		for i, v := range x {
			out[i] = gpu.FloatToBF16(v)
		}
		return
	}
	for i, v := range x {
		out[i] = gpu.FloatToF16(v)
	}
}
