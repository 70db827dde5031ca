package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// ResizeKind is a way of resizing feature maps, as torch's interpolate has it with corners
// not aligned and without antialiasing. (Pictures are resized by package imageio.)
type ResizeKind int

// The kinds.
const (
	ResizeNearest  ResizeKind = iota // pixel ⌊i·in/out⌋
	ResizeArea                       // the mean of pixels ⌊i·in/out⌋ to ⌈(i+1)·in/out⌉-1, whole ones alone
	ResizeBilinear                   // between the two nearest centres
	ResizeBicubic                    // by the cubic of a = -0.75 over four centres
)

// Resize resizes feature maps of one size to another. It is two matrices: rows are made of
// rows, then columns of columns.
type Resize struct {
	inH, inW, outH, outW int
	rows, cols           *gpu.Tensor // [outH, inH] and [outW, inW]; nil where a size stays
}

// NewResize makes a resize of maps of inH×inW to outH×outW on dev in dt.
func NewResize(dev *gpu.Device, dt gpu.DType, kind ResizeKind, inH, inW, outH, outW int) *Resize {
	if min(inH, inW, outH, outW) < 1 || kind < ResizeNearest || kind > ResizeBicubic {
		panic(fmt.Sprintf("nn: NewResize: %d×%d to %d×%d of kind %d, want sizes >= 1 and a kind", inH, inW, outH, outW, kind))
	}
	r := &Resize{inH: inH, inW: inW, outH: outH, outW: outW}
	if inH != outH {
		r.rows = table(dev, dt, resizeMatrix(kind, inH, outH), outH, inH)
	}
	if inW != outW {
		r.cols = table(dev, dt, resizeMatrix(kind, inW, outW), outW, inW)
	}
	return r
}

// resizeMatrix is the weights [out, in] of one axis.
func resizeMatrix(kind ResizeKind, in, out int) []float64 {
	m := make([]float64, out*in)
	for i := range out {
		row := m[i*in:][:in]
		switch kind {
		case ResizeNearest:
			row[i*in/out] = 1
		case ResizeArea:
			lo, hi := i*in/out, ((i+1)*in+out-1)/out
			for j := lo; j < hi; j++ {
				row[j] = 1 / float64(hi-lo)
			}
		case ResizeBilinear:
			at := math.Max((float64(i)+0.5)*float64(in)/float64(out)-0.5, 0)
			lo := int(at)
			f := at - float64(lo)
			row[lo] += 1 - f
			row[min(lo+1, in-1)] += f
		case ResizeBicubic:
			at := (float64(i)+0.5)*float64(in)/float64(out) - 0.5
			lo := int(math.Floor(at))
			f := at - float64(lo)
			for k, w := range [4]float64{cubic(f + 1), cubic(f), cubic(1 - f), cubic(2 - f)} {
				row[min(max(lo-1+k, 0), in-1)] += w // edges are repeated
			}
		}
	}
	return m
}

// cubic is the kernel of Keys 1981 with a = -0.75, for x >= 0.
func cubic(x float64) float64 {
	const a = -0.75
	if x <= 1 {
		return ((a+2)*x-(a+3))*x*x + 1
	}
	return ((a*x-5*a)*x+8*a)*x - 4*a
}

// Forward is the maps x [N, C, inH, inW] resized.
func (r *Resize) Forward(x *Var) *Var {
	s := x.Shape()
	if len(s) != 4 || s[2] != r.inH || s[3] != r.inW {
		panic(fmt.Sprintf("nn: Resize: maps of shape %v, want [N, C, %d, %d]", s, r.inH, r.inW))
	}
	if r.cols != nil {
		x = x.MatMulNT(x.tape.Input(r.cols))
	}
	if r.rows != nil {
		x = x.tape.Input(r.rows).MatMul(x)
	}
	return x
}
