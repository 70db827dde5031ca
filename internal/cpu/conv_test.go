package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var convCases = []Conv{
	{N: 1, C: 1, H: 1, W: 1, Out: 1, KH: 1, KW: 1},
	{N: 2, C: 3, H: 29, W: 31, Out: 32, KH: 3, KW: 3, StrideH: 2, StrideW: 2, ReLU: true},
	{N: 9, C: 1, H: 28, W: 28, Out: 16, KH: 5, KW: 5, PadH: 2, PadW: 2, ReLU: true},
	{N: 1, C: 64, H: 10, W: 10, Out: 80, KH: 1, KW: 1},
	{N: 3, C: 17, H: 12, W: 9, Out: 33, KH: 1, KW: 7, PadW: 3},
	{N: 1, C: 128, H: 17, W: 17, Out: 192, KH: 7, KW: 1, PadH: 3, ReLU: true},
	{N: 2, C: 8, H: 11, W: 7, Out: 4, KH: 4, KW: 2, StrideH: 3, StrideW: 1, PadH: 1, PadW: 1},
}

func TestConv2D(t *testing.T) {
	for i, c := range convCases {
		for _, withBias := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v/bias=%v", c, withBias), func(t *testing.T) {
				r := rand.New(rand.NewPCG(15, uint64(i)))
				oh, ow := c.OutSize()
				x, weight := random32(r, c.N*c.C*c.H*c.W), random32(r, c.Out*c.C*c.KH*c.KW)
				var bias []float32
				if withBias {
					bias = random32(r, c.Out)
				}
				out, one, twin := make([]float32, c.N*c.Out*oh*ow), make([]float32, c.N*c.Out*oh*ow), make([]float32, c.N*c.Out*oh*ow)
				before := calls.conv.Load()
				Conv2D(nil, &c, out, x, weight, bias)
				if _, _, err := DNNL(); err == nil && calls.conv.Load() == before {
					t.Error("oneDNN is here and was not called")
				}
				Do(func(w *Worker) {
					Conv2D(w, &c, one, x, weight, bias)
					q := c
					q.StrideH, q.StrideW = max(1, c.StrideH), max(1, c.StrideW)
					goConv2D(w, &q, twin, x, weight, bias)
				})
				p := 0
				for n := range c.N {
					for o := range c.Out {
						for y := range oh {
							for z := range ow {
								sum, abs := convAt(&c, x, weight, bias, n, o, y, z)
								tol := float64(c.C*c.KH*c.KW+2) / (1 << 23) * abs
								if d := math.Abs(float64(out[p]) - sum); !(d <= tol) {
									t.Fatalf("image %d channel %d (%d,%d) is %g, want %g", n, o, y, z, out[p], sum)
								}
								if d := math.Abs(float64(twin[p]) - sum); !(d <= tol) {
									t.Fatalf("pure Go: image %d channel %d (%d,%d) is %g, want %g", n, o, y, z, twin[p], sum)
								}
								p++
							}
						}
					}
				}
				sameBits(t, "on one worker", one, out)
			})
		}
	}
}

// convAt is an output element by the definition, in float64, and the sum of its terms' magnitudes.
func convAt(c *Conv, x, weight, bias []float32, n, o, y, z int) (sum, abs float64) {
	if bias != nil {
		sum = float64(bias[o])
		abs = math.Abs(sum)
	}
	for ch := range c.C {
		for kh := range c.KH {
			for kw := range c.KW {
				iy, ix := y*max(1, c.StrideH)+kh-c.PadH, z*max(1, c.StrideW)+kw-c.PadW
				if iy < 0 || iy >= c.H || ix < 0 || ix >= c.W {
					continue
				}
				v := float64(x[((n*c.C+ch)*c.H+iy)*c.W+ix]) * float64(weight[((o*c.C+ch)*c.KH+kh)*c.KW+kw])
				sum += v
				abs += math.Abs(v)
			}
		}
	}
	if c.ReLU {
		sum = max(sum, 0)
	}
	return sum, abs
}

