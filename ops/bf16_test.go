package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// roundedValues rounds v in place to the nearest bfloat16.
func roundedValues(v []float64) {
	for i, x := range v {
		v[i] = float64(gpu.BF16ToFloat(gpu.FloatToBF16(float32(x))))
	}
}

func TestRoundBF16(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, n := range []int{0, 1, 5, 1000, 8193, 20001} {
			v := oracle.Normal(3, n)
			for i, x := range []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 3.4e38, -3.39e38, 1 + 0x1p-8, 1 + 3*0x1p-8, 0x1p-149, -0x1.8p-140} {
				if n > 100 {
					v[90+i] = x
				}
			}
			for _, odd := range []int{0, 1} { // operands that begin at the second element of their memory
				all := dev.From(append(make([]float32, odd), v...), n+odd)
				x, out := all.Rows(odd, n+odd), dev.Empty(n+odd).Rows(odd, n+odd)
				ops.RoundBF16(out, x)
				ops.RoundBF16(x, x)
				a, err := out.Floats()
				if err != nil {
					t.Fatal(err)
				}
				b, err := x.Floats()
				if err != nil {
					t.Fatal(err)
				}
				for i := range v {
					want := math.Float32bits(gpu.BF16ToFloat(gpu.FloatToBF16(v[i])))
					if v[i] != v[i] {
						if a[i] == a[i] || b[i] == b[i] {
							t.Fatalf("NaN becomes %g and %g", a[i], b[i])
						}
					} else if math.Float32bits(a[i]) != want || math.Float32bits(b[i]) != want {
						t.Fatalf("%d elements: %g becomes %g and %g, want %g", n, v[i], a[i], b[i], math.Float32frombits(want))
					}
				}
			}
		}
		x := dev.Zeros(gpu.Float64, 2)
		oracle.Refuses(t, map[string]func(){
			"float64": func() { ops.RoundBF16(x, x) },
			"MatMul: operands are float64": func() {
				ops.MatMul(dev.Zeros(gpu.Float64, 2, 2), dev.Zeros(gpu.Float64, 2, 2), dev.Zeros(gpu.Float64, 2, 2), ops.MatMulConfig{BF16: true})
			},
			"shapes [3] and [2]": func() { ops.RoundBF16(dev.Empty(3), dev.Empty(2)) },
			"in 2 groups": func() {
				ops.Conv2D(dev.Empty(1, 2, 1, 1), dev.Empty(1, 2, 1, 1), dev.Empty(2, 1, 1, 1), nil, ops.ConvConfig{Groups: 2, BF16: true})
			},
			"float64 in 1 groups": func() {
				ops.Conv2D(dev.Zeros(gpu.Float64, 1, 2, 1, 1), dev.Zeros(gpu.Float64, 1, 2, 1, 1), dev.Zeros(gpu.Float64, 2, 2, 1, 1), nil, ops.ConvConfig{BF16: true})
			},
		})
	})
}

// Products and convolutions of rounded operands against float64 with the same operands, within the bound of float32 sums: the rounding
// is the only difference.
func TestProductsInBF16(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, s := range productSizes {
			for c, cfg := range []ops.MatMulConfig{{}, {TransA: true, Acc: true}, {TransB: true, Alpha: -0.5}, {TransA: true, TransB: true, Alpha: 2, Acc: true}, {TransB: true, KnownB: true}, {KnownB: true, Acc: true}} {
				cfg.BF16 = true
				matmulCase{batch: s[0], m: s[1], n: s[2], k: s[3], cfg: cfg}.check(t, dev, gpu.Float32, c)
			}
		}
		for i, p := range convCases {
			if p.cfg.Groups > 1 {
				continue
			}
			for _, last := range []bool{false, true} {
				p.cfg.Last, p.cfg.BF16, p.cfg.KnownW = last, true, i%2 == 0
				p.check(t, dev, gpu.Float32)
			}
		}
	})
}

func TestLinearInBF16(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, known := range []bool{false, true} {
			x, xv := linearInput(t, dev, gpu.Float32, 41, 135, 12)
			w, wv := linearInput(t, dev, gpu.Float32, 42, 70, 12)
			b, bv := linearInput(t, dev, gpu.Float32, 43, 70)
			roundedValues(xv)
			roundedValues(wv)
			if known {
				ops.RoundBF16(w, w)
			}
			out, pre := dev.Empty(135, 70), dev.Empty(135, 70)
			ops.LinearBF16(out, pre, x, w, b, ops.Square, known)
			got, kept := read64(t, out), read64(t, pre)
			for i := range got {
				want, size := bv[i%70], math.Abs(bv[i%70])
				for l := range 12 {
					want += xv[i/70*12+l] * wv[i%70*12+l]
					size += math.Abs(xv[i/70*12+l] * wv[i%70*12+l])
				}
				isNear(t, fmt.Sprint("element ", i, " before the function"), kept[i], want, off(false, 13, size))
				isNear(t, fmt.Sprint("element ", i), got[i], want*want, 3*off(false, 13, size)*math.Abs(want)+off(false, 0, want*want))
			}
		}
	})
}
