//go:build native && cgo

package cpu

import (
	"debug/elf"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Nothing native is linked: a program starts on machines that have none of the libraries.
func TestBinaryNeedsLibcOnly(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if len(libs) == 0 {
		t.Error("no library at all: this is not the native build")
	}
	allowed := regexp.MustCompile(`^(libc|libm|ld-linux.*)\.so\.\d+$`)
	for _, l := range libs {
		if !allowed.MatchString(l) {
			t.Errorf("the program needs %s; want libc and libm only", l)
		}
	}
}

// Parity between versions means something only if the native one ran: each
// function is called once, and its counter must have moved.
func TestEveryFunctionRunsNatively(t *testing.T) {
	for _, l := range Report() {
		if !l.Used {
			t.Fatalf("%s is not in use: %s", l.Name, l.Why)
		}
	}
	counters := map[string]*atomic.Int64{
		"Gemm32": &calls.gemm32, "Gemm64": &calls.gemm64, "SyrkT64": &calls.syrk, "Trmm64": &calls.trmm, "Cholesky64": &calls.cholesky,
		"SymEig64": &calls.eig, "SingularValues64": &calls.svd, "DecodeJPEG": &calls.jpeg, "Softmax32": &calls.vec, "Conv2D": &calls.conv,
	}
	if HasBF16() {
		counters["GemmBF16"] = &calls.gemm16
	}
	before := map[string]int64{}
	for name, c := range counters {
		before[name] = c.Load()
	}
	everyCall(t, 1)
	for name, c := range counters {
		if c.Load() == before[name] {
			t.Errorf("%s did not run natively", name)
		}
	}
}

func processThreads(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nThreads:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// everyCall makes one call of each kind that enters a library or takes long enough to cost the Go runtime a thread.
func everyCall(t *testing.T, seed int) {
	const n = 70
	r := rand.New(rand.NewPCG(13, uint64(seed)))
	x, y := random64(r, n*n), make([]float64, n*n)
	z, q := random32(r, n*n), make([]float32, n*n)
	Gemm32(nil, false, true, n, n, n, 1, z, n, z, n, 0, q, n)
	Gemm64(nil, true, false, n, n, n, 1, x, n, x, n, 0, y, n)
	SyrkT64(nil, n, n, 1, x, n, 0, y, n)
	for i := range n {
		y[i*n+i]++
	}
	if _, err := SymEig64(nil, n, append([]float64(nil), y...), n, seed%2 == 0); err != nil {
		t.Error(err)
	}
	if err := Cholesky64(nil, n, y, n); err != nil {
		t.Error(err)
	}
	Trmm64(nil, true, true, n, n, 1, y, n, x, n)
	if _, err := SingularValues64(nil, n, n, x, n); err != nil {
		t.Error(err)
	}
	Softmax32(nil, n, n, q, n, z, n)
	Conv2D(nil, &Conv{N: 9, C: 3, H: 8, W: 8, Out: 12, KH: 3, KW: 3}, q, z, z[n:], nil)
	GemmBF16(nil, false, true, n, n, n, 1, z, n, z, n, 0, q, n, 0)
	if _, err := DecodeJPEG(nil, jpegSample, 1<<20); err != nil {
		t.Error(err)
	}
}

func manyCalls(t *testing.T, n int) {
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := g; i < n; i += 64 {
				everyCall(t, i)
			}
		})
	}
	wg.Wait()
}

// OpenMP keeps a team for every thread that ever called it, and the Go runtime
// starts a thread for every goroutine that stays in C: calls from everywhere
// would let both grow without end.
func TestThreadsStayFlat(t *testing.T) {
	for _, l := range Report() {
		if !l.Used {
			t.Fatalf("%s is not in use: %s", l.Name, l.Why)
		}
	}
	manyCalls(t, 64)
	runtime.GC() // the collector's own threads
	before := processThreads(t)
	manyCalls(t, 1000)
	after := processThreads(t)
	t.Logf("%d threads before 1,000 calls, %d after", before, after)
	// The Go runtime may replace a thread that waits in the kernel at either count.
	if after > before+1 {
		t.Errorf("1,000 calls from 64 goroutines took the process from %d threads to %d", before, after)
	}
}