func TestConv2DForgetsOldSizes(t *testing.T) {
	for h := 1; h <= 150; h++ { // more sizes than a worker keeps primitives for
		c := Conv{N: 1, C: 1, H: h, W: 1, Out: 1, KH: 1, KW: 1}
		x, out := make([]float32, h), make([]float32, h)
		for i := range x {
			x[i] = float32(i)
		}
		Do(func(w *Worker) { Conv2D(w, &c, out, x, []float32{2}, []float32{1}) })
		if got, want := out[h-1], float32(2*(h-1)+1); got != want {
			t.Fatalf("h=%d: %g, want %g", h, got, want)
		}
	}
}

func TestConv2DPanics(t *testing.T) {
	for _, c := range []Conv{{N: 1, C: 1, H: 2, W: 2, Out: 1, KH: 3, KW: 3}, {N: 1, C: 1, H: 2, W: 2, Out: 1, KH: 1, KW: 1, PadH: 1}, {N: 2, C: 1, H: 2, W: 2, Out: 1, KH: 1, KW: 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", c)
				}
			}()
			Conv2D(nil, &c, make([]float32, 4), make([]float32, 4), make([]float32, 9), nil)
		}()
	}
}

func TestGemmBF16(t *testing.T) {
	testGemmBF16(t)
	if level := nativeBF16(); level > 0 && level < leastBF16 { // the instructions are there, and slow
		defer func(was int) { leastBF16 = was }(leastBF16)
		leastBF16 = level
		testGemmBF16(t)
	}
}

func testGemmBF16(t *testing.T) {
	t.Helper()
	for _, s := range gemmSizes {
		for mode := range 16 {
			ta, tb, known, beta := mode&1 != 0, mode&2 != 0, Rounded(mode>>2), float32(mode>>1&1)
			m, n, k := s[0], s[1], s[2]
			r := rand.New(rand.NewPCG(16, uint64(m)))
			ra, lda := stored(ta, m, k)
			rb, ldb := stored(tb, k, n)
			a, b, c := random32(r, ra*lda), random32(r, rb*ldb), random32(r, m*(n+2))
			if known&RoundedA != 0 {
				RoundBF16s(a, a)
			}
			if known&RoundedB != 0 {
				RoundBF16s(b, b)
			}
			alpha := float32(1)
			if mode == 3 {
				alpha = -0.5
			}
			c0 := append([]float32(nil), c...)
			before := calls.gemm16.Load()
			GemmBF16(nil, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, n+2, known)
			if HasBF16() && k > 0 && alpha == 1 && calls.gemm16.Load() == before {
				t.Error("bf16 instructions are here and were not used")
			}
			for _, x := range [][]float32{a, b} {
				for i := range x {
					x[i] = RoundBF16(x[i])
				}
			}
			// The products are exact in float32, so the bound of TestGemm32 holds for the rounded operands;
			// the instruction sums pairs and truncates no more than a rounding each: twice that.
			checkGemmResult(t, 1.0/(1<<22), ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c0, c, n+2)
		}
	}
}

