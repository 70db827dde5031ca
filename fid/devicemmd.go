package fid

import (
	"context"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
)

// Discrepancies on a GPU are in float64, as on the CPU: the difference of means that are nearly equal keeps the digits that float32 would not
// have. Products are summed in another order, so a kernel's value differs from the CPU's by rounding, less than (d + 20)·2^-52 of what it would be
// of the absolute values; a mean by no more.

// on is v's vectors on a device, [n, d].
func (v *vectors) on(dev *gpu.Device) *gpu.Tensor {
	const chunk = 64
	rows := make([]float64, v.n*v.d)
	cpu.Each((v.n+chunk-1)/chunk, func(_ *cpu.Worker, c int) {
		i := c * chunk
		v.load(rows[i*v.d:], i, min(chunk, v.n-i))
	})
	return dev.From64(rows, v.n, v.d)
}

// similaritiesOn is allSimilarities on a GPU.
func similaritiesOn(ctx context.Context, dev *gpu.Device, k kernel, x, y *vectors) (xx, yy, xy similar, err error) {
	a, b := x.on(dev), y.on(dev)
	defer a.Free()
	defer b.Free()
	sums := func(a, b *gpu.Tensor, same bool) []float64 {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil
		}
		n := a.Shape()[0]
		out, v := dev.Empty64(n), make([]float64, n)
		defer out.Free()
		ops.PairSums(out, a, b, k.on(float64(x.d)), same)
		err = out.Read64(v)
		return v
	}
	diagonal := func(v *vectors) []float64 {
		out := make([]float64, v.n)
		for i, s := range v.square {
			out[i] = k.of(s, s, s, float64(v.d))
		}
		return out
	}
	xx = similar{rows: sums(a, a, true), diagonal: diagonal(x)}
	yy = similar{rows: sums(b, b, true), diagonal: diagonal(y)}
	xy = similar{rows: sums(a, b, false), cols: sums(b, a, false)}
	return xx, yy, xy, err
}

// kidValuesOn are the squared MMDs of n pairs of subsets of m, whose rows draw tells, on a GPU: the sets are there, and each subset is gathered.
func kidValuesOn(ctx context.Context, dev *gpu.Device, ref, gen *Stats, n, m int, draw func(i int) (x, y []int)) ([]float64, error) {
	d := ref.Dim()
	var sets, subsets [2]*gpu.Tensor
	for i, s := range [...]*Stats{ref, gen} {
		sets[i], subsets[i] = dev.From64(widened(s, s.offset()), s.N, d), dev.Empty64(m, d)
		defer sets[i].Free()
		defer subsets[i].Free()
	}
	sums, k := dev.Empty64(3*n, m), cubic.on(float64(d))
	defer sums.Free()
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var rows [2][]int
		rows[0], rows[1] = draw(i)
		for side, r := range rows {
			ids := gpu.CPU().New(gpu.Int32, m)
			for j, row := range r {
				ids.I32()[j] = int32(row)
			}
			ops.Gather(subsets[side], sets[side], ids)
		}
		x, y := subsets[0], subsets[1]
		ops.PairSums(sums.Rows(3*i, 3*i+1), x, x, k, true)
		ops.PairSums(sums.Rows(3*i+1, 3*i+2), y, y, k, true)
		ops.PairSums(sums.Rows(3*i+2, 3*i+3), x, y, k, false)
	}
	all := make([]float64, 3*n*m)
	if err := sums.Read64(all); err != nil {
		return nil, err
	}
	values, size := make([]float64, n), float64(m)
	for i := range values {
		of := all[3*i*m:]
		values[i] = (sum(of[:m])+sum(of[m:2*m]))/(size*(size-1)) - 2*sum(of[2*m:3*m])/(size*size)
	}
	return values, nil
}
