package ops_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

// orders sit on the edges of warps, tiles and blocks.
var orders = []int{1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129}

// read64 is a tensor's elements in float64.
func read64(t testing.TB, x *gpu.Tensor) []float64 {
	t.Helper()
	out := make([]float64, x.Len())
	if err := x.Read64(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// from is v in a tensor of dtype dt, and v as rounded to it.
func from(dev *gpu.Device, dt gpu.DType, v []float64, shape ...int) (*gpu.Tensor, []float64) {
	if dt == gpu.Float64 {
		v = append([]float64(nil), v...)
		return dev.From64(append([]float64(nil), v...), shape...), v
	}
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	rounded := make([]float64, len(v))
	for i, x := range f {
		switch dt {
		case gpu.BFloat16:
			x = gpu.BF16ToFloat(gpu.FloatToBF16(x))
		case gpu.Float16:
			x = gpu.F16ToFloat(gpu.FloatToF16(x))
		}
		rounded[i] = float64(x)
	}
	return dev.FromAs(dt, f, shape...), rounded
}

func normals(seed uint64, n int) []float64 {
	out := make([]float64, n)
	for i, v := range oracle.Normal(seed, n) {
		out[i] = float64(v)
	}
	return out
}

// rotation is an orthogonal d×d matrix to rounding: Gram and Schmidt, twice.
func rotation(seed uint64, d int) []float64 {
	q := normals(seed, d*d)
	for i := range d {
		row := q[i*d:][:d]
		for range 2 {
			for j := range i {
				other := q[j*d:][:d]
				dot := 0.0
				for k, v := range row {
					dot += v * other[k]
				}
				for k, v := range other {
					row[k] -= dot * v
				}
			}
		}
		norm := frobenius(row)
		for k := range row {
			row[k] /= norm
		}
	}
	return q
}

// spectral is Σ λₖ·qₖᵀqₖ over the rows of q, symmetric to the last bit.
func spectral(q, lambda []float64) []float64 {
	d := len(lambda)
	out := make([]float64, d*d)
	for k, l := range lambda {
		row := q[k*d:][:d]
		for i, x := range row {
			for j, y := range row[:i+1] {
				out[i*d+j] += l * (x * y)
			}
		}
	}
	for i := range d {
		for j := range i {
			out[j*d+i] = out[i*d+j]
		}
	}
	return out
}

// product is a·b for d×d matrices.
func product(d int, a, b []float64) []float64 {
	out := make([]float64, d*d)
	for i := range d {
		for k, x := range a[i*d:][:d] {
			for j, y := range b[k*d:][:d] {
				out[i*d+j] += x * y
			}
		}
	}
	return out
}

func frobenius(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v * v
	}
	return math.Sqrt(s)
}

func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i, v := range a {
		out[i] = v - b[i]
	}
	return out
}

func identity(d int) []float64 {
	out := make([]float64, d*d)
	for i := range d {
		out[i*d+i] = 1
	}
	return out
}

// decades are d eigenvalues from 1 down to 1/condition, evenly in the logarithm.
func decades(d int, condition float64) []float64 {
	out := make([]float64, d)
	for i := range out {
		out[i] = 1
		if d > 1 {
			out[i] = math.Pow(condition, -float64(i)/float64(d-1))
		}
	}
	return out
}

// atMost fails unless got is within the limit; NaN is not.
func atMost(t testing.TB, what string, got, limit float64) {
	t.Helper()
	if !(got <= limit) {
		t.Errorf("%s is %.3g, want at most %.3g", what, got, limit)
	}
}

// allNaN fails unless every element is NaN.
func allNaN(t testing.TB, what string, x []float64) {
	t.Helper()
	for i, v := range x {
		if v == v {
			t.Errorf("%s: element %d is %g, want NaN", what, i, v)
			return
		}
	}
}

// refused fails unless err is a MatrixError of that fault and matrix whose text holds the words.
func refused(t testing.TB, err error, fault ops.Fault, index int, words string) {
	t.Helper()
	var e *ops.MatrixError
	if !errors.As(err, &e) {
		t.Errorf("error is %v, want a MatrixError", err)
		return
	}
	if e.Fault != fault || e.Index != index || !strings.Contains(e.Error(), words) {
		t.Errorf("error is fault %d of matrix %d, %q; want fault %d of matrix %d with %q", e.Fault, e.Index, e, fault, index, words)
	}
}

func mustPanic(t *testing.T, name, words string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		v := recover()
		if s, ok := v.(string); !ok || !strings.Contains(s, words) {
			t.Errorf("%s: panic is %v, want one with %q", name, v, words)
		}
	}()
	f()
}
