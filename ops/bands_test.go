package ops_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// bandCase is a window over a band of maps, into a band of others.
type bandCase struct {
	n, h, w, c, o, kh, kw int
	spareIn, spareOut     int // channels of the maps beside the band
	cfg                   ops.BandConfig
}

var bandCases = []bandCase{
	{n: 2, h: 5, w: 7, c: 3, o: 5, kh: 3, kw: 3},
	{n: 1, h: 9, w: 8, c: 8, o: 70, kh: 3, kw: 3, cfg: ops.BandConfig{StrideH: 2, StrideW: 2, Pad: [4]int{1, 1, 1, 1}}},
	{n: 3, h: 6, w: 6, c: 16, o: 8, kh: 1, kw: 1, spareIn: 8, spareOut: 24, cfg: ops.BandConfig{In: 8, Out: 16}},
	{n: 1, h: 8, w: 9, c: 40, o: 33, kh: 1, kw: 7, spareIn: 4, spareOut: 3, cfg: ops.BandConfig{In: 4, Out: 2, Pad: [4]int{0, 0, 3, 3}}},
	{n: 2, h: 10, w: 3, c: 12, o: 64, kh: 7, kw: 1, cfg: ops.BandConfig{StrideH: 2, Pad: [4]int{3, 2, 0, 0}}},
	{n: 1, h: 17, w: 17, c: 6, o: 10, kh: 3, kw: 5, spareIn: 1, spareOut: 1, cfg: ops.BandConfig{StrideW: 3, In: 1, Pad: [4]int{2, 0, 0, 4}}},
	{n: 70, h: 1, w: 1, c: 300, o: 70, kh: 1, kw: 1},
}

func (b bandCase) size() (oh, ow int) {
	s := func(n, k, stride, before, after int) int { return (n+before+after-k)/max(1, stride) + 1 }
	return s(b.h, b.kh, b.cfg.StrideH, b.cfg.Pad[0], b.cfg.Pad[1]), s(b.w, b.kw, b.cfg.StrideW, b.cfg.Pad[2], b.cfg.Pad[3])
}

// each calls f for the places of the window of a pixel: where they lie in x, and their number in the window.
func (b bandCase) each(i, oy, ox int, f func(at, tap int)) {
	for ky := range b.kh {
		for kx := range b.kw {
			y, x := oy*max(1, b.cfg.StrideH)+ky-b.cfg.Pad[0], ox*max(1, b.cfg.StrideW)+kx-b.cfg.Pad[2]
			if y >= 0 && y < b.h && x >= 0 && x < b.w {
				f(((i*b.h+y)*b.w+x)*(b.c+b.spareIn)+b.cfg.In, ky*b.kw+kx)
			}
		}
	}
}

func TestConvBand(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, b := range bandCases {
			for _, clip := range []bool{false, true} {
				oh, ow := b.size()
				x := dev.From(oracle.Normal(1, b.n*b.h*b.w*(b.c+b.spareIn)), b.n, b.h, b.w, b.c+b.spareIn)
				w := dev.From(oracle.Normal(2, b.o*b.kh*b.kw*b.c), b.o, b.kh, b.kw, b.c)
				var bias *gpu.Tensor
				if clip {
					bias = dev.From(oracle.Normal(3, b.o), b.o)
				}
				out := dev.From(oracle.Normal(4, b.n*oh*ow*(b.o+b.spareOut)), b.n, oh, ow, b.o+b.spareOut)
				before := read64(t, out)
				ops.ConvBand(out, x, w, bias, clip, b.cfg)
				got, xs, ws := read64(t, out), read64(t, x), read64(t, w)
				depth := b.kh * b.kw * b.c
				for at, v := range got {
					k, pixel := at%(b.o+b.spareOut)-b.cfg.Out, at/(b.o+b.spareOut)
					if k < 0 || k >= b.o {
						if v != before[at] {
							t.Fatalf("%+v: channel %d beside the band was %g and is %g", b, k, before[at], v)
						}
						continue
					}
					var sum, size float64
					b.each(pixel/(oh*ow), pixel/ow%oh, pixel%ow, func(from, tap int) {
						for c := range b.c {
							p := xs[from+c] * ws[(k*b.kh*b.kw+tap)*b.c+c]
							sum, size = sum+p, size+math.Abs(p)
						}
					})
					if bias != nil {
						p := read64(t, bias)[k]
						sum, size = sum+p, size+math.Abs(p)
					}
					if clip {
						sum = max(sum, 0)
					}
					if tol := float64(depth+3) * 0x1p-24 * size; !(math.Abs(v-sum) <= tol) {
						t.Fatalf("%+v: pixel %d, channel %d: %g, want %g within %.2g", b, pixel, k, v, sum, tol)
					}
				}
			}
		}
	})
}

