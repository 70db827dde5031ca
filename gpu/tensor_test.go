package gpu_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
)

var dtypes = []gpu.DType{gpu.Float32, gpu.Float64, gpu.Float16, gpu.BFloat16, gpu.Int32, gpu.Uint8}

// exactly holds in every dtype.
func exactly(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32((i*37 + 11) % 100)
	}
	return v
}

// make a tensor of any dtype from exact values.
func tensorOf(dev *gpu.Device, dt gpu.DType, v []float32, shape ...int) *gpu.Tensor {
	switch dt {
	case gpu.Int32:
		w := make([]int32, len(v))
		for i, x := range v {
			w[i] = int32(x)
		}
		return dev.FromInt32(w, shape...)
	case gpu.Uint8:
		w := make([]uint8, len(v))
		for i, x := range v {
			w[i] = uint8(x)
		}
		return dev.FromUint8(w, shape...)
	}
	return dev.FromAs(dt, v, shape...)
}

func mustFloats(t *testing.T, x *gpu.Tensor) []float32 {
	t.Helper()
	v, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

// Whatever goes to a device comes back, in every dtype and by every way.
func TestThereAndBack(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range dtypes {
			for _, n := range []int{0, 1, 3, 1000, 1<<20 + 1} {
				want := exactly(n)
				x := tensorOf(dev, dt, want, n)
				what := fmt.Sprintf("%v × %d", dt, n)
				if x.Len() != n || x.DType() != dt || x.Device() != dev || (x.Ptr() != 0) != (dev.CUDA() && n > 0) {
					t.Fatalf("%s: %d of %v on %v at %#x", what, x.Len(), x.DType(), x.Device(), x.Ptr())
				}
				same(t, what, mustFloats(t, x), want)
				same(t, what+" on the CPU", mustFloats(t, x.To(gpu.CPU())), want)
				same(t, what+" and back", mustFloats(t, x.To(gpu.CPU()).To(dev)), want)
				y := x.Like()
				y.Copy(x)
				same(t, what+" copied", mustFloats(t, y.View(1, n)), want)
				same(t, what+" zeros", mustFloats(t, dev.Zeros(dt, n)), make([]float32, n))
				d := make([]float64, n)
				if err := x.Read64(d); err != nil {
					t.Fatal(err)
				}
				for i := range d {
					if d[i] != float64(want[i]) {
						t.Fatalf("%s: Read64 gives %g for %g", what, d[i], want[i])
					}
				}
				if dt == gpu.Int32 || dt == gpu.Uint8 {
					continue
				}
				y = dev.Zeros(dt, n)
				y.Set(want)
				same(t, what+" set", mustFloats(t, y), want)
			}
		}
		// float64 and large integers keep what float32 does not.
		d := make([]float64, 2)
		if err := dev.From64([]float64{math.Pi, 1e300}, 2).Read64(d); err != nil || d[0] != math.Pi || d[1] != 1e300 {
			t.Errorf("float64: %v, %v", d, err)
		}
		if err := dev.FromInt32([]int32{math.MaxInt32, -7}, 2).Read64(d); err != nil || d[0] != math.MaxInt32 || d[1] != -7 {
			t.Errorf("int32: %v, %v", d, err)
		}
	})
}

// FromAs and Set round as the conversions do.
func TestRounding(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		v := oracle.Normal(3, 1000)
		for dt, round := range map[gpu.DType]func(float32) float32{
			gpu.Float16:  func(f float32) float32 { return gpu.F16ToFloat(gpu.FloatToF16(f)) },
			gpu.BFloat16: func(f float32) float32 { return gpu.BF16ToFloat(gpu.FloatToBF16(f)) },
		} {
			want := make([]float32, len(v))
			for i := range v {
				want[i] = round(v[i])
			}
			x := dev.FromAs(dt, v, 10, 100)
			same(t, dt.String(), mustFloats(t, x), want)
			x.Set(make([]float32, len(v)))
			x.Set(v)
			same(t, dt.String()+" set", mustFloats(t, x), want)
		}
	})
}

