//go:build native && cgo && linux

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A driver of two devices, as far as Devices calls it; MODE changes what it answers.
const fakeDriver = `
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
static int mode(const char *m) { const char *e = getenv("FAKE_CUDA"); return e && !strcmp(e, m); }
int cuInit(unsigned f) { return mode("nodevice") ? 100 : mode("broken") ? 999 : 0; }
int cuDriverGetVersion(int *v) { *v = mode("r550") ? 12040 : 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = mode("zero") ? 0 : 2; return mode("nocount") ? 3 : 0; }
int cuDeviceGet(int *d, int i) { *d = 10 + i; return mode("lost") && i == 1 ? 101 : 0; }
int cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "Fake %d", d); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? d - 10 : -1; return 0; }
#ifndef OLD
int cuDeviceTotalMem_v2(size_t *b, int d) { *b = (size_t)d << 30; return 0; }
#endif
`

// Devices tells apart every way in which a driver can have no device for us.
// Each answer needs a process of its own, since the driver is opened once.
func TestDevicesOfDriver(t *testing.T) {
	if os.Getenv("FAKE_CUDA") != "" {
		list, err := Devices()
		fmt.Printf("%v %v\n", list, err)
		os.Exit(0)
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "fake.c")
	if err := os.WriteFile(src, []byte(fakeDriver), 0o666); err != nil {
		t.Fatal(err)
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
			lib := t.TempDir()
			cc := exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(lib, "libcuda.so.1"), src)
			if c.flag != "" {
				cc.Args = append(cc.Args, c.flag)
			}
			if out, err := cc.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			run := exec.Command(os.Args[0], "-test.run=^TestDevicesOfDriver$")
			run.Env = append(os.Environ(), "LD_LIBRARY_PATH="+lib, "FAKE_CUDA="+c.mode)
			out, err := run.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
		})
	}
}
