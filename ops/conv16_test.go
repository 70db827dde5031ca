package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var halfDTypes = []gpu.DType{gpu.Float16, gpu.BFloat16}

// rounded16 is how far a value within bound of want may lie from it once it is rounded to dt, where that has 16 bits, in the normal
// range and below it.
func rounded16(dt gpu.DType, want, bound float64) float64 {
	if !dt.Half() {
		return bound
	}
	return bound + linearUnit(dt)*(math.Abs(want)+bound) + linearLeast(dt)
}

// conv16Case is a convolution of n pictures of h by w; the tensors have before and after channels more around those that count.
type conv16Case struct {
	n, h, w, c, o, kh, kw int
	cfg                   ops.Conv16Config
	inAfter, outAfter     int
	bare                  bool // without a bias
}

// conv16Cases are ragged at the edges of every tile, with sums of less than a step of 32, of one, of several and of more than the
// stages hold; channels that are multiples of 8 and that are not; unequal strides and kernels of one row and of one column; and
// parts of pixels at both ends.
var conv16Cases = []conv16Case{
	{n: 1, h: 1, w: 1, c: 1, o: 1, kh: 1, kw: 1},
	{n: 2, h: 9, w: 8, c: 8, o: 12, kh: 1, kw: 1, bare: true},
	{n: 1, h: 13, w: 11, c: 40, o: 132, kh: 1, kw: 1, cfg: ops.Conv16Config{F: ops.ReLU}},
	{n: 2, h: 7, w: 10, c: 24, o: 68, kh: 3, kw: 3, cfg: ops.Conv16Config{Pad: [4]int{1, 1, 1, 1}, F: ops.ReLU}},
	{n: 1, h: 12, w: 11, c: 16, o: 20, kh: 3, kw: 3, cfg: ops.Conv16Config{StrideH: 2, StrideW: 2}},
	{n: 1, h: 9, w: 17, c: 8, o: 66, kh: 3, kw: 2, cfg: ops.Conv16Config{StrideH: 1, StrideW: 3, Pad: [4]int{2, 0, 0, 1}, F: ops.SiLU}},
	{n: 2, h: 17, w: 3, c: 32, o: 24, kh: 7, kw: 1, cfg: ops.Conv16Config{StrideH: 2, Pad: [4]int{3, 3, 0, 0}, OutAt: 4}, outAfter: 8},
	{n: 2, h: 3, w: 17, c: 32, o: 24, kh: 1, kw: 7, cfg: ops.Conv16Config{Pad: [4]int{0, 0, 3, 3}, InAt: 8, OutAt: 3, F: ops.Tanh}, inAfter: 16, outAfter: 2},
	{n: 1, h: 11, w: 12, c: 8, o: 5, kh: 3, kw: 3, cfg: ops.Conv16Config{Dilation: 3, Pad: [4]int{3, 2, 1, 4}, StrideW: 2}},
	{n: 3, h: 8, w: 7, c: 3, o: 16, kh: 3, kw: 3, cfg: ops.Conv16Config{Pad: [4]int{1, 1, 1, 1}, StrideH: 2, StrideW: 2, F: ops.ReLU}},
	{n: 1, h: 6, w: 6, c: 12, o: 7, kh: 2, kw: 2, cfg: ops.Conv16Config{InAt: 1, OutAt: 1}, inAfter: 3, outAfter: 1},
	{n: 1, h: 5, w: 6, c: 16, o: 8, kh: 3, kw: 3, cfg: ops.Conv16Config{InAt: 4, Pad: [4]int{1, 1, 1, 1}}, inAfter: 12}, // whole pixels, begun at half of 16 bytes
}