// Large tiles, whose sums of chains lie in shared memory, give the bits of small ones.
func TestConvBandInLargeTiles(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, b := range []bandCase{
			{n: 1, h: 16, w: 16, c: 36, o: 128, kh: 3, kw: 3, cfg: ops.BandConfig{Pad: [4]int{1, 1, 1, 1}}},
			{n: 1, h: 15, w: 17, c: 30, o: 121, kh: 3, kw: 3, spareOut: 3, cfg: ops.BandConfig{Pad: [4]int{1, 1, 1, 1}, Out: 2}},
		} {
			oh, ow := b.size()
			x := dev.From(oracle.Normal(1, b.n*b.h*b.w*b.c), b.n, b.h, b.w, b.c)
			w, bias := dev.From(oracle.Normal(2, b.o*b.kh*b.kw*b.c), b.o, b.kh, b.kw, b.c), dev.From(oracle.Normal(3, b.o), b.o)
			run := func(least int) []float64 {
				defer ops.LargeTiles(least)()
				out := dev.Zeros(gpu.Float32, b.n, oh, ow, b.o+b.spareOut)
				ops.ConvBand(out, x, w, bias, true, b.cfg)
				return read64(t, out)
			}
			small, large := run(1000), run(1)
			for i, v := range large {
				if v != small[i] {
					t.Fatalf("%+v: value %d is %g in large tiles, %g in small ones", b, i, v, small[i])
				}
			}
		}
	})
}

func TestPoolBand(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, b := range bandCases {
			for _, dt := range []gpu.DType{gpu.Float32, gpu.BFloat16} {
				for _, average := range []bool{false, true} {
					oh, ow := b.size()
					x := dev.FromAs(dt, oracle.Normal(1, b.n*b.h*b.w*(b.c+b.spareIn)), b.n, b.h, b.w, b.c+b.spareIn)
					out := dev.FromAs(dt, oracle.Normal(4, b.n*oh*ow*(b.c+b.spareOut)), b.n, oh, ow, b.c+b.spareOut)
					before := read64(t, out)
					ops.PoolBand(out, x, b.c, b.kh, b.kw, average, b.cfg)
					got, xs := read64(t, out), read64(t, x)
					for at, v := range got {
						k, pixel := at%(b.c+b.spareOut)-b.cfg.Out, at/(b.c+b.spareOut)
						if k < 0 || k >= b.c {
							if v != before[at] {
								t.Fatalf("%+v: channel %d beside the band was %g and is %g", b, k, before[at], v)
							}
							continue
						}
						best, sum, size, count := math.Inf(-1), 0., 0., 0
						b.each(pixel/(oh*ow), pixel/ow%oh, pixel%ow, func(from, _ int) {
							p := xs[from+k]
							best, sum, size, count = max(best, p), sum+p, size+math.Abs(p), count+1
						})
						want, tol := best, 0.
						if average {
							want = sum / float64(count)
							tol = float64(count+1) * 0x1p-24 * size / float64(count)
							if dt == gpu.BFloat16 {
								tol += math.Abs(want) * 0x1p-8 // half an ulp, and what moves it
							}
						}
						if !(math.Abs(v-want) <= tol) {
							t.Fatalf("%+v, %v, average %t: pixel %d, channel %d: %g, want %g within %.2g", b, dt, average, pixel, k, v, want, tol)
						}
					}
				}
			}
		}
	})
}

// Means of floats are the correctly rounded quotients of their sums, so that both twins agree to the last bit; a NaN is the greatest, and in no other window.
func TestPoolBandBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, 2*9*9*8)
	for i := range v {
		v[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(30)-15))
	}
	v[100] = float32(math.NaN())
	v[200] = float32(math.Inf(1))
	cfg := ops.BandConfig{StrideH: 2, Pad: [4]int{1, 1, 1, 1}}
	run := func(dev *gpu.Device, average bool) []float32 {
		x, out := dev.From(v, 2, 9, 9, 8), dev.Empty(2, 5, 9, 8)
		ops.PoolBand(out, x, 8, 3, 3, average, cfg)
		f, err := out.Floats()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, average := range []bool{false, true} {
			want, nan := run(gpu.CPU(), average), 0
			for i, g := range run(dev, average) {
				if g != g {
					nan++
				}
				if math.Float32bits(g) != math.Float32bits(want[i]) && (g == g || want[i] == want[i]) {
					t.Fatalf("average %t: value %d is %x, on the CPU %x", average, i, math.Float32bits(g), math.Float32bits(want[i]))
				}
			}
			if nan != 6 { // row 1 lies in the windows of rows -1 to 1 and of 1 to 3, column 3 in three
				t.Errorf("average %t: %d NaN, want 6", average, nan)
			}
		}
	})
}

