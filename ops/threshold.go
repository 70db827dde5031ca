package ops

import (
	"math"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// DynamicThreshold limits each sample of x [B, ...] to its own range and scales
// that to [-1, 1] (Saharia et al. 2022, section 2.3): with q the p-quantile of the
// sample's |x|, interpolated between its two neighbours as torch.quantile does,
// and s = min(max(q, lo), hi),
//
//	out = min(max(x, -s), s)/s
//
// The paper has lo = 1; hi = +Inf is no limit. out may be x. The quantile is
// exact, and the bits are the same on every device. NaN counts as larger than
// infinity and stays NaN. It panics unless out and x are float32 of one shape on
// one device, p is in [0, 1] and 0 < lo <= hi.
func DynamicThreshold(out, x *gpu.Tensor, p, lo, hi float64) {
	const op = "DynamicThreshold"
	xs := [1]*gpu.Tensor{x}
	sameLen(op, out, xs[:])
	if out.DType() != gpu.Float32 || len(out.Shape()) == 0 {
		fail(op, "the output is %v %v; want float32 [B, ...]", out.DType(), out.Shape())
	}
	if !(p >= 0 && p <= 1 && lo > 0 && lo <= hi) {
		fail(op, "quantile %g and limits %g and %g; want 0 to 1, and 0 < lo <= hi", p, lo, hi)
	}
	if out.Len() == 0 {
		return
	}
	rows := out.Shape()[0]
	size := out.Len() / rows
	position := p * float64(size-1)
	rank := int(position)
	fraction := position - float64(rank)
	if out.Device().CUDA() {
		launchThreshold(out, x, rank, fraction, float32(lo), float32(hi), rows, size)
		return
	}
	cpu.Each(rows, func(_ *cpu.Worker, b int) {
		bits, _ := quantileScratch.Get().(*[]uint32)
		if bits == nil || cap(*bits) < size {
			bits = new([]uint32)
			*bits = make([]uint32, size)
		}
		v := x.F32()[b*size : (b+1)*size]
		m := (*bits)[:size]
		for i, f := range v {
			m[i] = math.Float32bits(f) &^ (1 << 31)
		}
		s := threshold(m, rank, fraction, float32(lo), float32(hi))
		for i, f := range v {
			if f < -s {
				f = -s
			} else if f > s {
				f = s
			}
			out.F32()[b*size+i] = f / s
		}
		quantileScratch.Put(bits)
	})
}

var quantileScratch sync.Pool // of *[]uint32

// threshold is s from the bits of the absolute values, whose order it changes.
func threshold(m []uint32, rank int, fraction float64, lo, hi float32) float32 {
	selectRank(m, rank)
	q := math.Float32frombits(m[rank])
	if fraction > 0 {
		next := uint32(math.MaxUint32)
		for _, v := range m[rank+1:] {
			next = min(next, v)
		}
		v := float64(q)
		q = float32(v + float64(fraction*(float64(math.Float32frombits(next))-v)))
	}
	if q < lo {
		return lo
	}
	if q > hi {
		return hi
	}
	return q
}

// selectRank puts the element of that rank in its place, none larger before it and
// none smaller behind it (Hoare's quickselect, pivot the median of three).
func selectRank(m []uint32, rank int) {
	lo, hi := 0, len(m)-1
	for lo < hi {
		a, b, c := m[lo], m[lo+(hi-lo)/2], m[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for m[i] < pivot {
				i++
			}
			for m[j] > pivot {
				j--
			}
			if i <= j {
				m[i], m[j] = m[j], m[i]
				i++
				j--
			}
		}
		switch {
		case rank <= j:
			hi = j
		case rank >= i:
			lo = i
		default:
			return
		}
	}
}

func launchThreshold(out, x *gpu.Tensor, rank int, fraction float64, lo, hi float32, rows, size int) {
	const perBlock, counts = 4096, 4096
	blocks := ceil(size, perBlock)
	if size > math.MaxInt32 || rows*blocks > math.MaxInt32 {
		fail("DynamicThreshold", "shape %v; a GPU takes samples of at most 2^31-1 values, in as many blocks", out.Shape())
	}
	s := out.Device().Stream()
	n, above := s.Alloc(4*counts*rows), s.Alloc(4*rows)
	s.Memset(n, 0, 4*counts*rows)
	s.Memset(above, 0xff, 4*rows)
	g := cuda.Grid{X: rows * blocks, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	for level := range int32(3) {
		kernels.ThresholdCountF32(s, g, n, above, x.Ptr(), level, uint32(rank), int64(size), int32(blocks))
	}
	kernels.ThresholdApplyF32(s, g, out.Ptr(), x.Ptr(), n, above, uint32(rank), fraction, lo, hi, int64(size), int32(blocks))
	s.Free(above)
	s.Free(n)
}
