package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// nearestBySearch is the definition.
func nearestBySearch(m ops.Metric, z, book []float64) (at int, far float64) {
	far = math.Inf(1)
	d := len(z)
	for k := range len(book) / d {
		var s, a, b, ab float64
		for i, v := range z {
			e := book[k*d+i]
			s += (v - e) * (v - e)
			a, b, ab = a+v*v, b+e*e, ab+v*e
		}
		if m == ops.Cosine {
			s = 1
			if a > 0 && b > 0 {
				s = 1 - ab/(math.Sqrt(a)*math.Sqrt(b))
			}
		}
		if s < far {
			at, far = k, s
		}
	}
	return at, far
}

// The index is exactly that of a search in float64, in both dtypes and on every device, over
// sizes that fill tiles and that don't; the book holds pairs that differ in the last bits only,
// rows twice, and the vectors some that are codes, and zeros.
func TestNearest(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(1, 2))
		cases := 0
		for _, double := range []bool{false, true} {
			for _, m := range []ops.Metric{ops.L2, ops.Cosine} {
				for _, s := range [][3]int{{1, 1, 1}, {3, 2, 5}, {33, 700, 8}, {70, 512, 3}, {100, 129, 32}, {31, 40, 100}, {64, 64, 16}} {
					nearestCase(t, dev, r, double, m, s[0], s[1], s[2])
					cases += s[0]
				}
			}
		}
		if cases != 2*2*(1+3+33+70+100+31+64) {
			t.Errorf("%d cases", cases)
		}
	})
}

func nearestCase(t *testing.T, dev *gpu.Device, r *rand.Rand, double bool, m ops.Metric, n, count, d int) {
	t.Helper()
	zt, zv := tensors(r, double, 1, n, d)
	bt, bv := tensors(r, double, 1, count, d)
	put := func(x *gpu.Tensor, xv []float64, at int, v []float64) {
		for i, e := range v {
			if double {
				x.F64()[at+i] = e
				xv[at+i] = e
			} else {
				x.F32()[at+i] = float32(e)
				xv[at+i] = float64(float32(e))
			}
		}
	}
	for k := 0; k+7 < count; k += 9 { // almost the same, and the same
		v := append([]float64{}, bv[0][k*d:][:d]...)
		put(bt[0], bv[0], (k+7)*d, v)
		v[0] *= 1 + 0x1p-22
		put(bt[0], bv[0], (k+3)*d, v)
	}
	for i := 0; i < n; i += 4 { // vectors that are codes
		put(zt[0], zv[0], i*d, bv[0][i%count*d:][:d])
	}
	if n > 2 {
		put(zt[0], zv[0], 2*d, make([]float64, d))
	}
	z, book := zt[0].To(dev), bt[0].To(dev)
	idx, dist := dev.New(gpu.Int32, n), dev.New(z.DType(), n)
	ops.Nearest(idx, dist, z, book, m)
	at, far := idx.To(gpu.CPU()).I32(), make([]float64, n)
	if err := dist.Read64(far); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want, least := nearestBySearch(m, zv[0][i*d:][:d], bv[0])
		got := int(at[i])
		if got != want {
			_, same := nearestBySearch(m, zv[0][i*d:][:d], bv[0][got*d:][:d])
			if m == ops.L2 || math.Abs(same-least) > 1e-15 { // cosines of one direction differ by a rounding
				t.Fatalf("float64 %t, metric %d, %d by %d of %d: row %d is nearest to %d at %v, want %d at %v", double, m, n, count, d, i, got, same, want, least)
			}
		}
		tol := 1e-6 * (1 + least)
		if double {
			tol = 1e-14 * (1 + least)
		}
		if math.Abs(far[i]-least) > tol {
			t.Fatalf("float64 %t, metric %d, %d by %d of %d: distance %v of row %d, want %v", double, m, n, count, d, far[i], i, least)
		}
	}
	again := dev.New(gpu.Int32, n)
	ops.Nearest(again, nil, z, book, m)
	host, first := gpu.CPU().New(gpu.Int32, n), again.To(gpu.CPU())
	ops.Nearest(host, nil, zt[0], bt[0], m)
	if fmt.Sprint(first.I32()) != fmt.Sprint(at) || fmt.Sprint(host.I32()) != fmt.Sprint(at) {
		t.Fatal("without distances, or on the CPU, the indices differ")
	}
}