func TestRoundBF16(t *testing.T) {
	for _, c := range [][2]float32{{1, 1}, {1 + 1.0/256, 1}, {1 + 3.0/256, 1 + 4.0/256}, {-1 - 1.5/256, -1 - 2.0/256}, {3.4e38, float32(math.Inf(1))}, {float32(math.Inf(-1)), float32(math.Inf(-1))}, {0, 0}} {
		if got := RoundBF16(c[0]); got != c[1] {
			t.Errorf("RoundBF16(%g) is %g, want %g", c[0], got, c[1])
		}
	}
	if got := RoundBF16(math.Float32frombits(0x7f800001)); got == got {
		t.Errorf("RoundBF16(NaN) is %g", got)
	}
	// Of any bits: the nearest of the two neighbours, the even one in the middle; and slices, by both versions, the same.
	r := rand.New(rand.NewPCG(17, 1))
	x := make([]float32, 100003)
	for i := range x {
		switch u := r.Uint32(); i % 4 {
		case 0: // in the middle between two
			x[i] = math.Float32frombits(u&0xffff0000 | 0x8000)
		case 1:
			x[i] = math.Float32frombits(u & 0xff80ffff) // few bits
		default:
			x[i] = math.Float32frombits(u)
		}
	}
	got, plain := make([]float32, len(x)), make([]float32, len(x))
	RoundBF16s(got, x)
	goRound(1, len(x), plain, len(x), x, len(x))
	for i, v := range x {
		lo := math.Float32frombits(math.Float32bits(v) & 0xffff0000)
		hi := math.Float32frombits(math.Float32bits(lo) + 0x10000) // further from zero
		want := lo
		a, b := math.Abs(float64(v)-float64(lo)), math.Abs(float64(hi)-float64(v))
		if math.IsInf(float64(hi), 0) { // where the next would be
			b = math.Abs(math.Copysign(0x1p128, float64(v)) - float64(v))
		}
		if a > b || a == b && math.Float32bits(lo)&0x10000 != 0 {
			want = hi
		}
		switch {
		case v != v:
			if got[i] == got[i] || plain[i] == plain[i] {
				t.Fatalf("NaN %x becomes %g and %g", math.Float32bits(v), got[i], plain[i])
			}
		case math.IsInf(float64(v), 0):
			want = v
			fallthrough
		default:
			if math.Float32bits(got[i]) != math.Float32bits(want) || math.Float32bits(plain[i]) != math.Float32bits(want) {
				t.Fatalf("%g (%x) becomes %g and %g, want %g", v, math.Float32bits(v), got[i], plain[i], want)
			}
		}
	}
	RoundBF16s(x, x)
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(got[i]) {
			t.Fatalf("in place: element %d is %g, want %g", i, x[i], got[i])
		}
	}
}

func BenchmarkConv2D(b *testing.B) {
	for _, c := range []Conv{
		{N: 8, C: 64, H: 35, W: 35, Out: 96, KH: 3, KW: 3, PadH: 1, PadW: 1, ReLU: true},
		{N: 8, C: 192, H: 17, W: 17, Out: 192, KH: 1, KW: 7, PadW: 3, ReLU: true},
		{N: 64, C: 16, H: 28, W: 28, Out: 32, KH: 3, KW: 3, PadH: 1, PadW: 1, ReLU: true},
	} {
		b.Run(fmt.Sprintf("%dx%dx%dx%d-%dx%dx%d", c.N, c.C, c.H, c.W, c.Out, c.KH, c.KW), func(b *testing.B) {
			onWorkers(b, func(b *testing.B, w *Worker) {
				oh, ow := c.OutSize()
				r := rand.New(rand.NewPCG(1, 1))
				x, weight, bias := random32(r, c.N*c.C*c.H*c.W), random32(r, c.Out*c.C*c.KH*c.KW), random32(r, c.Out)
				out := make([]float32, c.N*c.Out*oh*ow)
				for b.Loop() {
					Conv2D(w, &c, out, x, weight, bias)
				}
				flops(b, 2*float64(len(out))*float64(c.C*c.KH*c.KW))
			})
		})
	}
}

func BenchmarkGemmBF16(b *testing.B) {
	const n = 1024
	onWorkers(b, func(b *testing.B, w *Worker) {
		r := rand.New(rand.NewPCG(1, 1))
		x, y, z := random32(r, n*n), random32(r, n*n), make([]float32, n*n)
		for b.Loop() {
			GemmBF16(w, false, false, n, n, n, 1, x, n, y, n, 0, z, n, 0)
		}
		flops(b, 2*float64(n)*float64(n)*float64(n))
	})
}
