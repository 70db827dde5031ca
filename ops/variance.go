package ops

import (
	"math"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// RowVariance sets dst[i] to the unbiased variance of the n values of sample i of
// x, [len(dst), ...]:
//
//	(Σ d² - (Σ d)²/n) / (n - 1),   d = x - the sample's first value,
//
// summed in float64; taking the first value off keeps the digits of samples that
// are far from 0 for their spread. A sample's result does not depend on the others.
// It is NaN for a sample of one value or with a value that is not finite. A GPU
// waits for the answer, which is NaN when the device has failed. It panics unless
// x has a float dtype and len(dst) samples.
func RowVariance(dst []float64, x *gpu.Tensor) {
	const op = "RowVariance"
	mustBeFloat(op, x)
	if s := x.Shape(); len(s) == 0 || s[0] != len(dst) {
		fail(op, "%d results for shape %v; want one for each sample", len(dst), s)
	}
	if x.Len() == 0 {
		for i := range dst {
			dst[i] = math.NaN()
		}
		return
	}
	call, _ := varianceCalls.Get().(*varianceCall)
	if call == nil {
		call = &varianceCall{}
		call.each = call.row
	}
	call.x, call.dst, call.size = x, dst, x.Len()/len(dst)
	if x.Device().CUDA() {
		call.launch(op)
	} else {
		cpu.Each(len(dst), call.each)
	}
	call.x, call.dst = nil, nil
	varianceCalls.Put(call)
}

// varianceCall is RowVariance, pooled so that a call allocates nothing.
type varianceCall struct {
	x    *gpu.Tensor
	dst  []float64
	size int
	got  []float64 // the kernel's sums
	each func(w *cpu.Worker, i int)
}

var varianceCalls sync.Pool

// variance of a sample, from the sums of d and d².
func (c *varianceCall) variance(s, ss float64) float64 {
	n := float64(c.size)
	v := (ss - s*s/n) / (n - 1) // 0/0 for one value
	if v < 0 {
		return 0
	}
	return v
}

func (c *varianceCall) row(_ *cpu.Worker, i int) {
	var s, ss float64
	switch lo, hi := i*c.size, (i+1)*c.size; c.x.DType() {
	case gpu.Float32:
		s, ss = deviations(c.x.F32()[lo:hi])
	case gpu.Float64:
		s, ss = deviations(c.x.F64()[lo:hi])
	default:
		pivot := valueAt(c.x, lo)
		for j := lo; j < hi; j++ {
			d := valueAt(c.x, j) - pivot
			s, ss = s+d, ss+d*d
		}
	}
	c.dst[i] = c.variance(s, ss)
}

// deviations adds in four independent chains.
func deviations[T float32 | float64](x []T) (s, ss float64) {
	var p, q [4]float64
	pivot := float64(x[0])
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a, b, c, d := float64(x[i])-pivot, float64(x[i+1])-pivot, float64(x[i+2])-pivot, float64(x[i+3])-pivot
		p[0], p[1], p[2], p[3] = p[0]+a, p[1]+b, p[2]+c, p[3]+d
		q[0], q[1], q[2], q[3] = q[0]+a*a, q[1]+b*b, q[2]+c*c, q[3]+d*d
	}
	for ; i < len(x); i++ {
		d := float64(x[i]) - pivot
		p[0], q[0] = p[0]+d, q[0]+d*d
	}
	return p[0] + p[1] + p[2] + p[3], q[0] + q[1] + q[2] + q[3]
}

func (c *varianceCall) launch(op string) {
	s, rows := c.x.Device().Stream(), len(c.dst)
	g, parts := rowGrid(op, c.x, c.size, 8)
	if n := 2 * rows * parts; cap(c.got) < n {
		c.got = make([]float64, n)
	} else {
		c.got = c.got[:n]
	}
	part := s.Alloc(16 * rows * parts)
	f := byDType(c.x.DType(), kernels.RowVarianceF32, kernels.RowVarianceF64, kernels.RowVarianceF16, kernels.RowVarianceBf16)
	f(s, g, part, c.x.Ptr(), int64(c.size), int32(parts))
	err := s.CopyOut(cuda.Bytes(c.got), part)
	s.Free(part)
	for i := range c.dst {
		if c.dst[i] = math.NaN(); err != nil {
			continue
		}
		var d, dd float64
		for p := range parts {
			d, dd = d+c.got[2*(i*parts+p)], dd+c.got[2*(i*parts+p)+1]
		}
		c.dst[i] = c.variance(d, dd)
	}
}
