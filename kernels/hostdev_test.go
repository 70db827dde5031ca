//go:build native && cgo && hostdev

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
)

func TestMain(m *testing.M) {
	if err := os.Setenv("FIDLAB_HOST_DEVICE", "1"); err != nil {
		panic(err)
	}
	cuda.Register("check", "\x50\xed\x55\xba") // the host device looks at the fatbin's magic only
	os.Exit(m.Run())
}

// TestHostDriver checks the host device's answers to right and wrong calls.
func TestHostDriver(t *testing.T) {
	if err := hostSelfTest(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *cuda.Stream {
	t.Helper()
	dev, err := cuda.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func upload[T any](s *cuda.Stream, v []T) cuda.Ptr {
	p := s.Alloc(len(cuda.Bytes(v)))
	s.CopyIn(p, cuda.Bytes(v))
	return p
}

func download[T any](t *testing.T, s *cuda.Stream, p cuda.Ptr, n int) []T {
	t.Helper()
	v := make([]T, n)
	if err := s.CopyOut(cuda.Bytes(v), p); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return v
}

// run launches a check with pointers, int32, uint32 and float32 arguments.
func run(s *cuda.Stream, name string, grid, block, shared int, args ...any) {
	var a cuda.Args
	for _, v := range args {
		switch v := v.(type) {
		case cuda.Ptr:
			a.Ptr(v)
		case int:
			a.I32(int32(v))
		case uint32:
			a.U32(v)
		default:
			panic(fmt.Sprintf("argument %T", v))
		}
	}
	s.Launch(cuda.Func{Module: "check", Name: name}, cuda.Grid{X: grid, Y: 1, Z: 1, BX: block, Shared: shared}, &a)
}

// decode is the value of a 16-bit float with the given number of mantissa bits.
func decode(b uint16, mantissa int) float64 {
	exponents := 15 - mantissa
	bias := 1<<(exponents-1) - 1
	e, m := int(b>>mantissa)&(1<<exponents-1), float64(b&(1<<mantissa-1))/float64(int(1)<<mantissa)
	sign := 1 - 2*float64(b>>15)
	switch {
	case e == 1<<exponents-1 && m != 0:
		return math.NaN()
	case e == 1<<exponents-1:
		return sign * math.Inf(1)
	case e == 0:
		return sign * math.Ldexp(m, 1-bias)
	}
	return sign * math.Ldexp(1+m, e-bias)
}

// same tells whether two numbers are equal, with their signs, or both no number.
func same(a, b float64) bool {
	return a == b && math.Signbit(a) == math.Signbit(b) || a != a && b != b
}

// TestWiden: every 16-bit float becomes the float of its value.
func TestWiden(t *testing.T) {
	s := open(t)
	bits := make([]uint16, 1<<16)
	for i := range bits {
		bits[i] = uint16(i)
	}
	n := len(bits)
	h, b := s.Alloc(4*n), s.Alloc(4*n)
	run(s, "check_widen", n/256, 256, 0, h, b, upload(s, bits), n)
	hs, bs := download[float32](t, s, h, n), download[float32](t, s, b, n)
	for i := range bits {
		if want := decode(bits[i], 10); !same(float64(hs[i]), want) {
			t.Fatalf("half %04x is %g, want %g", i, hs[i], want)
		}
		if want := decode(bits[i], 7); !same(float64(bs[i]), want) {
			t.Fatalf("bf16 %04x is %g, want %g", i, bs[i], want)
		}
	}
}

// nearest rounds x to the nearest 16-bit float, ties to even, by looking at all of them that are
// near: between two neighbours the decision is made in float64, where everything is exact.
func nearest(x float64, mantissa int) uint16 {
	if x != x {
		return 0x7fff
	}
	sign := uint16(0)
	if math.Signbit(x) {
		sign, x = 0x8000, -x
	}
	inf := uint16(0x7fff) &^ (1<<mantissa - 1)
	lo, hi := uint16(0), inf // decode(lo) <= x < decode(hi), or x is infinite
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; decode(mid, mantissa) <= x {
			lo = mid
		} else {
			hi = mid
		}
	}
	below, above := decode(lo, mantissa), decode(hi, mantissa)
	if hi == inf { // the next power of two stands for infinity when rounding
		above = 2 * decode(inf-1<<mantissa, mantissa)
	}
	if x-below > above-x || x-below == above-x && lo&1 == 1 {
		lo = hi
	}
	return lo | sign
}

// TestNarrow: floats round to the nearest 16-bit float, ties to even, also through pack2.
func TestNarrow(t *testing.T) {
	s := open(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var x []float32
	for i := range 1 << 16 { // around every half and every bf16 number, and around every midpoint
		if i%13 == 0 || i%1024 < 4 || i%128 < 2 {
			for _, mantissa := range []int{10, 7} {
				v := float32(decode(uint16(i), mantissa))
				up := float32((decode(uint16(i), mantissa) + decode(uint16(i)+1, mantissa)) / 2)
				for _, c := range []float32{v, up} {
					x = append(x, c, math.Nextafter32(c, float32(math.Inf(1))), math.Nextafter32(c, float32(math.Inf(-1))))
				}
			}
		}
	}
	for range 20000 {
		x = append(x, math.Float32frombits(rng.Uint32()))
	}
	n := len(x)
	h, b, pairs := s.Alloc(2*n), s.Alloc(2*n), s.Alloc(16*n)
	run(s, "check_narrow", (n+255)/256, 256, 0, h, b, pairs, upload(s, x), n)
	hs, bs, ps := download[uint16](t, s, h, n), download[uint16](t, s, b, n), download[float32](t, s, pairs, 4*n)
	for i, v := range x {
		if want := nearest(float64(v), 10); hs[i] != want {
			t.Fatalf("%g (%08x) as half is %04x, want %04x", v, math.Float32bits(v), hs[i], want)
		}
		if want := nearest(float64(v), 7); bs[i] != want {
			t.Fatalf("%g (%08x) as bf16 is %04x, want %04x", v, math.Float32bits(v), bs[i], want)
		}
		for k, mantissa := range []int{10, 10, 7, 7} {
			signed := float64(v)
			if k%2 == 1 {
				signed = -signed
			}
			if want := decode(nearest(signed, mantissa), mantissa); !same(float64(ps[4*i+k]), want) {
				t.Fatalf("pack2 of %g: value %d is %g, want %g", v, k, ps[4*i+k], want)
			}
		}
	}
}

// TestMistakes: each mistake ends the process and is named.
func TestMistakes(t *testing.T) {
	if which := os.Getenv("FIDLAB_TEST_MISTAKE"); which != "" {
		s := open(t)
		out := s.Alloc(256)
		threads := 64
		if which == "2" { // one warp, so that all its threads wait
			threads = 32
		}
		run(s, "check_mistake", 1, threads, 0, out, int(which[0]-'0'))
		t.Fatalf("nothing happened: %v", s.Sync())
	}
	wants := []string{
		"this thread has ended while thread 0,0,0 waits at __syncthreads, hostcheck.cc:",
		"divergent barrier: thread 32,0,0 is at __syncthreads, hostcheck.cc:",
		"deadlock: no thread of the block can go on\n    thread 0,0,0 and 30 more wait at __shfl_sync, hostcheck.cc:",
		"__syncwarp, hostcheck.cc:",
		"divergent warp: lane 31 is at __shfl_sync with mask ffffffff",
		"copyAsync16, hostcheck.cc:",
		"the destination does not lie in shared memory",
		"check_mistake wrote outside of a buffer: byte 256 of 256",
		"__trap, hostcheck.cc:",
	}
	for i, want := range wants {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestMistakes$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("FIDLAB_TEST_MISTAKE=%d", i), "FIDLAB_HOST_ORDER=0")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "host device: ") || !strings.Contains(string(out), want) {
				head, _, _ := strings.Cut(string(out), "\nSIGABRT")
				t.Errorf("%v, and it said:\n%s\nwant %q", err, head, want)
			}
		})
	}
}
