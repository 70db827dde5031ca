package cpu

import (
	"fmt"
	"math"
)

// Pool describes a pooling of N images over windows of KH×KW. Strides of 0 mean 1.
type Pool struct {
	N, C, H, W       int // input: N×C×H×W
	KH, KW           int
	StrideH, StrideW int
	PadH, PadW       int
	CountPadding     bool // an average divides by KH·KW, not by the number of cells inside the image
}

// OutSize is the height and the width of the output.
func (p *Pool) OutSize() (oh, ow int) {
	return (p.H+2*p.PadH-p.KH)/max(1, p.StrideH) + 1, (p.W+2*p.PadW-p.KW)/max(1, p.StrideW) + 1
}

// MaxPool2D sets out, N×C×OH×OW of p.OutSize, to the greatest value of each
// window of x, N×C×H×W. Padding never wins; NaN does. It panics on sizes that
// make no sense (padding must be below the window) and on short slices.
func MaxPool2D(w *Worker, p *Pool, out, x []float32) { pool2D(w, "MaxPool2D", p, false, out, x) }

// AvgPool2D is MaxPool2D for the mean of each window: the float32 sum, row by
// row, divided by the number of cells inside the image, or by KH·KW with
// CountPadding.
func AvgPool2D(w *Worker, p *Pool, out, x []float32) { pool2D(w, "AvgPool2D", p, true, out, x) }

func pool2D(w *Worker, op string, p *Pool, average bool, out, x []float32) {
	q := *p
	q.StrideH, q.StrideW = max(1, q.StrideH), max(1, q.StrideW)
	oh, ow := q.OutSize()
	if min(q.N, q.C, q.PadH, q.PadW) < 0 || min(q.H, q.W, q.KH, q.KW) < 1 || q.H+2*q.PadH < q.KH || q.W+2*q.PadW < q.KW || q.PadH >= q.KH || q.PadW >= q.KW {
		panic(fmt.Sprintf("cpu: %s: impossible sizes %+v; want sizes >= 1, padding below the window's size, a window inside the padded image", op, *p))
	}
	longEnough(op, "x", len(x), q.N*q.C*q.H*q.W)
	longEnough(op, "out", len(out), q.N*q.C*oh*ow)
	planes := q.N * q.C
	block := max(1, vecChunk/(q.H*q.W))
	on(w, (planes+block-1)/block, func(_ *Worker, i int) {
		for n := i * block; n < min((i+1)*block, planes); n++ {
			o, in := out[n*oh*ow:][:oh*ow], x[n*q.H*q.W:][:q.H*q.W]
			if !nativePool(&q, average, o, in, oh, ow) {
				goPool(&q, average, o, in, oh, ow)
			}
		}
	})
}

func goPool(p *Pool, average bool, out, in []float32, oh, ow int) {
	for y := range oh {
		top := y*p.StrideH - p.PadH
		r0, r1 := max(top, 0), min(top+p.KH, p.H)
		for x := range ow {
			left := x*p.StrideW - p.PadW
			c0, c1 := max(left, 0), min(left+p.KW, p.W)
			best, sum := float32(math.Inf(-1)), float32(0)
			for r := r0; r < r1; r++ {
				for _, v := range in[r*p.W+c0 : r*p.W+c1] {
					sum += v
					if !(best > v || best != best) {
						best = v
					}
				}
			}
			switch {
			case !average:
				out[y*ow+x] = best
			case p.CountPadding:
				out[y*ow+x] = sum / float32(p.KH*p.KW)
			default:
				out[y*ow+x] = sum / float32((r1-r0)*(c1-c0))
			}
		}
	}
}
