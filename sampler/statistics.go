package sampler

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/tensor"
)

// ModelStatistics are the empirical model statistics of DPM-Solver-v3 (Zheng et
// al. 2023, arXiv 2310.13268) at some λ = ln(A/B), linear between
// them: the rates of the parts of the equation that need no evaluations. Rows
// have one number for all values of an image, or one for each.
type ModelStatistics struct {
	Lambda  []float64   // [n] rising, n ≥ 2
	L, S, B [][]float64 // [n][1] or [n][values]
}

// plainStatistics make the method DPM-Solver++.
var plainStatistics = &ModelStatistics{
	Lambda: []float64{-1, 1}, L: [][]float64{{1}, {1}}, S: [][]float64{{0}, {0}}, B: [][]float64{{0}, {0}},
}

// width is how many numbers a row has.
func (m *ModelStatistics) width() int { return len(m.L[0]) }

// Check refuses tables that do not fit together, and numbers that are not finite.
func (m *ModelStatistics) Check() error {
	n := len(m.Lambda)
	if n < 2 || len(m.L) != n || len(m.S) != n || len(m.B) != n {
		return fmt.Errorf("sampler: model statistics: %d levels with %d, %d and %d rows; wanted two levels at least and a row of l, s and b each", n, len(m.L), len(m.S), len(m.B))
	}
	for i, v := range m.Lambda {
		if math.IsNaN(v) || math.IsInf(v, 0) || i > 0 && !(v > m.Lambda[i-1]) {
			return fmt.Errorf("sampler: model statistics: level %d is lambda %g; wanted finite, rising levels", i, v)
		}
		for name, row := range map[string][]float64{"l": m.L[i], "s": m.S[i], "b": m.B[i]} {
			if len(row) == 0 || len(row) != m.width() {
				return fmt.Errorf("sampler: model statistics: row %d of %s has %d numbers; wanted %d, and 1 at least", i, name, len(row), m.width())
			}
			for j, v := range row {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return fmt.Errorf("sampler: model statistics: %s is %g at level %d, value %d; wanted finite numbers", name, v, i, j)
				}
			}
		}
	}
	return nil
}

// covers refuses grids with noisy levels beyond the table's.
func (m *ModelStatistics) covers(g *diffusion.Grid) error {
	lo, hi := m.Lambda[0], m.Lambda[len(m.Lambda)-1]
	slack := 1e-6 * (hi - lo)
	for i, sigma := range g.Sigmas() {
		if l := -math.Log(sigma); sigma > 0 && !(l >= lo-slack && l <= hi+slack) {
			return fmt.Errorf("sampler: grid %s: level %d is sigma %.6g; the model statistics are of sigma %.6g to %.6g: take a grid within them, or statistics of this range",
				g.Name, i, sigma, math.Exp(-lo), math.Exp(-hi))
		}
	}
	return nil
}

// cell is the index of the level that lambda follows, and how far it is to the next.
func (m *ModelStatistics) cell(lambda float64) (i int, u float64) {
	i = sort.SearchFloat64s(m.Lambda, lambda)
	i = min(max(i-1, 0), len(m.Lambda)-2)
	u = (lambda - m.Lambda[i]) / (m.Lambda[i+1] - m.Lambda[i])
	return i, min(max(u, 0), 1)
}

// rate is a table's number j at a place.
func rate(table [][]float64, i int, u float64, j int) float64 {
	return table[i][j] + u*(table[i+1][j]-table[i][j])
}

// Save writes the statistics to a .safetensors file of float64 tensors: lambda
// [n], l, s and b [n, 1] or [n, values].
func (m *ModelStatistics) Save(path string, opt ...tensor.FileOption) error {
	if err := m.Check(); err != nil {
		return err
	}
	entries := []tensor.SafetensorsEntry{{Name: "lambda", Array: tensor.FromF64(m.Lambda, len(m.Lambda))}}
	for _, t := range []struct {
		name string
		rows [][]float64
	}{{"l", m.L}, {"s", m.S}, {"b", m.B}} {
		var flat []float64
		for _, r := range t.rows {
			flat = append(flat, r...)
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: t.name, Array: tensor.FromF64(flat, len(m.Lambda), m.width())})
	}
	return tensor.WriteSafetensors(path, entries, map[string]string{"format": "model statistics of DPM-Solver-v3"}, opt...)
}

// maxStatisticsValues bounds a table of a file.
const maxStatisticsValues = 1 << 26

// LoadStatistics reads what Save has written.
func LoadStatistics(path string) (*ModelStatistics, error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	read := func(name string, rank int) (v []float64, shape []int, err error) {
		dt, shape, err := f.Shape(name)
		if err != nil {
			return nil, nil, err
		}
		n := 1
		for _, d := range shape {
			if d < 1 || n > maxStatisticsValues/d {
				return nil, nil, fmt.Errorf("sampler: %s: tensor %s has shape %v; wanted 1 to %d values", path, name, shape, maxStatisticsValues)
			}
			n *= d
		}
		if dt != tensor.F64 || len(shape) != rank {
			return nil, nil, fmt.Errorf("sampler: %s: tensor %s is %v %v; wanted float64 of %d dimensions", path, name, dt, shape, rank)
		}
		a, err := f.Read(name)
		if err != nil {
			return nil, nil, err
		}
		v = make([]float64, n)
		for i := range v {
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(a.Data[8*i:]))
		}
		return v, shape, nil
	}
	m := &ModelStatistics{}
	if m.Lambda, _, err = read("lambda", 1); err != nil {
		return nil, err
	}
	for name, table := range map[string]*[][]float64{"l": &m.L, "s": &m.S, "b": &m.B} {
		v, shape, err := read(name, 2)
		if err != nil {
			return nil, err
		}
		for i := range shape[0] {
			*table = append(*table, v[i*shape[1]:(i+1)*shape[1]])
		}
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("sampler: %s: %w", path, err)
	}
	return m, nil
}

