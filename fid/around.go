package fid

import (
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
)

// around is a set's vectors around a point o, for inner products of which float32 makes the most part:
//
//	x·y = (x-o)·(y-o) + x·o + y·o - o·o
//
// What follows the first term is float64. With the reference's mean as o the first is small; its roundings cancel in sums, those of vectors
// over the vectors, those of products over the pairs. Means of KID's kernel, of values about 1, are within about 1e-9 of those by float64
// products, which take twice the time.
type around struct {
	x      []float32 // [n, d]: x - o
	along  []float64 // x·o
	square float64   // o·o
	d      int
}

const (
	// aroundPairs is from how many pairs on they are taken.
	aroundPairs = 1 << 18
	// aroundTile is the edge of a tile of products; both are packed for each.
	aroundTile = 512
	// aroundLength bounds squared lengths, so that float32 products stay far from its greatest number.
	aroundLength = 1e30
)

// bothAround are both sets around the reference's mean. They are nil where products are to be float64: where n by m vectors are compared at a
// time, which are few, and where features are too large.
func bothAround(ref, gen *Stats, n, m int) (x, y *around) {
	if n*m < aroundPairs {
		return nil, nil
	}
	if x = newAround(ref, ref.Mu); x != nil {
		y = newAround(gen, ref.Mu)
	}
	if y == nil {
		return nil, nil
	}
	return x, y
}

// newAround is nil where vectors are too long.
func newAround(s *Stats, o []float64) *around {
	n, d := s.N, s.Dim()
	offset := s.centring()
	if offset == nil {
		offset = make([]float64, d)
	}
	a := &around{x: make([]float32, n*d), along: make([]float64, n), d: d}
	for _, v := range o {
		a.square += v * v
	}
	const chunk = 64
	chunks := (n + chunk - 1) / chunk
	long := make([]bool, chunks)
	cpu.Each(chunks, func(_ *cpu.Worker, c int) {
		for i := c * chunk; i < min(n, (c+1)*chunk); i++ {
			row, to := s.Features[i*d:(i+1)*d], a.x[i*d:(i+1)*d]
			along, square := 0.0, 0.0
			for j, at := range o {
				v := float64(row[j]) + offset[j]
				along += v * at
				v -= at
				to[j] = float32(v)
				square += v * v
			}
			a.along[i] = along
			long[c] = long[c] || !(square <= aroundLength)
		}
	})
	if slices.Contains(long, true) {
		return nil
	}
	return a
}

// take makes a the vectors idx of b.
func (a *around) take(b *around, idx []int) {
	if n := len(idx); len(a.along) != n || a.d != b.d {
		*a = around{x: make([]float32, n*b.d), along: make([]float64, n), d: b.d}
	}
	a.square = b.square
	for i, r := range idx {
		copy(a.x[i*a.d:(i+1)*a.d], b.x[r*a.d:(r+1)*a.d])
		a.along[i] = b.along[r]
	}
}

// low sets to, [m, n], to the float32 part of the products of vectors i to i+m of a and j to j+n of b.
func (a *around) low(w *cpu.Worker, to []float32, i, m int, b *around, j, n int) {
	cpu.Dots32(w, m, n, a.d, a.x[i*a.d:], b.x[j*a.d:], to)
}

// dots sets dot, [m, n], to the products of vectors i to i+m of a and j to j+n of b; low is memory for as many.
func (a *around) dots(w *cpu.Worker, dot []float64, low []float32, i, m int, b *around, j, n int) {
	a.low(w, low, i, m, b, j, n)
	for r := range m {
		rest := a.along[i+r] - a.square
		to, along := dot[r*n:(r+1)*n], b.along[j:j+n]
		for k, v := range low[r*n : (r+1)*n] {
			to[k] = float64(v) + (rest + along[k])
		}
	}
}

// cubes is the sum of KID's kernel over vector i of a and as many of b from j on as there are float32 parts.
func (a *around) cubes(low []float32, i int, b *around, j int) float64 {
	scale, rest := 1/float64(a.d), a.along[i]-a.square
	of := func(v float32, along float64) float64 {
		w := (float64(v)+(rest+along))*scale + 1
		return w * w * w
	}
	along := b.along[j : j+len(low)]
	var s [4]float64
	k := 0
	for ; k+4 <= len(low); k += 4 {
		s[0] += of(low[k], along[k])
		s[1] += of(low[k+1], along[k+1])
		s[2] += of(low[k+2], along[k+2])
		s[3] += of(low[k+3], along[k+3])
	}
	for ; k < len(low); k++ {
		s[0] += of(low[k], along[k])
	}
	return s[0] + s[1] + s[2] + s[3]
}
