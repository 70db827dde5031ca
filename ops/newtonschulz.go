package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// Rows of the state [stRows, B] of an iteration; kernels/sqrtm.cu has the same numbers.
const (
	stProduct = iota
	stAlpha
	stBeta
	stScale
	stResidual
	stSteps
	stFault
	stGrowth
	stMode
	stNorm
	stLargest
	stInverse
	stNormV
	stRows
)

// newtonSchulz is the part on a GPU that Sqrtm and Frechet share: a batch of
// iterations X ← X·(β + α·M), each matrix with coefficients of its own that the
// device chooses from the residual ‖I-M‖ and from a power iteration on I-M. The
// host only asks now and then whether all are done.
type newtonSchulz struct {
	dev      *gpu.Device
	dt       gpu.DType
	batch, d int
	state    *gpu.Tensor // float64 [stRows, B]
	v, rows  *gpu.Tensor // float64 [B, D] and [3, B, D]
	owned    []*gpu.Tensor
}

func newNewtonSchulz(dev *gpu.Device, dt gpu.DType, batch, d int) *newtonSchulz {
	n := &newtonSchulz{dev: dev, dt: dt, batch: batch, d: d}
	n.state, n.v, n.rows = n.tensor(gpu.Float64, stRows, batch), n.tensor(gpu.Float64, batch, d), n.tensor(gpu.Float64, 3, batch, d)
	return n
}

// tensor is workspace that free gives back.
func (n *newtonSchulz) tensor(dt gpu.DType, shape ...int) *gpu.Tensor {
	t := n.dev.New(dt, shape...)
	n.owned = append(n.owned, t)
	return t
}

func (n *newtonSchulz) free() {
	for _, t := range n.owned {
		t.Free()
	}
}

// row is where a row of the state begins on the device.
func (n *newtonSchulz) row(i int) cuda.Ptr { return n.state.Ptr() + cuda.Ptr(8*i*n.batch) }

func (n *newtonSchulz) double() bool { return n.dt == gpu.Float64 }

// matrices is the number of elements of a batch.
func (n *newtonSchulz) matrices() int { return n.batch * n.d * n.d }

