package sampler

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// drawn is n vectors of a mixture of two in the plane, turned into five
// dimensions by an orthonormal frame, with noise of deviation 0.01 in all.
func drawn(seed uint64, n int) (x Rows, truth []float64) {
	r := rng.New(seed, 0)
	data := make([]float64, n*5)
	truth = make([]float64, n)
	for i := range n {
		z0, z1 := r.Normal(), r.Normal()
		// N((2,0), [1 .5; .5 .5]) with weight 0.3, N((-1,1), 0.09 I) with 0.7
		a, b := 2+z0, 0.5*z0+0.5*z1
		if r.Float64() < 0.7 {
			a, b = -1+0.3*z0, 1+0.3*z1
		}
		dens := func(x, y, det, ixx, ixy, iyy float64) float64 {
			return math.Exp(-(ixx*x*x+2*ixy*x*y+iyy*y*y)/2) / (2 * math.Pi * math.Sqrt(det))
		}
		truth[i] = math.Log(0.3*dens(a-2, b, 0.25, 2, -2, 4) + 0.7*dens(a+1, b-1, 0.0081, 1/0.09, 0, 1/0.09))
		s := math.Sqrt(0.5)
		for j, v := range []float64{s * (a + b), 0, s * (a - b), 0, 0} {
			data[5*i+j] = v + 0.01*r.Normal() + float64(j)
		}
	}
	return Rows{N: n, D: 5, At: func(i int, dst []float64) { copy(dst, data[5*i:5*i+5]) }}, truth
}

// The maximum of the likelihood is at least the truth's, and close to it.
func TestFitRecoversAMixture(t *testing.T) {
	x, truth := drawn(1, 4000)
	s, err := FitMixture(context.Background(), x, nil, FitOptions{Components: 2, Dims: 2, Iterations: 60, Residual: 1, Seed: 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Subspace.Residual < 0.8e-4 || s.Subspace.Residual > 1.2e-4 {
		t.Errorf("residual variance %g, want about 1e-4", s.Subspace.Residual)
	}
	w := s.Weights
	if lo := min(w[0], w[1]); math.Abs(lo-0.3) > 4.9*math.Sqrt(0.21/4000)+0.005 {
		t.Errorf("weights %v, want 0.3 and 0.7", w)
	}
	var fit, want float64
	row := make([]float64, 5)
	for i := range x.N {
		x.At(i, row)
		for j, m := range s.Subspace.Mean {
			row[j] -= m
		}
		var z [2]float64
		for k, b := range s.Subspace.Basis {
			for j, v := range b {
				z[k] += v * row[j]
			}
		}
		var p float64
		for k := range 2 {
			c := s.Covs[k]
			det := c[0][0]*c[1][1] - c[0][1]*c[0][1]
			a, b := z[0]-s.Means[k][0], z[1]-s.Means[k][1]
			p += w[k] * math.Exp(-(c[1][1]*a*a-2*c[0][1]*a*b+c[0][0]*b*b)/(2*det)) / (2 * math.Pi * math.Sqrt(det))
		}
		fit += math.Log(p) / float64(x.N)
		want += truth[i] / float64(x.N)
	}
	// Eleven parameters are worth 11/2n on average; the noise of 0.01 costs little.
	if fit < want-0.01 || fit > want+0.01 {
		t.Errorf("mean log-likelihood %.4f, the truth's is %.4f", fit, want)
	}
}

// Expectation maximisation never lowers the likelihood.
func TestEMIsMonotone(t *testing.T) {
	x, _ := drawn(2, 1500)
	f := &classFit{d: 5, o: FitOptions{Components: 4, Iterations: 40}, rng: rng.New(1, 1)}
	for i := range x.N {
		row := make([]float64, 5)
		x.At(i, row)
		f.z = append(f.z, row...)
	}
	cpu.Do(func(w *cpu.Worker) { f.fit(context.Background(), w) })
	if f.err != nil || len(f.loglik) != 40 {
		t.Fatalf("%d iterations, %v", len(f.loglik), f.err)
	}
	for i := 1; i < len(f.loglik); i++ {
		if f.loglik[i] < f.loglik[i-1]-1e-10 {
			t.Errorf("iteration %d: log-likelihood fell from %.12f to %.12f", i, f.loglik[i-1], f.loglik[i])
		}
	}
}

func TestFitIsReproducible(t *testing.T) {
	x, _ := drawn(3, 1200)
	labels := make([]uint8, x.N)
	for i := range labels {
		labels[i] = uint8(i % 3 * 2)
	}
	o := FitOptions{Components: 2, Dims: 4, Iterations: 5, PCAStride: 2, Pool: 10, Seed: 5}
	a, err := FitMixture(context.Background(), x, labels, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := 0.0
	b, err := FitMixture(context.Background(), x, labels, o, func(p float64) {
		if p < last || p > 1 {
			t.Errorf("progress %g after %g", p, last)
		}
		last = p
	})
	if err != nil || last != 1 {
		t.Fatalf("progress ended at %g, %v", last, err)
	}
	if !slices.Equal(a.Weights, b.Weights) || !slices.Equal(slices.Concat(a.Means...), slices.Concat(b.Means...)) {
		t.Error("the same seed gives another mixture")
	}
	if !slices.Equal(a.Labels, []int{0, 0, 2, 2, 4, 4}) {
		t.Errorf("labels %v", a.Labels)
	}
	m, err := NewMixture(*a)
	if err != nil || m.K() != 6 || m.Shape()[0] != 5 {
		t.Errorf("mixture of %d components, %v", m.K(), err)
	}
	o.Seed++
	if c, err := FitMixture(context.Background(), x, labels, o, nil); err != nil || slices.Equal(a.Weights, c.Weights) {
		t.Errorf("another seed gives the same mixture (%v)", err)
	}
}

func TestFitRefuses(t *testing.T) {
	x, _ := drawn(4, 50)
	for want, c := range map[string]struct {
		x      Rows
		labels []uint8
		o      FitOptions
	}{
		"3 labels for 50":  {x, make([]uint8, 3), FitOptions{Components: 1, Dims: 2}},
		"dims at most":     {x, nil, FitOptions{Components: 1, Dims: 6}},
		"components and":   {x, nil, FitOptions{Dims: 2}},
		"wanted at least":  {x, nil, FitOptions{Components: 26, Dims: 2}},
		"no vectors":       {Rows{D: 5}, nil, FitOptions{Components: 1, Dims: 2}},
		"covariance of th": {Rows{N: 9, D: 2, At: func(_ int, d []float64) { d[0] = math.NaN() }}, nil, FitOptions{Components: 1, Dims: 2}},
		"component 0":      {Rows{N: 9, D: 2, At: func(_ int, d []float64) { d[0] = 1 }}, nil, FitOptions{Components: 1, Dims: 2, Iterations: 1}},
	} {
		if _, err := FitMixture(context.Background(), c.x, c.labels, c.o, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := FitMixture(ctx, x, nil, FitOptions{Components: 1, Dims: 2}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
