package fid

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
)

// kernel is a measure of how alike two vectors are, by their inner product and
// their squared lengths.
type kernel struct {
	name string
	of   func(dot, xx, yy, d float64) float64
	// each replaces products of a vector of squared length xx with those of squared lengths yy by the kernel's values.
	each func(dot []float64, xx float64, yy []float64, d float64)
	mean bool                           // only its mean is of use, and roundings of products may cancel
	on   func(d float64) ops.PairKernel // a device
}

// The kernels: of KID (Bińkowski et al. 2018), and a normal density of deviation
// 10 as torch-fidelity and CMMD (Jayasumana et al. 2024) have it.
var (
	cubic = kernel{
		"(x·y/d+1)³", func(dot, _, _, d float64) float64 { v := dot/d + 1; return v * v * v },
		func(dot []float64, _ float64, _ []float64, d float64) {
			for i, v := range dot {
				v = v/d + 1
				dot[i] = v * v * v
			}
		}, true,
		func(d float64) ops.PairKernel { return ops.CubicKernel(1/d, 1) },
	}
	gaussian = kernel{
		"exp(-|x-y|²/200)", func(dot, xx, yy, _ float64) float64 { return math.Exp(-max(xx+yy-2*dot, 0) / 200) },
		func(dot []float64, xx float64, yy []float64, _ float64) {
			for i, v := range dot {
				dot[i] = math.Exp(-max(xx+yy[i]-2*v, 0) / 200)
			}
		}, false,
		func(float64) ops.PairKernel { return ops.NormalKernel(1. / 200) },
	}
)

// MMDValue is the outcome of the metrics that compare whole sets by a kernel.
type MMDValue struct {
	Value  float64 `json:"value"`
	StdErr float64 `json:"std_err"` // by leaving out one vector after the other
	Kernel string  `json:"kernel"`
}

// Number is the squared maximum mean discrepancy.
func (v MMDValue) Number() float64 { return v.Value }

// similar are the sums of a kernel's values between two sets: over the columns
// for every row, and the reverse; of a set with itself without the diagonal,
// which is apart.
type similar struct{ rows, cols, diagonal []float64 }

const mmdTile = 256

// similarities sums k over all pairs of x and y, or where they are one set over
// its pairs of different vectors. Sums run in the order of the tiles.
func similarities(ctx context.Context, k kernel, x, y *vectors, same bool) (similar, error) {
	edge := mmdTile
	if x.low != nil {
		edge = aroundTile
	}
	tilesOf := func(n int) int { return (n + edge - 1) / edge }
	rows, cols := tilesOf(x.n), tilesOf(y.n)
	var pairs [][2]int
	for i := range rows {
		for j := range cols {
			if !same || j >= i {
				pairs = append(pairs, [2]int{i, j})
			}
		}
	}
	out := similar{diagonal: make([]float64, 0)}
	// What each tile adds to its rows and columns, kept apart until all are there.
	partRows, partCols := make([][]float64, len(pairs)), make([][]float64, len(pairs))
	if same {
		out.diagonal = make([]float64, x.n)
	}
	type scratch struct {
		a, b, dot []float64
		low       []float32
	}
	bufs := make([]scratch, cpu.Workers())
	d := x.d
	cpu.Each(len(pairs), func(w *cpu.Worker, t int) {
		if ctx.Err() != nil {
			return
		}
		s := &bufs[w.ID]
		if s.dot == nil {
			s.dot = make([]float64, edge*edge)
			if x.low != nil {
				s.low = make([]float32, edge*edge)
			} else {
				s.a, s.b = make([]float64, edge*d), make([]float64, edge*d)
			}
		}
		i0, j0 := pairs[t][0]*edge, pairs[t][1]*edge
		m, c := min(edge, x.n-i0), min(edge, y.n-j0)
		if x.low != nil {
			x.low.dots(w, s.dot, s.low, i0, m, y.low, j0, c)
		} else {
			x.load(s.a, i0, m)
			y.load(s.b, j0, c)
			cpu.Gemm64(w, false, true, m, c, d, 1, s.a, d, s.b, d, 0, s.dot, c)
		}
		r, l := make([]float64, m), make([]float64, c)
		own := same && i0 == j0
		for i := range m {
			values := s.dot[i*c : (i+1)*c]
			k.each(values, x.square[i0+i], y.square[j0:j0+c], float64(d))
			if own {
				out.diagonal[i0+i], values[i] = values[i], 0
			}
			sum := 0.0
			for j, v := range values {
				sum += v
				l[j] += v
			}
			r[i] = sum
		}
		partRows[t], partCols[t] = r, l
	})
	if err := ctx.Err(); err != nil {
		return out, err
	}
	out.rows, out.cols = make([]float64, x.n), make([]float64, y.n)
	for t, p := range pairs {
		for i, v := range partRows[t] {
			out.rows[p[0]*edge+i] += v
		}
		into := out.cols
		if same {
			if p[0] == p[1] {
				continue // the tile has both triangles
			}
			into = out.rows
		}
		for j, v := range partCols[t] {
			into[p[1]*edge+j] += v
		}
	}
	return out, nil
}

