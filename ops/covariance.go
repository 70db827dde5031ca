package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Moments sets mean [B, D] and scatter [B, D, D], both float64, to the mean and
// to Σ(x-mean)(x-mean)ᵀ of each of the B sets of N vectors in x [B, N, D],
// which is float32, float64, float16 or bfloat16. Together with N they can be
// merged with those of other vectors (MergeMoments) and give the covariance
// (CovarianceOf).
//
// All sums are float64 sums of values that were widened without rounding and
// centred first, in an order that the shape alone decides. With u = 2^-53, m
// the result and s the exact scatter:
//
//	δⱼ = |mean error| ≤ u·(|mⱼ| + (N+4)·avg|xⱼ-first xⱼ|)
//	|scatter error|ᵢⱼ ≤ (N+4)·u·√(sᵢᵢ·sⱼⱼ) + N·δᵢ·δⱼ
//
// so that a mean far from zero costs no digits of the scatter. A value that is
// not finite spoils its own feature's mean, row and column, and nothing else.
// Moments panics unless 1 <= N < 2^31 and the shapes fit. It allocates
// workspace.
func Moments(mean, scatter, x *gpu.Tensor) {
	batch, n, d := moments("Moments", mean, scatter, x)
	if batch == 0 || d == 0 {
		return
	}
	if x.Device().CUDA() {
		momentsCUDA(mean, scatter, x, batch, n, d)
		return
	}
	eachMatrix(batch, func(w *cpu.Worker, i int) {
		momentsOf(w, mean.F64()[i*d:][:d], scatter.F64()[i*d*d:][:d*d], x, i*n*d, n)
	})
}

// moments checks the operands of Moments.
func moments(op string, mean, scatter, x *gpu.Tensor) (batch, n, d int) {
	s := x.Shape()
	if len(s) != 3 {
		fail(op, "x has shape %v, want [B, N, D]", s)
	}
	batch, n, d = s[0], s[1], s[2]
	if dt := x.DType(); dt != gpu.Float32 && dt != gpu.Float64 && !dt.Half() {
		fail(op, "x is %v, want floats", dt)
	}
	if n < 1 || n > math.MaxInt32 {
		fail(op, "x has %d vectors a set (shape %v), want 1 to 2^31-1", n, s)
	}
	if d > maxOrder {
		fail(op, "x has %d features, want at most %d", d, maxOrder)
	}
	wantShape(op, "mean", mean, gpu.Float64, batch, d)
	wantShape(op, "scatter", scatter, gpu.Float64, batch, d, d)
	sameDevice(op, mean, scatter, x)
	return batch, n, d
}

// momentsWorkspace bounds the bytes of partial scatters; larger batches are cut.
const momentsWorkspace = 256 << 20

