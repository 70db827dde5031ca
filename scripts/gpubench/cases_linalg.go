package main

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// definite makes a batch of symmetric positive definite matrices, with ones on
// the diagonal and what falls off quickly beside it.
func definite(dev *gpu.Device, dt gpu.DType, batch, d int) *gpu.Tensor {
	v := make([]float32, batch*d*d)
	for b := range batch {
		for i := range d {
			for j := range d {
				k := (i - j) * (i - j)
				v[(b*d+i)*d+j] = float32(1+b%3) / float32(1+4*k)
			}
		}
	}
	return dev.FromAs(dt, v, batch, d, d)
}

func init() {
	for dt, t := range dtypes {
		for _, d := range []int{192, 2048} { // the first and the last tap of Inception
			momentsCase(dt, t, size(50000, 300), d)
		}
	}
	groupCases()
	frechetCases()
	for dt, t := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		for _, order := range []int{16, 64} {
			batch := size(2048, 2)
			register(Case{
				Name: fmt.Sprintf("eigh.%d.%s", order, dt), Kernel: "jacobi_eigh_" + dt, Shape: shape(batch, order, order), Peak: dt,
				Bytes: 2 * float64(t.Size()) * float64(batch*order*order), Flops: 6 * 8 * float64(batch) * float64(order*order*order), // of eight sweeps
				Torch: spec("eigh", "b", batch, "n", order, "dtype", dt),
				Setup: func(dev *gpu.Device) (func(), error) {
					a := definite(dev, t, batch, order)
					values, vectors := dev.New(t, batch, order), a.Like()
					return func() { must(ops.Eigh(values, vectors, a)) }, nil
				},
			})
		}
		for _, order := range []int{64, 2048} {
			batch := size(max(1, 256*64/order), 1)
			order = size(order, order/64+7)
			peak := map[string]string{"f32": "f32", "f64": "f64t"}[dt]
			register(Case{
				Name: fmt.Sprintf("sqrtm.%d.%s", order, dt), Kernel: "gemm_small_" + dt, Shape: shape(batch, order, order), Peak: peak,
				Bytes: 3 * float64(t.Size()) * float64(batch*order*order), Flops: 10 * 4 * float64(batch) * float64(order) * float64(order*order), // ten steps of two half products and a whole one
				Parts: append(rootParts(dt, float64(batch), float64(order), float64(t.Size())),
					Part{"sqrtm_result_" + dt, 2 * float64(t.Size()) * float64(batch*order*order), 0, "memory"}),
				Setup: func(dev *gpu.Device) (func(), error) {
					a := definite(dev, t, batch, order)
					root, inverse := a.Like(), a.Like()
					return func() {
						_, err := ops.Sqrtm(root, inverse, a)
						must(err)
					}, nil
				},
			})
		}
		batch, order := size(8, 1), size(1024, 20)
		register(Case{
			Name: "gemm." + dt, Kernel: "gemm_small_" + dt, Shape: shape(batch, order, order, order), Peak: map[string]string{"f32": "f32", "f64": "f64t"}[dt], Goal: 0.6,
			Bytes: 3 * float64(t.Size()) * float64(batch*order*order), Flops: 2 * float64(batch) * float64(order) * float64(order*order),
			Torch: spec("matmul", "b", batch, "m", order, "n", order, "k", order, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b := normal(dev, t, batch, order, order), normal(dev, t, batch, order, order)
				c := a.Like()
				return func() { ops.GemmBatch(c, a, b, ops.GemmOptions{}) }, nil
			},
		})
	}
}

// momentsCase times the moments of n vectors. Few features are not enough tiles
// for the machine: then rows are parted and the parts' scatters summed.
func momentsCase(dt string, t gpu.DType, n, features int) {
	d := size(features, features/64+7)
	vectors, means := float64(t.Size())*float64(n)*float64(d), 8*float64(d)
	square, flops := 8*float64(d)*float64(d), float64(n)*float64(d)*float64(d+1)
	sums := means * float64((n+511)/512)
	parts := []Part{
		{"moments_sum_" + dt, vectors + sums + means, 2 * float64(n) * float64(d), "memory"},
		{"moments_mean_f64", sums + 2*means, 0, "memory"},
		{"moments_scatter_" + dt, vectors + means + square, flops, "f64t"},
	}
	if d < 1024 {
		tiles := (d + 63) / 64 * ((d+63)/64 + 1) / 2
		splits := float64(min(512/tiles, (n+255)/256))
		parts = append(parts, Part{"moments_reduce_f64", splits*square/2 + square, 0, "memory"})
	}
	register(Case{
		Name: fmt.Sprintf("moments.%d.%s", features, dt), Kernel: "moments_scatter_" + dt, Shape: shape(1, n, d), Peak: "f64t", Goal: 0.6,
		Bytes: 2*vectors + means + square, Flops: flops, Parts: parts,
		Torch: spec("cov", "n", n, "d", d, "dtype", "f64"), // what gives the same accuracy
		Setup: func(dev *gpu.Device) (func(), error) {
			x := normal(dev, t, 1, n, d)
			mean, scatter := dev.Empty64(1, d), dev.Empty64(1, d, d)
			return func() { ops.Moments(mean, scatter, x) }, nil
		},
	})
}

