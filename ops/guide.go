package ops

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Guide sets out to classifier-free guidance (Ho and Salimans 2022) of the
// predictions with and without the condition, each [B, ...],
//
//	g = uncond + w·(cond - uncond)
//
// with w[b] for sample b, or one w for all. With rescale > 0 the spread that
// guidance has added is taken back by that share (Lin et al. 2023, eq. 14-16):
// out = g·(rescale·std(cond)/std(g) + 1 - rescale), standard deviations over each
// sample. out may be either operand. Both need one prediction type; LinComb's
// rules of dtypes and rounding hold. It panics on other shapes and a rescale
// outside [0, 1].
func Guide(out, cond, uncond *gpu.Tensor, w []float64, rescale float64) {
	const op = "Guide"
	mustBeFloat(op, out)
	xs := [2]*gpu.Tensor{cond, uncond}
	sameLen(op, out, xs[:])
	if !(rescale >= 0 && rescale <= 1) {
		fail(op, "rescale is %g; want 0 to 1", rescale)
	}
	if len(out.Shape()) == 0 || len(w) != 1 && len(w) != out.Shape()[0] {
		fail(op, "%d weights for shape %v; want one, or one for each sample", len(w), out.Shape())
	}
	if out.Len() == 0 {
		return
	}
	if rescale == 0 && sameRows(w, 1) {
		c := [2]float64{w[0], 1 - w[0]}
		LinComb(out, c[:], xs[:]...)
		return
	}
	rows := out.Shape()[0]
	if out.Device().CUDA() {
		launchGuide(out, xs[:], w, rescale, rows)
		return
	}
	guideRows(out, cond, uncond, w, rescale, rows)
}

// guideRows is Guide on the CPU.
func guideRows(out, cond, uncond *gpu.Tensor, w []float64, rescale float64, rows int) {
	xs := [2]*gpu.Tensor{cond, uncond}
	size := out.Len() / rows
	cpu.Each(rows, func(wk *cpu.Worker, b int) {
		weight := w[min(b, len(w)-1)]
		f := 1.0
		if rescale > 0 {
			f = rescale*spread(cond, uncond, weight, b*size, (b+1)*size) + 1 - rescale
		}
		c := [2]float64{f * weight, f * (1 - weight)}
		lincombOn(wk, out, c[:], xs[:], b*size, (b+1)*size)
	})
}

// spread is std(cond)/std(g) over elements lo to hi; 1 where g does not vary.
func spread(cond, uncond *gpu.Tensor, w float64, lo, hi int) float64 {
	var s sums
	switch cond.DType() {
	case gpu.Float32:
		s = sumsOf(cond.F32()[lo:hi], uncond.F32()[lo:hi], w)
	case gpu.Float64:
		s = sumsOf(cond.F64()[lo:hi], uncond.F64()[lo:hi], w)
	default:
		for i := lo; i < hi; i++ {
			s.add(valueAt(cond, i), valueAt(uncond, i), w)
		}
	}
	n := float64(hi - lo)
	vc, vg := s.cc-s.c*s.c/n, s.gg-s.g*s.g/n
	if !(vg > 0) {
		return 1
	}
	return math.Sqrt(max(vc, 0) / vg)
}

// sums are those of c, c², g and g².
type sums struct{ c, cc, g, gg float64 }

func (s *sums) add(c, u, w float64) {
	g := float64(w*c) + float64((1-w)*u)
	s.c += c
	s.cc += c * c
	s.g += g
	s.gg += g * g
}

// sumsOf adds in four independent chains.
func sumsOf[T float32 | float64](c, u []T, w float64) sums {
	var p [4]sums
	u = u[:len(c)]
	i := 0
	for ; i+4 <= len(c); i += 4 {
		p[0].add(float64(c[i]), float64(u[i]), w)
		p[1].add(float64(c[i+1]), float64(u[i+1]), w)
		p[2].add(float64(c[i+2]), float64(u[i+2]), w)
		p[3].add(float64(c[i+3]), float64(u[i+3]), w)
	}
	for ; i < len(c); i++ {
		p[0].add(float64(c[i]), float64(u[i]), w)
	}
	for _, q := range p[1:] {
		p[0].c, p[0].cc, p[0].g, p[0].gg = p[0].c+q.c, p[0].cc+q.cc, p[0].g+q.g, p[0].gg+q.gg
	}
	return p[0]
}

// valueAt is element i of a float tensor on the CPU.
func valueAt(t *gpu.Tensor, i int) float64 {
	switch t.DType() {
	case gpu.Float32:
		return float64(t.F32()[i])
	case gpu.Float64:
		return t.F64()[i]
	case gpu.Float16:
		return float64(gpu.F16ToFloat(t.U16()[i]))
	}
	return float64(gpu.BF16ToFloat(t.U16()[i]))
}

func launchGuide(out *gpu.Tensor, xs []*gpu.Tensor, w []float64, rescale float64, rows int) {
	s, size := out.Device().Stream(), out.Len()/rows
	g, parts := rowGrid("Guide", out, size, 8)
	var weights cuda.Ptr
	if !sameRows(w, 1) {
		weights = uploaded(s, w)
	}
	coef, part := s.Alloc(16*rows), s.Alloc(32*rows*parts)
	f := byDType(out.DType(), kernels.GuideMomentsF32, kernels.GuideMomentsF64, kernels.GuideMomentsF16, kernels.GuideMomentsBf16)
	f(s, g, part, xs[0].Ptr(), xs[1].Ptr(), weights, w[0], int64(size), int32(parts))
	kernels.GuideScale(s, cuda.Grid1(rows, vectorBlock/32, vectorBlock), coef, part, weights, w[0], rescale, int64(size), int32(parts), int32(rows))
	launchLinCombRows("Guide", out, coef, xs, size)
	s.Free(part)
	s.Free(coef)
	s.Free(weights)
}

// GuidanceInterval sets weights[i] to w where sigma[i] is in (lo, hi], and else to
// 1, which is no guidance: guidance hurts at high noise and does nothing at low
// (Kynkäänniemi et al. 2024). It panics unless lo < hi and the lengths agree.
func GuidanceInterval(weights, sigma []float64, w, lo, hi float64) {
	if len(weights) != len(sigma) || !(lo < hi) {
		panic(fmt.Sprintf("ops: GuidanceInterval: %d weights for %d noise levels in (%g, %g]; want as many, and an interval", len(weights), len(sigma), lo, hi))
	}
	for i, s := range sigma {
		weights[i] = 1
		if s > lo && s <= hi {
			weights[i] = w
		}
	}
}
