package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// groupedCase are rows in groups, and the sizes of a layer.
type groupedCase struct {
	offsets []int32
	rows    int
	n, k    int
	on      bool // offsets are on the operands' device
}

// Empty groups at all places, one group, many, none; rows in no group; edges of tiles of both
// sizes, and rows that are and are not multiples of 16 bytes.
func groupedCases() []groupedCase {
	many := make([]int32, 71)
	for g := range many {
		many[g] = int32(3 * g / 2)
	}
	return []groupedCase{
		{offsets: []int32{0, 5, 5, 9}, rows: 9, n: 3, k: 4},
		{offsets: []int32{0, 0, 70, 70, 135, 199, 199}, rows: 203, n: 66, k: 20, on: true},
		{offsets: []int32{0, 300}, rows: 300, n: 129, k: 33},
		{offsets: []int32{0, 128, 257}, rows: 257, n: 128, k: 64},
		{offsets: []int32{0, 0, 0}, rows: 7, n: 5, k: 6, on: true},
		{offsets: many, rows: 105, n: 9, k: 12},
		{offsets: []int32{0}, rows: 3, n: 4, k: 5},
		{offsets: []int32{0, 2, 3}, rows: 4, n: 4, k: 0},
		{offsets: []int32{0, 1}, rows: 1, n: 1, k: 1},
	}
}

// group of row r, -1 for none.
func (c *groupedCase) group(r int) int {
	for g := range len(c.offsets) - 1 {
		if int(c.offsets[g]) <= r && r < int(c.offsets[g+1]) {
			return g
		}
	}
	return -1
}

func (c *groupedCase) at(dev *gpu.Device) *gpu.Tensor {
	x := gpu.CPU().FromInt32(c.offsets, len(c.offsets))
	if c.on {
		return x.To(dev)
	}
	return x
}

func (c *groupedCase) name(dt gpu.DType) string {
	return fmt.Sprintf("%v, %d groups of %d rows, %d by %d", dt, len(c.offsets)-1, c.rows, c.n, c.k)
}

// row is out[r], given the weights as [G, N, K] or transposed, and the size of what is added up.
func (c *groupedCase) row(r, j int, x, w []float64, trans bool) (sum, size float64) {
	g := c.group(r)
	for l := range c.k {
		at := (g*c.n+j)*c.k + l
		if !trans {
			at = (g*c.k+l)*c.n + j
		}
		sum += x[r*c.k+l] * w[at]
		size += math.Abs(x[r*c.k+l] * w[at])
	}
	return sum, size
}

func (c *groupedCase) check(t *testing.T, dev *gpu.Device, dt gpu.DType) {
	t.Helper()
	groups, double := len(c.offsets)-1, dt == gpu.Float64
	at := c.at(dev)
	x, xv := linearInput(t, dev, dt, 1, c.rows, c.k)
	for v, cfg := range []ops.GroupedConfig{{}, {TransW: true}, {TransW: true, Acc: true}} {
		shape := []int{groups, c.k, c.n}
		if cfg.TransW {
			shape = []int{groups, c.n, c.k}
		}
		w, wv := linearInput(t, dev, dt, uint64(2+v), shape...)
		out, old := linearInput(t, dev, dt, 9, c.rows, c.n)
		ops.GroupedMatMul(out, x, w, at, cfg)
		for i, got := range read64(t, out) {
			want, size := 0.0, 0.0
			if c.group(i/c.n) >= 0 {
				want, size = c.row(i/c.n, i%c.n, xv, wv, cfg.TransW)
			}
			if cfg.Acc {
				want, size = want+old[i], size+math.Abs(old[i])
			}
			isNear(t, fmt.Sprintf("%s, %+v: element %d", c.name(dt), cfg, i), got, want, off(double, c.k, size))
		}
	}

	w, wv := linearInput(t, dev, dt, 3, groups, c.n, c.k)
	b, bv := linearInput(t, dev, dt, 4, groups, c.n)
	out, pre, only := dev.New(dt, c.rows, c.n), dev.New(dt, c.rows, c.n), dev.New(dt, c.rows, c.n) // of NaN
	ops.GroupedLinear(out, pre, x, w, b, at, ops.Tanh)
	ops.GroupedLinear(only, nil, x, w, b, at, ops.Tanh)
	got, before := read64(t, out), read64(t, pre)
	if !slices.Equal(got, read64(t, only)) {
		t.Fatalf("%s: without the part before the function the result is another", c.name(dt))
	}
	for i := range got {
		want, tol := 0.0, 0.0
		if g := c.group(i / c.n); g >= 0 {
			sum, size := c.row(i/c.n, i%c.n, xv, wv, true)
			want = sum + bv[g*c.n+i%c.n]
			tol = off(double, c.k+1, size+math.Abs(bv[g*c.n+i%c.n]))
		}
		isNear(t, fmt.Sprintf("%s: element %d before the function", c.name(dt), i), before[i], want, tol)
		if want == 0 { // of no group
			isNear(t, fmt.Sprintf("%s: element %d", c.name(dt), i), got[i], 0, 0)
		} else {
			isNear(t, fmt.Sprintf("%s: element %d", c.name(dt), i), got[i], math.Tanh(want), tol+8*linearUnit(dt))
		}
	}

	dy, dyv := linearInput(t, dev, dt, 5, c.rows, c.n)
	for _, acc := range []bool{false, true} {
		dw, oldW := linearInput(t, dev, dt, 6, groups, c.n, c.k)
		db, oldB := linearInput(t, dev, dt, 7, groups, c.n)
		ops.GroupedWeights(dw, dy, x, at, acc)
		ops.GroupedSum(db, dy, at, acc)
		gotW, gotB := read64(t, dw), read64(t, db)
		for i := range groups * c.n {
			g, j := i/c.n, i%c.n
			lo, hi := int(c.offsets[g]), int(c.offsets[g+1])
			for l := -1; l < c.k; l++ { // -1 is the bias
				got, was, sum, size := gotB[i], oldB[i], 0.0, 0.0
				if l >= 0 {
					got, was = gotW[i*c.k+l], oldW[i*c.k+l]
				}
				if acc {
					sum, size = was, math.Abs(was)
				}
				for r := lo; r < hi; r++ {
					v := dyv[r*c.n+j]
					if l >= 0 {
						v *= xv[r*c.k+l]
					}
					sum, size = sum+v, size+math.Abs(v)
				}
				isNear(t, fmt.Sprintf("%s, acc %v: gradient of %d, %d, %d", c.name(dt), acc, g, j, l), got, sum, off(double, hi-lo, size))
			}
		}
	}
}

func TestGroupedOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, c := range groupedCases() {
				c.check(t, dev, dt)
			}
		}
		// Long groups beside short ones: on a GPU gradients are made in pieces.
		for _, dt := range realDTypes {
			c := groupedCase{offsets: []int32{0, 40, 1100, 1100}, rows: 1111, n: 6, k: 5, on: true}
			c.check(t, dev, dt)
		}
	})
}

// Layers of 16-bit operands, into both types of results and in both tiles on a GPU.
func TestGrouped16OnDevices(t *testing.T) {
	for _, least := range []int{1 << 30, 1} {
		restore := ops.LargeTiles(least)
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			if least == 1 && !dev.CUDA() {
				return
			}
			cases := append(groupedCases(), groupedCase{offsets: []int32{0, 140, 260}, rows: 300, n: 136, k: 72},
				groupedCase{offsets: []int32{0, 130}, rows: 130, n: 7, k: 131, on: true})
			for i, c := range cases {
				for j, dt := range halfDTypes {
					c.check16(t, dev, dt, []gpu.DType{dt, gpu.Float32}[(i+j)%2])
				}
			}
		})
		restore()
	}
}

// check16 is the part of check for operands of dt and results of to.
func (c *groupedCase) check16(t *testing.T, dev *gpu.Device, dt, to gpu.DType) {
	t.Helper()
	groups, at := len(c.offsets)-1, c.at(dev)
	x, xv := linearInput(t, dev, dt, 1, c.rows, c.k)
	for v, cfg := range []ops.GroupedConfig{{}, {TransW: true}, {Acc: true}} {
		shape := []int{groups, c.k, c.n}
		if cfg.TransW {
			shape = []int{groups, c.n, c.k}
		}
		w, wv := linearInput(t, dev, dt, uint64(2+v), shape...)
		out, old := linearInput(t, dev, to, 9, c.rows, c.n)
		ops.GroupedMatMul(out, x, w, at, cfg)
		for i, got := range read64(t, out) {
			want, size := 0.0, 0.0
			if c.group(i/c.n) >= 0 {
				want, size = c.row(i/c.n, i%c.n, xv, wv, cfg.TransW)
			}
			if cfg.Acc {
				want, size = want+old[i], size+math.Abs(old[i])
			}
			isNear(t, fmt.Sprintf("%s to %v, %+v: element %d", c.name(dt), to, cfg, i), got, want, rounded16(to, want, off(false, c.k, size)))
		}
	}
	w, wv := linearInput(t, dev, dt, 3, groups, c.n, c.k)
	b, bv := linearInput(t, dev, gpu.Float32, 4, groups, c.n)
	out, pre := dev.New(to, c.rows, c.n), dev.New(to, c.rows, c.n)
	ops.GroupedLinear(out, pre, x, w, b, at, ops.Tanh)
	got, before := read64(t, out), read64(t, pre)
	for i := range got {
		want, bound := 0.0, 0.0
		g := c.group(i / c.n)
		if g >= 0 {
			sum, size := c.row(i/c.n, i%c.n, xv, wv, true)
			want = sum + bv[g*c.n+i%c.n]
			bound = off(false, c.k+1, size+math.Abs(bv[g*c.n+i%c.n]))
		}
		what := fmt.Sprintf("%s to %v: element %d", c.name(dt), to, i)
		isNear(t, what+" before the function", before[i], want, rounded16(to, want, bound))
		if g < 0 && (got[i] != 0 || before[i] != 0) {
			t.Fatalf("%s is in no group: %v, %v", what, got[i], before[i])
		}
		isNear(t, what, got[i], math.Tanh(want), rounded16(to, math.Tanh(want), bound+8*0x1p-24))
	}
}

