package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Products of both 16-bit types into both types of results, in both tiles: ragged at every edge, with rows that are multiples of 16
// bytes, of which copies are wide, and that are not; shorter than a step and longer than the stages; in pieces; of one matrix for all;
// and of operands that begin at an odd element.
func TestMatMul16OnDevices(t *testing.T) {
	cfgs := []ops.MatMulConfig{{}, {TransA: true, Acc: true}, {TransB: true, Alpha: -0.5}, {TransA: true, TransB: true, Alpha: 2, Acc: true}}
	cases := []matmulCase{
		{batch: 1, m: 130, n: 70, k: 21},
		{batch: 2, m: 136, n: 152, k: 72},
		{batch: 1, m: 64, n: 64, k: 1096},
		{batch: 1, m: 7, n: 1, k: 5},
		{batch: 1, m: 40, n: 33, k: 1030},
		{batch: 1, m: 64, n: 72, k: 200},
		{batch: 2, m: 3, n: 4, k: 0},
		{batch: 3, m: 72, n: 64, k: 40, oneA: true},
		{batch: 3, m: 24, n: 68, k: 40, oneB: true},
		{batch: 2, m: 72, n: 136, k: 48, odd: true},
	}
	for _, tile := range []int{-1, 0, 1, 3} {
		restore := ops.ForcedTile(tile)
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			if !dev.CUDA() && tile >= 0 {
				return
			}
			for i, p := range cases {
				for j, dt := range halfDTypes {
					for c, cfg := range cfgs {
						p.cfg, p.single = cfg, (i+j+c)%2 == 0
						p.check(t, dev, dt, i+c)
					}
				}
			}
		})
		restore()
	}
}

// A layer with all it can have, in one piece and in several: bias, what the function is of, function and residual, which is the result
// itself in one case.
func TestLinearResidualOnDevices(t *testing.T) {
	for _, tile := range []int{-1, 0, 1} {
		restore := ops.ForcedTile(tile)
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			for _, dt := range halfDTypes {
				for _, to := range []gpu.DType{dt, gpu.Float32} {
					for _, s := range [][3]int{{135, 72, 40}, {33, 5, 24}, {20, 68, 1100}} {
						checkLayer16(t, dev, dt, to, s[0], s[1], s[2])
					}
				}
			}
		})
		restore()
	}
}

func checkLayer16(t *testing.T, dev *gpu.Device, dt, to gpu.DType, rows, n, k int) {
	t.Helper()
	x, xv := linearInput(t, dev, dt, 61, rows, k)
	w, wv := linearInput(t, dev, dt, 62, n, k)
	b, bv := linearInput(t, dev, gpu.Float32, 63, n)
	rest, rv := linearInput(t, dev, to, 64, rows, n)
	out, pre, only, plain, bare := dev.New(to, rows, n), dev.New(to, rows, n), dev.New(to, rows, n), dev.New(to, rows, n), dev.New(to, rows, n)
	ops.LinearResidual(out, pre, x, w, b, rest, ops.Tanh)
	ops.LinearResidual(only, nil, x, w, b, nil, ops.Tanh)
	ops.Linear(plain, nil, x, w, b, ops.Tanh)
	ops.Linear(bare, nil, x, w, nil, ops.ReLU)
	ops.LinearResidual(rest, nil, x, w, b, rest, ops.Tanh)
	got, kept, straight, positive := read64(t, out), read64(t, pre), read64(t, only), read64(t, bare)
	what := fmt.Sprintf("%v to %v, %d by %d by %d", dt, to, rows, k, n)
	sameValues(t, what+": without a residual", read64(t, plain), straight)
	sameValues(t, what+": the residual's own memory", read64(t, rest), got)
	for i := range got {
		var u, size float64
		for l := range k {
			u += xv[i/n*k+l] * wv[i%n*k+l]
			size += math.Abs(xv[i/n*k+l] * wv[i%n*k+l])
		}
		isNear(t, what+": the product above 0", positive[i], max(u, 0), rounded16(to, u, off(false, k, size)))
		u += bv[i%n]
		bound := off(false, k+1, size+math.Abs(bv[i%n]))
		isNear(t, what+": before the function", kept[i], u, rounded16(to, u, bound))
		bound += 8 * 0x1p-24
		v := math.Tanh(u)
		isNear(t, what, straight[i], v, rounded16(to, v, bound))
		v += rv[i]
		isNear(t, what+": with a residual", got[i], v, rounded16(to, v, bound+0x1p-23*math.Abs(v)))
	}
}

// Every function of a layer, as Map computes it in float32 of what is kept, which TestMapOnDevices holds to its formula.
func TestLinear16Functions(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, k := range []int{8, 700} { // in one piece, and in several
			for _, n := range []int{21, 24} { // value by value, and four at a time
				x, _ := linearInput(t, dev, gpu.Float16, 31, 9, k)
				w, _ := linearInput(t, dev, gpu.Float16, 32, n, k)
				b, _ := linearInput(t, dev, gpu.Float32, 33, n)
				for _, f := range []ops.Func{
					ops.Identity, ops.ReLU, ops.LeakyReLU(0.2), ops.SiLU, ops.GELU, ops.GELUTanh, ops.Sigmoid, ops.Tanh, ops.Softplus, ops.Exp,
					ops.Log, ops.Square, ops.Abs, ops.Clip(-1, 0.5), ops.Inverse, ops.Sqrt, ops.Sign, ops.Sin, ops.Cos, ops.Erf,
				} {
					out, pre := dev.Empty(9, n), dev.Empty(9, n)
					ops.Linear(out, pre, x, w, b, f)
					kept := pre.To(gpu.CPU())
					want := kept.Like()
					ops.Map(want, kept, f)
					for i, v := range read64(t, out) {
						u, e := at(kept, i), at(want, i)
						isNear(t, fmt.Sprintf("k=%d: %v of %v", k, f, u), v, e, 16*0x1p-24*(math.Abs(e)+0.1*math.Min(1, math.Abs(u))))
					}
				}
			}
		}
	})
}