// Numbers that overflow a product, and NaN, do not lead astray.
func TestNearestOfHugeNumbersAndNaN(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		book := dev.From([]float32{1, 0, 3e38, 3e38, 2e38, -1e38, 0, 1}, 4, 2)
		nan := float32(math.NaN())
		z := dev.From([]float32{3e38, 2.5e38, nan, 0, 0, 2, 2e38, -2e38}, 4, 2)
		idx, dist := dev.New(gpu.Int32, 4), dev.Empty(4)
		ops.Nearest(idx, dist, z, book, ops.L2)
		far, err := dist.Floats()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(idx.To(gpu.CPU()).I32()); got != "[1 0 3 2]" || !math.IsNaN(float64(far[1])) || far[2] != 1 {
			t.Errorf("indices %s at %v", got, far)
		}
	})
}

func TestNearestRefuses(t *testing.T) {
	f := func(s ...int) *gpu.Tensor { return gpu.CPU().Zeros(gpu.Float32, s...) }
	ids := func(n int) *gpu.Tensor { return gpu.CPU().New(gpu.Int32, n) }
	for want, call := range map[string]func(){
		"ops: Nearest: vectors [3 4] and book [5 3], want": func() { ops.Nearest(ids(3), nil, f(3, 4), f(5, 3), ops.L2) },
		"book [0 4], want [n, d] and":                      func() { ops.Nearest(ids(3), nil, f(3, 4), f(0, 4), ops.L2) },
		"idx has shape [2], want 3 elements":               func() { ops.Nearest(ids(2), nil, f(3, 4), f(5, 4), ops.L2) },
		"dist has shape [2], want 3":                       func() { ops.Nearest(ids(3), f(2), f(3, 4), f(5, 4), ops.L2) },
		"indices are float32, want int32":                  func() { ops.Nearest(f(3), nil, f(3, 4), f(5, 4), ops.L2) },
		"metric 7, want":                                   func() { ops.Nearest(ids(3), nil, f(3, 4), f(5, 4), 7) },
		"ops: OneHot: place 4 of row 1, want 0 to 3":       func() { ops.OneHot(f(2, 4), gpu.CPU().FromInt32([]int32{0, 4}, 2)) },
		"ops: Gumbels: the output has no rows":             func() { ops.Gumbels(f(), ops.Noise{}, false) },
		"ops: Above: shapes [2] and [3]":                   func() { ops.Above(f(2), f(3), 0) },
	} {
		msg := ""
		func() {
			defer func() { msg = fmt.Sprint(recover()) }()
			call()
		}()
		if !strings.Contains(msg, want) {
			t.Errorf("%s, want %q", msg, want)
		}
	}
	ops.Nearest(ids(0), f(0), f(0, 4), f(5, 4), ops.L2)
}

// Rows of noise are those of their streams: the same in a batch and alone.
func TestGumbels(t *testing.T) {
	whole, tail := gpu.CPU().Empty64(4, 5), gpu.CPU().Empty64(2, 3)
	z := ops.Noise{Seed: 3, Stream: 1 << 50, From: 7}
	for _, logistic := range []bool{false, true} {
		ops.Gumbels(whole, z, logistic)
		ops.Gumbels(tail, ops.Noise{Seed: 3, Stream: 1<<50 + 2, From: 9}, logistic)
		for r := range 2 {
			for i := range 3 {
				if a, b := whole.F64()[(r+2)*5+i+2], tail.F64()[r*3+i]; a != b {
					t.Errorf("row %d, element %d: %v and %v", r, i, a, b)
				}
			}
		}
	}
}

func BenchmarkNearest(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, d := range []int{8, 64} {
		z, _ := tensors(r, false, 1, 4096, d)
		book, _ := tensors(r, false, 1, 1024, d)
		idx := gpu.CPU().New(gpu.Int32, 4096)
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			for b.Loop() {
				ops.Nearest(idx, nil, z[0], book[0], ops.L2)
			}
			b.ReportMetric(float64(b.N)*2*4096*1024*float64(d)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
		})
	}
}
