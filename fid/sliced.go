package fid

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
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
	const block = 50
	values, errs := make([]float64, mindDirections), make([]error, mindDirections/block)
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
	cpu.Each(mindDirections/block, func(w *cpu.Worker, b int) {
		if errs[b] = ctx.Err(); errs[b] != nil {
			return
		}
		u := make([]float32, block*d)
		for k := range block {
			row := u[k*d : (k+1)*d]
			rng.New(seed, mindStream+uint64(b*block+k)).FillNormal32(row)
			length := 0.0
			for _, v := range row {
				length += float64(v) * float64(v)
			}
			for j := range row {
				row[j] = float32(float64(row[j]) / math.Sqrt(length))
			}
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
			return nil, nil, err
		}
	}
	mean := sum(values) / mindDirections
	return SlicedValue{mean, deviation(values, mean) / math.Sqrt(mindDirections-1)}, notes, nil
}
