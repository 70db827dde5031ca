package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// AdafactorConfig is one step of Adafactor (Shazeer and Stern 2018, arXiv 1804.04235).
type AdafactorConfig struct {
	New   float64 // weight of the new squares, 1 - β2 of the step
	Floor float64 // least value of a second moment
	Clip  float64 // greatest root mean square of the update; +Inf for any
}

// Adafactor turns the gradient of one tensor into its update: grad over the root of the
// second moment, scaled down to a root mean square of Clip where it is greater. The
// moment of a matrix, of as many rows as row has elements and as many columns as col has,
// is the product of moving means of squares over its rows and columns, row·colᵀ/mean(row);
// with row nil, col holds the moment of every element. Means are made in float64, in a
// fixed order. All tensors have one dtype, float32 or float64, and one device. It waits for a
// GPU, which says how great the update is, where Clip is finite.
func Adafactor(grad, row, col *gpu.Tensor, cfg AdafactorConfig) {
	s := streamOf("Adafactor", grad, row, col)
	if row == nil && col.Len() != grad.Len() || row != nil && row.Len()*col.Len() != grad.Len() {
		rows := 1
		if row != nil {
			rows = row.Len()
		}
		fail("Adafactor", "moments of %d rows and %d columns for shape %v, want one for each of both, or col alone for every element", rows, col.Len(), grad.Shape())
	}
	if grad.Len() == 0 {
		return
	}
	switch {
	case s != nil:
		launchAdafactor(s, grad, row, col, cfg)
	case row == nil:
		c := newCall(adafactorEach, grad, col)
		c.n[0], c.n[1] = 0, grad.Len()
		c.f[0], c.f[1] = cfg.New, cfg.Floor
		c.each(ceil(grad.Len(), mapBlock))
	default:
		adafactorMatrix(grad, row, col, cfg)
	}
	if math.IsInf(cfg.Clip, 1) {
		return
	}
	if rms := math.Sqrt(SumSquares(grad) / float64(grad.Len())); rms > cfg.Clip {
		Affine(grad, cfg.Clip/rms, grad, 0, nil, 0, false)
	}
}

// launchAdafactor makes the moments and the update, before it is scaled down.
func launchAdafactor(s *cuda.Stream, grad, row, col *gpu.Tensor, cfg AdafactorConfig) {
	if row == nil {
		f := byWidth(grad, kernels.AdafactorEachF32, kernels.AdafactorEachF64)
		f(s, cuda.Grid1(grad.Len(), vectorBlock, vectorBlock), grad.Ptr(), col.Ptr(), cfg.New, cfg.Floor, int64(grad.Len()))
		return
	}
	if max(row.Len(), col.Len()) > math.MaxInt32 {
		fail("Adafactor", "a matrix of %d by %d, want fewer than 2^31 of both on a GPU", row.Len(), col.Len())
	}
	rows, cols := int32(row.Len()), int32(col.Len())
	each := cuda.Grid{X: row.Len(), Y: 1, Z: 1, BX: vectorBlock, BY: 1, BZ: 1}
	byWidth(grad, kernels.AdafactorRowsF32, kernels.AdafactorRowsF64)(s, each, row.Ptr(), grad.Ptr(), cfg.New, cols)
	byWidth(grad, kernels.AdafactorColsF32, kernels.AdafactorColsF64)(s, cuda.Grid1(col.Len(), 32, vectorBlock), col.Ptr(), grad.Ptr(), cfg.New, rows, cols)
	byWidth(grad, kernels.AdafactorScaleF32, kernels.AdafactorScaleF64)(s, each, grad.Ptr(), row.Ptr(), col.Ptr(), cfg.Floor, rows, cols)
}

func adafactorMatrix(grad, row, col *gpu.Tensor, cfg AdafactorConfig) {
	c := newCall(adafactorRows, grad, row)
	c.n[0], c.n[1] = col.Len(), max(1, mapBlock/col.Len())
	c.f[0] = cfg.New
	c.each(ceil(row.Len(), c.n[1]))

	c = newCall(adafactorCols, grad, col)
	c.n[0], c.n[1] = row.Len(), max(16, mapBlock/row.Len())
	c.f[0] = cfg.New
	c.f64.take(col.Len())
	c.each(ceil(col.Len(), c.n[1]))

	var mean float64
	for i := range row.Len() {
		if v := row.F64(); v != nil {
			mean += v[i]
		} else {
			mean += float64(row.F32()[i])
		}
	}
	c = newCall(adafactorScale, grad, row, col)
	c.n[0], c.n[1] = col.Len(), max(1, mapBlock/col.Len())
	c.f[0], c.f[1] = mean/float64(row.Len()), cfg.Floor
	c.each(ceil(row.Len(), c.n[1]))
}

func adafactorEach(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		adafactorEachOf[float64](c, i)
	} else {
		adafactorEachOf[float32](c, i)
	}
}

func adafactorEachOf[T cpu.Float](c *call, i int) {
	lo, hi := c.span(i, mapBlock)
	g, v := data[T](c.t[0])[lo:hi], data[T](c.t[1])[lo:hi]
	for k, x := range g {
		d := float64(x)
		m := float64(v[k])
		m += float64(c.f[0] * (float64(d*d) - m))
		v[k] = T(m)
		g[k] = T(d / math.Sqrt(math.Max(m, c.f[1])))
	}
}

// adafactorRows takes the mean square of rows in.
func adafactorRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		adafactorRowsOf[float64](c, i)
	} else {
		adafactorRowsOf[float32](c, i)
	}
}

func adafactorRowsOf[T cpu.Float](c *call, i int) {
	g, row, cols := data[T](c.t[0]), data[T](c.t[1]), c.n[0]
	for r := i * c.n[1]; r < min((i+1)*c.n[1], len(row)); r++ {
		var s float64
		for _, x := range g[r*cols : (r+1)*cols] {
			s += float64(float64(x) * float64(x))
		}
		m := float64(row[r])
		row[r] = T(m + float64(c.f[0]*(s/float64(cols)-m)))
	}
}

// adafactorCols takes the mean square of columns in.
func adafactorCols(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		adafactorColsOf[float64](c, i)
	} else {
		adafactorColsOf[float32](c, i)
	}
}

func adafactorColsOf[T cpu.Float](c *call, i int) {
	g, col, rows := data[T](c.t[0]), data[T](c.t[1]), c.n[0]
	n := len(col)
	lo, hi := i*c.n[1], min((i+1)*c.n[1], n)
	sum := c.f64.v[lo:hi]
	clear(sum)
	for r := range rows {
		for k, x := range g[r*n+lo : r*n+hi] {
			sum[k] += float64(float64(x) * float64(x))
		}
	}
	for k, s := range sum {
		m := float64(col[lo+k])
		col[lo+k] = T(m + float64(c.f[0]*(s/float64(rows)-m)))
	}
}

// adafactorScale divides by the root of the moments' product.
func adafactorScale(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		adafactorScaleOf[float64](c, i)
	} else {
		adafactorScaleOf[float32](c, i)
	}
}

func adafactorScaleOf[T cpu.Float](c *call, i int) {
	g, row, col, mean := data[T](c.t[0]), data[T](c.t[1]), data[T](c.t[2]), c.f[0]
	n := len(col)
	for r := i * c.n[1]; r < min((i+1)*c.n[1], len(row)); r++ {
		f := 0.0
		if mean > 0 {
			f = float64(row[r]) / mean
		}
		for k, x := range g[r*n : (r+1)*n] {
			g[r*n+k] = T(float64(x) / math.Sqrt(math.Max(float64(f*float64(col[k])), c.f[1])))
		}
	}
}
