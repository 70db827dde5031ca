package cpu

import "fmt"

// Conv describes a two-dimensional convolution (a correlation, as networks use
// it) of N images. Strides of 0 mean 1; padding is zeros on both sides.
type Conv struct {
	N, C, H, W       int // input: N×C×H×W
	Out, KH, KW      int // weights: Out×C×KH×KW
	StrideH, StrideW int
	PadH, PadW       int
	ReLU             bool // fused
}

// OutSize is the height and the width of the output.
func (c *Conv) OutSize() (oh, ow int) {
	return (c.H+2*c.PadH-c.KH)/max(1, c.StrideH) + 1, (c.W+2*c.PadW-c.KW)/max(1, c.StrideW) + 1
}

// convBatch is how many images a worker takes at a time. Fixed, so that an
// image's result does not depend on the number of workers.
const convBatch = 8

// Conv2D sets out to relu?(weight ∗ x + bias), all float32 and contiguous: x
// N×C×H×W, weight Out×C×KH×KW, bias Out elements or nil, out N×Out×OH×OW of
// p.OutSize. out overlaps nothing. It panics on sizes that make no sense and
// slices that are too short. Results are the same bits at any number of workers.
func Conv2D(w *Worker, p *Conv, out, x, weight, bias []float32) {
	q := *p
	q.StrideH, q.StrideW = max(1, q.StrideH), max(1, q.StrideW)
	oh, ow := q.OutSize()
	if min(q.N, q.StrideH, q.StrideW, q.PadH, q.PadW) < 0 || min(q.C, q.H, q.W, q.Out, q.KH, q.KW) < 1 || q.H+2*q.PadH < q.KH || q.W+2*q.PadW < q.KW || q.PadH >= q.KH || q.PadW >= q.KW {
		panic(fmt.Sprintf("cpu: Conv2D: impossible sizes %+v; want sizes >= 1, padding below the kernel's size, a kernel inside the padded image", *p))
	}
	in, res := q.C*q.H*q.W, q.Out*oh*ow
	longEnough("Conv2D", "x", len(x), q.N*in)
	longEnough("Conv2D", "out", len(out), q.N*res)
	longEnough("Conv2D", "weight", len(weight), q.Out*q.C*q.KH*q.KW)
	if bias != nil {
		longEnough("Conv2D", "bias", len(bias), q.Out)
	}
	on(w, (q.N+convBatch-1)/convBatch, func(w *Worker, i int) {
		part := q
		first := i * convBatch
		part.N = min(convBatch, q.N-first)
		o, in := out[first*res:][:part.N*res], x[first*in:][:part.N*in]
		if !nativeConv2D(w, &part, o, in, weight, bias) {
			goConv2D(w, &part, o, in, weight, bias)
		}
	})
}

func longEnough(op, name string, got, want int) {
	if got < want {
		panic(fmt.Sprintf("cpu: %s: %s has %d elements, want >= %d", op, name, got, want))
	}
}

// goConv2D gathers the patches of each output position into columns and
// multiplies: out = weight · columns.
func goConv2D(w *Worker, p *Conv, out, x, weight, bias []float32) {
	oh, ow := p.OutSize()
	rows, area := p.C*p.KH*p.KW, oh*ow
	cols := w.f32(scratchWork, rows*area)
	for n := range p.N {
		img, o := x[n*p.C*p.H*p.W:], out[n*p.Out*area:][:p.Out*area]
		for c := range p.C {
			for kh := range p.KH {
				for kw := range p.KW {
					columns(cols[((c*p.KH+kh)*p.KW+kw)*area:][:area], img[c*p.H*p.W:][:p.H*p.W], p, kh, kw, oh, ow)
				}
			}
		}
		goGemm32(false, false, p.Out, area, rows, 1, weight, rows, cols, area, 0, o, area)
		for c := range p.Out {
			row := o[c*area:][:area]
			if bias != nil {
				for i := range row {
					row[i] += bias[c]
				}
			}
			if p.ReLU {
				goReLU32(row, row)
			}
		}
	}
}

// columns writes the input element under kernel element (kh,kw) for every output position, 0 in the padding.
func columns(dst, plane []float32, p *Conv, kh, kw, oh, ow int) {
	for y := range oh {
		row := dst[y*ow:][:ow]
		iy := y*p.StrideH + kh - p.PadH
		if iy < 0 || iy >= p.H {
			clear(row)
			continue
		}
		src := plane[iy*p.W:][:p.W]
		for x := range row {
			if ix := x*p.StrideW + kw - p.PadW; ix >= 0 && ix < p.W {
				row[x] = src[ix]
			} else {
				row[x] = 0
			}
		}
	}
}
