package fid

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// pool is the rows of both sets, one after another, less one offset each.
type pool struct {
	d      int
	parts  []*Stats
	offset [][]float64
	n      int
}

// pooled are the vectors of both sets less the mean of the first, which keeps the digits of distances.
func pooled(ref, gen *Stats) *pool {
	v := &pool{d: ref.Dim(), parts: []*Stats{ref, gen}, n: ref.N + gen.N}
	for _, s := range v.parts {
		o := s.offset()
		for j := range o {
			o[j] -= ref.Mu[j]
		}
		v.offset = append(v.offset, o)
	}
	return v
}

// row writes row i to out.
func (v *pool) row(out []float64, i int) {
	p := 0
	if i >= v.parts[0].N {
		p, i = 1, i-v.parts[0].N
	}
	for j, x := range v.parts[p].Features[i*v.d:][:v.d] {
		out[j] = float64(x) + v.offset[p][j]
	}
}

// clustering is where k-means came to.
type clustering struct {
	k       int
	centres []float64 // [k,d]
	label   []int
	square  []float64 // of the distance of each row from its centre
}

// kmeansRounds bounds the iteration, which usually ends far earlier.
const kmeansRounds = 300

// kmeans is Lloyd's iteration (1982) until no row changes its cluster. A cluster that loses all rows takes the row that is farthest
// from its own centre. Sums run in the order of the rows: the same bits at any number of threads.
func kmeans(ctx context.Context, v *pool, start []float64) (*clustering, error) {
	c := &clustering{k: len(start) / v.d, centres: append([]float64(nil), start...), label: make([]int, v.n), square: make([]float64, v.n)}
	for i := range c.label {
		c.label[i] = -1
	}
	row := make([]float64, v.d)
	for range kmeansRounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !c.assign(v) {
			break
		}
		sum, count := make([]float64, len(c.centres)), make([]int, c.k)
		for _, l := range c.label {
			count[l]++
		}
		for l := range count {
			if count[l] > 0 {
				continue
			}
			far := 0
			for i, s := range c.square {
				if s > c.square[far] && count[c.label[i]] > 1 {
					far = i
				}
			}
			count[c.label[far]]--
			c.label[far], c.square[far], count[l] = l, 0, 1
		}
		for i, l := range c.label {
			v.row(row, i)
			for j, x := range row {
				sum[l*v.d+j] += x
			}
		}
		for l, n := range count {
			for j := range v.d {
				c.centres[l*v.d+j] = sum[l*v.d+j] / float64(n)
			}
		}
	}
	return c, nil
}

// assign gives every row to the nearest centre, the first of equals; it tells whether one changed.
func (c *clustering) assign(v *pool) (changed bool) {
	length := make([]float64, c.k)
	for l := range length {
		length[l] = product64(c.centres[l*v.d:][:v.d], c.centres[l*v.d:][:v.d])
	}
	const chunk = 128
	moved := make([]bool, (v.n+chunk-1)/chunk)
	cpu.Each(len(moved), func(w *cpu.Worker, t int) {
		from := t * chunk
		m := min(chunk, v.n-from)
		rows, products := make([]float64, m*v.d), make([]float64, m*c.k)
		for i := range m {
			v.row(rows[i*v.d:][:v.d], from+i)
		}
		cpu.Gemm64(w, false, true, m, c.k, v.d, 1, rows, v.d, c.centres, v.d, 0, products, c.k)
		for i := range m {
			best, least := 0, math.Inf(1)
			for l, p := range products[i*c.k:][:c.k] {
				if s := length[l] - 2*p; s < least {
					best, least = l, s
				}
			}
			x := rows[i*v.d:][:v.d]
			moved[t] = moved[t] || c.label[from+i] != best
			c.label[from+i], c.square[from+i] = best, max(0, least+product64(x, x))
		}
	})
	for _, m := range moved {
		changed = changed || m
	}
	return changed
}

func product64(a, b []float64) (sum float64) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

// plusplus are k rows to start from: each drawn with the square of its distance from those before as its weight, the best of a few
// draws (Arthur and Vassilvitskii 2007, with the greedy choice that they mention).
func plusplus(ctx context.Context, v *pool, k int, seed uint64) ([]float64, error) {
	g := rng.New(seed, 0)
	start := make([]float64, k*v.d)
	v.row(start[:v.d], int(g.Float64()*float64(v.n)))
	square := v.squares(start[:v.d])
	tries := 2 + int(math.Log(float64(k)))
	trial := make([]float64, v.d)
	for l := 1; l < k; l++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		total, least := 0.0, math.Inf(1)
		for _, s := range square {
			total += s
		}
		var next []float64
		for range tries {
			at, left := 0, g.Float64()*total
			for i, s := range square {
				if at = i; left < s {
					break
				}
				left -= s
			}
			v.row(trial, at)
			near, sum := v.squares(trial), 0.0
			for i, s := range near {
				near[i] = min(s, square[i])
				sum += near[i]
			}
			if sum < least {
				least, next = sum, near
				copy(start[l*v.d:], trial)
			}
		}
		square = next
	}
	return start, nil
}

// squares are the squared distances of all rows from a point.
func (v *pool) squares(from []float64) []float64 {
	out := make([]float64, v.n)
	const chunk = 128
	cpu.Each((v.n+chunk-1)/chunk, func(_ *cpu.Worker, t int) {
		row := make([]float64, v.d)
		for i := t * chunk; i < min((t+1)*chunk, v.n); i++ {
			v.row(row, i)
			for j, x := range row {
				out[i] += (x - from[j]) * (x - from[j])
			}
		}
	})
	return out
}
