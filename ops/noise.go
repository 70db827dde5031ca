package ops

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
	"github.com/fidlab/fidlab/rng"
)

// Noise names the normals of a batch: row b of a tensor [B, ...] gets normals
// From, From+1, … of stream Stream+b under Seed, as package rng numbers them.
type Noise struct{ Seed, Stream, From uint64 }

// ImageNoise is the noise of images first, first+1, … for a purpose, from each
// image's first normal on: the values of rng.ForImage(seed, image, p).
func ImageNoise(seed, first uint64, p rng.Purpose) Noise {
	if first >= 1<<48 {
		panic(fmt.Sprintf("ops: ImageNoise: image %d; want an index below 2^48", first))
	}
	return Noise{Seed: seed, Stream: uint64(p)<<48 | first}
}

// unitNormal is the coefficients of Normals.
var unitNormal = []float64{0, 1}

// Normals sets every row of out [B, ...] to its normals.
func Normals(out *gpu.Tensor, z Noise) {
	noise("Normals", out, nil, unitNormal, z)
}

// AddNoise sets out to a·x + s·n with normals n made on the way; no noise is
// stored. coeffs is (a, s), or one such pair for each row of out [B, ...]. out
// may be x. Normals are those of package rng, rounded to float32 unless out is
// float64; on a GPU the integers under them are the same and they agree within 6
// units of 2^-24 relative (float64: 1e-14), and the sum is made as LinComb makes
// it. It panics unless out and x have one shape, float dtype and device, and
// coeffs fits.
func AddNoise(out, x *gpu.Tensor, coeffs []float64, z Noise) {
	xs := [1]*gpu.Tensor{x}
	sameLen("AddNoise", out, xs[:])
	noise("AddNoise", out, x, coeffs, z)
}

func noise(op string, out, x *gpu.Tensor, coeffs []float64, z Noise) {
	mustBeFloat(op, out)
	if len(out.Shape()) == 0 {
		fail(op, "the output has no rows; want shape [B, ...]")
	}
	rows := out.Shape()[0]
	if len(coeffs) != 2 && len(coeffs) != 2*rows {
		fail(op, "%d coefficients for %d rows; want one pair, or one for each row", len(coeffs), rows)
	}
	if out.Len() == 0 {
		return
	}
	if out.Device().CUDA() {
		launchNoise(op, out, x, coeffs, z, out.Len()/rows)
		return
	}
	c := noiseCalls.Get().(*noiseCall)
	c.out, c.x, c.coeffs, c.z, c.size = out, x, coeffs, z, out.Len()/rows
	cpu.Each(rows, c.f)
	*c = noiseCall{f: c.f}
	noiseCalls.Put(c)
}

// noiseCall is a call on its way to the workers, reused.
type noiseCall struct {
	out, x *gpu.Tensor
	coeffs []float64
	z      Noise
	size   int
	f      func(w *cpu.Worker, b int)
}

var noiseCalls = sync.Pool{New: func() any {
	c := new(noiseCall)
	c.f = c.row
	return c
}}

func (c *noiseCall) row(_ *cpu.Worker, b int) {
	s := rng.New(c.z.Seed, c.z.Stream+uint64(b))
	s.SeekNormal(c.z.From)
	k := c.coeffs
	if len(k) > 2 {
		k = k[2*b:]
	}
	lo, hi := b*c.size, (b+1)*c.size
	switch c.out.DType() {
	case gpu.Float64:
		var x []float64
		if c.x != nil {
			x = c.x.F64()[lo:hi]
		}
		for i := range hi - lo {
			r := float64(k[1] * s.Normal())
			if x != nil {
				r = float64(k[0]*x[i]) + r
			}
			c.out.F64()[lo+i] = r
		}
	case gpu.Float32:
		var x []float32
		if c.x != nil {
			x = c.x.F32()[lo:hi]
		}
		for i := range hi - lo {
			r := float64(k[1] * float64(float32(s.Normal())))
			if x != nil {
				r = float64(k[0]*float64(x[i])) + r
			}
			c.out.F32()[lo+i] = float32(r)
		}
	default:
		widen, narrow := half(c.out.DType())
		for i := lo; i < hi; i++ {
			r := float64(k[1] * float64(float32(s.Normal())))
			if c.x != nil {
				r = float64(k[0]*float64(widen(c.x.U16()[i]))) + r
			}
			c.out.U16()[i] = narrow(float32(r))
		}
	}
}

func launchNoise(op string, out, x *gpu.Tensor, coeffs []float64, z Noise, size int) {
	s := out.Device().Stream()
	g, blocks := rowGrid(op, out, size, 1)
	var xp, c cuda.Ptr
	if x != nil {
		xp = x.Ptr()
	}
	if !sameRows(coeffs, 2) {
		c = uploaded(s, coeffs)
	}
	f := byDType(out.DType(), kernels.NoiseF32, kernels.NoiseF64, kernels.NoiseF16, kernels.NoiseBf16)
	f(s, g, out.Ptr(), xp, c, coeffs[0], coeffs[1], z.Seed, z.Stream, z.From, int64(size), int32(blocks))
	s.Free(c)
}
