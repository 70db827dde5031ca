package fid

import (
	"errors"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// FrechetOn is Frechet with the heaviest step on dev where that is a GPU, nil for the CPU: the nuclear norm of covariances that are both of full
// rank, not nearly singular and wider than 256, which ops.Frechet takes by the Newton–Schulz iteration of a polar factor in float64. All else, and
// what that refuses, is computed on the CPU as ever, so that singular covariances keep their digits; ranks, traces and notes are the CPU's in
// either case, and Route says which way it was. The distance differs from the CPU's by a small multiple of d·2^-52 of the traces.
func FrechetOn(dev *gpu.Device, a, b *Stats) (Distance, error) {
	o := Options{Device: dev}
	if dev = o.onDevice(a.Dim()); dev == nil {
		return Frechet(a, b)
	}
	return frechetBy(nil, a, b, nil, exactDim, &frechetDevice{dev})
}

// frechetDevice takes nuclear norms on a GPU.
type frechetDevice struct{ dev *gpu.Device }

// norm is tr (Σ₁Σ₂)^½ of sets with factors f and g, and whether the GPU could tell.
func (o *frechetDevice) norm(a, b *Stats, f, g *factor) (norm float64, ok bool, err error) {
	if g.kind != "cholesky" || max(f.spread, g.spread) > nearlySingular {
		return 0, false, nil
	}
	d := a.Dim()
	term := make([]float64, 1)
	err = forked(o.dev, func(dev *gpu.Device) error {
		zero, dist := dev.From64(make([]float64, d), 1, d), dev.Empty64(1)
		x, y := dev.From64(a.Covariance(), 1, d, d), dev.From64(b.Covariance(), 1, d, d)
		for _, t := range []*gpu.Tensor{zero, dist, x, y} {
			defer t.Free()
		}
		if err := ops.Frechet(dist, zero, x, zero, y); err != nil {
			return err
		}
		return dist.Read64(term)
	})
	var refused *ops.MatrixError
	if errors.As(err, &refused) {
		return 0, false, nil // the CPU knows more ways
	}
	return (a.trace(f) + b.trace(g) - term[0]) / 2, err == nil, err
}
