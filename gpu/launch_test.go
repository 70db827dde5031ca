package gpu_test

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/kernels"
)

// eachGPU is device.Each without the CPU.
func eachGPU(t *testing.T, f func(t *testing.T, dev *gpu.Device)) {
	t.Helper()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			t.Skip("launches are a GPU's")
		}
		f(t, dev)
	})
}

// triad sets y to 2 x with a kernel.
func triad(dev *gpu.Device, y, x *gpu.Tensor) { triadOn(dev, cuda.Grid1(y.Len(), 4096, 256), y, x) }

func triadOn(dev *gpu.Device, g cuda.Grid, y, x *gpu.Tensor) {
	kernels.ProbeTriadF32(dev.Stream(), g, y.Ptr(), x.Ptr(), x.Ptr(), 1, int64(y.Len()))
}

// The generated launcher, through the driver's slots to the kernel, allocates nothing.
func TestLauncherAllocatesNothing(t *testing.T) {
	eachGPU(t, func(t *testing.T, dev *gpu.Device) {
		x, y := dev.From([]float32{1, 2, 3}, 3), dev.Empty(3)
		triad(dev, y, x)
		if n := testing.AllocsPerRun(100, func() { triad(dev, y, x) }); n != 0 {
			t.Errorf("%g allocations a launch", n)
		}
		same(t, "the sum", mustFloats(t, y), []float32{2, 4, 6})
	})
}

// A graph of launches repeats on the device's memory as it is.
func TestGraph(t *testing.T) {
	eachGPU(t, func(t *testing.T, dev *gpu.Device) {
		s, x := dev.Stream(), dev.From([]float32{1, 2, 3}, 3)
		step := func() { triad(dev, x, x) }
		step()
		g, err := s.Capture(step)
		if err != nil {
			t.Fatal(err)
		}
		for range 9 {
			s.LaunchGraph(g)
		}
		same(t, "ten doublings", mustFloats(t, x), []float32{1024, 2048, 3072})
		if _, err := s.Capture(func() { dev.Empty(100) }); err == nil || !strings.Contains(err.Error(), "an allocation of 400 bytes during capture") {
			t.Errorf("an allocation within Capture: %v", err)
		}
		_ = dev.Recover()
		same(t, "after a failed capture", mustFloats(t, x), []float32{1024, 2048, 3072})
	})
}

// What the driver refuses, with its own limits.
func TestLaunchLimits(t *testing.T) {
	eachGPU(t, func(t *testing.T, dev *gpu.Device) {
		x, y := dev.From([]float32{1, 2, 3}, 3), dev.Empty(3)
		grid := func(threads, shared int) cuda.Grid {
			return cuda.Grid{X: 1, Y: 1, Z: 1, BX: threads, Shared: shared}
		}
		for _, c := range []struct {
			g    cuda.Grid
			want string
		}{
			{grid(2048, 0), "cuda: probe_triad_f32: launch 1x1x1 of 2048 threads: invalid value (the block limit is 1024)"},
			{grid(256, 1<<20), "cuda: probe_triad_f32: launch 1x1x1 of 256 threads and 1048576 bytes of shared memory: the device allows "},
		} {
			triadOn(dev, c.g, y, x)
			if err := dev.Sync(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			_ = dev.Recover()
		}
		triadOn(dev, grid(256, 96<<10), y, x) // more than the 48 KiB that need no permission
		same(t, "with much shared memory", mustFloats(t, y), []float32{2, 4, 6})
		dev.Stream().Launch(cuda.Func{Module: "probe", Name: "nosuch"}, grid(1, 0), &cuda.Args{})
		if err := dev.Recover(); err == nil || !strings.HasPrefix(err.Error(), "cuda: nosuch: module probe has no such kernel") {
			t.Errorf("a kernel that is not there: %v", err)
		}
	})
}

// The device's clock between two events goes on, and a later event's work comes after.
func TestEventTimes(t *testing.T) {
	eachGPU(t, func(t *testing.T, dev *gpu.Device) {
		s := dev.Stream()
		var events [3]*cuda.Event
		for i := range events {
			e, err := s.Dev().NewEvent()
			if err != nil {
				t.Fatal(err)
			}
			events[i] = e
		}
		x := dev.Zeros(gpu.Float32, 1<<16)
		s.Record(events[0])
		triad(dev, x, x)
		s.Record(events[1])
		triad(dev, x, x)
		s.Record(events[2])
		first, err := events[1].Since(events[0])
		if err != nil || first <= 0 {
			t.Fatalf("a kernel took %v, %v", first, err)
		}
		both, err := events[2].Since(events[0])
		if err != nil || both <= first {
			t.Errorf("one kernel took %v, two took %v; %v", first, both, err)
		}
	})
}

// On a fork, work waits for what the device had queued before; memory comes back for another use.
func TestForkOrder(t *testing.T) {
	eachGPU(t, func(t *testing.T, dev *gpu.Device) {
		n := 1 << 16
		want := make([]float32, n)
		for round := range 20 {
			x := dev.Zeros(gpu.Float32, n)
			v := exactly(n)
			x.Set(v)
			triad(dev, x, x)
			fork, err := dev.Fork()
			if err != nil {
				t.Fatal(err)
			}
			y := x.On(fork)
			triad(fork, y, y)
			z := y.To(dev)
			x.Free() // the fork's work is known to use it
			other := dev.Zeros(gpu.Float32, n)
			for i := range v {
				want[i] = 4 * v[i]
			}
			same(t, "through the fork", mustFloats(t, z), want)
			other.Free()
			z.Free()
			if err := fork.Close(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	})
}
