package ops

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// maxTerms is what one pass takes, on either device.
const maxTerms = 8

// LinComb sets out to Σ_j coeffs[j]·xs[j] in one pass over memory. out may be
// any of the xs. Sums are made in float64 in the order of the xs, not fused, and
// rounded once (16-bit types: to float32 first): the same bits on every device
// and at any number of threads. It panics unless all tensors have one length,
// float dtype and device, and there are as many coefficients as tensors, one to
// eight.
func LinComb(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) {
	checkLinComb("LinComb", out, coeffs, xs)
	if out.Device().CUDA() {
		launchLinComb(out, 0, coeffs, xs)
		return
	}
	lincombRange(out, coeffs, xs, 0, out.Len())
}

// LinCombFinite is LinComb and tells whether every result is finite; it reads
// nothing twice. If an operand isn't finite, neither is the result. On a GPU it
// waits for the answer; true also when the device has failed.
func LinCombFinite(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) bool {
	checkLinComb("LinCombFinite", out, coeffs, xs)
	dev := out.Device()
	if !dev.CUDA() {
		return lincombRange(out, coeffs, xs, 0, out.Len())
	}
	bad := newIndex(dev.Stream())
	launchLinComb(out, bad, coeffs, xs)
	return takeIndex(dev.Stream(), bad) < 0
}

// LinCombThen is LinComb(mid, first, a, b) and then LinCombFinite(out, second,
// xs...), of which mid may be one, with no pass over memory between them: on the
// CPU the second reads what the first has just written. All have one length,
// dtype and device.
func LinCombThen(mid *gpu.Tensor, first []float64, a, b *gpu.Tensor, out *gpu.Tensor, second []float64, xs ...*gpu.Tensor) (finite bool) {
	ab := [2]*gpu.Tensor{a, b}
	checkLinComb("LinCombThen", mid, first, ab[:])
	checkLinComb("LinCombThen", out, second, xs)
	sameLen("LinCombThen", mid, xs)
	if out.Device().CUDA() {
		launchLinComb(mid, 0, first, ab[:])
		return LinCombFinite(out, second, xs...)
	}
	call, _ := thenCalls.Get().(*thenCall)
	if call == nil {
		call = &thenCall{}
		call.each = call.chunk
	}
	call.mid, call.out, call.ab, call.k = mid, out, ab, len(xs)
	call.bad.Store(false)
	copy(call.first[:], first)
	copy(call.second[:], second)
	copy(call.xs[:], xs)
	cpu.Join((out.Len()+cpu.VecChunk-1)/cpu.VecChunk, call.each)
	finite = !call.bad.Load()
	call.mid, call.out, call.ab, call.xs = nil, nil, [2]*gpu.Tensor{}, [maxTerms]*gpu.Tensor{}
	thenCalls.Put(call)
	return finite
}

// thenCall is LinCombThen on the CPU, pooled with its closure.
type thenCall struct {
	mid, out *gpu.Tensor
	first    [2]float64
	ab       [2]*gpu.Tensor
	second   [maxTerms]float64
	xs       [maxTerms]*gpu.Tensor
	k        int
	bad      atomic.Bool
	each     func(w *cpu.Worker, i int)
}

var thenCalls sync.Pool

func (c *thenCall) chunk(_ *cpu.Worker, i int) {
	lo, hi := i*cpu.VecChunk, min((i+1)*cpu.VecChunk, c.out.Len())
	lincombRange(c.mid, c.first[:], c.ab[:], lo, hi)
	if !lincombRange(c.out, c.second[:c.k], c.xs[:c.k], lo, hi) {
		c.bad.Store(true)
	}
}

// LinCombRows is LinComb with coefficients of each sample: row b of the tensors
// [B, ...] gets coeffs[b·k : (b+1)·k], k = len(xs).
func LinCombRows(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) {
	const op = "LinCombRows"
	k := len(xs)
	mustBeFloat(op, out)
	sameLen(op, out, xs)
	if len(out.Shape()) == 0 || k == 0 || k > maxTerms || len(coeffs) != k*out.Shape()[0] {
		fail(op, "%d coefficients for %d tensors of shape %v, want that many per row, 1 to %d tensors",
			len(coeffs), k, out.Shape(), maxTerms)
	}
	rows := out.Shape()[0]
	if out.Len() == 0 {
		return
	}
	if sameRows(coeffs, k) {
		LinComb(out, coeffs[:k], xs...)
		return
	}
	size := out.Len() / rows
	if dev := out.Device(); dev.CUDA() {
		s := dev.Stream()
		c := uploaded(s, coeffs)
		launchLinCombRows(op, out, c, xs, size)
		s.Free(c)
		return
	}
	call, _ := rowCalls.Get().(*rowCall)
	if call == nil {
		call = &rowCall{}
		call.each = call.row
	}
	call.out, call.coeffs, call.k, call.size = out, coeffs, k, size
	copy(call.xs[:], xs)
	cpu.Each(rows, call.each)
	call.out, call.coeffs, call.xs = nil, nil, [maxTerms]*gpu.Tensor{}
	rowCalls.Put(call)
}

