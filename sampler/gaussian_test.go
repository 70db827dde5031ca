package sampler_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

// someGaussian is a mean and a covariance of D values.
func someGaussian(D int) (mean []float64, cov *mat.SymDense) {
	r := rand.New(rand.NewPCG(uint64(D), 1))
	mean, a := make([]float64, D), mat.NewDense(D, D, nil)
	for i := range D {
		mean[i] = r.NormFloat64()
		for j := range D {
			a.Set(i, j, r.NormFloat64()/math.Sqrt(float64(D)))
		}
	}
	cov = mat.NewSymDense(D, nil)
	cov.SymOuterK(1, a)
	return mean, cov
}

func dense(m mat.Matrix) *gpu.Tensor {
	r, c := m.Dims()
	return gpu.CPU().From64(mat.DenseCopyOf(m).RawMatrix().Data, r, c)
}

// gaussianMean is mean + a·S·(a²S + b²)⁻¹·(x - a·mean), solved as it stands.
func gaussianMean(t *testing.T, x, mean []float64, cov *mat.SymDense, a, b float64) []float64 {
	t.Helper()
	D := len(x)
	v := mat.NewSymDense(D, nil)
	for i := range D {
		for j := range i + 1 {
			v.SetSym(i, j, a*a*cov.At(i, j))
		}
		v.SetSym(i, i, v.At(i, i)+b*b)
	}
	y := mat.NewVecDense(D, nil)
	for i := range D {
		y.SetVec(i, x[i]-a*mean[i])
	}
	var chol mat.Cholesky
	if !chol.Factorize(v) {
		t.Fatal("the oracle's matrix is not positive definite")
	}
	var z, s mat.VecDense
	if err := chol.SolveVecTo(&z, y); err != nil {
		t.Fatal(err)
	}
	s.MulVec(cov, &z)
	out := make([]float64, D)
	for i := range out {
		out[i] = mean[i] + a*s.AtVec(i)
	}
	return out
}

// Full and low-rank distributions, levels of every image and scaling, on every
// device and in both dtypes, against the posterior mean solved in float64.
func TestGaussianIsExact(t *testing.T) {
	const D, n = 12, 70
	mean, full := someGaussian(D)
	var eig mat.EigenSym
	if !eig.Factorize(full, true) {
		t.Fatal("no eigenvalues")
	}
	for _, rank := range []int{0, D, 3} {
		cov := full
		if rank == 3 { // what the low-rank form stands for
			values, vectors := eig.Values(nil), mat.NewDense(D, D, nil)
			eig.VectorsTo(vectors)
			var rest float64
			for _, v := range values[:D-rank] {
				rest += v / float64(D-rank)
			}
			cov = mat.NewSymDense(D, nil)
			for k := range D {
				v := values[k]
				if k < D-rank {
					v = rest
				}
				cov.SymRankOne(cov, v, vectors.ColView(k))
			}
		}
		g, err := sampler.NewGaussian(gpu.CPU().From64(slices.Clone(mean), D), dense(full), rank, []int{3, 4})
		if err != nil {
			t.Fatal(err)
		}
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
				r := rand.New(rand.NewPCG(2, 2))
				x, at := gpu.CPU().New(dt, n, 3, 4), make([]diffusion.Point, n)
				var given []float64
				for i := range n {
					space := []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace}[i/35]
					at[i].A, at[i].B = space.Scale([]float64{1e-2, 0.5, 80}[i/7%3])
					for j := range D {
						v := at[i].A*mean[j] + math.Hypot(at[i].A, at[i].B)*r.NormFloat64()
						if dt == gpu.Float64 {
							x.F64()[i*D+j] = v
						} else {
							x.F32()[i*D+j] = float32(v)
							v = float64(float32(v))
						}
						given = append(given, v)
					}
				}
				x = x.To(dev)
				out := x.Like()
				if err := g.DenoiseAt(context.Background(), out, x, at, sampler.Cond{}); err != nil {
					t.Fatal(err)
				}
				got := values(out.To(gpu.CPU()))
				for i, p := range at {
					want := gaussianMean(t, given[i*D:(i+1)*D], mean, cov, p.A, p.B)
					var size float64 // of x/A, which is what shrinks
					for j := range D {
						size = max(size, math.Abs(given[i*D+j])/p.A, math.Abs(mean[j]))
					}
					for j, w := range want {
						// A dozen rounded products and sums; the oracle's solution is as good as its matrix's condition, 1e4.
						tol := 1e-11 * size
						if dt == gpu.Float32 {
							tol = 4 * D * 0x1p-24 * size
						}
						if e := math.Abs(got[i*D+j] - w); !(e <= tol) {
							t.Errorf("rank %d, %v, sigma %g: value %d is %.9g, want %.9g", rank, dt, p.Sigma(), j, got[i*D+j], w)
						}
					}
				}
			}
		})
	}
}

