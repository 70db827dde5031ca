package gpu_test

import (
	"fmt"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

func openGPU(b *testing.B) *gpu.Device {
	dev, err := gpu.Open("cuda")
	if err != nil {
		b.Skip(err)
	}
	return dev
}

// The cost of queueing a kernel of one element, alone and as one of 100 in a graph;
// the limit is the driver's, 2 to 3 us a launch. The wait at the end is counted too.
func BenchmarkLaunch(b *testing.B) {
	dev := openGPU(b)
	s, x := dev.Stream(), dev.Zeros(gpu.Float32, 1)
	step := func() { kernels.ProbeTriadF32(s, cuda.Grid1(1, 4096, 256), x.Ptr(), x.Ptr(), x.Ptr(), 1, 1) }
	b.Run("each", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			step()
		}
		if err := dev.Sync(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("graph of 100", func(b *testing.B) {
		g, err := s.Capture(func() {
			for range 100 {
				step()
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			s.LaunchGraph(g)
		}
		if err := dev.Sync(); err != nil {
			b.Fatal(err)
		}
	})
}

// Copies of one tensor to and from the device; the limit is the bus, about 25 GB/s
// for PCIe 4 and 50 for PCIe 5, or the host's memory.
func BenchmarkCopy(b *testing.B) {
	dev := openGPU(b)
	for _, n := range []int{1 << 10, 1 << 20, 1 << 26} {
		v := make([]float32, n)
		x := dev.From(v, n)
		b.Run(fmt.Sprintf("in/%d", 4*n), func(b *testing.B) {
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				x.Set(v)
			}
			if err := dev.Sync(); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("out/%d", 4*n), func(b *testing.B) {
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				if err := x.Read(v); err != nil {
					b.Fatal(err)
				}
			}
		})
		x.Free()
	}
}

// A tensor made and freed, from memory that is kept.
func BenchmarkAlloc(b *testing.B) {
	dev := openGPU(b)
	for _, n := range []int{100, 1 << 20} {
		b.Run(fmt.Sprint(4*n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dev.Empty(n).Free()
			}
		})
	}
}