// allSimilarities are those within x, within y and between them.
func allSimilarities(ctx context.Context, k kernel, x, y *vectors) (xx, yy, xy similar, err error) {
	if xx, err = similarities(ctx, k, x, x, true); err != nil {
		return xx, yy, xy, err
	}
	if yy, err = similarities(ctx, k, y, y, true); err != nil {
		return xx, yy, xy, err
	}
	xy, err = similarities(ctx, k, x, y, false)
	return xx, yy, xy, err
}

// vectors are a set's features in float64, as they are or scaled to length 1.
type vectors struct {
	s      *Stats
	offset []float64
	scale  []float64 // nil for none
	n, d   int
	square []float64 // squared lengths
	low    *around   // for products in float32, nil for none
}

func newVectors(s *Stats, unit bool) (*vectors, error) {
	v := &vectors{s: s, offset: s.offset(), n: s.N, d: s.Dim(), square: make([]float64, s.N)}
	row := make([]float64, v.d)
	if unit {
		v.scale = make([]float64, s.N)
	}
	for i := range v.n {
		if unit {
			v.scale[i] = 1
		}
		v.load(row, i, 1)
		sum := 0.0
		for _, x := range row {
			sum += x * x
		}
		v.square[i] = sum
		if unit {
			if sum == 0 {
				return nil, numeric("vector %d has length 0 and no direction", i)
			}
			v.scale[i], v.square[i] = 1/math.Sqrt(sum), 1
		}
	}
	return v, nil
}

// load writes rows i to i+m to dst.
func (v *vectors) load(dst []float64, i, m int) {
	for r := range m {
		scale := 1.0
		if v.scale != nil {
			scale = v.scale[i+r]
		}
		for j, f := range v.s.Features[(i+r)*v.d : (i+r+1)*v.d] {
			dst[r*v.d+j] = (float64(f) + v.offset[j]) * scale
		}
	}
}

