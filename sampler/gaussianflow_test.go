package sampler_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/sampler"
)

// flowMatrix is Σ_k c(λ_k)·u_k·u_kᵀ of a covariance, by gonum.
func flowMatrix(t *testing.T, cov *mat.SymDense, c func(lambda float64) float64) *mat.Dense {
	t.Helper()
	var eig mat.EigenSym
	if !eig.Factorize(cov, true) {
		t.Fatal("no eigenvalues")
	}
	D := cov.SymmetricDim()
	var u mat.Dense
	eig.VectorsTo(&u)
	out := mat.NewDense(D, D, nil)
	for k, l := range eig.Values(nil) {
		v := mat.Col(nil, k, &u)
		out.RankOne(out, c(l), mat.NewVecDense(D, v), mat.NewVecDense(D, v))
	}
	return out
}

// gaussLaw is some Gaussian of D values and its numbers.
func gaussLaw(t *testing.T, D, rank int) (*sampler.Gaussian, []float64, *mat.SymDense) {
	t.Helper()
	mean, cov := someGaussian(D)
	g, err := sampler.NewGaussian(gpu.CPU().From64(slices.Clone(mean), D), dense(cov), rank, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g, mean, cov
}

func normals(seed uint64, n, D int) *gpu.Tensor {
	r := rand.New(rand.NewPCG(seed, 7))
	x := gpu.CPU().Empty64(n, D)
	for i := range x.F64() {
		x.F64()[i] = r.NormFloat64()
	}
	return x
}

func as(x *gpu.Tensor, dt gpu.DType) *gpu.Tensor {
	if dt == gpu.Float64 {
		return x
	}
	y := gpu.CPU().Empty(x.Shape()...)
	for i, v := range x.F64() {
		y.F32()[i] = float32(v)
	}
	return y
}

// In all scalings of states, from finite noise and from none but noise, the flow is
// mean + Σ_k √((λ_k+σ_b²)/(λ_k+σ_a²))·u_k·u_kᵀ·(x_a - mean) of x/A, or its limit
// mean + Σ_k √(λ_k+σ_b²)·u_k·u_kᵀ·n.
func TestFlowInEveryScaling(t *testing.T) {
	const D, n, to = 9, 3, 1.5
	law, mean, cov := gaussLaw(t, D, 0)
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
			for _, start := range []float64{80, 3, math.Inf(1)} {
				if math.IsInf(start, 1) && space == diffusion.VESpace {
					continue // has no such state
				}
				m := flowMatrix(t, cov, func(l float64) float64 {
					if math.IsInf(start, 1) {
						return math.Sqrt(l + to*to)
					}
					return math.Sqrt((l + to*to) / (l + start*start))
				})
				for dt, tol := range map[gpu.DType]float64{gpu.Float64: 1e-12, gpu.Float32: 1e-5} {
					var from, end diffusion.Point
					from.A, from.B = space.Scale(start)
					end.A, end.B = space.Scale(to)
					noise := normals(3, n, D)
					x := noise.Like()
					var want []float64
					for i := range n {
						y := mat.NewVecDense(D, nil)
						for j := range D {
							x.F64()[i*D+j] = from.A*mean[j] + from.B*noise.F64()[i*D+j]
							if from.A > 0 {
								y.SetVec(j, start*noise.F64()[i*D+j])
							} else {
								y.SetVec(j, noise.F64()[i*D+j])
							}
						}
						var v mat.VecDense
						v.MulVec(m, y)
						for j := range D {
							want = append(want, end.A*(mean[j]+v.AtVec(j)))
						}
					}
					states := as(x, dt).To(dev)
					if err := law.Flow(context.Background(), states, from, end, sampler.Cond{}); err != nil {
						t.Fatal(err)
					}
					for i, v := range values(states.To(gpu.CPU())) {
						if !(math.Abs(v-want[i]) <= tol*(1+math.Abs(want[i]))) {
							t.Errorf("%v %v from sigma %g: value %d is %.10g, want %.10g", space, dt, start, i, v, want[i])
						}
					}
				}
			}
		}
	})
}

