package ops_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// sameValues fails unless both have the same elements.
func sameValues(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// addedIn is a + b as the dtype has it.
func addedIn(dt gpu.DType, a, b float64) float64 {
	if dt == gpu.Float32 {
		return float64(float32(a) + float32(b))
	}
	return a + b
}

func TestPermuteOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct{ shape, perm []int }{
				{[]int{5}, []int{0}}, {[]int{1, 1}, []int{1, 0}}, {[]int{33, 65}, []int{1, 0}}, {[]int{8, 8}, []int{1, 0}}, {[]int{7, 40}, []int{1, 0}},
				{[]int{2, 3, 5}, []int{2, 0, 1}}, {[]int{3, 40, 50}, []int{0, 2, 1}}, {[]int{2, 3, 10, 12}, []int{0, 2, 3, 1}},
				{[]int{2, 9, 3, 16}, []int{0, 2, 1, 3}}, {[]int{2, 9, 3, 17}, []int{0, 2, 1, 3}}, {[]int{2, 3, 4, 5, 6}, []int{4, 2, 0, 3, 1}},
				{[]int{2, 3, 2, 9, 2, 3, 2, 10}, []int{2, 0, 7, 4, 6, 1, 5, 3}}, {[]int{2, 2, 2, 2, 3, 2, 2, 2}, []int{1, 0, 3, 2, 5, 4, 7, 6}}, {[]int{4, 0, 2}, []int{2, 1, 0}},
			} {
				x, v := linearInput(t, dev, dt, 101, s.shape...)
				var shape []int
				for _, p := range s.perm {
					shape = append(shape, s.shape[p])
				}
				sum, old := linearInput(t, dev, dt, 102, shape...)
				out := dev.New(dt, shape...)
				ops.Permute(out, x, false, s.perm...)
				ops.Permute(sum, x, true, s.perm...)
				want, added := make([]float64, len(v)), make([]float64, len(v))
				for i := range want {
					at := make([]int, len(shape))
					for k, rest := len(shape)-1, i; k >= 0; k-- {
						at[s.perm[k]], rest = rest%shape[k], rest/shape[k]
					}
					from := 0
					for k, d := range s.shape {
						from = from*d + at[k]
					}
					want[i], added[i] = v[from], addedIn(dt, old[i], v[from])
				}
				what := fmt.Sprintf("%v %v by %v", dt, s.shape, s.perm)
				sameValues(t, what, read64(t, out), want)
				sameValues(t, what+", added", read64(t, sum), added)
			}
		}
	})
}

func TestSliceOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct {
				shape             []int
				axis, first, size int
			}{
				{[]int{9}, 0, 2, 5}, {[]int{3, 16}, 1, 4, 8}, {[]int{3, 17}, 1, 3, 9}, {[]int{5, 40, 4}, 1, 3, 20}, {[]int{300, 7, 3}, 1, 6, 1}, {[]int{6, 5}, 0, 1, 4}, {[]int{2, 3}, 1, 0, 0},
			} {
				whole, v := linearInput(t, dev, dt, 111, s.shape...)
				shape := slices.Clone(s.shape)
				shape[s.axis] = s.size
				piece, old := linearInput(t, dev, dt, 112, shape...)
				out := dev.New(dt, shape...)
				inner := 1
				for _, d := range s.shape[s.axis+1:] {
					inner *= d
				}
				place := func(i int) int { // of element i of the piece
					run := s.size * inner
					return i/run*s.shape[s.axis]*inner + s.first*inner + i%run
				}
				ops.Slice(out, whole, s.axis, s.first, false)
				put, sum := whole.Like(), whole.Like()
				put.Copy(whole)
				sum.Copy(whole)
				ops.PutSlice(put, piece, s.axis, s.first, false)
				ops.PutSlice(sum, piece, s.axis, s.first, true)
				ops.Slice(piece, whole, s.axis, s.first, true)
				want, added := make([]float64, len(old)), make([]float64, len(old))
				replaced, summed := slices.Clone(v), slices.Clone(v)
				for i := range old {
					want[i], added[i] = v[place(i)], addedIn(dt, old[i], v[place(i)])
					replaced[place(i)], summed[place(i)] = old[i], addedIn(dt, v[place(i)], old[i])
				}
				what := fmt.Sprintf("%v %+v", dt, s)
				sameValues(t, what, read64(t, out), want)
				sameValues(t, what+", added", read64(t, piece), added)
				sameValues(t, what+", put", read64(t, put), replaced)
				sameValues(t, what+", put and added", read64(t, sum), summed)
			}
		}
	})
}

