//go:build native && cgo && linux

package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// Range speaks NVTX's protocol to the library that a profiler names.
func TestRange(t *testing.T) {
	if os.Getenv("FAKE_NVTX") != "" {
		end := Range("outer")
		Range("inner")()
		end()
		os.Exit(0)
	}
	lib := filepath.Join(t.TempDir(), "libinjection.so")
	oracle.NeedsSources(t)
	cc := exec.Command("gcc", "-shared", "-fPIC", "-x", "c", "-Wall", "-o", lib, filepath.Join("testdata", "fakenvtx.c"))
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, want := range map[string]string{
		lib:             "start outer 101\nstart inner 102\nend 102\nend 101\n",
		"":              "",
		"/no/such/file": "",
		"libm.so.6":     "", // a library, but no profiler's
	} {
		run := exec.Command(os.Args[0], "-test.run=^TestRange$")
		run.Env = append(os.Environ(), "FAKE_NVTX=1", "NVTX_INJECTION64_PATH="+path)
		out, err := run.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("with %q: %v, %q; want %q", path, err, strings.TrimSpace(string(out)), want)
		}
	}
}

func TestRangeAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Range("step")() }); n != 0 && os.Getenv("NVTX_INJECTION64_PATH") == "" {
		t.Errorf("%g allocations without a profiler", n)
	}
}