// check compares with sums in float64 of the operands as stored, and channels beside the result with what was there.
func (p conv16Case) check(t *testing.T, dev *gpu.Device, dt, to gpu.DType) {
	t.Helper()
	pitch, outPitch := p.cfg.InAt+p.c+p.inAfter, p.cfg.OutAt+p.o+p.outAfter
	sh, sw, d := max(1, p.cfg.StrideH), max(1, p.cfg.StrideW), max(1, p.cfg.Dilation)
	oh, ow := (p.h+p.cfg.Pad[0]+p.cfg.Pad[1]-d*(p.kh-1)-1)/sh+1, (p.w+p.cfg.Pad[2]+p.cfg.Pad[3]-d*(p.kw-1)-1)/sw+1
	x, xv := linearInput(t, dev, dt, 31, p.n, p.h, p.w, pitch)
	w, wv := linearInput(t, dev, dt, 32, p.o, p.kh, p.kw, p.c)
	bias, bv := linearInput(t, dev, gpu.Float32, 33, p.o)
	out, old := linearInput(t, dev, to, 34, p.n, oh, ow, outPitch)
	if p.bare {
		bias, bv = nil, make([]float64, p.o)
	}
	ops.Conv16(out, x, w, bias, p.cfg)
	got := read64(t, out)
	k := p.kh * p.kw * p.c
	us, sizes := make([]float64, len(got)), make([]float64, len(got))
	for i := range got {
		ch, pixel := i%outPitch-p.cfg.OutAt, i/outPitch
		if ch < 0 || ch >= p.o {
			if got[i] != old[i] {
				t.Fatalf("%v to %v %+v: element %d beside the result becomes %v, was %v", dt, to, p, i, got[i], old[i])
			}
			continue
		}
		us[i], sizes[i] = bv[ch], math.Abs(bv[ch])
		for j := range k {
			y, col := pixel/ow%oh*sh-p.cfg.Pad[0]+j/p.c/p.kw*d, pixel%ow*sw-p.cfg.Pad[2]+j/p.c%p.kw*d
			if y >= 0 && y < p.h && col >= 0 && col < p.w {
				v := xv[((pixel/ow/oh*p.h+y)*p.w+col)*pitch+p.cfg.InAt+j%p.c] * wv[ch*k+j]
				us[i] += v
				sizes[i] += math.Abs(v)
			}
		}
	}
	for i := range got {
		if sizes[i] == 0 {
			continue
		}
		// The functions here have slopes below 1.1; their own error is a few units of float32.
		want := formulas[p.cfg.F](us[i])
		isNear(t, fmt.Sprintf("%v to %v %+v: element %d", dt, to, p, i), got[i], want, rounded16(to, want, 1.1*off(false, k, sizes[i])+4*0x1p-23*math.Abs(want)))
	}
}

// formulas are the functions that cases have.
var formulas = map[ops.Func]func(float64) float64{
	ops.Identity: func(u float64) float64 { return u },
	ops.ReLU:     func(u float64) float64 { return max(u, 0) },
	ops.SiLU:     func(u float64) float64 { return u / (1 + math.Exp(-u)) },
	ops.Tanh:     math.Tanh,
	ops.Square:   func(u float64) float64 { return u * u },
}

// Convolutions of both 16-bit types into both types of results against the definition in float64, in every version of the kernel.
func TestConv16OnDevices(t *testing.T) {
	for tile := range 4 {
		restore := ops.ForcedTile(tile)
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			if !dev.CUDA() && tile > 0 {
				return
			}
			for i, p := range conv16Cases {
				for j, dt := range halfDTypes {
					p.check(t, dev, dt, []gpu.DType{dt, gpu.Float32}[(i+j)%2])
					if tile == 1 {
						p.check(t, dev, dt, []gpu.DType{gpu.Float32, dt}[(i+j)%2])
					}
				}
			}
		})
		restore()
	}
}

// Sums that need every stage more than once, with pictures enough for several tiles of each version, as the sizes choose.
func TestConv16OfManySteps(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, tile := range []int{-1, 0, 1} {
			restore := ops.ForcedTile(tile)
			conv16Case{n: 1, h: 5, w: 5, c: 72, o: 136, kh: 3, kw: 3, cfg: ops.Conv16Config{Pad: [4]int{1, 1, 1, 1}, F: ops.ReLU}}.check(t, dev, gpu.BFloat16, gpu.BFloat16)
			restore()
		}
	})
}