// On the CPU From wraps; elsewhere it copies.
func TestFromWraps(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		v := []float32{1, 2, 3}
		x := dev.From(v, 3)
		v[1] = 7
		want := float32(2)
		if !dev.CUDA() {
			want = 7
		}
		if got := mustFloats(t, x); got[1] != want {
			t.Errorf("after a change of the slice: %v", got)
		}
		if x.To(dev) != x {
			t.Error("To the same device is another tensor")
		}
	})
}

func panicOf(f func()) (msg string) {
	defer func() {
		if r := recover(); r != nil {
			msg = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

func TestMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x := dev.Empty(2, 3)
		for want, f := range map[string]func(){
			"gpu: shape [2 2] does not hold 5 elements":                func() { dev.From(make([]float32, 5), 2, 2) },
			"gpu: shape [7] does not hold 6 elements":                  func() { x.View(7) },
			"gpu: negative size in shape [2 -1]":                       func() { dev.Empty(2, -1) },
			"gpu: shape [4294967296 4294967296] has too many elements": func() { dev.Empty(1<<32, 1<<32) },
			"gpu: New: unknown dtype DType(9)":                         func() { dev.New(9, 1) },
			"gpu: FromAs: int32 is not a float dtype":                  func() { dev.FromAs(gpu.Int32, []float32{1}, 1) },
			"gpu: Read: 6 elements into a slice of 5":                  func() { _ = x.Read(make([]float32, 5)) },
			"gpu: Read64: 6 elements into a slice of 5":                func() { _ = x.Read64(make([]float64, 5)) },
			"gpu: Set: 5 elements into a tensor of 6":                  func() { x.Set(make([]float32, 5)) },
			"gpu: Copy: float32 [3] to float32 [2 3]":                  func() { x.Copy(dev.Empty(3)) },
			"gpu: Copy: float64 [2 3] to float32 [2 3]":                func() { x.Copy(dev.Empty64(2, 3)) },
		} {
			if got := panicOf(f); got != want {
				t.Errorf("panic %q, want %q", got, want)
			}
		}
		if !dev.CUDA() {
			return
		}
		y := dev.Empty(3)
		y.Free()
		y.Free()
		if got := panicOf(func() { y.Ptr() }); got != "gpu: a tensor was used after Free" {
			t.Errorf("panic %q after Free", got)
		}
		if got := panicOf(func() { gpu.CPU().Empty(3).On(dev) }); !strings.HasPrefix(got, "gpu: On: cuda:0 (fork ") || !strings.HasSuffix(got, ") does not have the memory of cpu; To copies it") {
			t.Errorf("panic %q", got)
		}
	})
}

func TestOpen(t *testing.T) {
	for _, name := range []string{"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "CPU"} {
		want := fmt.Sprintf("gpu: device %q: want auto, cpu, cuda or cuda:N", name)
		if _, err := gpu.Open(name); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if d, err := gpu.Open("cpu"); err != nil || d != gpu.CPU() {
		t.Errorf("cpu: %v, %v", d, err)
	}
	auto, err := gpu.Open("auto")
	if err != nil {
		t.Fatal(err)
	}
	first, err := gpu.Open("cuda")
	switch {
	case err == nil && auto != first:
		t.Errorf("auto is %v though there is %v", auto, first)
	case err != nil && (auto != gpu.CPU() || !errors.Is(err, cuda.ErrNoDevice)):
		t.Errorf("auto is %v, cuda says %v", auto, err)
	}
	if zero, err := gpu.Open("cuda:0"); zero != first {
		t.Errorf("cuda:0 is %v (%v), cuda is %v", zero, err, first)
	}
	if _, err := gpu.Open("cuda:1000"); !errors.Is(err, cuda.ErrNoDevice) {
		t.Errorf("cuda:1000: %v", err)
	}
}

// Forks have an order and an error of their own, and take tensors by copy or in place.
func TestFork(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		fork, err := dev.Fork()
		if err != nil {
			t.Fatal(err)
		}
		defer fork.Close()
		want := exactly(1000)
		x := dev.From(want, 1000)
		same(t, "a copy", mustFloats(t, x.To(fork)), want)
		if !dev.CUDA() {
			return
		}
		y := x.On(fork)
		if y.Device() != fork || y.Ptr() != x.Ptr() {
			t.Errorf("On: %v at %#x, was at %#x", y.Device(), y.Ptr(), x.Ptr())
		}
		same(t, "in place", mustFloats(t, y), want)
		bad := errors.New("a fork's own")
		fork.Stream().Fail(bad)
		if dev.Err() != nil || !errors.Is(fork.Sync(), bad) {
			t.Errorf("the error of the fork: %v; of the device: %v", fork.Err(), dev.Err())
		}
		if err := dev.SyncAll(); !errors.Is(err, bad) {
			t.Errorf("SyncAll does not tell of the fork: %v", err)
		}
		if err := fork.Recover(); !errors.Is(err, bad) || fork.Err() != nil {
			t.Errorf("Recover: %v, then %v", err, fork.Err())
		}
	})
}

