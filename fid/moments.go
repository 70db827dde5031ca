package fid

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// blockRows is where the stream of rows is cut. Blocks start at multiples of it
// whatever the sizes of the Add calls, so that sums always run in one order.
const blockRows = 1024

// smallDim is the width below which plain loops beat a library call.
const smallDim = 32

// Moments accumulates the mean and the covariance of feature vectors in
// float64. Rows are taken in order, in blocks of 1024 that are centred on their
// own mean before their products are summed (Chan, Golub and LeVeque 1979), so
// that a mean far from zero costs no digits. The result is the same to the last
// bit however the rows were grouped into Add calls and whatever the number of
// threads. A Moments is not safe for concurrent use.
type Moments struct {
	d, n    int
	mean    []float64 // of the n rows folded in
	scatter []float64 // Σ (x-mean)(x-mean)ᵀ over them, [d,d]; nil where only the mean is wanted
	block   []float64 // [blockRows+1, d]: rows not yet folded in, and one more to work with
	pending int
}

// NewMoments is an empty accumulator of vectors of d features; d > 0.
func NewMoments(d int) *Moments {
	if d <= 0 {
		panic(fmt.Sprintf("fid: NewMoments: d is %d, want > 0", d))
	}
	return &Moments{d: d, mean: make([]float64, d), scatter: make([]float64, d*d), block: make([]float64, (blockRows+1)*d)}
}

// maxDim is the widest covariance that is made: 2 GiB of float64.
const maxDim = 1 << 14

// checkDim refuses widths whose covariance would not fit in memory.
func checkDim(who string, d int) error {
	if d > maxDim {
		return badInput("%s: %d features; their covariance would take %.0f GiB, and at most %d features are accepted; use smaller images or another extractor",
			who, d, float64(d)*float64(d)*8/(1<<30), maxDim)
	}
	return nil
}

// newMeans is NewMoments without the covariance: the same mean to the last bit.
func newMeans(d int) *Moments {
	m := NewMoments(1)
	m.d, m.mean, m.scatter, m.block = d, make([]float64, d), nil, make([]float64, (blockRows+1)*d)
	return m
}

// N is the number of rows added.
func (m *Moments) N() int { return m.n + m.pending }

// Dim is the number of features of a row.
func (m *Moments) Dim() int { return m.d }

// Add takes rows of d features each, one after another. A value that is not
// finite is a NumericError that names its row and column; the rows before it
// are then already taken. It panics when len(rows) is no multiple of d.
func (m *Moments) Add(rows []float32) error { return addRows(nil, m, rows) }

// Add64 is Add for float64.
func (m *Moments) Add64(rows []float64) error { return addRows(nil, m, rows) }

func addRows[T float32 | float64](w *cpu.Worker, m *Moments, rows []T) error {
	if len(rows)%m.d != 0 {
		panic(fmt.Sprintf("fid: Moments.Add: %d values are no whole rows of %d", len(rows), m.d))
	}
	for ; len(rows) > 0; rows = rows[m.d:] {
		dst := m.block[m.pending*m.d:][:m.d]
		for j, x := range rows[:m.d] {
			v := float64(x)
			if v-v != 0 {
				return numeric("feature %d of row %d is %g; every feature must be finite", j, m.N(), v)
			}
			dst[j] = v
		}
		if m.pending++; m.pending == blockRows {
			m.fold(w)
		}
	}
	return nil
}

// fold moves the pending rows into mean and scatter.
func (m *Moments) fold(w *cpu.Worker) {
	k, d := m.pending, m.d
	if k == 0 {
		return
	}
	rows, extra := m.block[:k*d], m.block[k*d:][:d]
	// The mean is taken relative to the first row: exact when all rows are equal.
	clear(extra)
	for i := 1; i < k; i++ {
		for j, x := range rows[i*d:][:d] {
			extra[j] += x - rows[j]
		}
	}
	for j := range extra {
		extra[j] = rows[j] + extra[j]/float64(k)
	}
	for i := range k {
		row := rows[i*d:][:d]
		for j, c := range extra {
			row[j] -= c
		}
	}
	m.absorb(w, k, extra)
}

