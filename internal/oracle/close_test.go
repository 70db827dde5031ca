package oracle

import (
	"math"
	"testing"
)

// failures counts what a comparison reports instead of failing the test.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Errorf(string, ...any) { f.n++ }
func (f *failures) Helper()               {}

// The comparison that every other test stands on lets nothing through.
func TestClose(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		got  float32
		want float64
		ok   bool
	}{
		{"equal", 1, 1, true},
		{"within", 1 + 0x1p-22, 1, true},
		{"beyond", 1 + 0x1p-20, 1, false},
		{"NaN for a number", nan, 1, false},
		{"a number for NaN", 1, math.NaN(), false},
		{"NaN for NaN", nan, math.NaN(), true},
		{"infinity", inf, math.Inf(1), true},
		{"other infinity", inf, math.Inf(-1), false},
		{"a number for infinity", 1, math.Inf(1), false},
		{"infinity for a number", inf, 1, false},
	} {
		f := &failures{TB: t}
		want := func(i int) float64 {
			if i == 0 {
				return 0
			}
			return c.want
		}
		Close(f, []float32{0, c.got}, Tol{Eps: 4}, want)
		if (f.n == 0) != c.ok {
			t.Errorf("%s: %d failures, want ok = %t", c.name, f.n, c.ok)
		}
	}
}

func TestGrad(t *testing.T) {
	g := Grad(t, []float64{2, 3}, 1e-5, func(x []float64) float64 { return x[0] * x[0] * x[1] })
	for i, want := range []float64{12, 4} {
		if !(math.Abs(g[i]-want) < 1e-8) {
			t.Errorf("gradient %d is %g, want %g", i, g[i], want)
		}
	}
}

func TestNormal(t *testing.T) {
	x := Normal(1, 100000)
	var m, s float64
	for _, v := range x {
		m += float64(v)
		s += float64(v) * float64(v)
	}
	m, s = m/1e5, s/1e5
	if !(math.Abs(m) < 0.015 && math.Abs(s-1) < 0.025) {
		t.Errorf("mean %g, second moment %g", m, s)
	}
	if y := Normal(1, 3); y[2] != x[2] || Normal(2, 3)[0] == x[0] {
		t.Error("seeds do not decide the values")
	}
}