// Large float32 layers have tiles of another size on a GPU; here small ones get them.
func TestGroupedInLargeTiles(t *testing.T) {
	defer ops.LargeTiles(1)()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []groupedCase{
			{offsets: []int32{0, 140, 260}, rows: 300, n: 130, k: 20}, {offsets: []int32{0, 130}, rows: 130, n: 7, k: 131, on: true},
		} {
			c.check(t, dev, gpu.Float32)
		}
	})
}

func TestGrouped16Misuse(t *testing.T) {
	d := gpu.CPU()
	h := func(shape ...int) *gpu.Tensor { return d.Zeros(gpu.Float16, shape...) }
	at := d.FromInt32([]int32{0, 5, 5}, 3)
	oracle.Refuses(t, map[string]func(){
		"GroupedMatMul: operands are float16 and float32": func() { ops.GroupedMatMul(h(5, 3), h(5, 4), d.Empty(2, 4, 3), at, ops.GroupedConfig{}) },
		"GroupedLinear: the bias is float16":              func() { ops.GroupedLinear(h(5, 3), nil, h(5, 4), h(2, 3, 4), h(2, 3), at, ops.ReLU) },
		"GroupedLinear: an operand like the result":       func() { ops.GroupedLinear(h(5, 3), d.Empty(5, 3), h(5, 4), h(2, 3, 4), nil, at, ops.ReLU) },
		"GroupedWeights: operand 0 is float16":            func() { ops.GroupedWeights(h(2, 3, 4), h(5, 3), h(5, 4), at, false) },
	})
}

func TestGroupedMisuse(t *testing.T) {
	d := gpu.CPU()
	e := func(shape ...int) *gpu.Tensor { return d.Empty(shape...) }
	at := func(v ...int32) *gpu.Tensor { return d.FromInt32(v, len(v)) }
	layer := func(offsets *gpu.Tensor) func() {
		return func() { ops.GroupedMatMul(e(5, 3), e(5, 4), e(2, 4, 3), offsets, ops.GroupedConfig{}) }
	}
	oracle.Refuses(t, map[string]func(){
		"GroupedMatMul: the weights have shape [4 3], want three axes": func() { ops.GroupedMatMul(e(5, 3), e(5, 4), e(4, 3), at(0, 5), ops.GroupedConfig{}) },
		"GroupedMatMul: x [5 3], weights [2 4 3]":                      func() { ops.GroupedMatMul(e(5, 3), e(5, 3), e(2, 4, 3), at(0, 5, 5), ops.GroupedConfig{}) },
		"GroupedMatMul: x [5 4], weights [2 4 3] and result [6 3]":     func() { ops.GroupedMatMul(e(6, 3), e(5, 4), e(2, 4, 3), at(0, 5, 5), ops.GroupedConfig{}) },
		"GroupedLinear: the biases have shape [3], want [2 3]":         func() { ops.GroupedLinear(e(5, 3), nil, e(5, 4), e(2, 3, 4), e(3), at(0, 5, 5), ops.ReLU) },
		"GroupedLinear: shapes [5 3] and [3 5]":                        func() { ops.GroupedLinear(e(5, 3), e(3, 5), e(5, 4), e(2, 3, 4), nil, at(0, 5, 5), ops.ReLU) },
		"GroupedWeights: the gradient has shape [3 4]":                 func() { ops.GroupedWeights(e(3, 4), e(5, 3), e(5, 4), at(0, 5), false) },
		"GroupedWeights: dy [5 3], x [6 4]":                            func() { ops.GroupedWeights(e(1, 3, 4), e(5, 3), e(6, 4), at(0, 5), false) },
		"GroupedSum: shape [2 4] of the sums and [5 3] of the rows":    func() { ops.GroupedSum(e(2, 4), e(5, 3), at(0, 5, 5), false) },
		"offsets have shape [2], want [3] for 2 groups":                layer(at(0, 5)),
		"offsets are float32, want int32":                              layer(e(3)),
		"the first offset is 1, want 0":                                layer(at(1, 2, 5)),
		"offset 2 is 1, less than the 3 before":                        layer(at(0, 3, 1)),
		"offset 2 is 6, and there are 5 rows":                          layer(at(0, 3, 6)),
		"GroupedMatMul: operand 2 is float64, the first float32":       func() { ops.GroupedMatMul(e(5, 3), d.Empty64(5, 4), e(2, 4, 3), at(0, 5, 5), ops.GroupedConfig{}) },
	})
}