// absorb adds k centred rows at the front of block, whose mean is in the row
// after them. That row becomes the term δδᵀ·n·k/(n+k) between the two means.
func (m *Moments) absorb(w *cpu.Worker, k int, mean []float64) {
	total := float64(m.n + k)
	scale, step := math.Sqrt(float64(m.n)*float64(k)/total), float64(k)/total
	for j, c := range mean {
		delta := c - m.mean[j]
		mean[j] = scale * delta
		m.mean[j] += step * delta
	}
	if m.n == 0 {
		clear(mean)
	}
	m.n += k
	m.pending = 0
	if m.scatter != nil {
		addScatter(w, m.d, m.block[:(k+1)*m.d], m.scatter)
	}
}

// addScatter adds AᵀA of the rows of A to the symmetric c.
func addScatter(w *cpu.Worker, d int, rows, c []float64) {
	if d >= smallDim {
		cpu.SyrkT64(w, d, len(rows)/d, 1, rows, d, 1, c, d)
		return
	}
	for ; len(rows) > 0; rows = rows[d:] {
		for i, x := range rows[:d] {
			for j, y := range rows[:i+1] {
				c[i*d+j] += x * y
			}
		}
	}
	for i := range d {
		for j := range i {
			c[j*d+i] = c[i*d+j]
		}
	}
}

// Merge adds what o has taken; o is unchanged. Any order and grouping of merges
// gives the same moments up to rounding (1e-12 of √(Σᵢᵢ·Σⱼⱼ)). It panics when
// the widths differ.
func (m *Moments) Merge(o *Moments) {
	if m.d != o.d {
		panic(fmt.Sprintf("fid: Moments.Merge: widths %d and %d differ", m.d, o.d))
	}
	m.fold(nil)
	if o.pending > 0 {
		o = o.clone()
		o.fold(nil)
	}
	m.mergeMoments(o.n, o.mean, o.scatter)
}

// mergeMoments adds n rows of the given mean and scatter.
func (m *Moments) mergeMoments(n int, mean, scatter []float64) {
	if n == 0 {
		return
	}
	if m.n == 0 {
		m.n = n
		copy(m.mean, mean)
		copy(m.scatter, scatter)
		return
	}
	total := float64(m.n + n)
	weight, step := float64(m.n)*float64(n)/total, float64(n)/total
	delta := m.block[:m.d]
	for j, c := range mean {
		delta[j] = c - m.mean[j]
		m.mean[j] += step * delta[j]
	}
	for i, di := range delta {
		row, other := m.scatter[i*m.d:][:m.d], scatter[i*m.d:][:m.d]
		for j, dj := range delta {
			row[j] += other[j] + weight*(di*dj)
		}
	}
	m.n += n
}

func (m *Moments) clone() *Moments {
	c := *m
	c.mean = append([]float64(nil), m.mean...)
	c.scatter = append([]float64(nil), m.scatter...)
	c.block = append([]float64(nil), m.block...)
	return &c
}

// Stats is the mean and the covariance (ddof 1) of the rows so far; m can go on
// taking rows. With fewer than two rows the covariance is zero.
func (m *Moments) Stats() *Stats { return m.stats(nil) }

func (m *Moments) stats(w *cpu.Worker) *Stats {
	if m.pending > 0 { // m's own blocks stay on their grid
		m = m.clone()
		m.fold(w)
	}
	s := &Stats{N: m.n, Mu: append([]float64(nil), m.mean...)}
	if m.scatter == nil {
		return s
	}
	s.Sigma = make([]float64, len(m.scatter))
	if m.n > 1 {
		f := float64(m.n - 1)
		for i, x := range m.scatter {
			s.Sigma[i] = x / f
		}
	}
	return s
}