// The same picture has the same bits alone and among others, and in all versions.
func TestConv16SameBitsAtAnyBatch(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range halfDTypes {
			x, _ := linearInput(t, dev, dt, 41, 5, 6, 7, 40)
			w, _ := linearInput(t, dev, dt, 42, 70, 3, 3, 40)
			b, _ := linearInput(t, dev, gpu.Float32, 43, 70)
			cfg := ops.Conv16Config{Pad: [4]int{1, 1, 1, 1}, F: ops.GELU}
			all := dev.New(gpu.Float32, 5, 6, 7, 70)
			ops.Conv16(all, x, w, b, cfg)
			want := read64(t, all)
			for tile := range 4 {
				restore := ops.ForcedTile(tile)
				for _, n := range [][2]int{{0, 5}, {1, 2}, {2, 5}} {
					part := dev.New(gpu.Float32, n[1]-n[0], 6, 7, 70)
					ops.Conv16(part, x.Rows(n[0], n[1]), w, b, cfg)
					sameValues(t, fmt.Sprintf("%v: pictures %v in version %d", dt, n, tile), read64(t, part), want[n[0]*6*7*70:n[1]*6*7*70])
				}
				restore()
			}
		}
	})
}

// One rounding, to nearest even: sums that are exact in float32 become what the type's own rounding makes of them.
func TestConv16RoundsOnce(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range halfDTypes {
			round := func(v float32) float64 { return float64(gpu.F16ToFloat(gpu.FloatToF16(v))) }
			if dt == gpu.BFloat16 {
				round = func(v float32) float64 { return float64(gpu.BF16ToFloat(gpu.FloatToBF16(v))) }
			}
			const n = 64
			v := make([]float32, 8*n)
			for i := range n {
				v[8*i], v[8*i+1], v[8*i+2] = 256, float32(i), float32(i%4)/4 // 256 + 2 i + i/4
			}
			x, w := dev.FromAs(dt, v, n, 1, 1, 8), dev.FromAs(dt, []float32{8, 2, 1, 0, 0, 0, 0, 0}, 1, 1, 1, 8)
			out := dev.New(dt, n, 1, 1, 1)
			ops.Conv16(out, x, w, nil, ops.Conv16Config{})
			for i, got := range read64(t, out) {
				if want := round(2048 + 2*float32(i) + float32(i%4)/4); got != want {
					t.Fatalf("%v: sum %d becomes %v, want %v", dt, i, got, want)
				}
			}
		}
	})
}

// Branches that write parts of one result, from parts of one operand, side by side.
func TestConv16IntoAConcatenation(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, xv := linearInput(t, dev, gpu.Float16, 51, 2, 4, 4, 24)
		out := dev.New(gpu.Float16, 2, 4, 4, 24)
		eye := make([]float32, 64)
		for i := range 8 {
			eye[9*i] = 1
		}
		w := dev.FromAs(gpu.Float16, eye, 8, 1, 1, 8)
		for part, from := range []int{16, 0, 8} { // each third of the channels to another place
			ops.Conv16(out, x, w, nil, ops.Conv16Config{InAt: from, OutAt: 8 * part, InPitch: 24, OutPitch: 24})
		}
		want := make([]float64, len(xv))
		for i := range want {
			want[i] = xv[i/24*24+(i%24+16)%24]
		}
		sameValues(t, "channels in another order", read64(t, out), want)
	})
}