// groupCases are the moments of two groups together, and the covariance of them.
func groupCases() {
	batch, d := size(8, 2), size(2048, 20)
	square, vector := 8*float64(batch)*float64(d)*float64(d), 8*float64(batch)*float64(d)
	register(Case{
		Name: "moments.merge.f64", Kernel: "moments_merge_f64", Shape: shape(batch, d, d), Peak: "memory",
		Bytes: 3*square + 3*vector, Flops: 5 * square / 8,
		Parts: []Part{{"moments_merge_f64", 3*square + 2*vector, 5 * square / 8, "memory"}, {"moments_shift_f64", 3 * vector, 3 * vector / 8, "memory"}},
		Setup: func(dev *gpu.Device) (func(), error) {
			mean, scatter := normal(dev, gpu.Float64, batch, d), definite(dev, gpu.Float64, batch, d)
			other, more := normal(dev, gpu.Float64, batch, d), definite(dev, gpu.Float64, batch, d)
			return func() { ops.MergeMoments(mean, scatter, 1000, other, more, 1) }, nil
		},
	})
	register(Case{
		Name: "moments.covariance.f64", Kernel: "moments_scale_f64", Shape: shape(batch, d, d), Peak: "memory",
		Bytes: 2 * square, Flops: square / 8,
		Torch: spec("lincomb", "n", batch*d*d, "terms", 1, "dtype", "f64"),
		Setup: func(dev *gpu.Device) (func(), error) {
			scatter := definite(dev, gpu.Float64, batch, d)
			cov := scatter.Like()
			return func() { ops.CovarianceOf(cov, scatter, 1000, 1) }, nil
		},
	})
}

// frechetCases are distances of a batch from one reference: as many small ones,
// a block each, and few large ones by Cholesky's factors and Newton-Schulz.
func frechetCases() {
	for _, order := range []int{64, 2048} {
		batch := size(512*64/order, 2)
		d := size(order, order/64+7)
		if tiny && order > 64 {
			d = 71 // two panels of a factor
		}
		square, cube := 8*float64(d)*float64(d), float64(d)*float64(d)*float64(d)
		c := Case{
			Name: fmt.Sprintf("frechet.%d.f64", order), Kernel: "frechet_small_f64", Shape: shape(batch, d, d), Peak: "f64",
			Bytes: float64(batch+1) * (square + 8*float64(d)), Flops: 8 * (3*6 + 6) * float64(batch) * cube, // eight sweeps of three matrices, one with vectors
			Setup: func(dev *gpu.Device) (func(), error) {
				dist, mean, cov := dev.Empty64(batch), normal(dev, gpu.Float64, batch, d), definite(dev, gpu.Float64, batch, d)
				reference, center := definite(dev, gpu.Float64, 1, d), normal(dev, gpu.Float64, 1, d)
				return func() { must(ops.Frechet(dist, center, reference, mean, cov)) }, nil
			},
		}
		if order > 64 {
			// The reference and the batch are factored one after the other, the product of the factors
			// is formed, and ten steps take a half product and a whole one each.
			c.Kernel, c.Peak, c.Flops = "gemm_small_f64", "f64t", (float64(batch+1)/3+float64(batch)*(2+10*3))*cube
			c.Parts = append(rootParts("f64", float64(batch), float64(d), 8), frechetParts(float64(batch), float64(d), square)...)
			c.Parts[0].Bytes *= (1 + 1/float64(batch)) / 2 // the reference is made symmetric alone
		}
		register(c)
	}
}

// rootParts is what one launch of the kernels around the products of a Newton-Schulz
// iteration moves, for a batch of matrices of order d.
func rootParts(dt string, batch, d, element float64) []Part {
	square, vector := element*batch*d*d, 8*batch*d
	return []Part{
		{"sqrtm_symmetric_" + dt, 2 * square, 0, "memory"},
		{"sqrtm_rows_" + dt, square + 4*vector, 0, "memory"},
		{"sqrtm_start_f64", 4 * vector, 0, "memory"},
		{"sqrtm_scale_" + dt, 2 * square, 0, "memory"},
		{"sqrtm_step_f64", 5 * vector, 0, "memory"},
		{"sqrtm_power_f64", 4 * vector, 0, "memory"},
	}
}

// frechetParts is what the kernels do that Frechet alone has, on average over the
// two factorisations, of one matrix and of batch: mean is how many that is.
func frechetParts(batch, d, square float64) []Part {
	const panel = 64
	mean, panels := (batch+1)/2, math.Ceil(d/panel)
	tiles := math.Ceil(d/32) * (math.Ceil(d/32) + 1) / 2
	block := 8.0 * panel * panel
	below := d - panel*panels/2 // rows below a diagonal block, on average over all but the last
	last := d - (panels-1)*panel
	return []Part{
		{"cholesky_check_f64", mean * 16 * tiles, 0, "memory"},
		{"cholesky_diagonal_f64", mean * 2 * ((panels-1)*block + 8*last*last) / panels, mean * panel * panel * panel / 3, "f64"},
		{"cholesky_panel_f64", mean * (2*8*panel*below + block), mean * below * panel * panel, "f64"},
		{"cholesky_upper_f64", mean * square / 2, 0, "memory"},
		{"frechet_dot_f64", batch * (2*square + 8*d), 0, "memory"},
		{"frechet_sum_f64", batch * 5 * 8 * d, 0, "memory"},
	}
}
