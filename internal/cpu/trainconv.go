package cpu

// TrainConv is a convolution of N×C×H×W pictures by Out×C×KH×KW kernels, as Conv is, with
// its own number of zeros above, below, left and right, and Dilation places between the
// kernel's elements (0 stands for 1: next to each other).
type TrainConv struct {
	N, C, H, W, Out, KH, KW, Stride int
	Pad                             [4]int
	Dilation                        int
	Last                            bool // channels are the last axis: N×H×W×C pictures, results N×OH×OW×Out
	BF16                            bool // operands are rounded to bfloat16 first, as GemmBF16 does
	Known                           bool // the kernels' values are bfloat16s already

	biased bool // Forward has a bias
}

func (p *TrainConv) dilation() int { return max(1, p.Dilation) }

// OutSize is the height and the width of the result.
func (p *TrainConv) OutSize() (oh, ow int) {
	d := p.dilation()
	return (p.H+p.Pad[0]+p.Pad[1]-d*(p.KH-1)-1)/p.Stride + 1, (p.W+p.Pad[2]+p.Pad[3]-d*(p.KW-1)-1)/p.Stride + 1
}

// Forward sets y to the convolution of x with weight, plus bias for each channel where it is
// not nil, on w, by oneDNN. Where that is not to be had it does nothing and returns false:
// the caller then multiplies matrices.
func (p *TrainConv) Forward(w *Worker, y, x, weight, bias []float32) bool {
	if bias != nil {
		longEnough("Forward", "the bias", len(bias), p.Out)
		p.biased = true
	}
	return p.run("Forward", w, 0, x, weight, bias, y)
}

// Data sets dx to the gradient by the pictures, given dy, that by the result, as Forward does.
func (p *TrainConv) Data(w *Worker, dx, dy, weight []float32) bool {
	return p.run("Data", w, 1, dx, weight, nil, dy)
}

// Weights sets dw to the gradient by the kernels, summed over the pictures, as Forward does.
func (p *TrainConv) Weights(w *Worker, dw, dy, x []float32) bool {
	return p.run("Weights", w, 2, x, dw, nil, dy)
}

func (p *TrainConv) run(op string, w *Worker, kind int, src, weight, bias, dst []float32) bool {
	oh, ow := p.OutSize()
	if p.N == 0 {
		return true
	}
	longEnough(op, "the pictures", len(src), p.N*p.C*p.H*p.W)
	longEnough(op, "the kernels", len(weight), p.Out*p.C*p.KH*p.KW)
	longEnough(op, "the result", len(dst), p.N*p.Out*oh*ow)
	q := *p
	q.Known = false
	if p.BF16 && !HasBF16() {
		if !nativeTrains() {
			return false
		}
		q.BF16 = false
		round := func(slot int, x []float32, n int) []float32 {
			y := w.f32(slot, n)
			RoundBF16s(y, x[:n])
			return y
		}
		if kind != 1 {
			src = round(scratchA, src, p.N*p.C*p.H*p.W)
		}
		if kind != 0 {
			dst = round(scratchB, dst, p.N*p.Out*oh*ow)
		}
		if kind != 2 && !p.Known {
			weight = round(scratchSum, weight, p.Out*p.C*p.KH*p.KW)
		}
	}
	return nativeTrainConv(w, kind, &q, src, weight, bias, dst)
}

// reference is what kind of run gives, by loops in float64, for tests at first use.
func (p *TrainConv) reference(kind int, x, weight, bias, y []float32) []float32 {
	d := p.dilation()
	oh, ow := p.OutSize()
	sums := make([]float64, [3]int{len(y), len(x), len(weight)}[kind])
	for i := range p.N * p.Out * oh * ow {
		b, o, r, q := i/(p.Out*oh*ow), i/(oh*ow)%p.Out, i/ow%oh, i%ow
		if p.Last {
			i = ((b*oh+r)*ow+q)*p.Out + o
		}
		if kind == 0 && bias != nil {
			sums[i] = float64(bias[o])
		}
		for j := range p.C * p.KH * p.KW {
			c, yy, xx := j/(p.KH*p.KW), r*p.Stride+d*(j/p.KW%p.KH)-p.Pad[0], q*p.Stride+d*(j%p.KW)-p.Pad[2]
			if yy < 0 || yy >= p.H || xx < 0 || xx >= p.W {
				continue
			}
			at, wt := ((b*p.C+c)*p.H+yy)*p.W+xx, o*p.C*p.KH*p.KW+j
			if p.Last {
				at = ((b*p.H+yy)*p.W+xx)*p.C + c
			}
			switch kind {
			case 0:
				sums[i] += float64(x[at]) * float64(weight[wt])
			case 1:
				sums[at] += float64(y[i]) * float64(weight[wt])
			case 2:
				sums[wt] += float64(y[i]) * float64(x[at])
			}
		}
	}
	out := make([]float32, len(sums))
	for i, v := range sums {
		out[i] = float32(v)
	}
	return out
}