// Rows of a table and their gradient, in the order of the ids to the last bit, with ids on the CPU and
// on the device.
func TestGatherOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range [][3]int{{1, 1, 1}, {10, 3, 7}, {5, 128, 33}, {9, 130, 300}, {17, 4, 64}, {3, 1025, 5}, {4, 8, 0}} {
				k, d, n := s[0], s[1], s[2]
				table, tv := linearInput(t, dev, dt, 121, k, d)
				dy, dv := linearInput(t, dev, dt, 122, n, d)
				numbers := make([]int32, n)
				want, grad := make([]float64, n*d), slices.Clone(tv)
				for i := range numbers {
					numbers[i] = int32((i*i + 3*i) % max(1, k-1)) // the last row stays
					copy(want[i*d:][:d], tv[int(numbers[i])*d:])
					for j := range d {
						at := int(numbers[i])*d + j
						grad[at] = addedIn(dt, grad[at], dv[i*d+j])
					}
				}
				for where, ids := range map[string]*gpu.Tensor{"the CPU": gpu.CPU().FromInt32(numbers, n), "the device": dev.FromInt32(numbers, n)} {
					out, sum := dev.New(dt, n, d), table.Like()
					sum.Copy(table)
					ops.Gather(out, table, ids)
					ops.ScatterAdd(sum, dy, ids)
					what := fmt.Sprintf("%v %v, ids on %s", dt, s, where)
					sameValues(t, what, read64(t, out), want)
					sameValues(t, what+", gradient", read64(t, sum), grad)
				}
				if d == 1 || n == 0 {
					continue
				}
				g, gv := linearInput(t, dev, dt, 123, n)
				ats := make([]int32, n)
				for i := range ats {
					ats[i] = int32((5*i + 2) % d)
					dv[i*d+int(ats[i])] = addedIn(dt, dv[i*d+int(ats[i])], gv[i])
				}
				ops.PickAdd(dy, g, dev.FromInt32(ats, n))
				sameValues(t, fmt.Sprintf("%v %v: picked", dt, s), read64(t, dy), dv)
			}
		}
		if !dev.CUDA() {
			return
		}
		// Nobody looks at ids on a device before, and what is wrong shows in the result.
		table, tv := linearInput(t, dev, gpu.Float32, 124, 3, 2)
		ids := dev.FromInt32([]int32{3, 1, -1}, 3)
		out := dev.Empty(3, 2)
		ops.Gather(out, table, ids)
		got := read64(t, out)
		if !math.IsNaN(got[0]) || got[2] != tv[2] || !math.IsNaN(got[5]) {
			t.Errorf("rows 3, 1 and -1 of a table of 3 are %v, want NaN, row 1 and NaN", got)
		}
		ops.ScatterAdd(table, dev.FromAs(gpu.Float32, []float32{1, 1, 2, 2, 4, 4}, 3, 2), ids)
		if got := read64(t, table); got[0] != tv[0] || got[2] != addedIn(gpu.Float32, tv[2], 2) || got[5] != tv[5] {
			t.Errorf("after ids 3, 1 and -1 the table is %v, from %v", got, tv)
		}
	})
}

func TestTurnOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range [][4]int{{1, 1, 1, 2}, {2, 5, 3, 8}, {1, 33, 2, 34}, {3, 4, 1, 64}} {
				n, places, heads, d := s[0], s[1], s[2], s[3]
				x, v := linearInput(t, dev, dt, 131, n, places, heads, d)
				angles, av := linearInput(t, dev, dt, 132, places, d/2)
				for i := range av {
					av[i] *= []float64{1, 1000, 1e6}[i%3]
				}
				angles.Set(float32s(av))
				av = read64(t, angles)
				for _, halves := range []bool{false, true} {
					for _, back := range []bool{false, true} {
						out := x.Like()
						sum, old := linearInput(t, dev, dt, 133, n, places, heads, d)
						own := x.Like()
						own.Copy(x)
						ops.Turn(out, x, angles, halves, back, false)
						ops.Turn(sum, x, angles, halves, back, true)
						ops.Turn(own, own, angles, halves, back, false)
						got, added, inPlace := read64(t, out), read64(t, sum), read64(t, own)
						sameValues(t, fmt.Sprintf("%v %v in place", dt, s), inPlace, got)
						for r := range n * places * heads {
							for j := range d / 2 {
								sin, cos := math.Sincos(av[r/heads%places*(d/2)+j])
								if back {
									sin = -sin
								}
								a, b := r*d+2*j, r*d+2*j+1
								if halves {
									a, b = r*d+j, r*d+j+d/2
								}
								what := fmt.Sprintf("%v %v halves %t back %t: row %d, pair %d", dt, s, halves, back, r, j)
								for e, want := range map[int]float64{a: v[a]*cos - v[b]*sin, b: v[a]*sin + v[b]*cos} {
									bound := 6 * linearUnit(dt) * (math.Abs(v[a]) + math.Abs(v[b]))
									isNear(t, what, got[e], want, bound)
									isNear(t, what+", added", added[e], old[e]+want, bound+2*linearUnit(dt)*math.Abs(old[e]))
								}
							}
						}
					}
				}
			}
		}
	})
}

// What these operations refuse on a device, by what they say.
func TestLayoutMisuseOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		e := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.Float32, shape...) }
		ids := func(v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, len(v)) }
		for want, f := range map[string]func(){
			"Permute: permutation [0 0] of shape [2 3]":     func() { ops.Permute(e(2, 2), e(2, 3), false, 0, 0) },
			"Slice: a piece of shape [2 2] from 2 on":       func() { ops.Slice(e(2, 2), e(2, 3), 1, 2, false) },
			"Gather: id 3 at 1, want 0 to 2":                func() { ops.Gather(e(2, 4), e(3, 4), ids(0, 3)) },
			"ScatterAdd: ids are float32, want int32":       func() { ops.ScatterAdd(e(3, 4), e(2, 4), e(2)) },
			"PickAdd: g has shape [3], want 2 elements":     func() { ops.PickAdd(e(2, 4), e(3), ids(0, 1)) },
			"Turn: x has shape [1 2 1 3], the angles [2 1]": func() { ops.Turn(e(1, 2, 1, 3), e(1, 2, 1, 3), e(2, 1), false, false, false) },
			"Norm: mean has shape [3], inv [2]":             func() { ops.Norm(e(2, 4), e(3), e(2), e(2, 4), ops.NormConfig{}) },
			"GroupNorm: 3 groups of 4 channels":             func() { ops.GroupNorm(e(2, 4), e(6), e(6), e(2, 4), ops.GroupNormConfig{Groups: 3}) },
			"MatMul: b has shape [4 5], want 5 by 3":        func() { ops.MatMul(e(2, 5), e(2, 3), e(4, 5), ops.MatMulConfig{TransB: true}) },
			"Linear: the bias has shape [4], want [5]":      func() { ops.Linear(e(2, 5), nil, e(2, 4), e(5, 4), e(4), ops.Identity) },
			"GroupNormBackward: a gradient of shape [4] for a": func() {
				ops.GroupNormBackward(e(2, 4), false, ops.NormGrads{Bias: e(4)}, e(2, 4), e(2, 4), e(4), e(4), ops.GroupNormConfig{Groups: 2})
			},
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
