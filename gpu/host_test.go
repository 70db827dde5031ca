//go:build native && cgo && hostdev

package gpu_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

// alone runs body in a process of its own, since what it breaks stays broken.
func alone(t *testing.T, env string, body func(t *testing.T, dev *gpu.Device)) {
	t.Helper()
	if os.Getenv("TEST_ALONE") == t.Name() {
		dev, err := gpu.Open("cuda")
		if err != nil {
			t.Fatal(err)
		}
		body(t, dev)
		return
	}
	if os.Getenv("TEST_ALONE") != "" {
		t.Skip("another test's process")
	}
	run := exec.Command(os.Args[0], "-test.v", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	run.Env = append(os.Environ(), "TEST_ALONE="+t.Name(), env)
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A device that is lost amid a run: the first wait tells, nothing works after, and nothing hangs.
func TestLostAmidRun(t *testing.T) {
	alone(t, "FIDLAB_HOST_FAIL=cuLaunchKernel:3:719", func(t *testing.T, dev *gpu.Device) {
		x, y := dev.From([]float32{1, 2, 3}, 3), dev.Empty(3)
		for range 5 {
			triad(dev, y, x)
		}
		_, err := y.Floats()
		want := "cuda: probe_triad_f32: launch 1x1x1 of 256 threads: the kernel failed in this or an earlier launch; " +
			"the device is lost to this process: start it again (FIDLAB_SYNC=1 names the launch)"
		if err == nil || err.Error() != want || !errors.Is(err, cuda.ErrLost) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		x.Free()
		if z := dev.From([]float32{1}, 1); z.Ptr() != 0 {
			t.Error("a lost device gives memory")
		}
		if err := dev.Recover(); !errors.Is(err, cuda.ErrLost) || !errors.Is(dev.Err(), cuda.ErrLost) {
			t.Errorf("after Recover: %v", dev.Err())
		}
		if _, err := dev.Fork(); !errors.Is(err, cuda.ErrLost) {
			t.Errorf("a fork of it: %v", err)
		}
	})
}

// A device that the embedded code is not for.
func TestNoCodeForDevice(t *testing.T) {
	alone(t, "FIDLAB_HOST_FAIL=cuModuleLoadData:1:209", func(t *testing.T, dev *gpu.Device) {
		x, y := dev.From([]float32{1, 2, 3}, 3), dev.Empty(3)
		triad(dev, y, x)
		if err := dev.Sync(); err == nil || !strings.HasPrefix(err.Error(), `cuda: probe_triad_f32: module "probe" has no code for compute capability 8.0; built for `) {
			t.Errorf("the error is %v", err)
		}
	})
}

// With the arena in place of single allocations the host device works as a GPU does.
func TestArenaOnHost(t *testing.T) {
	alone(t, "FIDLAB_HOST_ARENA=1", func(t *testing.T, dev *gpu.Device) {
		for range 100 {
			x := dev.From(exactly(5000), 5000)
			y := x.Like()
			triad(dev, y, x)
			if got := mustFloats(t, y); got[4999] != 2*exactly(5000)[4999] {
				t.Fatalf("the last element is %g", got[4999])
			}
			x.Free()
			y.Free()
		}
		if m := dev.Stream().Dev().Memory(); m.Live != 0 || m.Calls != 1 || m.Allocs != 200 {
			t.Errorf("%+v; want 200 allocations from one slab", m)
		}
		if err := dev.Stream().Dev().Trim(); err != nil {
			t.Fatal(err)
		}
		if m := dev.Stream().Dev().Memory(); m.Cached != 0 {
			t.Errorf("%d bytes are kept after Trim", m.Cached)
		}
	})
}

// Tensors go from one GPU to another, after what is queued on the first; operations do not mix them.
func TestTwoDevices(t *testing.T) {
	alone(t, "FIDLAB_HOST_DEVICES=2", func(t *testing.T, dev *gpu.Device) {
		other, err := gpu.Open("cuda:1")
		if err != nil {
			t.Fatal(err)
		}
		x := dev.From(exactly(5000), 5000)
		y := x.To(other)
		if y.Device() != other || other.String() != "cuda:1" {
			t.Errorf("it is on %v", y.Device())
		}
		same(t, "on the other device", mustFloats(t, y), exactly(5000))
		triad(other, y, y)
		x.Copy(y)
		for i, got := range mustFloats(t, x) {
			if got != 2*exactly(5000)[i] {
				t.Fatalf("element %d is %g", i, got)
			}
		}
		if got := panicOf(func() { x.On(other) }); got != "gpu: On: cuda:1 does not have the memory of cuda:0; To copies it" {
			t.Errorf("panic %q", got)
		}
		if err := dev.SyncAll(); err != nil {
			t.Error(err)
		}
		// A kernel that gets the other device's pointer is refused where a GPU would fault.
		triad(dev, x, y)
		if err := dev.Sync(); !errors.Is(err, cuda.ErrLost) {
			t.Errorf("with a pointer of the other device: %v", err)
		}
	})
}
