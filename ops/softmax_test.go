package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var realDTypes = []gpu.DType{gpu.Float32, gpu.Float64}

// rowShapes are rows of one warp and of a block, of vectors and of single elements.
var rowShapes = [][]int{{1, 1}, {3, 7}, {9, 32}, {8, 10}, {17, 33}, {2, 5, 128}, {3, 1023}, {2, 1024}, {2, 1025}, {3, 1028}, {2, 5003}, {0, 4}}

// isNear fails unless got is want to within bound; NaN is near NaN, an infinity itself.
func isNear(t *testing.T, what string, got, want, bound float64) {
	t.Helper()
	if got != want && !(math.Abs(got-want) <= bound) && !(got != got && want != want) {
		t.Fatalf("%s is %v, want %v within %.3g", what, got, want, bound)
	}
}

// softRow is a row's greatest element, its softmax and the logarithm of its sum of
// exponentials, and of each probability the relative error of rounding differences and
// of a sum of n terms.
func softRow(dt gpu.DType, x []float64) (p, rel []float64, lse float64) {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	var sum float64
	p, rel = make([]float64, len(x)), make([]float64, len(x))
	for i, v := range x {
		p[i] = math.Exp(v - top)
		sum += p[i]
	}
	for i, v := range x {
		p[i] /= sum
		if rel[i] = linearUnit(dt) * (24 + float64(len(x))/16); !math.IsInf(v, 0) {
			rel[i] += linearUnit(dt) * (top - v)
		}
	}
	lse = top
	if !math.IsInf(top, 0) {
		lse = top + math.Log(sum)
	}
	return p, rel, lse
}

func TestSoftmax(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, shape := range rowShapes {
				x, v := rowsWithEnds(t, dev, dt, 1, shape)
				dy, dv := linearInput(t, dev, dt, 2, shape...)
				dx, old := linearInput(t, dev, dt, 3, shape...)
				y, own := x.Like(), x.Like()
				own.Copy(dy)
				ops.Softmax(y, x)
				ops.SoftmaxBackward(dx, y, dy, true)
				ops.SoftmaxBackward(own, y, own, false)
				ops.Softmax(x, x)
				stored, inPlace, added, alone := read64(t, y), read64(t, x), read64(t, dx), read64(t, own)
				n := shape[len(shape)-1]
				for r := range len(v) / n {
					p, rel, _ := softRow(dt, v[r*n:][:n])
					var dot, size float64
					for i := range n {
						dot += stored[r*n+i] * dv[r*n+i]
						size += math.Abs(stored[r*n+i] * dv[r*n+i])
					}
					for i := range n {
						e := r*n + i
						what := fmt.Sprintf("%v %v: row %d, element %d", dt, shape, r, i)
						isNear(t, what, stored[e], p[i], p[i]*rel[i]+linearLeast(dt))
						isNear(t, what+" in place", inPlace[e], stored[e], 0)
						want, bound := stored[e]*(dv[e]-dot), (8+float64(n)/16)*linearUnit(dt)*stored[e]*(math.Abs(dv[e])+size)
						isNear(t, what+" of the gradient", alone[e], want, bound+linearLeast(dt))
						isNear(t, what+" of the gradient that is added", added[e], old[e]+want, bound+2*linearUnit(dt)*(math.Abs(old[e])+math.Abs(want)))
					}
				}
			}
		}
	})
}

// rowsWithEnds is linearInput with rows far from 0 and some elements that are -Inf.
func rowsWithEnds(t *testing.T, dev *gpu.Device, dt gpu.DType, seed uint64, shape []int) (*gpu.Tensor, []float64) {
	t.Helper()
	_, v := linearInput(t, dev, dt, seed, shape...)
	n := shape[len(shape)-1]
	for i := range v {
		v[i] = 4 * v[i]
		if i/n%3 == 1 {
			v[i] -= 200
		}
		if i%11 == 5 && i%n > 0 {
			v[i] = math.Inf(-1)
		}
	}
	x := dev.FromAs(dt, float32s(v), shape...)
	return x, read64(t, x)
}