// rowCall is LinCombRows on the CPU, pooled with its closure so that a call
// allocates nothing.
type rowCall struct {
	out     *gpu.Tensor
	coeffs  []float64
	xs      [maxTerms]*gpu.Tensor
	k, size int
	each    func(w *cpu.Worker, b int)
}

var rowCalls sync.Pool

func (c *rowCall) row(w *cpu.Worker, b int) {
	lincombOn(w, c.out, c.coeffs[b*c.k:(b+1)*c.k], c.xs[:c.k], b*c.size, (b+1)*c.size)
}

// sameRows tells whether all rows of k coefficients are equal, bit for bit.
func sameRows(coeffs []float64, k int) bool {
	for i := k; i < len(coeffs); i += k {
		if !slices.Equal(coeffs[:k], coeffs[i:i+k]) {
			return false
		}
	}
	return true
}

func checkLinComb(op string, out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor) {
	mustBeFloat(op, out)
	sameLen(op, out, xs)
	if len(coeffs) != len(xs) || len(xs) == 0 || len(xs) > maxTerms {
		fail(op, "%d coefficients for %d tensors, want as many, 1 to %d", len(coeffs), len(xs), maxTerms)
	}
}

// lincombRange does elements lo to hi on the CPU.
func lincombRange(out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor, lo, hi int) (finite bool) {
	return lincombOn(nil, out, coeffs, xs, lo, hi)
}

// lincombOn does them on a worker, or on all.
func lincombOn(w *cpu.Worker, out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor, lo, hi int) (finite bool) {
	switch out.DType() {
	case gpu.Float64:
		var v [maxTerms][]float64
		for j, x := range xs {
			v[j] = x.F64()[lo:hi]
		}
		return cpu.LinComb64(w, out.F64()[lo:hi], coeffs, v[:len(xs)]...)
	case gpu.Float32:
		var v [maxTerms][]float32
		for j, x := range xs {
			v[j] = x.F32()[lo:hi]
		}
		return cpu.LinComb32(w, out.F32()[lo:hi], coeffs, v[:len(xs)]...)
	}
	widen, narrow := half(out.DType())
	finite = true
	o := out.U16()
	for i := lo; i < hi; i++ {
		s := coeffs[0] * float64(widen(xs[0].U16()[i]))
		for j := 1; j < len(xs); j++ {
			s += float64(coeffs[j] * float64(widen(xs[j].U16()[i])))
		}
		o[i] = narrow(float32(s))
		r := widen(o[i])
		finite = finite && r-r == 0
	}
	return finite
}

// half is the conversions of a 16-bit float dtype.
func half(dt gpu.DType) (widen func(uint16) float32, narrow func(float32) uint16) {
	if dt == gpu.Float16 {
		return gpu.F16ToFloat, gpu.FloatToF16
	}
	return gpu.BF16ToFloat, gpu.FloatToBF16
}

// pointers are the addresses of the xs, the last repeated.
func pointers(xs []*gpu.Tensor) (p [maxTerms]cuda.Ptr) {
	for j := range p {
		p[j] = xs[min(j, len(xs)-1)].Ptr()
	}
	return p
}

func launchLinComb(out *gpu.Tensor, bad cuda.Ptr, coeffs []float64, xs []*gpu.Tensor) {
	s, n, k, p := out.Device().Stream(), out.Len(), int32(len(xs)), pointers(xs)
	var c [maxTerms]float64
	copy(c[:], coeffs)
	g := cuda.Grid1(n, vectorBlock*16/out.DType().Size(), vectorBlock)
	f := byDType(out.DType(), kernels.LincombF32, kernels.LincombF64, kernels.LincombF16, kernels.LincombBf16)
	f(s, g, out.Ptr(), bad, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7],
		c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], k, int64(n))
}

// launchLinCombRows takes the coefficients from c, on the device.
func launchLinCombRows(op string, out *gpu.Tensor, c cuda.Ptr, xs []*gpu.Tensor, size int) {
	s, k, p := out.Device().Stream(), int32(len(xs)), pointers(xs)
	g, blocks := rowGrid(op, out, size, 1)
	f := byDType(out.DType(), kernels.LincombRowsF32, kernels.LincombRowsF64, kernels.LincombRowsF16, kernels.LincombRowsBf16)
	f(s, g, out.Ptr(), 0, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], c, k, int64(size), int32(blocks))
}
