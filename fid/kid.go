package fid

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// The published protocol of KID.
const (
	kidSubsets    = 100
	kidSubsetSize = 1000
)

// kidStream keeps the draws of the subsets apart from all other streams.
const kidStream = 0x61d << 48

// computeKID is the kernel inception distance (Bińkowski et al. 2018): the mean
// over 100 pairs of random subsets of 1000 of the unbiased squared MMD under
// the kernel (x·y/d + 1)³. Smaller sets are taken whole or to the size of the
// smaller one.
func computeKID(ctx context.Context, c *comparison) (Value, []string, error) {
	ref, gen, opt := c.ref, c.gen, c.opt
	if err := needFeatures("kid", ref, gen, 2); err != nil {
		return nil, nil, err
	}
	m := min(kidSubsetSize, ref.N, gen.N)
	var notes []string
	if m < kidSubsetSize {
		notes = append(notes, fmt.Sprintf("kid: subsets of %d, since a set has no more; the published protocol takes %d", m, kidSubsetSize))
	}
	values, err := kidValues(ctx, ref, gen, &opt, m)
	if err != nil {
		return nil, nil, err
	}
	var v KIDValue
	for _, x := range values {
		v.Value += x / kidSubsets
	}
	v.Std = deviation(values, v.Value)
	if v.Value-v.Value != 0 {
		return nil, nil, numeric("kid is %g: the features are too large for float64", v.Value)
	}
	return v, notes, nil
}

// kidSubset are the rows of both sets that make pair i of subsets of m.
func kidSubset(opt *Options, ref, gen *Stats, m, i int) (x, y []int) {
	x = subset(rng.New(opt.Interval.Seed, kidStream+uint64(2*i)), ref.N, m)
	y = subset(rng.New(opt.Interval.Seed, kidStream+uint64(2*i+1)), gen.N, m)
	return x, y
}

// kidValues are the squared MMDs of the pairs of subsets.
func kidValues(ctx context.Context, ref, gen *Stats, opt *Options, m int) (values []float64, err error) {
	draw := func(i int) (x, y []int) { return kidSubset(opt, ref, gen, m, i) }
	if dev := opt.onDevice(ref.Dim()); dev != nil {
		err = forked(dev, func(dev *gpu.Device) (err error) {
			values, err = kidValuesOn(ctx, dev, ref, gen, kidSubsets, m, draw)
			return err
		})
		return values, err
	}
	values = make([]float64, kidSubsets)
	errs := make([]error, kidSubsets)
	offsets := [2][]float64{ref.offset(), gen.offset()}
	a, b := bothAround(ref, gen, m, m)
	bufs := make([]aroundScratch, cpu.Workers())
	cpu.Each(kidSubsets, func(w *cpu.Worker, i int) {
		if errs[i] = ctx.Err(); errs[i] != nil {
			return
		}
		if x, y := draw(i); a != nil {
			values[i] = bufs[w.ID].mmd(w, a, b, x, y)
		} else {
			values[i] = mmd(w, ref, gen, offsets, x, y)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// deviation is the population standard deviation.
func deviation(values []float64, mean float64) float64 {
	sum := 0.0
	for _, x := range values {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum / float64(len(values)))
}

// subset draws m of n without replacement: the head of a Fisher–Yates shuffle.
func subset(r *rng.Stream, n, m int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := range m {
		j := i + r.Intn(n-i)
		p[i], p[j] = p[j], p[i]
	}
	return p[:m]
}

// mmd is the unbiased squared MMD between rows x of a and y of b, as many of each.
func mmd(w *cpu.Worker, a, b *Stats, offsets [2][]float64, x, y []int) float64 {
	m, d := len(x), a.Dim()
	xt, yt := columns(a, offsets[0], x), columns(b, offsets[1], y)
	k := make([]float64, m*m)
	kernel := func(v float64) float64 { v = v/float64(d) + 1; return v * v * v }
	same, cross := 0.0, 0.0
	for _, set := range [][]float64{xt, yt} {
		cpu.SyrkT64(w, m, d, 1, set, m, 0, k, m)
		for i := range m {
			for _, v := range k[i*m : i*m+i] { // the other triangle is the same
				same += 2 * kernel(v)
			}
		}
	}
	cpu.Gemm64(w, true, false, m, m, d, 1, xt, m, yt, m, 0, k, m)
	for _, v := range k {
		cross += kernel(v)
	}
	n := float64(m)
	return same/(n*(n-1)) - 2*cross/(n*n)
}

// aroundScratch is a worker's memory for mmd.
type aroundScratch struct {
	x, y around
	low  []float32
}

// mmd is the function of this name, of float32 products.
func (s *aroundScratch) mmd(w *cpu.Worker, a, b *around, x, y []int) float64 {
	s.x.take(a, x)
	s.y.take(b, y)
	if s.low == nil {
		s.low = make([]float32, aroundTile*aroundTile)
	}
	m := len(x)
	n, same := float64(m), s.same(w, &s.x, 0, m)+s.same(w, &s.y, 0, m)
	return same/(n*(n-1)) - 2*s.cross(w, &s.x, 0, m, &s.y, 0, m)/(n*n)
}

// same is the sum of KID's kernel over all pairs of different vectors among n of a from i on. Halves of the set are compared with each other, as
// products of large matrices are the faster ones, then each with itself.
func (s *aroundScratch) same(w *cpu.Worker, a *around, i, n int) float64 {
	if n > mmdTile {
		half := n / 2
		return s.same(w, a, i, half) + s.same(w, a, i+half, n-half) + 2*s.cross(w, a, i, half, a, i+half, n-half)
	}
	sum := s.cross(w, a, i, n, a, i, n)
	for r := range n { // of what cross has left in low
		sum -= a.cubes(s.low[r*n+r:][:1], i+r, a, i+r)
	}
	return sum
}

// cross is that sum over all pairs of vectors i to i+m of a and j to j+n of b.
func (s *aroundScratch) cross(w *cpu.Worker, a *around, i, m int, b *around, j, n int) float64 {
	total := 0.0
	for p := 0; p < m; p += aroundTile {
		rows := min(aroundTile, m-p)
		for q := 0; q < n; q += aroundTile {
			columns := min(aroundTile, n-q)
			a.low(w, s.low, i+p, rows, b, j+q, columns)
			for r := range rows {
				total += a.cubes(s.low[r*columns:(r+1)*columns], i+p+r, b, j+q)
			}
		}
	}
	return total
}

// columns is the rows idx of s in float64, transposed: [d, len(idx)].
func columns(s *Stats, offset []float64, idx []int) []float64 {
	m, d := len(idx), s.Dim()
	out := make([]float64, d*m)
	for i, r := range idx {
		for j, v := range s.Features[r*d:][:d] {
			out[j*m+i] = float64(v) + offset[j]
		}
	}
	return out
}