// symmetric sets y to (a+aᵀ)/2 and returns what start wants to know of a.
func (n *newtonSchulz) symmetric(y, a *gpu.Tensor) (stats *gpu.Tensor, tiles int) {
	side := ceil(n.d, 32)
	tiles = side * (side + 1) / 2
	stats = n.tensor(gpu.Float64, a.Shape()[0], tiles, 2)
	g := cuda.Grid{X: a.Shape()[0] * tiles, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	if n.double() {
		kernels.SqrtmSymmetricF64(n.dev.Stream(), g, y.Ptr(), stats.Ptr(), a.Ptr(), int32(n.d), int32(tiles))
	} else {
		kernels.SqrtmSymmetricF32(n.dev.Stream(), g, y.Ptr(), stats.Ptr(), a.Ptr(), int32(n.d), int32(tiles))
	}
	return stats, tiles
}

// sums sets rows to the row sums of shift·I - m.
func (n *newtonSchulz) sums(m *gpu.Tensor, shift float64, wanted cuda.Ptr) {
	total := n.batch * n.d
	g := cuda.Grid1(total, 8, 256)
	if n.double() {
		kernels.SqrtmRowsF64(n.dev.Stream(), g, n.rows.Ptr(), m.Ptr(), n.v.Ptr(), wanted, shift, int32(n.d), int32(total))
	} else {
		kernels.SqrtmRowsF32(n.dev.Stream(), g, n.rows.Ptr(), m.Ptr(), n.v.Ptr(), wanted, shift, int32(n.d), int32(total))
	}
}

// start takes the scale from m, symmetric, whose stats may be nil: of a polar iteration.
func (n *newtonSchulz) start(m, stats *gpu.Tensor, tiles int) {
	kernels.SqrtmPowerF64(n.dev.Stream(), n.perMatrix(), n.v.Ptr(), n.row(stNormV), n.row(stNormV), n.rows.Ptr(), 1, int32(n.d), int32(n.batch))
	n.sums(m, 0, 0)
	var s, y, y32 cuda.Ptr
	if stats != nil {
		s = stats.Ptr()
		if n.double() {
			y = m.Ptr()
		} else {
			y32 = m.Ptr()
		}
	}
	kernels.SqrtmStartF64(n.dev.Stream(), n.perMatrix(), n.state.Ptr(), n.v.Ptr(), n.rows.Ptr(), s, y, y32, asymmetry(n.dt), int32(n.d), int32(n.batch), int32(tiles))
}

// scale divides y by the scales and sets z, unless it is nil, to the identity.
func (n *newtonSchulz) scale(y, z *gpu.Tensor) {
	total := n.matrices()
	g := cuda.Grid1(total, 256, 256)
	var zp cuda.Ptr
	if z != nil {
		zp = z.Ptr()
	}
	if n.double() {
		kernels.SqrtmScaleF64(n.dev.Stream(), g, y.Ptr(), zp, n.row(stScale), int32(n.d), int64(total))
	} else {
		kernels.SqrtmScaleF32(n.dev.Stream(), g, y.Ptr(), zp, n.row(stScale), int32(n.d), int64(total))
	}
}

// judge measures I - m and chooses the coefficients; limit 0 takes singular ones.
func (n *newtonSchulz) judge(m *gpu.Tensor, limit float64) {
	near := 0x1p-27 // half the root of epsilon
	if n.dt == gpu.Float32 {
		near = math.Sqrt(0x1p-23) / 2
	}
	n.sums(m, 1, n.row(stProduct))
	kernels.SqrtmStepF64(n.dev.Stream(), n.perMatrix(), n.state.Ptr(), n.v.Ptr(), n.rows.Ptr(), limit, near, int32(n.d), int32(n.batch))
}

func (n *newtonSchulz) perMatrix() cuda.Grid {
	return cuda.Grid{X: n.batch, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
}

// multiply sets c to alpha·op(a)·op(b) + beta·d, with rows of the state, or 0 for ones, as alpha and beta.
func (n *newtonSchulz) multiply(c, a, b, d *gpu.Tensor, alpha, beta cuda.Ptr, transB, symmetric bool) {
	g := gemm{
		c: c.Ptr(), a: a.Ptr(), b: b.Ptr(), alpha: alpha, beta: beta, m: n.d, n: n.d, k: n.d,
		strideA: n.d * n.d, strideB: n.d * n.d, double: n.double(), transB: transB, symmetric: symmetric,
	}
	if d != nil {
		g.d = d.Ptr()
	}
	g.launch(n.dev.Stream(), n.batch)
}

// power makes steps of a power iteration with the matrices m, from the vector
// that there is or from a new one; the last norm goes to stNormV. It returns
// also ‖m‖² in the rows' order.
func (n *newtonSchulz) power(m *gpu.Tensor, steps int, restart bool) (norm []float64, err error) {
	launch := func(again int32) {
		kernels.SqrtmPowerF64(n.dev.Stream(), n.perMatrix(), n.v.Ptr(), n.row(stNormV), n.row(stGrowth), n.rows.Ptr(), again, int32(n.d), int32(n.batch))
	}
	if restart {
		launch(1)
	}
	for range steps {
		n.sums(m, 0, 0)
		launch(0)
	}
	st, err := n.read()
	if err != nil {
		return nil, err
	}
	return st[stNormV], nil
}

// read is the state, a slice for each row. It waits for the device.
func (n *newtonSchulz) read() ([stRows][]float64, error) {
	var out [stRows][]float64
	all := make([]float64, stRows*n.batch)
	if err := n.state.Read64(all); err != nil {
		return out, err
	}
	for i := range out {
		out[i] = all[i*n.batch:][:n.batch]
	}
	return out, nil
}

// running tells whether a matrix still iterates.
func (n *newtonSchulz) running() (bool, error) {
	st, err := n.read()
	if err != nil {
		return false, err
	}
	for _, m := range st[stMode] {
		if m != 0 {
			return true, nil
		}
	}
	return false, nil
}