// Goroutines with a fork each, and with one device together.
func TestManyGoroutines(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		shared := dev.From(exactly(512), 512)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				fork, err := dev.Fork()
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 30 {
					v := oracle.Normal(uint64(100*g+i), 512)
					x := fork.From(v, 512)
					back, err := x.To(dev).Floats()
					if err != nil || back[511] != v[511] {
						t.Errorf("goroutine %d: %g, want %g; %v", g, back[511], v[511], err)
					}
					if w, err := shared.To(fork).Floats(); err != nil || w[1] != exactly(2)[1] {
						t.Errorf("goroutine %d: the shared tensor reads %v; %v", g, w[1], err)
					}
					x.Free()
				}
				if err := fork.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
	})
}

// Out of memory is an error that says so, loses nothing, and ends with Recover;
// tensors that were only forgotten are found before that.
func TestOutOfMemory(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !cuda.HostDevice() || !dev.CUDA() {
			t.Skip("the memory of a GPU is not for a test to fill; the host device's is")
		}
		runtime.GC()
		base := dev.Stream().Dev().Memory().Live
		t.Setenv("FIDLAB_HOST_MEMORY", fmt.Sprint(base+10<<20))
		for range 40 { // 4 MiB each, forgotten
			dev.Empty(1 << 20)
		}
		if err := dev.Sync(); err != nil {
			t.Fatal(err)
		}
		x := dev.Empty(2 << 20)
		before := dev.Stream().Dev().Memory().Live
		y := dev.Empty(1 << 20)
		y.Set(make([]float32, 1<<20)) // dropped
		_, err := y.Floats()
		if !errors.Is(err, cuda.ErrMemory) || !strings.HasPrefix(err.Error(), "cuda: out of memory: want 4.0 MiB, ") ||
			!strings.HasSuffix(err.Error(), " free; use a smaller batch") {
			t.Errorf("the error is %v", err)
		}
		if now := dev.Stream().Dev().Memory().Live; now != before {
			t.Errorf("%d bytes are live, before the refusal %d", now, before)
		}
		if err := dev.Recover(); !errors.Is(err, cuda.ErrMemory) {
			t.Errorf("Recover: %v", err)
		}
		same(t, "a smaller one", mustFloats(t, dev.From([]float32{1, 2}, 2)), []float32{1, 2})
		x.Free()
		z := dev.Zeros(gpu.Float32, 1<<20)
		same(t, "after Free", mustFloats(t, z), make([]float32, 1<<20))
	})
}

// What the driver refuses is told, sticks, and stops what follows.
func TestFaults(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !cuda.HostDevice() || !dev.CUDA() {
			t.Skip("only the host device can be made to fail")
		}
		for call, want := range map[string]string{
			"cuMemcpyHtoDAsync:1:1":   "cuda: copy from the host: invalid value",
			"cuMemAlloc:1:304":        "cuda: allocation of 8 bytes: driver error 304",
			"cuStreamSynchronize:1:1": "cuda: sync: invalid value",
		} {
			t.Setenv("FIDLAB_HOST_FAIL", call)
			x := dev.From([]float32{1, 2}, 2)
			err := dev.Sync()
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", call, err, want)
			}
			os.Unsetenv("FIDLAB_HOST_FAIL")
			if _, again := x.Floats(); again == nil || again.Error() != err.Error() {
				t.Errorf("%s: then %v", call, again)
			}
			_ = dev.Recover()
		}
	})
}
