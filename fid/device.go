package fid

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// onDevice is the device of the options where it is a GPU that takes sets of d features, else nil.
func (o *Options) onDevice(d int) *gpu.Device {
	if o.Device == nil || !o.Device.CUDA() || d > ops.PairWidth {
		return nil
	}
	return o.Device
}

// forked runs f on a stream of dev's own and reports what failed there.
func forked(dev *gpu.Device, f func(dev *gpu.Device) error) error {
	own, err := dev.Fork()
	if err != nil {
		return fmt.Errorf("fid: %v: %w", dev, err)
	}
	err = f(own)
	if e := own.Close(); e != nil && err == nil {
		err = e
	}
	var refused *NumericError
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("fid: %v: %w", dev, err)
}

// deviceNeighbours finds neighbours on a GPU, exactly as points do.
type deviceNeighbours struct {
	sets [2]*gpu.Tensor // [n, d] each; float32 where features are the vectors themselves, else float64
}

// newDeviceNeighbours puts both sets on dev, in numbers that points.exact subtracts.
func newDeviceNeighbours(dev *gpu.Device, ref, gen *Stats) *deviceNeighbours {
	var out deviceNeighbours
	offsets := [2][]float64{ref.centring(), gen.centring()}
	for i, s := range [...]*Stats{ref, gen} {
		if offsets[0] == nil && offsets[1] == nil {
			out.sets[i] = dev.From(s.Features, s.N, s.Dim())
			continue
		}
		out.sets[i] = dev.From64(widened(s, offsets[i]), s.N, s.Dim())
	}
	return &out
}

func (t *deviceNeighbours) free() {
	for _, s := range t.sets {
		s.Free()
	}
}

// widened is the vectors of s in float64; offset is what its features lack, or nil.
func widened(s *Stats, offset []float64) []float64 {
	out, d := make([]float64, len(s.Features)), s.Dim()
	each(nil, s.N, func(i int) {
		for j, v := range s.Features[i*d : (i+1)*d] {
			out[i*d+j] = float64(v)
			if offset != nil {
				out[i*d+j] += offset[j]
			}
		}
	})
	return out
}

func (t *deviceNeighbours) radii(ctx context.Context, side, k int) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	far, _, err := nearestRows(t.sets[side], t.sets[side], k, true)
	return far, err
}

// nearestRows is ops.NearestK, read back.
func nearestRows(x, y *gpu.Tensor, k int, apart bool) (far []float64, at []int32, err error) {
	dev, n := x.Device(), x.Shape()[0]
	dist, idx := dev.Empty64(n, k), dev.New(gpu.Int32, n, k)
	defer dist.Free()
	defer idx.Free()
	ops.NearestK(dist, idx, x, y, k, apart)
	far = make([]float64, n*k)
	if err := dist.Read64(far); err != nil {
		return nil, nil, err
	}
	at = idx.To(gpu.CPU()).I32()
	return far, at, dev.Err()
}

func (t *deviceNeighbours) meet(ctx context.Context, around, reverse []ball, nearest bool) (m meeting, err error) {
	p, q := t.sets[0], t.sets[1]
	if m.of, err = countBalls(ctx, p, q, around); err != nil {
		return m, err
	}
	if m.rev, err = countBalls(ctx, q, p, reverse); err != nil {
		return m, err
	}
	if !nearest || ctx.Err() != nil {
		return m, ctx.Err()
	}
	far, at, err := nearestRows(q, p, 1, false)
	if err != nil {
		return m, err
	}
	m.dist, m.nearest = far, make([]int, len(at))
	for j, i := range at {
		m.nearest[j] = int(i)
	}
	return m, nil
}

// countBalls is what the balls around the vectors of x have to do with those of y.
func countBalls(ctx context.Context, x, y *gpu.Tensor, balls []ball) ([]inside, error) {
	if len(balls) == 0 || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	dev, n, m := x.Device(), x.Shape()[0], y.Shape()[0]
	var radius []float64
	var strict []bool
	for _, b := range balls {
		radius, strict = append(radius, b.radius...), append(strict, b.strict)
	}
	reach, counts, held := dev.From64(radius, len(balls), n), dev.New(gpu.Int32, len(balls), m), dev.New(gpu.Int32, len(balls), n)
	defer reach.Free()
	defer counts.Free()
	defer held.Free()
	ops.BallCounts(counts, held, x, y, reach, strict)
	in, any := counts.To(gpu.CPU()).I32(), held.To(gpu.CPU()).I32()
	if err := dev.Err(); err != nil {
		return nil, err
	}
	out := make([]inside, len(balls))
	for r := range out {
		out[r] = inside{balls: slices.Clone(in[r*m : (r+1)*m]), any: make([]bool, n)}
		for i := range n {
			out[r].any[i] = any[r*n+i] != 0
		}
	}
	return out, nil
}
