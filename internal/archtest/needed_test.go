//go:build native

package archtest

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

// TestNeeded: the binary asks the loader for the C library only. Everything
// else, the GPU's driver first, is opened at run time where it is, so that one
// binary starts everywhere.
func TestNeeded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux binaries name their libraries this way")
	}
	bin := filepath.Join(t.TempDir(), "fidlab")
	build := exec.Command("go", "build", "-trimpath", "-tags", "native", "-ldflags", "-extldflags '-static-libgcc -static-libstdc++'", "-o", bin, "./cmd/fidlab")
	build.Dir = root(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(`^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux.*)$`)
	for _, l := range libs {
		if !allowed.MatchString(l) {
			t.Errorf("the binary needs %s to start", l)
		}
	}
	if len(libs) == 0 {
		t.Error("the binary names no library at all; is it the native one?")
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	glibc := regexp.MustCompile(`^GLIBC_2\.(\d+)`)
	for _, s := range symbols {
		m := glibc.FindStringSubmatch(s.Version)
		if m == nil {
			continue
		}
		if minor, err := strconv.Atoi(m[1]); err != nil || minor > 34 {
			t.Errorf("%s is of %s; the binary is to start with glibc 2.34", s.Name, s.Version)
		}
	}
}
