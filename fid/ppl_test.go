package fid

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// Of the numbers 0 to n-1 in any order the percentiles are known: numpy's "lower" and "higher" of 1 and 99 %, torch's "lower" of both.
func TestPPLCuts(t *testing.T) {
	for _, c := range []struct {
		rule      string
		n, lo, hi int
	}{
		{"stylegan", 1, 0, 0}, {"stylegan", 8, 0, 7}, {"stylegan", 101, 1, 99}, {"stylegan", 102, 1, 100}, {"stylegan", 201, 2, 198}, {"stylegan", 250, 2, 247},
		{"torch-fidelity", 250, 2, 247}, {"torch-fidelity", 50000, 499, 49500},
		{"torchmetrics", 8, 0, 6}, {"torchmetrics", 250, 2, 246}, {"torchmetrics", 10000, 99, 9899},
	} {
		rule, err := FindPPLRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		d := make([]float64, c.n)
		for i, k := range rand.New(rand.NewPCG(1, 2)).Perm(c.n) {
			d[i] = float64(k)
		}
		v, err := PPL(d, rule, IntervalOptions{Replicates: 20})
		if err != nil {
			t.Fatal(err)
		}
		if want := float64(c.lo+c.hi) / 2; v.Value != want || v.Kept != c.hi-c.lo+1 || v.Low != float64(c.lo) || v.High != float64(c.hi) || v.N != c.n {
			t.Errorf("%s of %d: %+v; want %d to %d", c.rule, c.n, v, c.lo, c.hi)
		}
	}
	// Values equal to a bound are kept, all of them.
	rule, _ := FindPPLRule("")
	v, err := PPL([]float64{1, 1, 1, 5, 9, 9, 9}, rule, IntervalOptions{Replicates: 20})
	if err != nil || v.Kept != 7 {
		t.Errorf("%+v, %v", v, err)
	}
}

// The interval of a mean is that of the theory for many normal values, and covers the truth about as often as it says.
func TestMeanOf(t *testing.T) {
	const n, sets = 200, 150
	inside := 0
	for s := range uint64(sets) {
		r := rand.New(rand.NewPCG(s, 7))
		x := make([]float64, n)
		for i := range x {
			x[i] = 3 + r.NormFloat64()
		}
		v, err := MeanOf("lpips", x, IntervalOptions{Seed: s, Replicates: 200})
		if err != nil {
			t.Fatal(err)
		}
		if v.CI[0] <= 3 && 3 <= v.CI[1] {
			inside++
		}
		mean, square := 0.0, 0.0
		for _, y := range x {
			mean += y / n
		}
		for _, y := range x {
			square += (y - mean) * (y - mean)
		}
		if se := math.Sqrt(square / (n - 1) / n); math.Abs(v.StdErr-se) > 1e-12 || math.Abs(v.Value-mean) > 1e-12 || math.Abs(v.CI[1]-v.CI[0]-2*1.96*se) > 0.9*se {
			t.Fatalf("%+v; want %g and a standard error of %g", v, mean, se)
		}
	}
	if share := float64(inside) / sets; share < 0.88 || share > 0.995 {
		t.Errorf("the truth lies in %.3f of intervals of 95 %%", share)
	}
	one, err := MeanOf("lpips", []float64{0.5}, IntervalOptions{})
	if err != nil || one.Value != 0.5 || one.StdErr != 0 || one.CI != [2]float64{0.5, 0.5} {
		t.Errorf("%+v, %v", one, err)
	}
}

func TestMeanRefuses(t *testing.T) {
	var bad *BadInputError
	if _, err := MeanOf("lpips", nil, IntervalOptions{}); !errors.As(err, &bad) {
		t.Errorf("no pairs: %v", err)
	}
	var num *NumericError
	rule, _ := FindPPLRule("stylegan")
	if _, err := PPL([]float64{1, math.Inf(1)}, rule, IntervalOptions{}); !errors.As(err, &num) {
		t.Errorf("infinite: %v", err)
	}
	if _, err := FindPPLRule("mine"); err == nil {
		t.Error("an unknown rule was found")
	}
}