func TestBandsInAndOut(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n, c, h, w, p = 3, 5, 6, 7, 8
		planes := oracle.Normal(1, n*c*h*w)
		for _, dt := range []gpu.DType{gpu.Float32, gpu.BFloat16} {
			x, maps, back := dev.From(planes, n, c, h, w), dev.New(dt, n, h, w, p), dev.Empty(n, 3, h, w)
			ops.BandOfPlanes(maps, x)
			ops.PlanesOfBand(back, maps, 2)
			mean := dev.Empty(n, 4)
			ops.MeanBand(mean, maps, 1)
			rounded := func(v float32) float64 {
				if dt == gpu.BFloat16 {
					v = gpu.BF16ToFloat(gpu.FloatToBF16(v))
				}
				return float64(v)
			}
			value := func(i, k, q int) float64 {
				if k >= c {
					return 0
				}
				return rounded(planes[(i*c+k)*h*w+q])
			}
			for at, v := range read64(t, maps) {
				if want := value(at/(h*w*p), at%p, at/p%(h*w)); v != want {
					t.Fatalf("%v: map value %d is %g, want %g", dt, at, v, want)
				}
			}
			for at, v := range read64(t, back) {
				if want := value(at/(3*h*w), 2+at/(h*w)%3, at%(h*w)); v != want {
					t.Fatalf("%v: plane value %d is %g, want %g", dt, at, v, want)
				}
			}
			for at, v := range read64(t, mean) {
				want := 0.
				for q := range h * w {
					want += value(at/4, 1+at%4, q) / (h * w)
				}
				if math.Abs(v-want) > 0x1p-23*math.Abs(want) {
					t.Fatalf("%v: mean %d is %g, want %g", dt, at, v, want)
				}
			}
		}
	})
}

// Two terms hold sixteen bits of a value, and against weights of terms give products that lack the product of the small ones alone.
func TestSplitBand(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n, h, w, c, p = 2, 3, 5, 8, 12
		x, out := dev.From(oracle.Normal(1, n*h*w*p), n, h, w, p), dev.New(gpu.BFloat16, n, h, w, 3*c)
		ops.SplitBand(out, x, 4)
		got, xs := read64(t, out), read64(t, x)
		for q := range n * h * w {
			for k := range c {
				v, a, b, again := xs[q*p+4+k], got[q*3*c+k], got[q*3*c+c+k], got[q*3*c+2*c+k]
				if a != float64(gpu.BF16ToFloat(gpu.FloatToBF16(float32(v)))) || again != a || math.Abs(v-a-b) > 0x1p-17*math.Abs(v) {
					t.Fatalf("pixel %d, channel %d: %g is %g and %g, and %g", q, k, v, a, b, again)
				}
			}
		}
	})
}

func TestBandsRefuse(t *testing.T) {
	cpu := gpu.CPU()
	x, out := cpu.Empty(1, 5, 5, 8), cpu.Empty(1, 3, 3, 8)
	w := cpu.Empty(4, 3, 3, 8)
	oracle.Refuses(t, map[string]func(){
		"bands of 8 channels from 1 of 8": func() { ops.ConvBand(out, x, w, nil, false, ops.BandConfig{In: 1}) },
		"4 from 5 of 8":                   func() { ops.ConvBand(out, x, w, nil, false, ops.BandConfig{Out: 5}) },
		"results of 3×3 of maps of 5×5":   func() { ops.ConvBand(out, x, w, nil, false, ops.BandConfig{StrideH: 2, StrideW: 2}) },
		"want [4]":                        func() { ops.ConvBand(out, x, w, cpu.Empty(5), false, ops.BandConfig{}) },
		"none below 0":                    func() { ops.PoolBand(out, x, 8, 3, 3, false, ops.BandConfig{StrideH: -1}) },
		"a window lies outside":           func() { ops.PoolBand(out, x, 8, 3, 3, false, ops.BandConfig{StrideH: 3}) },
		"want float32 or bfloat16": func() {
			ops.PoolBand(cpu.Empty64(1, 3, 3, 8), cpu.Empty64(1, 5, 5, 8), 8, 3, 3, false, ops.BandConfig{})
		},
		"float32 beside maps of bfloat16":  func() { ops.PoolBand(out, cpu.New(gpu.BFloat16, 1, 5, 5, 8), 8, 3, 3, false, ops.BandConfig{}) },
		"means [1 6] of channels from 3":   func() { ops.MeanBand(cpu.Empty(1, 6), x, 3) },
		"which have fewer channels":        func() { ops.BandOfPlanes(x, cpu.Empty(1, 9, 5, 5)) },
		"planes [1 4 5 5] of channels":     func() { ops.PlanesOfBand(cpu.Empty(1, 4, 5, 5), x, 5) },
		"want three times a multiple of 4": func() { ops.SplitBand(cpu.New(gpu.BFloat16, 1, 5, 5, 18), x, 0) },
	})
}