// The fit has the images' mean and covariance: one image's posterior by the
// formula; images do not depend on batches; samples have the moments.
func TestFitGaussian(t *testing.T) {
	const N, D = 200, 5
	r := rand.New(rand.NewPCG(4, 9))
	x := gpu.CPU().Empty(N, D)
	mean, data := make([]float64, D), mat.NewDense(N, D, nil)
	for i := range N {
		for j := range D {
			x.F32()[i*D+j] = float32(float64(j) + r.NormFloat64()*float64(j+1))
			data.Set(i, j, float64(x.F32()[i*D+j]))
			mean[j] += data.At(i, j) / N
		}
	}
	cov := mat.NewSymDense(D, nil)
	for i := range D {
		for j := range i + 1 {
			var s float64
			for k := range N {
				s += (data.At(k, i) - mean[i]) * (data.At(k, j) - mean[j]) / N
			}
			cov.SetSym(i, j, s)
		}
	}
	g, err := sampler.FitGaussian(x, 0)
	if err != nil {
		t.Fatal(err)
	}
	in := gpu.CPU().From64([]float64{5, -4, 3, 2, 1}, 1, D)
	out := in.Like()
	if err := g.Denoise(context.Background(), out, in, []float64{2}, sampler.Cond{}); err != nil {
		t.Fatal(err)
	}
	for j, w := range gaussianMean(t, in.F64(), mean, cov, 1, 2) {
		if math.Abs(out.F64()[j]-w) > 1e-11*5 {
			t.Errorf("value %d is %.12g, want %.12g", j, out.F64()[j], w)
		}
	}
	grid := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 40})
	opt := sampler.Options{Seed: 8, N: 960, Batch: 96, Shape: []int{D}}
	res, err := sampler.Run(context.Background(), g, solver(t, "heun"), grid, opt)
	if err != nil {
		t.Fatal(err)
	}
	for j := range D {
		var m, v float64
		for i := range opt.N {
			m += values(res.X)[i*D+j] / float64(opt.N)
		}
		for i := range opt.N {
			e := values(res.X)[i*D+j] - m
			v += e * e / float64(opt.N)
		}
		if z := (m - mean[j]) / math.Sqrt(cov.At(j, j)/float64(opt.N)); math.Abs(z) > 4.9 {
			t.Errorf("dimension %d: the mean of the samples is %.1f standard errors off", j, z)
		}
		if math.Abs(v/cov.At(j, j)-1) > 4.9*math.Sqrt(2/float64(opt.N))+0.01 {
			t.Errorf("dimension %d: variance %.4g, want %.4g", j, v, cov.At(j, j))
		}
	}
	opt.N, opt.Batch = 37, 37
	whole := bits(t, g, "heun", grid, opt)
	opt.Batch = 5
	if !slices.Equal(bits(t, g, "heun", grid, opt), whole) {
		t.Error("batches of 5 give other bits")
	}
}

func TestGaussianRefuses(t *testing.T) {
	dev := gpu.CPU()
	mean, cov := dev.Empty64(2), dev.From64([]float64{1, 0, 0, 1}, 2, 2)
	of := func(m, c *gpu.Tensor, rank int, shape ...int) error {
		_, err := sampler.NewGaussian(m, c, rank, shape)
		return err
	}
	_, one := sampler.FitGaussian(dev.Empty(1, 3), 0)
	g, err := sampler.NewGaussian(mean, cov, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := dev.Empty(1, 3)
	for want, err := range map[string]error{
		"wanted float64 [D] and [D, D]": of(mean, dev.Empty64(3, 2), 0),
		"covariance [2 2]; wanted":      of(dev.Empty(2), cov, 0),
		"rank 3 of 2":                   of(mean, cov, 3),
		"rank -1 of 2":                  of(mean, cov, -1),
		"does not hold":                 of(mean, cov, 0, 1, 1),
		"eigenvalue -1 (largest 1)":     of(mean, dev.From64([]float64{0, 1, 1, 0}, 2, 2), 0),
		"covariance: ":                  of(mean, dev.From64([]float64{1, 5, 0, 1}, 2, 2), 0),
		"at least two":                  one,
		"images of 3 values; the":       g.Denoise(context.Background(), x.Like(), x, []float64{1}, sampler.Cond{}),
		"context canceled":              g.Denoise(canceled(), dev.Empty(1, 2), dev.Empty(1, 2), []float64{1}, sampler.Cond{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
