package kernels_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/internal/oracle"
	_ "github.com/fidlab/fidlab/internal/oracle/device" // takes the host device in a build that has it
	"github.com/fidlab/fidlab/kernels"
)

// The probes compute what their contracts say; else the limits that they measure are of something else.
func TestProbes(t *testing.T) {
	dev, err := cuda.Open(0)
	if err != nil {
		t.Skip(err)
	}
	name := "cuda"
	if cuda.HostDevice() {
		name = "host"
	}
	t.Run(name, func(t *testing.T) { testProbes(t, dev) })
}

func testProbes(t *testing.T, dev *cuda.Dev) {
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Run("triad", func(t *testing.T) {
		for _, n := range []int{0, 1, 4095, 4096, 4097, 9001} {
			a, b := oracle.Normal(1, n), oracle.Normal(2, n)
			y, pa, pb := s.Alloc(4*n), upload(s, a), upload(s, b)
			kernels.ProbeTriadF32(s, cuda.Grid1(n, 4096, 256), y, pa, pb, 0.7, int64(n))
			for i, got := range download[float32](t, s, y, n) {
				// The product of two float32 is exact in float64, so this rounds as the fused operation does, but
				// for the rare sum that float64 rounds first: half a unit of float64 in the last place of float32.
				want := float32(float64(a[i]) + float64(float32(0.7))*float64(b[i]))
				if got != want && math.Abs(float64(got-want)) > 1e-7*math.Abs(float64(want)) {
					t.Fatalf("n = %d: y[%d] = %v, want %v", n, i, got, want)
				}
			}
		}
	})
	t.Run("fma", func(t *testing.T) {
		const blocks, rounds = 2, 48
		y := s.Alloc(4 * blocks * 256)
		kernels.ProbeFmaF32(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, y, 0.875, 0.5, 3, rounds)
		want := 0.0
		for k := range 8 {
			x := 3 + float64(k)
			for range rounds {
				x = x*0.875 + 0.5
			}
			want += x
		}
		for i, got := range download[float32](t, s, y, blocks*256) {
			// The map contracts by 0.875, so its roundings add up to eight of them at most; then eight sums.
			if math.Abs(float64(got)-want) > 16*math.Exp2(-24)*want {
				t.Fatalf("out[%d] = %v, want %v", i, got, want)
			}
		}
	})
	t.Run("mma", func(t *testing.T) {
		const blocks, rounds = 2, 3
		for _, c := range []struct {
			name   string
			launch func(*cuda.Stream, cuda.Grid, cuda.Ptr, uint32, int32)
			one    uint32
		}{
			{"f16", kernels.ProbeMmaF16, 0x3c003c00},
			{"bf16", kernels.ProbeMmaBf16, 0x3f803f80},
		} {
			y := s.Alloc(4 * blocks * 128)
			c.launch(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 128}, y, c.one, rounds)
			for i, got := range download[float32](t, s, y, blocks*128) {
				if got != 512*rounds {
					t.Fatalf("%s: out[%d] = %v, want %d", c.name, i, got, 512*rounds)
				}
			}
		}
	})
}

func upload[T any](s *cuda.Stream, v []T) cuda.Ptr {
	b := cuda.Bytes(v)
	p := s.Alloc(len(b))
	s.CopyIn(p, b)
	return p
}

// download waits for the device, checks that nothing went wrong and frees p.
func download[T any](t *testing.T, s *cuda.Stream, p cuda.Ptr, n int) []T {
	t.Helper()
	v := make([]T, n)
	if err := s.CopyOut(cuda.Bytes(v), p); err != nil {
		t.Fatal(err)
	}
	s.Free(p)
	return v
}
