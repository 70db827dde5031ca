//go:build native && cgo

package cpu

// #cgo CFLAGS: -std=c11 -O3 -Wall -Werror -Wno-psabi
// #cgo noescape blas_sgemm
// #cgo nocallback blas_sgemm
// #cgo noescape blas_dgemm
// #cgo nocallback blas_dgemm
// #cgo noescape blas_dsyrk
// #cgo nocallback blas_dsyrk
// #cgo noescape blas_dtrmm
// #cgo nocallback blas_dtrmm
// #include "native.h"
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"
)

var openblas struct {
	once     sync.Once
	lib      Library
	ok       bool // open and tested
	parallel bool // the exclusive phase may use several threads
}

// haveBLAS opens and tests OpenBLAS at its first call.
func haveBLAS() bool {
	openblas.once.Do(func() {
		l := &openblas.lib
		*l = Library{Name: blasName, Purpose: blasPurpose, Install: "apt-get install libopenblas0-pthread"}
		if why := C.blas_open(); why != nil {
			l.Why = C.GoString(why)
			l.Path = C.GoString(C.blas_path())
			return
		}
		l.Path = C.GoString(C.blas_path())
		l.Version = blasVersion(C.GoString(C.blas_config()))
		openblas.parallel = C.blas_parallel() == 1
		if why := testBLAS(); why != "" {
			l.Why = "self-test failed: " + why
			return
		}
		l.Install = ""
		l.Used, openblas.ok = true, true
	})
	return openblas.ok
}

// blasCore names the kernels to take in place of those of core, or is empty.
func blasCore(core string, avx2, avx512 bool) string {
	c := C.CString(core)
	defer C.free(unsafe.Pointer(c))
	if better := C.blas_core(c, flag(avx2), flag(avx512)); better != nil {
		return C.GoString(better)
	}
	return ""
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

func f32(x []float32) *C.float { return (*C.float)(&x[0]) }

func f64(x []float64) *C.double { return (*C.double)(&x[0]) }

func nativeGemm32(w *Worker, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
	if !fits(m, n, k, lda, ldb, ldc) {
		return false
	}
	if dnnGemm32(w, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) {
		return true
	}
	if !haveBLAS() {
		return false
	}
	w.Enter()
	defer w.Leave()
	calls.gemm32.Add(1)
	C.blas_sgemm(flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), C.float(alpha), f32(a), C.int(lda), f32(b), C.int(ldb), C.float(beta), f32(c), C.int(ldc))
	return true
}

func nativeGemm64(w *Worker, ta, tb bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) bool {
	if !haveBLAS() || !fits(m, n, k, lda, ldb, ldc) {
		return false
	}
	w.Enter()
	defer w.Leave()
	calls.gemm64.Add(1)
	C.blas_dgemm(flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), C.double(alpha), f64(a), C.int(lda), f64(b), C.int(ldb), C.double(beta), f64(c), C.int(ldc))
	return true
}

func nativeSyrkT64(w *Worker, n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) bool {
	if !haveBLAS() || !fits(n, k, lda, ldc) {
		return false
	}
	w.Enter()
	defer w.Leave()
	calls.syrk.Add(1)
	C.blas_dsyrk(C.int(n), C.int(k), C.double(alpha), f64(a), C.int(lda), C.double(beta), f64(c), C.int(ldc))
	return true
}

func nativeTrmm64(w *Worker, left, trans bool, m, n int, alpha float64, l []float64, ldl int, b []float64, ldb int) bool {
	if !haveBLAS() || !fits(m, n, ldl, ldb) {
		return false
	}
	w.Enter()
	defer w.Leave()
	calls.trmm.Add(1)
	C.blas_dtrmm(flag(left), flag(trans), C.int(m), C.int(n), C.double(alpha), f64(l), C.int(ldl), f64(b), C.int(ldb))
	return true
}

// withThreads runs a LAPACK function on that many library threads. The caller
// is in the exclusive phase when threads is not 1.
func withThreads(threads int, f func() C.int) C.int {
	if threads == 1 || !openblas.parallel {
		return f()
	}
	C.blas_threads(C.int(threads))
	defer C.blas_threads(1)
	return f()
}

func nativeCholesky64(threads, n int, a []float64, lda int) (pivot int, ok bool) {
	if !haveBLAS() || !fits(n, lda) {
		return -1, false
	}
	calls.cholesky.Add(1)
	return int(withThreads(threads, func() C.int { return C.blas_dpotrf(C.int(n), f64(a), C.int(lda)) })) - 1, true
}

func nativeCongruence64(threads, n int, a []float64, lda int, l []float64, ldl int) bool {
	if !haveBLAS() || !fits(n, lda, ldl) {
		return false
	}
	calls.congruence.Add(1)
	withThreads(threads, func() C.int { return C.blas_dsygst(C.int(n), f64(a), C.int(lda), f64(l), C.int(ldl)) })
	return true
}

func nativeSymEig64(threads, n int, a []float64, lda int, vectors bool, values []float64) (ok bool, err error) {
	if !haveBLAS() || vectors && !fits(2*n*n+6*n+1) || !fits(n, lda) {
		return false, nil
	}
	calls.eig.Add(1)
	info := withThreads(threads, func() C.int { return C.blas_dsyevd(flag(vectors), C.int(n), f64(a), C.int(lda), f64(values)) })
	if info != 0 {
		return true, fmt.Errorf("cpu: SymEig64: dsyevd did not converge on a matrix of order %d (info %d)", n, info)
	}
	return true, nil
}

func nativeSingularValues64(threads, m, n int, a []float64, lda int, values []float64) (ok bool, err error) {
	if !haveBLAS() || !fits(8*min(m, n), lda) {
		return false, nil
	}
	calls.svd.Add(1)
	info := withThreads(threads, func() C.int { return C.blas_dgesdd(C.int(m), C.int(n), f64(a), C.int(lda), f64(values)) })
	if info != 0 {
		return true, fmt.Errorf("cpu: SingularValues64: dgesdd did not converge on a %d×%d matrix (info %d)", m, n, info)
	}
	return true, nil
}

// blasVersion is what matters of a configuration such as "OpenBLAS 0.3.21
// NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Zen MAX_THREADS=64": number and kernels.
func blasVersion(config string) string {
	f := strings.Fields(config)
	if len(f) < 4 || f[0] != "OpenBLAS" {
		return config
	}
	return f[1] + " (" + f[len(f)-2] + ")"
}