// A product of rows has the same bits in both tiles, and alone and among other rows and matrices where sums are not cut.
func TestMatMul16SameBits(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, _ := linearInput(t, dev, gpu.BFloat16, 71, 3, 70, 136)
		w, _ := linearInput(t, dev, gpu.BFloat16, 72, 136, 72)
		all := dev.Empty(3, 70, 72)
		ops.MatMul(all, x, w, ops.MatMulConfig{})
		want := read64(t, all)
		for _, tile := range []int{0, 1, 3} {
			restore := ops.ForcedTile(tile)
			one := dev.Empty(70, 72)
			ops.MatMul(one, x.Rows(1, 2).View(70, 136), w, ops.MatMulConfig{})
			sameValues(t, fmt.Sprint("one matrix in version ", tile), read64(t, one), want[70*72:2*70*72])
			rows := dev.Empty(5, 72)
			ops.MatMul(rows, x.View(210, 136).Rows(80, 85), w, ops.MatMulConfig{})
			sameValues(t, fmt.Sprint("five rows in version ", tile), read64(t, rows), want[80*72:85*72])
			restore()
		}
	})
}

// float32 operands that BF16 rounds are what 16-bit operands with the same values are, on a GPU to the last bit.
func TestMatMulBF16IsThatOfBFloat16s(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		a, av := linearInput(t, dev, gpu.Float32, 81, 70, 50)
		b, bv := linearInput(t, dev, gpu.Float32, 82, 50, 40)
		got, want := dev.Empty(70, 40), dev.Empty(70, 40)
		ops.MatMul(got, a, b, ops.MatMulConfig{BF16: true})
		ops.MatMul(want, dev.FromAs(gpu.BFloat16, float32s(av), 70, 50), dev.FromAs(gpu.BFloat16, float32s(bv), 50, 40), ops.MatMulConfig{})
		if dev.CUDA() {
			sameValues(t, "rounded operands", read64(t, got), read64(t, want))
		}
	})
}

// Large values and none: infinities come and NaN stays.
func TestMatMul16Range(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		nan := float32(math.NaN())
		x := dev.FromAs(gpu.Float16, []float32{60000, 60000, 1, 2, nan, 0, -60000, -60000, 0x1p-24, 0}, 5, 2)
		w := dev.FromAs(gpu.Float16, []float32{1, 1}, 1, 2)
		out, wide := dev.New(gpu.Float16, 5, 1), dev.Empty(5, 1)
		ops.Linear(out, nil, x, w, nil, ops.Identity)
		ops.Linear(wide, nil, x, w, nil, ops.Identity)
		got, sums := read64(t, out), read64(t, wide)
		if !math.IsInf(got[0], 1) || got[1] != 3 || got[2] == got[2] || !math.IsInf(got[3], -1) || got[4] != 0x1p-24 {
			t.Fatalf("float16 results are %v", got)
		}
		if sums[2] == sums[2] || !slices.Equal([]float64{sums[0], sums[1], sums[3], sums[4]}, []float64{120000, 3, -120000, 0x1p-24}) {
			t.Fatalf("float32 results are %v", sums)
		}
	})
}

func TestMatMul16Misuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		h := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.Float16, shape...) }
		b := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.BFloat16, shape...) }
		f := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.Float32, shape...) }
		for words, f := range map[string]func(){
			"ops: MatMul: operands are float16 and bfloat16":            func() { ops.MatMul(f(2, 2), h(2, 2), b(2, 2), ops.MatMulConfig{}) },
			"ops: MatMul: operands are float16 and float32":             func() { ops.MatMul(f(2, 2), h(2, 2), f(2, 2), ops.MatMulConfig{}) },
			"the result bfloat16":                                       func() { ops.MatMul(b(2, 2), h(2, 2), h(2, 2), ops.MatMulConfig{}) },
			"ops: MatMul: operands are float32 and float32":             func() { ops.MatMul(h(2, 2), f(2, 2), f(2, 2), ops.MatMulConfig{}) },
			"want float32 to round to bfloat16":                         func() { ops.MatMul(f(2, 2), b(2, 2), b(2, 2), ops.MatMulConfig{BF16: true}) },
			"ops: Linear: the bias is float16, want float32":            func() { ops.Linear(h(2, 2), nil, h(2, 2), h(2, 2), h(2), ops.Identity) },
			"an operand like the result is float32, the result float16": func() { ops.Linear(h(2, 2), f(2, 2), h(2, 2), h(2, 2), nil, ops.Identity) },
			"ops: LinearResidual: operands are float32":                 func() { ops.LinearResidual(f(2, 2), nil, f(2, 2), f(2, 2), nil, f(2, 2), ops.Identity) },
			"shapes [2 2] and [2 3]":                                    func() { ops.LinearResidual(h(2, 2), nil, h(2, 2), h(2, 2), nil, h(2, 3), ops.Identity) },
		} {
			mustPanic(t, words, words, f)
		}
	})
}