// mmdOf is the squared maximum mean discrepancy of both sets and its standard
// error, on a GPU unless dev is nil. Unbiased leaves the diagonals out.
func mmdOf(ctx context.Context, dev *gpu.Device, k kernel, ref, gen *Stats, unit, unbiased bool) (value, stdErr float64, err error) {
	x, err := newVectors(ref, unit)
	if err != nil {
		return 0, 0, err
	}
	y, err := newVectors(gen, unit)
	if err != nil {
		return 0, 0, err
	}
	var xx, yy, xy similar
	if dev != nil {
		err = forked(dev, func(dev *gpu.Device) (err error) {
			xx, yy, xy, err = similaritiesOn(ctx, dev, k, x, y)
			return err
		})
	} else {
		if k.mean && !unit {
			x.low, y.low = bothAround(ref, gen, x.n, y.n)
		}
		xx, yy, xy, err = allSimilarities(ctx, k, x, y)
	}
	if err != nil {
		return 0, 0, err
	}
	own := func(sum, diagonal, n float64) float64 {
		if unbiased {
			return sum / (n * (n - 1))
		}
		return (sum + diagonal) / (n * n)
	}
	n, m := float64(x.n), float64(y.n)
	sxx, dxx, syy, dyy, sxy := sum(xx.rows), sum(xx.diagonal), sum(yy.rows), sum(yy.diagonal), sum(xy.rows)
	a, b := own(sxx, dxx, n), own(syy, dyy, m)
	value = a + b - 2*sxy/(n*m)
	if value-value != 0 {
		return 0, 0, numeric("the kernel's mean is %g: the features are too large for float64", value)
	}
	// Without vector i of a set, its pairs with all others go.
	left := func(s similar, total, diagonal, size float64, cross []float64, other, rest float64) float64 {
		if size < 3 {
			return 0
		}
		values := make([]float64, len(s.rows))
		for i, r := range s.rows {
			values[i] = own(total-2*r, diagonal-s.diagonal[i], size-1) + rest - 2*(sxy-cross[i])/((size-1)*other)
		}
		dev := deviation(values, sum(values)/size)
		return dev * dev * (size - 1)
	}
	variance := left(xx, sxx, dxx, n, xy.rows, m, b) + left(yy, syy, dyy, m, xy.cols, n, a)
	return value, math.Sqrt(variance), nil
}

func sum(v []float64) float64 {
	var s cpu.Sum
	for _, x := range v {
		s.Add(x)
	}
	return s.Value()
}

// computeMMD is the unbiased squared MMD of the whole sets, unlike "kid" without
// subsets and so without their chance.
func computeMMD(name string, k kernel) func(context.Context, *comparison) (Value, []string, error) {
	return func(ctx context.Context, c *comparison) (Value, []string, error) {
		if err := needFeatures(name, c.ref, c.gen, 2); err != nil {
			return nil, nil, err
		}
		v, se, err := mmdOf(ctx, c.opt.onDevice(c.ref.Dim()), k, c.ref, c.gen, false, true)
		return MMDValue{v, se, k.name}, nil, err
	}
}

// cmmdScale is the factor of the published figures.
const cmmdScale = 1000

// computeCMMD is CMMD (Jayasumana et al. 2024, arXiv 2401.09603): 1000 times the
// squared MMD, diagonals included, under exp(-|x-y|²/(2·10²)) of vectors scaled
// to length 1. The paper's vectors are those of CLIP ViT-L/14 at 336 pixels.
func computeCMMD(ctx context.Context, c *comparison) (Value, []string, error) {
	if err := needFeatures("cmmd", c.ref, c.gen, 2); err != nil {
		return nil, nil, err
	}
	v, se, err := mmdOf(ctx, c.opt.onDevice(c.ref.Dim()), gaussian, c.ref, c.gen, true, false)
	return MMDValue{cmmdScale * v, cmmdScale * se, gaussian.name}, cmmdNotes(c.gen), err
}

// The extractor and the preset of the published figures of CMMD.
const (
	CMMDExtractor = "clip-vit-l14-336"
	CMMDPreset    = "cmmd"
)

// cmmdNotes says what a figure is of where it cannot be compared with published ones.
func cmmdNotes(s *Stats) []string {
	if s.Provenance == nil {
		return nil
	}
	e := s.Provenance.Extractor
	if e.Name == "" || e.Name == CMMDExtractor && e.Preset == CMMDPreset {
		return nil
	}
	return []string{fmt.Sprintf("cmmd is of %s, preset %s; published figures are of %s, preset %s", e.Name, e.Preset, CMMDExtractor, CMMDPreset)}
}
