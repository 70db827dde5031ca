package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Products are the inner products of two samples with themselves and each other.
type Products struct{ AA, AB, BB float64 }

// RowProducts sets dst[i] to the inner products of sample i of a and b, each
// [len(dst), ...], summed in float64: projections and norms of samples. A GPU
// makes AB of the sums of a², b² and ((a+b)/2)²; its error is a few units of
// float64's rounding of AA + BB. It waits for the answer, which is zero when the
// device has failed. It panics unless a and b have one shape, float dtype and device.
func RowProducts(dst []Products, a, b *gpu.Tensor) {
	const op = "RowProducts"
	mustBeFloat(op, a)
	xs := [1]*gpu.Tensor{b}
	sameLen(op, a, xs[:])
	if s := a.Shape(); len(s) == 0 || s[0] != len(dst) {
		fail(op, "%d results for shape %v; want one for each sample", len(dst), s)
	}
	clear(dst)
	if a.Len() == 0 {
		return
	}
	if a.Device().CUDA() {
		launchProducts(op, dst, a, b)
		return
	}
	size := a.Len() / len(dst)
	cpu.Each(len(dst), func(_ *cpu.Worker, i int) {
		switch lo, hi := i*size, (i+1)*size; a.DType() {
		case gpu.Float32:
			dst[i] = productsOf(a.F32()[lo:hi], b.F32()[lo:hi])
		case gpu.Float64:
			dst[i] = productsOf(a.F64()[lo:hi], b.F64()[lo:hi])
		default:
			p := &dst[i]
			for j := lo; j < hi; j++ {
				x, y := valueAt(a, j), valueAt(b, j)
				p.AA, p.AB, p.BB = p.AA+x*x, p.AB+x*y, p.BB+y*y
			}
		}
	})
}

// productsOf adds in four independent chains.
func productsOf[T float32 | float64](a, b []T) Products {
	var p [4]Products
	b = b[:len(a)]
	add := func(p *Products, x, y float64) { p.AA, p.AB, p.BB = p.AA+x*x, p.AB+x*y, p.BB+y*y }
	i := 0
	for ; i+4 <= len(a); i += 4 {
		add(&p[0], float64(a[i]), float64(b[i]))
		add(&p[1], float64(a[i+1]), float64(b[i+1]))
		add(&p[2], float64(a[i+2]), float64(b[i+2]))
		add(&p[3], float64(a[i+3]), float64(b[i+3]))
	}
	for ; i < len(a); i++ {
		add(&p[0], float64(a[i]), float64(b[i]))
	}
	for _, q := range p[1:] {
		p[0] = Products{p[0].AA + q.AA, p[0].AB + q.AB, p[0].BB + q.BB}
	}
	return p[0]
}

// launchProducts asks guide_moments, which sums c, c², g and g² of g = w·c + (1-w)·u,
// for the weights 1/2 and 0.
func launchProducts(op string, dst []Products, a, b *gpu.Tensor) {
	s, rows := a.Device().Stream(), len(dst)
	size := a.Len() / rows
	g, parts := rowGrid(op, a, size, 8)
	part := s.Alloc(32 * rows * parts)
	f := byDType(a.DType(), kernels.GuideMomentsF32, kernels.GuideMomentsF64, kernels.GuideMomentsF16, kernels.GuideMomentsBf16)
	got := make([]float64, 4*rows*parts)
	read := func(w float64) {
		f(s, g, part, a.Ptr(), b.Ptr(), 0, w, int64(size), int32(parts))
		if s.CopyOut(cuda.Bytes(got), part) != nil {
			clear(got)
		}
	}
	read(0)
	for i := range rows {
		for p := range parts {
			v := got[4*(i*parts+p):]
			dst[i].AA += v[1]
			dst[i].BB += v[3]
		}
	}
	read(0.5)
	for i := range rows {
		var half float64
		for p := range parts {
			half += got[4*(i*parts+p)+3]
		}
		dst[i].AB = (4*half - dst[i].AA - dst[i].BB) / 2
	}
	s.Free(part)
}
