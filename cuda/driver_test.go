//go:build native && cgo && linux

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// fakes are the folders of libcuda.so.1 by the flags that it was compiled with.
var fakes = map[string]string{}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range fakes {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// buildFake compiles testdata/fakecuda.c and returns the folder of its libcuda.so.1.
func buildFake(t *testing.T, flags ...string) string {
	t.Helper()
	oracle.NeedsSources(t)
	if dir, ok := fakes[fmt.Sprint(flags)]; ok {
		return dir
	}
	lib, err := os.MkdirTemp("", "fakecuda") //nolint:usetesting // it lives longer than one test
	if err != nil {
		t.Fatal(err)
	}
	fakes[fmt.Sprint(flags)] = lib
	cc := exec.Command("gcc", "-shared", "-fPIC", "-x", "c", "-Wall", "-o", filepath.Join(lib, "libcuda.so.1"),
		filepath.Join("testdata", "fakecuda.c"), "-pthread")
	cc.Args = append(cc.Args, flags...)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

// withFake runs body, part of test t, in a process of its own whose driver is the
// pretended one in that mode: the driver is opened once in a process.
func withFake(t *testing.T, mode string, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv("FAKE_CUDA") != "" {
		body(t)
		return
	}
	run := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	run.Env = append(os.Environ(), "LD_LIBRARY_PATH="+buildFake(t), "FAKE_CUDA="+mode)
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("with the pretended driver: %v\n%s", err, out)
	}
}

// Devices tells apart every way in which a driver can have no device for us.
func TestDevicesOfDriver(t *testing.T) {
	if os.Getenv("FAKE_CUDA") != "" {
		list, err := Devices()
		fmt.Printf("%v %v\n", list, err)
		os.Exit(0)
	}
	for _, c := range []struct{ mode, flag, want string }{
		{"good", "", "[{Fake 10 9 0 10737418240 0} {Fake 11 9 1 11811160064 1}] <nil>"},
		{"nodevice", "", "[] cuda: no usable device: the NVIDIA driver is installed but sees no GPU"},
		{"zero", "", "[] cuda: no usable device: the NVIDIA driver is installed but sees no GPU"},
		{"broken", "", "[] cuda: no usable device: cuInit returned error 999; see nvidia-smi"},
		{"nocount", "", "[] cuda: no usable device: cuDeviceGetCount returned error 3; see nvidia-smi"},
		{"lost", "", "[] cuda: no usable device: device 1 of 2: driver error 101; see nvidia-smi"},
		{"r550", "", "[] cuda: no usable device: the NVIDIA driver is for CUDA 12.4, and the kernels need CUDA 13.0; install driver r580 or newer"},
		{"old", "-DOLD", "[] cuda: no usable device: libcuda.so.1 lacks a function that every driver has; reinstall the NVIDIA driver"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			var flags []string
			if c.flag != "" {
				flags = append(flags, c.flag)
			}
			run := exec.Command(os.Args[0], "-test.run=^TestDevicesOfDriver$")
			run.Env = append(os.Environ(), "LD_LIBRARY_PATH="+buildFake(t, flags...), "FAKE_CUDA="+c.mode)
			out, err := run.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
		})
	}
}

// A binary without the host device says so when it is asked for; it does not take a GPU instead.
func TestNoHostDevice(t *testing.T) {
	if os.Getenv("FAKE_CUDA") != "" {
		_, err := Open(0)
		fmt.Println(err)
		os.Exit(0)
	}
	run := exec.Command(os.Args[0], "-test.run=^TestNoHostDevice$")
	run.Env = append(os.Environ(), "LD_LIBRARY_PATH="+buildFake(t), "FAKE_CUDA=good", "FIDLAB_HOST_DEVICE=1")
	out, err := run.CombinedOutput()
	want := "cuda: no usable device: FIDLAB_HOST_DEVICE is set, but this binary has no host device: build it with the tag hostdev"
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
}

// Open refuses what cannot be used, and says what there is.
func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		mode    string
		ordinal int
		want    string
	}{
		{"volta", 1, "cuda: no usable device: cuda:1 (Fake 11) has compute capability 7.1; the kernels are built for 8.0 and newer"},
		{"good", 2, "cuda: no usable device: cuda:2; this machine has cuda:0 to cuda:1"},
		{"exclusive", 0, "cuda: no usable device: cuda:0 (Fake 10): the device is busy or exclusive to another process; see nvidia-smi"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			withFake(t, c.mode, func(t *testing.T) {
				if _, err := Open(c.ordinal); err == nil || err.Error() != c.want {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
			})
		})
	}
}

// A driver from before tensor maps says so; what none can describe is refused without one.
func TestTilesOfOldDriver(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		if _, err := Open(0); err != nil {
			t.Fatal(err)
		}
		tiles := Tiles{Base: 256, Type: TensorBF16, Rank: 2, Dims: [5]uint64{64, 8}, Strides: [4]uint64{128}, Box: [5]uint32{64, 8}, Swizzle: Swizzle128}
		const want = "cuda: tensor map of extents [64 8], strides [128] and boxes of [64 8] at 0x100: not supported"
		if _, err := tiles.Encode(); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		for _, rank := range []int{0, 6} {
			tiles.Rank = rank
			if _, err := tiles.Encode(); err == nil || !strings.HasSuffix(err.Error(), "dimensions, want 1 to 5") {
				t.Errorf("rank %d: %v", rank, err)
			}
		}
	})
}