// The flow from 80 to 1 is what 10,000 midpoint steps of dx/ds = x - E[x0|x], s =
// ln σ, lead to, and 80 to 20 to 1 is 80 to 1. Euler's steps with the same score,
// in place of the closed form, fail this.
func TestFlowIsTheEquationsSolution(t *testing.T) {
	const D, tol = 5, 1e-6
	law, mean, cov := gaussLaw(t, D, 0)
	start := normals(5, 1, D)
	for i := range start.F64() {
		start.F64()[i] = mean[i] + 80*start.F64()[i]
	}
	flow := func(levels ...float64) []float64 {
		x := start.Like()
		x.Copy(start)
		for i := range len(levels) - 1 {
			if err := law.Flow(context.Background(), x, diffusion.Point{A: 1, B: levels[i]}, diffusion.Point{A: 1, B: levels[i+1]}, sampler.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
		return x.F64()
	}
	// The precision matrix once; the oracle's score is (σ² + Σ)⁻¹(mean - x).
	slope := func(x []float64, s float64) []float64 {
		d := gaussianMean(t, x, mean, cov, 1, math.Exp(s))
		for i := range d {
			d[i] = x[i] - d[i]
		}
		return d
	}
	walk := func(steps int, midpoint bool) []float64 {
		x := slices.Clone(start.F64())
		h := -math.Log(80) / float64(steps)
		for i := range steps {
			s := math.Log(80) + float64(i)*h
			k := slope(x, s)
			if midpoint {
				half := slices.Clone(x)
				for j := range half {
					half[j] += h / 2 * k[j]
				}
				k = slope(half, s+h/2)
			}
			for j := range x {
				x[j] += h * k[j]
			}
		}
		return x
	}
	far := func(a, b []float64) (worst float64) {
		for i := range a {
			worst = max(worst, math.Abs(a[i]-b[i])/(1+math.Abs(a[i])))
		}
		return worst
	}
	want := walk(10000, true)
	if e := far(flow(80, 1), want); !(e <= tol) {
		t.Errorf("the flow is %.2g off the integration", e)
	}
	if e := far(flow(80, 20, 1), flow(80, 1)); !(e <= 1e-13) {
		t.Errorf("80 to 20 to 1 is %.2g off 80 to 1", e)
	}
	if e := far(walk(10000, false), want); e <= tol {
		t.Errorf("10000 steps of Euler pass as well (%.2g): the check is blind", e)
	}
}

// Outside the span of the data a state is noise, and stays so: its length goes from
// σ_a√(D-r) to σ_b√(D-r) with no variance there, and to what the mean of the
// discarded variances says. Who drops that part loses its length.
func TestFlowKeepsTheComplement(t *testing.T) {
	const D, r, a, b = 60, 4, 80., 2.
	mean, basis := gpu.CPU().Empty64(D), gpu.CPU().Empty64(r, D)
	for k := range r {
		basis.F64()[k*D+k] = 1
	}
	law, err := sampler.GaussianOf(mean, basis, []float64{4, 3, 2, 1}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	length := func(x []float64) (sum float64) {
		for _, v := range x[r:] {
			sum += v * v
		}
		return math.Sqrt(sum)
	}
	for _, rest := range []float64{0, 0.7} {
		g, err := law.WithRest(rest)
		if err != nil || g.Rest() != rest {
			t.Fatal(err)
		}
		x := normals(6, 1, D)
		for i := range x.F64() {
			x.F64()[i] *= a
		}
		before := length(x.F64())
		if err := g.Flow(context.Background(), x, diffusion.Point{A: 1, B: a}, diffusion.Point{A: 1, B: b}, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		want := before * math.Sqrt((rest+b*b)/(rest+a*a))
		after := length(x.F64())
		if !(math.Abs(after-want) <= 1e-12*want) {
			t.Errorf("rest %g: length %v, want %v", rest, after, want)
		}
		if after < b*math.Sqrt(D-r)/2 {
			t.Errorf("rest %g: length %v: the complement is gone", rest, after)
		}
		dropped := append(slices.Clone(x.F64()[:r]), make([]float64, D-r)...) // the naive map: U·c·Uᵀ·(x - mean) alone
		if length(dropped) >= b*math.Sqrt(D-r)/2 {
			t.Error("the check does not see a dropped complement")
		}
	}
}
