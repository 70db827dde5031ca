//go:build native && cgo

package cpu

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// A library that is found but computes nothing, as some versions compute
// nonsense on some processors.
const brokenBLAS = `
void cblas_sgemm(void) {}
void cblas_dgemm(void) {}
void cblas_dsyrk(void) {}
void cblas_dtrmm(void) {}
void dpotrf_(void) {}
void dsygst_(void) {}
void dsyevd_(void) {}
void dgesdd_(void) {}
void openblas_set_num_threads(int n) {}
const char *openblas_get_config(void) { return "OpenBLAS 9.9.9 DYNAMIC_ARCH Broken MAX_THREADS=1"; }
int openblas_get_parallel(void) { return 1; }
`

const brokenDeflate = `
#include <stddef.h>
void *libdeflate_alloc_decompressor(void) { static int d; return &d; }
int libdeflate_zlib_decompress(void *d, const void *in, size_t n, void *out, size_t m, size_t *k) { *k = m; return 0; }
`

// withLibrary runs tests of this binary in a process that finds the given file before the system's library.
func withLibrary(t *testing.T, name, source, tests string) string {
	t.Helper()
	dir := t.TempDir()
	lib := filepath.Join(dir, name)
	if source == "" {
		if err := os.WriteFile(lib, []byte("not a library"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else {
		c := filepath.Join(dir, "broken.c")
		if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		cc := os.Getenv("CC")
		if cc == "" {
			cc = "gcc" // the native build needs it too
		}
		if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", lib, c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cc, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", tests, "-test.v")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tests with a broken %s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestBrokenLibrariesAreNotUsed(t *testing.T) {
	for _, c := range []struct{ library, source, tests, want string }{
		{"libopenblas.so.0", brokenBLAS, "^(TestReport|TestGemm64|TestCholesky64|TestSymEig64)$", `OpenBLAS .*libopenblas\.so\.0 Version:9\.9\.9 \(Broken\) Used:false Why:self-test failed: dgemm 1×1×1, .* is off by [0-9.]+ `},
		{"libopenblas.so.0", "", "^(TestReport|TestGemm32|TestSingularValues64)$", `OpenBLAS .* Used:false Why:.*(invalid ELF header|file too short).* Install:apt-get install`},
		{"libdeflate.so.0", brokenDeflate, "^TestReport$", `libdeflate .* Used:false Why:self-test failed: level 0: 70001 bytes of 70000`},
		{"libturbojpeg.so.0", "", "^(TestReport|TestDecodeJPEG.*)$", `TurboJPEG .* Path: Version: Used:false Why:`},
		{"libdnnl.so." + dnnlMajor(), "", "^(TestReport|TestConv2D|TestGemmBF16)$", `oneDNN .* Path: Version: Used:false Why:`},
	} {
		if out := withLibrary(t, c.library, c.source, c.tests); !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("%s: the report does not match %q:\n%s", c.library, c.want, out)
		}
	}
}

// dnnlMajor is the major version that this binary looks for.
func dnnlMajor() string {
	for _, l := range Report() {
		if l.Name == dnnlName && l.Version != "" {
			return l.Version[:1]
		}
	}
	return "2"
}