func TestConv16Misuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		dt := gpu.BFloat16
		x, w, y, b := dev.Zeros(dt, 2, 5, 5, 8), dev.Zeros(dt, 4, 3, 3, 8), dev.Zeros(dt, 2, 3, 3, 4), dev.Zeros(gpu.Float32, 4)
		f := func(out, x, w, b *gpu.Tensor, cfg ops.Conv16Config) func() {
			return func() { ops.Conv16(out, x, w, b, cfg) }
		}
		for words, f := range map[string]func(){
			"ops: Conv16: pictures are float32":                                 f(y, dev.Zeros(gpu.Float32, 2, 5, 5, 8), w, b, ops.Conv16Config{}),
			"ops: Conv16: pictures are bfloat16, kernels float16":               f(y, x, dev.Zeros(gpu.Float16, 4, 3, 3, 8), b, ops.Conv16Config{}),
			"the result float16":                                                f(dev.Zeros(gpu.Float16, 2, 3, 3, 4), x, w, b, ops.Conv16Config{}),
			"the bias bfloat16":                                                 f(y, x, w, dev.Zeros(dt, 4), ops.Conv16Config{}),
			"want [N, H, W, C], [O, KH, KW, C]":                                 f(y, x, dev.Zeros(dt, 4, 72), b, ops.Conv16Config{}),
			"ops: Conv16: strides -1 and 0":                                     f(y, x, w, b, ops.Conv16Config{StrideH: -1}),
			"ops: Conv16: channels 1 to 9 of pixels of 8 in pictures":           f(y, x, w, b, ops.Conv16Config{InAt: 1}),
			"ops: Conv16: channels 0 to 8 of pixels of 16 in pictures":          f(y, x, w, b, ops.Conv16Config{InPitch: 16}),
			"ops: Conv16: channels 2 to 6 of pixels of 4 in the result":         f(y, x, w, b, ops.Conv16Config{OutAt: 2}),
			"ops: Conv16: kernels of 3×3, 3 apart, for pictures of 5×5":         f(y, x, w, b, ops.Conv16Config{Dilation: 3}),
			"ops: Conv16: the result has shape [2 3 3 4], want 2 pictures of 5": f(y, x, w, b, ops.Conv16Config{Pad: [4]int{1, 1, 1, 1}}),
			"ops: Conv16: the bias has shape [3], want [4]":                     f(y, x, w, dev.Zeros(gpu.Float32, 3), ops.Conv16Config{}),
		} {
			mustPanic(t, words, words, f)
		}
		none := dev.Zeros(dt, 0, 5, 5, 8) // no pictures are no mistake
		ops.Conv16(dev.Zeros(dt, 0, 3, 3, 4), none, w, b, ops.Conv16Config{})
	})
}

// Convolutions of float32 in BF16 and both gradients, whose channels tensor cores take on a GPU: kernels of several forms, steps, which
// the gradient by the pictures leaves to the other kernel, padding beyond a kernel's reach likewise, and sums over pixels in one piece
// and in several.
func TestConvInBF16OnTensorCores(t *testing.T) {
	cases := []convCase{
		{n: 1, in: 8, h: 3, w: 4, out: 8, kh: 1, kw: 1},
		{n: 2, in: 40, h: 7, w: 5, out: 72, kh: 3, kw: 3, cfg: ops.Same(3)},
		{n: 2, in: 16, h: 9, w: 8, out: 136, kh: 3, kw: 2, cfg: ops.ConvConfig{Pad: [4]int{0, 2, 1, 0}}},
		{n: 1, in: 24, h: 9, w: 10, out: 16, kh: 3, kw: 3, cfg: ops.ConvConfig{Stride: 2, Pad: [4]int{1, 0, 1, 1}}},
		{n: 2, in: 8, h: 8, w: 7, out: 24, kh: 3, kw: 3, cfg: ops.ConvConfig{Dilation: 2, Pad: [4]int{2, 1, 4, 3}}},
		{n: 1, in: 8, h: 5, w: 6, out: 8, kh: 2, kw: 2, cfg: ops.ConvConfig{Pad: [4]int{2, 1, 0, 1}}},
		{n: 3, in: 16, h: 15, w: 13, out: 8, kh: 3, kw: 3, cfg: ops.Same(3)},
	}
	for _, tile := range []int{-1, 0, 1, 3} {
		restore := ops.ForcedTile(tile)
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			if !dev.CUDA() && tile >= 0 {
				return
			}
			for _, p := range cases {
				p.cfg.Last, p.cfg.BF16 = true, true
				p.check(t, dev, gpu.Float32)
			}
		})
		restore()
	}
}