func TestLogSumExp(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, shape := range rowShapes {
				n := shape[len(shape)-1]
				x, v := rowsWithEnds(t, dev, dt, 4, shape)
				rows := len(v) / n
				lse := dev.New(dt, rows)
				ops.LogSumExp(lse, x)
				g, gv := linearInput(t, dev, dt, 5, rows)
				dx, old := linearInput(t, dev, dt, 6, shape...)
				only := x.Like()
				ops.LogSumExpBackward(dx, x, lse, g, true)
				ops.LogSumExpBackward(only, x, lse, g, false)
				got, added, alone := read64(t, lse), read64(t, dx), read64(t, only)
				for r := range rows {
					p, rel, want := softRow(dt, v[r*n:][:n])
					isNear(t, fmt.Sprintf("%v %v: row %d", dt, shape, r), got[r], want, linearUnit(dt)*(24+float64(n)/16+4*math.Abs(want)))
					for i := range n {
						e := r*n + i
						d := gv[r] * p[i]
						bound := math.Abs(d)*(rel[i]+linearUnit(dt)*(8+8*math.Abs(want))) + linearLeast(dt)
						isNear(t, fmt.Sprintf("%v %v: gradient at %d of row %d", dt, shape, i, r), alone[e], d, bound)
						isNear(t, fmt.Sprintf("%v %v: gradient added at %d of row %d", dt, shape, i, r), added[e], old[e]+d, bound+2*linearUnit(dt)*(math.Abs(old[e])+math.Abs(d)))
					}
				}
			}
			// Rows of nothing, of infinity and with NaN.
			inf, nan := float32(math.Inf(1)), float32(math.NaN())
			lse := dev.New(dt, 4)
			ops.LogSumExp(lse, dev.FromAs(dt, []float32{-inf, -inf, 1, inf, 1, nan, nan, nan}, 4, 2))
			for r, want := range []float64{math.Inf(-1), math.Inf(1), math.NaN(), math.NaN()} {
				isNear(t, fmt.Sprintf("%v: row %d without a finite sum", dt, r), read64(t, lse)[r], want, 0)
			}
		}
	})
}

// Labels on the CPU and on the device give the same bits.
func TestCrossEntropy(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, shape := range rowShapes {
				for _, smooth := range []float64{0, 0.1} {
					n := shape[len(shape)-1]
					x, v := linearInput(t, dev, dt, 7, shape...)
					rows := len(v) / n
					labels := make([]int32, rows)
					for r := range labels {
						labels[r] = int32((7*r+3)%(n+1)) - 1
					}
					g, gv := linearInput(t, dev, dt, 8, rows)
					var loss, dx, lseThere [2][]float64
					for k, from := range []*gpu.Tensor{gpu.CPU().FromInt32(labels, rows), dev.FromInt32(labels, rows)} {
						l, lse, d := dev.New(dt, rows), dev.New(dt, rows), x.Like()
						d.Copy(x)
						ops.CrossEntropy(l, lse, x, from, smooth)
						ops.CrossEntropyBackward(d, x, lse, from, g, smooth, k == 1)
						loss[k], dx[k], lseThere[k] = read64(t, l), read64(t, d), read64(t, lse)
					}
					for r := range rows {
						p, rel, lse := softRow(dt, v[r*n:][:n])
						unit := linearUnit(dt) * (32 + float64(n)/8)
						label := int(labels[r])
						want := 0.0
						if label >= 0 {
							want = lse - (1-smooth)*v[r*n+label]
							for _, e := range v[r*n:][:n] {
								want -= smooth / float64(n) * e
							}
						}
						what := fmt.Sprintf("%v %v smooth %g: row %d", dt, shape, smooth, r)
						isNear(t, what, loss[0][r], want, unit*(4+math.Abs(lse)))
						isNear(t, what+", labels on the device", loss[1][r], loss[0][r], 0)
						isNear(t, what+", lse", lseThere[1][r], lse, unit*(4+math.Abs(lse)))
						for i := range n {
							q := smooth / float64(n)
							if i == label {
								q += 1 - smooth
							}
							d := gv[r] * (p[i] - q)
							if label < 0 {
								d = 0
							}
							bound := math.Abs(gv[r]) * (p[i]*(rel[i]+16*unit) + 4*linearUnit(dt))
							isNear(t, what+fmt.Sprint(", gradient at ", i), dx[0][r*n+i], d, bound)
							isNear(t, what+fmt.Sprint(", gradient added at ", i), dx[1][r*n+i], v[r*n+i]+d, bound+2*linearUnit(dt)*math.Abs(v[r*n+i]))
						}
					}
				}
			}
		}
		if !dev.CUDA() {
			return
		}
		// Nobody looks at labels on a device before, and what is wrong shows in the result.
		x, _ := linearInput(t, dev, gpu.Float32, 9, 3, 5)
		loss, lse, dx := dev.Empty(3), dev.Empty(3), dev.Empty(3, 5)
		labels := dev.FromInt32([]int32{5, 4, -2}, 3)
		ops.CrossEntropy(loss, lse, x, labels, 0)
		ops.CrossEntropyBackward(dx, x, lse, labels, dev.FromAs(gpu.Float32, []float32{1, 1, 1}, 3), 0, false)
		l, d := read64(t, loss), read64(t, dx)
		for r, bad := range []bool{true, false, true} {
			if math.IsNaN(l[r]) != bad || math.IsNaN(d[5*r]) != bad {
				t.Errorf("row %d: loss %v, gradient %v, NaN expected %t", r, l[r], d[5*r], bad)
			}
		}
	})
}

func TestArgMaxOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, shape := range rowShapes {
				n := shape[len(shape)-1]
				_, v := linearInput(t, dev, dt, 10, shape...)
				rows := len(v) / n
				for i := range v {
					v[i] = math.Round(4 * v[i]) // many are equal
					if r := i / n; r%4 == 3 && (i%n == n/2 || i%n == n-1) {
						v[i] = math.NaN()
					}
				}
				at, top := dev.New(gpu.Int32, rows), dev.New(dt, rows)
				x := dev.FromAs(dt, float32s(v), shape...)
				ops.ArgMax(at, top, x)
				second := dev.New(gpu.Int32, rows)
				ops.ArgMax(second, nil, x)
				tops := read64(t, top)
				for r := range rows {
					want := 0
					for i, e := range v[r*n:][:n] {
						if e > v[r*n+want] || e != e && v[r*n+want] == v[r*n+want] {
							want = i
						}
					}
					if got := at.To(gpu.CPU()).I32()[r]; int(got) != want || second.To(gpu.CPU()).I32()[r] != got {
						t.Fatalf("%v %v: row %d has its greatest at %d, want %d", dt, shape, r, got, want)
					}
					isNear(t, fmt.Sprintf("%v %v: greatest of row %d", dt, shape, r), tops[r], v[r*n+want], 0)
				}
			}
		}
	})
}

// What the operations on rows refuse on a device, by what they say.
func TestRowsMisuseOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		e := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.Float32, shape...) }
		ids := func(v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, len(v)) }
		for want, f := range map[string]func(){
			"Softmax: shapes [2 3] and [3 2]":                    func() { ops.Softmax(e(2, 3), e(3, 2)) },
			"Softmax: operand 1 is float64, the first float32":   func() { ops.Softmax(e(2), dev.Zeros(gpu.Float64, 2)) },
			"SoftmaxBackward: shapes [2 3] and [2 4]":            func() { ops.SoftmaxBackward(e(2, 3), e(2, 4), e(2, 3), false) },
			"LogSumExp: lse has shape [3], want 2 elements":      func() { ops.LogSumExp(e(3), e(2, 4)) },
			"LogSumExpBackward: g has shape [1], want 2":         func() { ops.LogSumExpBackward(e(2, 4), e(2, 4), e(2), e(1), false) },
			"CrossEntropy: label 4 of row 1, want 0 to 3":        func() { ops.CrossEntropy(e(2), e(2), e(2, 4), ids(0, 4), 0) },
			"CrossEntropy: labels are float32, want int32":       func() { ops.CrossEntropy(e(2), e(2), e(2, 4), e(2), 0) },
			"CrossEntropyBackward: shapes [2 4] and [2 5]":       func() { ops.CrossEntropyBackward(e(2, 5), e(2, 4), e(2), ids(0, 1), e(2), 0, false) },
			"ArgMax: rows of 0 elements, places are int32, want": func() { ops.ArgMax(dev.New(gpu.Int32, 0), nil, e(2, 0)) },
		} {
			func() {
				defer func() {
					if v := fmt.Sprint(recover()); !strings.Contains(v, want) {
						t.Errorf("want a panic with %q, got %.300s", want, v)
					}
				}()
				f()
			}()
		}
	})
}
