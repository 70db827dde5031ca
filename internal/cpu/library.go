package cpu

import (
	"sync/atomic"
	"unsafe"
)

// Library is what the search for one native library found.
type Library struct {
	Name    string // "oneDNN"
	Purpose string // what it is used for
	Path    string // the file that was opened, "" when none was
	Version string
	Used    bool
	Why     string // why it is not used, or a remark on how it is
	Install string // how to get it, where Used is false
}

const (
	dnnlName    = "oneDNN"
	dnnlPurpose = "networks, convolution, float32 and bf16 products"
	blasName    = "OpenBLAS"
	blasPurpose = "float64 linear algebra, float32 products"
)

// Report is what was found of each native library. It opens and tests those
// that have not been used yet.
func Report() []Library { return libraries() }

// DNNL is the dlopen handle of oneDNN, for packages that call it themselves,
// and its version. Its major version is that of the headers this program was
// compiled with. Calls must be made on a worker, between its Enter and Leave.
// The error says why there is no usable oneDNN.
func DNNL() (handle unsafe.Pointer, version string, err error) { return openDNNL() }

// calls counts what ran natively, so that tests can tell it from the pure-Go version.
var calls struct {
	gemm32, gemm64, syrk, trmm, cholesky, congruence, eig, svd, jpeg, inflate, attention, vec, conv, gemm16, resample atomic.Int64
}