// momentsCUDA is Moments on a GPU: partial sums, means, then scatters of parts
// of the rows, so that few narrow sets still fill the machine. How rows are
// parted depends on N and D alone, so that results do not depend on the batch.
func momentsCUDA(mean, scatter, x *gpu.Tensor, batch, n, d int) {
	dev := x.Device()
	s := dev.Stream()
	side := ceil(d, 64)
	tiles := side * (side + 1) / 2
	splits := max(1, min(512/tiles, ceil(n, 256)))
	chunk := ceil(ceil(n, splits), 16) * 16
	splits = ceil(n, chunk)
	chunks := ceil(n, 512)
	const most = 1 << 20 // sets of one launch: block numbers stay below 2^31
	group := max(1, min(batch, momentsWorkspace/(8*splits*d*d), most/(chunks*ceil(d, 32)), most/(splits*tiles), 65535))
	partial := dev.Empty64(group, chunks, d)
	defer partial.Free()
	parts := scatter
	if splits > 1 {
		parts = dev.Empty64(group, splits, d, d)
		defer parts.Free()
	}
	for first := 0; first < batch; first += group {
		b := min(group, batch-first)
		in := x.Ptr() + cuda.Ptr(first*n*d*x.DType().Size())
		m, out := mean.Ptr()+cuda.Ptr(8*first*d), scatter.Ptr()+cuda.Ptr(8*first*d*d)
		part := out
		if splits > 1 {
			part = parts.Ptr()
		}
		sums := cuda.Grid{X: b * chunks * ceil(d, 32), Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
		products := cuda.Grid{X: b * splits * tiles, Y: 1, Z: 1, BX: 128, BY: 1, BZ: 1}
		dt := x.DType()
		sum := byDType(dt, kernels.MomentsSumF32, kernels.MomentsSumF64, kernels.MomentsSumF16, kernels.MomentsSumBf16)
		sum(s, sums, partial.Ptr(), m, in, int32(n), int32(d), int32(chunks), int32(ceil(d, 32)))
		kernels.MomentsMeanF64(s, cuda.Grid1(b*d, 256, 256), m, partial.Ptr(), int32(n), int32(d), int32(chunks), int32(b*d))
		multiply := byDType(dt, kernels.MomentsScatterF32, kernels.MomentsScatterF64, kernels.MomentsScatterF16, kernels.MomentsScatterBf16)
		multiply(s, products, part, in, m, int32(n), int32(d), int32(tiles), int32(splits), int32(chunk))
		if splits > 1 {
			kernels.MomentsReduceF64(s, cuda.Grid{X: ceil(d, 32), Y: ceil(d, 32), Z: b, BX: 32, BY: 8, BZ: 1}, out, part, int32(d), int32(splits))
		}
	}
}

// momentsRows is the number of rows that are centred and multiplied at a time.
const momentsRows = 512

// momentsOf is Moments of one set of n rows, which begins at element first of x.
func momentsOf(w *cpu.Worker, mean, scatter []float64, x *gpu.Tensor, first, n int) {
	d := len(mean)
	blocks := ceil(n, momentsRows)
	origin, sums := make([]float64, d), make([]float64, blocks*d)
	loadFloat64(origin, x, first)
	onWorkers(w, blocks, func(_ *cpu.Worker, b int) {
		row, sum := make([]float64, d), sums[b*d:][:d]
		for i := b * momentsRows; i < min(n, (b+1)*momentsRows); i++ {
			loadFloat64(row, x, first+i*d)
			for j, v := range row { // relative to the first row: exact where all rows are equal
				sum[j] += v - origin[j]
			}
		}
	})
	for j := range mean {
		total := 0.0
		for b := range blocks {
			total += sums[b*d+j]
		}
		mean[j] = origin[j] + total/float64(n)
	}
	rows := make([]float64, min(n, momentsRows)*d)
	for b := range blocks {
		k := min(momentsRows, n-b*momentsRows)
		for i := range k {
			row := rows[i*d:][:d]
			loadFloat64(row, x, first+(b*momentsRows+i)*d)
			for j, m := range mean {
				row[j] -= m
			}
		}
		beta := 1.0
		if b == 0 {
			beta = 0
		}
		cpu.SyrkT64(w, d, k, 1, rows, d, beta, scatter, d)
	}
}

// MergeMoments makes mean [B, D] and scatter [B, D, D], of n vectors in each
// set, those of these and m further vectors, whose moments are otherMean and
// otherScatter (Chan, Golub and LeVeque 1979). All are float64. n or m may be 0,
// whose moments are then not looked at. It panics when the shapes differ or a
// number is negative.
func MergeMoments(mean, scatter *gpu.Tensor, n int, otherMean, otherScatter *gpu.Tensor, m int) {
	const op = "MergeMoments"
	batch, d := squares(op, "scatter", scatter)
	wantShape(op, "scatter", scatter, gpu.Float64, batch, d, d)
	wantShape(op, "mean", mean, gpu.Float64, batch, d)
	wantShape(op, "otherMean", otherMean, gpu.Float64, batch, d)
	wantShape(op, "otherScatter", otherScatter, gpu.Float64, batch, d, d)
	sameDevice(op, mean, scatter, otherMean, otherScatter)
	if n < 0 || m < 0 {
		fail(op, "%d and %d vectors, want >= 0", n, m)
	}
	if m == 0 || batch*d == 0 {
		return
	}
	total := float64(n) + float64(m)
	keep, step, weight := 1.0, float64(m)/total, float64(n)*(float64(m)/total)
	if n == 0 {
		keep = 0
	}
	if dev := mean.Device(); dev.CUDA() {
		s, looked := dev.Stream(), int32(keep)
		kernels.MomentsMergeF64(s, cuda.Grid1(batch*d*d, 256, 256), scatter.Ptr(), otherScatter.Ptr(), mean.Ptr(), otherMean.Ptr(), int32(d), int64(batch*d*d), weight, looked)
		kernels.MomentsShiftF64(s, cuda.Grid1(batch*d, 256, 256), mean.Ptr(), otherMean.Ptr(), int64(batch*d), step, looked)
		return
	}
	mergeMoments(d, mean.F64(), scatter.F64(), otherMean.F64(), otherScatter.F64(), keep, step, weight)
}

func mergeMoments(d int, mean, scatter, otherMean, otherScatter []float64, keep, step, weight float64) {
	if keep == 0 { // nothing of the old is looked at: it may be NaN
		copy(mean, otherMean)
		copy(scatter, otherScatter)
		return
	}
	delta := make([]float64, d)
	for b := range len(mean) / d {
		for j := range d {
			delta[j] = otherMean[b*d+j] - mean[b*d+j]
			mean[b*d+j] += step * delta[j]
		}
		for i, di := range delta {
			off := (b*d + i) * d
			row, other := scatter[off:][:d], otherScatter[off:][:d]
			for j, dj := range delta {
				row[j] += other[j] + weight*(di*dj)
			}
		}
	}
}

// CovarianceOf sets cov to scatter/(n-ddof), the covariance of n vectors with
// that scatter. cov may be scatter. It panics unless both are float64 of one
// shape and n > ddof >= 0.
func CovarianceOf(cov, scatter *gpu.Tensor, n, ddof int) {
	const op = "CovarianceOf"
	wantShape(op, "scatter", scatter, gpu.Float64, scatter.Shape()...)
	wantShape(op, "cov", cov, gpu.Float64, scatter.Shape()...)
	sameDevice(op, cov, scatter)
	enough(op, n, ddof)
	by := float64(n - ddof)
	if dev := cov.Device(); dev.CUDA() {
		kernels.MomentsScaleF64(dev.Stream(), cuda.Grid1(cov.Len(), 256, 256), cov.Ptr(), scatter.Ptr(), int64(cov.Len()), by)
		return
	}
	out := cov.F64()
	for i, v := range scatter.F64() {
		out[i] = v / by
	}
}

func enough(op string, n, ddof int) {
	if ddof < 0 || n <= ddof {
		fail(op, "%d vectors with ddof %d, want ddof >= 0 and more vectors than that", n, ddof)
	}
}

// Covariance sets mean [B, D] and cov [B, D, D], both float64, to the mean and
// the covariance, Σ(x-mean)(x-mean)ᵀ/(N-ddof), of each set of vectors in x [B,
// N, D]: Moments, with its accuracy, and CovarianceOf. It panics unless N > ddof.
func Covariance(cov, mean, x *gpu.Tensor, ddof int) {
	_, n, _ := moments("Covariance", mean, cov, x)
	enough("Covariance", n, ddof)
	Moments(mean, cov, x)
	CovarianceOf(cov, cov, n, ddof)
}
