package fid

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// mindDirections is how many directions MIND looks along.
const mindDirections = 1000

// Streams of the directions and of the subset, apart from all others.
const (
	mindStream       = 0x31d << 48
	mindSubsetStream = 0x31e << 48
)

// SlicedValue is the outcome of "mind".
type SlicedValue struct {
	Value  float64 `json:"value"`
	StdErr float64 `json:"std_err"` // over the directions
}

// Number is the distance.
func (v SlicedValue) Number() float64 { return v.Value }

// computeMIND is the sliced distance of torch-fidelity's MIND (arXiv
// 2605.06797): over 1000 directions u, uniform on the sphere,
//
//	3d·mean_u mean_j (sort(Xu)_j - sort(Yu)_j)²
//
// so that a shift by c alone gives 3|c|². Of the larger set a random part as
// large as the smaller takes part. The directions are ours, so a value differs
// from that tool's by their chance, which StdErr tells.
func computeMIND(ctx context.Context, c *comparison) (Value, []string, error) {
	if err := needFeatures("mind", c.ref, c.gen, 2); err != nil {
		return nil, nil, err
	}
	d, n := c.ref.Dim(), min(c.ref.N, c.gen.N)
	seed := c.opt.Interval.Seed
	var notes []string
	rows := func(s *Stats, stream uint64) []int {
		if s.N == n {
			return nil
		}
		notes = append(notes, fmt.Sprintf("mind: of %d vectors a random %d, as many as the other set has", s.N, n))
		return subset(rng.New(seed, mindSubsetStream+stream), s.N, n)
	}
	idx := [2][]int{rows(c.ref, 0), rows(c.gen, 1)}
	sets := [2]*Stats{c.ref, c.gen}
	// Directions in float32, around the reference's mean, which moves both sets alike.
	var x [2][]float32
	for i, s := range sets {
		p := newPoints(s, c.ref.Mu)
		if x[i] = p.x; idx[i] != nil {
			x[i] = make([]float32, n*d)
			for r, from := range idx[i] {
				copy(x[i][r*d:(r+1)*d], p.x[from*d:(from+1)*d])
			}
		}
	}
	values, err := mindValues(ctx, c.opt.onDevice(d), x, n, d, seed)
	if err != nil {
		return nil, nil, err
	}
	mean := sum(values) / mindDirections
	return SlicedValue{mean, deviation(values, mean) / math.Sqrt(mindDirections-1)}, notes, nil
}

// mindValues are 3d·mean_j (sort(Xu)_j - sort(Yu)_j)² for each direction u, of two sets of n vectors of d values.
func mindValues(ctx context.Context, dev *gpu.Device, x [2][]float32, n, d int, seed uint64) (values []float64, err error) {
	if dev != nil {
		err = forked(dev, func(dev *gpu.Device) (err error) {
			values, err = mindValuesOn(ctx, dev, x, n, d, seed)
			return err
		})
		return values, err
	}
	const block = 50
	values = make([]float64, mindDirections)
	errs := make([]error, mindDirections/block)
	cpu.Each(mindDirections/block, func(w *cpu.Worker, b int) {
		if errs[b] = ctx.Err(); errs[b] != nil {
			return
		}
		u := make([]float32, block*d)
		for k := range block {
			mindDirection(u[k*d:(k+1)*d], seed, b*block+k)
		}
		var on [2][]float32
		for i := range on {
			on[i] = make([]float32, block*n)
			cpu.Gemm32(w, false, true, block, n, d, 1, u, d, x[i], d, 0, on[i], n)
		}
		for k := range block {
			p, q := on[0][k*n:(k+1)*n], on[1][k*n:(k+1)*n]
			slices.Sort(p)
			slices.Sort(q)
			sum := 0.0
			for j, v := range p {
				t := float64(v) - float64(q[j])
				sum += t * t
			}
			values[b*block+k] = 3 * float64(d) * sum / float64(n)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// mindDirection fills row with direction k, of length 1.
func mindDirection(row []float32, seed uint64, k int) {
	rng.New(seed, mindStream+uint64(k)).FillNormal32(row)
	length := 0.0
	for _, v := range row {
		length += float64(v) * float64(v)
	}
	for j := range row {
		row[j] = float32(float64(row[j]) / math.Sqrt(length))
	}
}

// mindValuesOn is mindValues on a GPU. Projections are float32 there as here, summed in another order, so each differs by less than d·2^-23 of the
// vector's length, and so does each of them once they are sorted, of the longest; the root of a value, or of their mean, by less than 2·√(3d) times that.
func mindValuesOn(ctx context.Context, dev *gpu.Device, x [2][]float32, n, d int, seed uint64) ([]float64, error) {
	const block = 250 // directions at once, whose projections are in memory
	u := make([]float32, mindDirections*d)
	cpu.Each(mindDirections, func(_ *cpu.Worker, k int) { mindDirection(u[k*d:(k+1)*d], seed, k) })
	directions, far := dev.From(u, mindDirections, d), dev.Empty64(mindDirections)
	defer directions.Free()
	defer far.Free()
	var sets, on [2]*gpu.Tensor
	for i := range sets {
		sets[i], on[i] = dev.From(x[i], n, d), dev.Empty(block, n)
		defer sets[i].Free()
		defer on[i].Free()
	}
	for b := 0; b < mindDirections; b += block {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for i := range sets {
			ops.MatMul(on[i], directions.Rows(b, b+block), sets[i], ops.MatMulConfig{TransB: true})
			ops.SortRows(on[i])
		}
		ops.RowDistances(far.Rows(b, b+block), on[0], on[1])
	}
	values := make([]float64, mindDirections)
	if err := far.Read64(values); err != nil {
		return nil, err
	}
	for k := range values {
		values[k] *= 3 * float64(d) / float64(n)
	}
	return values, nil
}