// growth is what a step from λ_s to λ_t needs of the statistics, for every number
// of a row: with ΔL = ∫l, ΔS = ∫s and β = ∫e^{-ΔS}b, all from λ_s on,
//
//	decay = e^{-ΔL(λ_t)},  power[k] = decay·∫e^{ΔL+ΔS}(λ-λ_s)^k/k! dλ,
//	drift = decay·∫e^{ΔL+ΔS}·β dλ.
type growth struct {
	decay, drift []float64
	power        [4][]float64
}

func newGrowth(width int) *growth {
	g := &growth{decay: make([]float64, width), drift: make([]float64, width)}
	for k := range g.power {
		g.power[k] = make([]float64, width)
	}
	return g
}

// Gauss-Legendre's nodes and weights of five points on [0, 1]; exact to degree 9.
var (
	legendreNodes   = [5]float64{0.04691007703066800, 0.23076534494715845, 0.5, 0.76923465505284155, 0.95308992296933200}
	legendreWeights = [5]float64{0.11846344252809454, 0.23931433524968324, 0.28444444444444444, 0.23931433524968324, 0.11846344252809454}
)

// longestPiece of λ keeps the quadrature's error below rounding for rates of a few.
const longestPiece = 0.25

// pieces calls f with the ends of pieces from a to b, either way, on each of
// which the statistics are linear.
func (m *ModelStatistics) pieces(a, b float64, f func(a, b float64)) {
	for a != b {
		end := b
		if b > a {
			i := sort.Search(len(m.Lambda), func(i int) bool { return m.Lambda[i] > a })
			if i < len(m.Lambda) {
				end = min(end, m.Lambda[i])
			}
			end = min(end, a+longestPiece)
		} else {
			i := sort.SearchFloat64s(m.Lambda, a) - 1
			if i >= 0 {
				end = max(end, m.Lambda[i])
			}
			end = max(end, a-longestPiece)
		}
		f(a, end)
		a = end
	}
}

// line is one number of the statistics on a piece: rates at its start and their slopes.
type line struct{ l, s, b, dl, ds, db float64 }

func (m *ModelStatistics) line(a, b float64, j int) line {
	mid := (a + b) / 2 // the cell of a piece, whose ends may be levels
	i, _ := m.cell(mid)
	at := func(lambda float64) float64 {
		return min(max((lambda-m.Lambda[i])/(m.Lambda[i+1]-m.Lambda[i]), 0), 1)
	}
	ua, ub := at(a), at(b)
	n := line{l: rate(m.L, i, ua, j), s: rate(m.S, i, ua, j), b: rate(m.B, i, ua, j)}
	n.dl = (rate(m.L, i, ub, j) - n.l) / (b - a)
	n.ds = (rate(m.S, i, ub, j) - n.s) / (b - a)
	n.db = (rate(m.B, i, ub, j) - n.b) / (b - a)
	return n
}

// beta is ∫e^{-S}b over the first u of the piece, where S starts from 0.
func (n line) beta(u float64) (sum float64) {
	if n.b == 0 && n.db == 0 {
		return 0
	}
	for q, node := range legendreNodes {
		v := u * node
		sum += u * legendreWeights[q] * math.Exp(-v*(n.s+n.ds*v/2)) * (n.b + n.db*v)
	}
	return sum
}

// shift is ΔS and β of number j from one λ to another.
func (m *ModelStatistics) shift(from, to float64, j int) (ds, beta float64) {
	m.pieces(from, to, func(a, b float64) {
		n, u := m.line(a, b, j), b-a
		beta += math.Exp(-ds) * n.beta(u)
		ds += u * (n.s + n.ds*u/2)
	})
	return ds, beta
}

// grow sets g for a step from one λ to another.
func (m *ModelStatistics) grow(g *growth, from, to float64) {
	for j := range g.decay {
		var dl, ds, beta, drift float64
		var power [4]float64
		m.pieces(from, to, func(a, b float64) {
			n, u := m.line(a, b, j), b-a
			for q, node := range legendreNodes {
				v := u * node
				e := u * legendreWeights[q] * math.Exp(dl+ds+v*(n.l+n.s+(n.dl+n.ds)*v/2))
				drift += e * (beta + math.Exp(-ds)*n.beta(v))
				t := a + v - from
				for k := range power {
					power[k] += e
					e *= t / float64(k+1)
				}
			}
			beta += math.Exp(-ds) * n.beta(u)
			dl += u * (n.l + n.dl*u/2)
			ds += u * (n.s + n.ds*u/2)
		})
		g.decay[j] = math.Exp(-dl)
		g.drift[j] = g.decay[j] * drift
		for k := range power {
			g.power[k][j] = g.decay[j] * power[k]
		}
	}
}
