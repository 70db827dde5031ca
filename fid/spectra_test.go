package fid

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// meanAndCovariance is the covariance of rows in float64, ddof 1, and their mean.
func meanAndCovariance(x []float32, n, d int) (mean, sigma []float64) {
	mean, sigma = make([]float64, d), make([]float64, d*d)
	for i := range n {
		for j := range d {
			mean[j] += float64(x[i*d+j]) / float64(n)
		}
	}
	for i := range n {
		for j := range d {
			for k := range d {
				sigma[j*d+k] += (float64(x[i*d+j]) - mean[j]) * (float64(x[i*d+k]) - mean[k]) / float64(n-1)
			}
		}
	}
	return mean, sigma
}

// The values of a diagonal covariance are its diagonal; their sum and that of their squares are traces of any.
func TestSpectrumOf(t *testing.T) {
	s := &Stats{N: 100, Mu: make([]float64, 4), Sigma: []float64{4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0}}
	got, err := SpectrumOf(s)
	if err != nil {
		t.Fatal(err)
	}
	h := -2*4.0/9*math.Log(4.0/9) - math.Log(1.0/9)/9
	if fmt.Sprint(got.Values) != "[4 4 1 0]" || got.Rank != 3 || got.Ninety != 3 || math.Abs(got.Effective-math.Exp(h)) > 1e-12 {
		t.Errorf("%+v", got)
	}
	for _, c := range [][2]int{{200, 12}, {10, 30}, {30, 30}, {2, 5}} {
		n, d := c[0], c[1]
		x := draw(3, n, d, 0.5)
		_, sigma := meanAndCovariance(x, n, d)
		got, err := SpectrumOf(mustStats(t, x, n, d))
		if err != nil {
			t.Fatal(err)
		}
		sum, squares, trace, frobenius := 0.0, 0.0, 0.0, 0.0
		for i, v := range got.Values {
			sum, squares = sum+v, squares+v*v
			if i > 0 && v > got.Values[i-1] {
				t.Errorf("%v: value %d rises", c, i)
			}
		}
		for i := range d {
			trace += sigma[i*d+i]
		}
		for _, v := range sigma {
			frobenius += v * v
		}
		if math.Abs(sum-trace) > 1e-10*trace || math.Abs(squares-frobenius) > 1e-10*frobenius || got.Rank != min(d, n-1) {
			t.Errorf("%v: sums %g and %g, want %g and %g; rank %d", c, sum, squares, trace, frobenius, got.Rank)
		}
	}
	if _, err := SpectrumOf(&Stats{N: 9, Mu: []float64{0, 0}, Sigma: []float64{1, 0, 0, math.NaN()}}); err == nil {
		t.Error("no error for a NaN")
	}
}

// The axes are those of the largest eigenvalues of the mixture's covariance: no direction of a thousand has more variance, and the two
// of the plane are eigenvectors. Points, means and ellipses are those of the definition.
func TestProject(t *testing.T) {
	for _, c := range [][3]int{{300, 200, 6}, {8, 9, 40}, {30, 25, 40}, {60, 10, 40}} {
		n, m, d := c[0], c[1], c[2]
		x, y := draw(1, n, d, 0), draw(2, m, d, 0.8)
		for i := range n { // one axis that is wide
			x[i*d+1] *= 4
		}
		p, err := Project(mustStats(t, x, n, d), mustStats(t, y, m, d))
		if err != nil {
			t.Fatal(err)
		}
		ma, sa := meanAndCovariance(x, n, d)
		mb, sb := meanAndCovariance(y, m, d)
		mix, trace := make([]float64, d*d), 0.0
		for i := range d {
			for j := range d {
				mix[i*d+j] = (sa[i*d+j]+sb[i*d+j])/2 + (mb[i]-ma[i])*(mb[j]-ma[j])/4
			}
			trace += mix[i*d+i]
		}
		form := func(v []float64) (q float64) {
			for i := range d {
				for j := range d {
					q += v[i] * mix[i*d+j] * v[j]
				}
			}
			return q
		}
		for k, v := range p.Axes {
			l := form(v)
			if math.Abs(l/trace-p.Share[k]) > 1e-9 {
				t.Errorf("%v: axis %d: share %g, want %g", c, k, p.Share[k], l/trace)
			}
			for i := range d {
				along := 0.0
				for j := range d {
					along += mix[i*d+j] * v[j]
				}
				if math.Abs(along-l*v[i]) > 1e-8*trace {
					t.Errorf("%v: axis %d is no eigenvector: %g, want %g", c, k, along, l*v[i])
				}
			}
		}
		other := draw(9, 1000, d, 0)
		for i := range 1000 { // directions across the first axis
			v, dot := make([]float64, d), 0.0
			for j := range v {
				v[j] = float64(other[i*d+j])
				dot += v[j] * p.Axes[0][j]
			}
			for j := range v {
				v[j] -= dot * p.Axes[0][j]
			}
			normalise(v)
			if form(v) > p.Share[1]*trace*(1+1e-9) {
				t.Fatalf("%v: a direction has more variance than the second axis", c)
			}
		}
		for side, set := range []struct {
			x []float32
			n int
		}{{x, n}, {y, m}} {
			got := p.Sets[side]
			at := make([]float32, 2*set.n)
			for i := range set.n {
				for k, v := range p.Axes {
					sum := 0.0
					for j := range d {
						sum += v[j] * (float64(set.x[i*d+j]) - (ma[j]+mb[j])/2)
					}
					if math.Abs(sum-got.Points[i][k]) > 1e-6 {
						t.Fatalf("%v: point %d: %v, want %g at %d", c, i, got.Points[i], sum, k)
					}
					at[2*i+k] = float32(sum)
				}
			}
			mean, cov := meanAndCovariance(at, set.n, 2)
			for k := range 2 {
				if math.Abs(mean[k]-got.Mean[k]) > 1e-5 {
					t.Errorf("%v: mean %v, want %v", c, got.Mean, mean)
				}
			}
			for k, w := range []float64{cov[0], cov[1], cov[3]} {
				if math.Abs(w-got.Cov[k]) > 1e-5*(cov[0]+cov[3]) {
					t.Errorf("%v: ellipse %v, want %v", c, got.Cov, cov)
				}
			}
		}
	}
}

func TestProjectRefuses(t *testing.T) {
	a := mustStats(t, draw(1, 40, 4, 0), 40, 4)
	if _, err := Project(a, mustStats(t, draw(1, 40, 5, 0), 40, 5)); err == nil || !strings.Contains(err.Error(), "extract both") {
		t.Errorf("%v", err)
	}
	one := mustStats(t, draw(1, 40, 1, 0), 40, 1)
	if _, err := Project(one, one); err == nil || !strings.Contains(err.Error(), "no plane") {
		t.Errorf("%v", err)
	}
	p, err := Project(a, &Stats{N: 40, Mu: a.Mu, Sigma: a.Covariance()})
	if err != nil || p.Sets[1].Points != nil || p.Sets[1].Cov != p.Sets[0].Cov {
		t.Errorf("without features: %+v, %v", p, err)
	}
	same := mustStats(t, make([]float32, 80), 20, 4) // all equal
	if _, err := Project(same, same); err != nil {
		t.Error(err)
	}
}
