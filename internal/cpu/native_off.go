//go:build !native || !cgo

package cpu

import (
	"errors"
	"unsafe"
)

// nativeBuild tells that this program can use native libraries.
const nativeBuild = false

// tileEdge spreads products of a few hundred over the workers; gonum gains nothing from larger ones.
const tileEdge = 128

const noNative = `built without native libraries; "make build" builds with them (CGO_ENABLED=1 go build -tags native)`

func libraries() []Library {
	none := func(name, purpose string) Library { return Library{Name: name, Purpose: purpose, Why: noNative} }
	return []Library{none(dnnlName, dnnlPurpose), none(blasName, blasPurpose), none(jpegName, jpegPurpose), none(inflateName, inflatePurpose)}
}

func openDNNL() (handle unsafe.Pointer, version string, err error) {
	return nil, "", errors.New("cpu: oneDNN: " + noNative)
}

func singleThread() bool { return true }

func nativeGemm32(w *Worker, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
	return false
}

func nativeGemm64(w *Worker, ta, tb bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) bool {
	return false
}

func nativeSyrkT64(w *Worker, n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) bool {
	return false
}

func nativeTrmm64(w *Worker, left, trans bool, m, n int, alpha float64, l []float64, ldl int, b []float64, ldb int) bool {
	return false
}

func nativeCholesky64(threads, n int, a []float64, lda int) (pivot int, ok bool) { return -1, false }

func nativeCongruence64(threads, n int, a []float64, lda int, l []float64, ldl int) bool {
	return false
}

func nativeSymEig64(threads, n int, a []float64, lda int, vectors bool, values []float64) (ok bool, err error) {
	return false, nil
}

func nativeSingularValues64(threads, m, n int, a []float64, lda int, values []float64) (ok bool, err error) {
	return false, nil
}

func nativeDecodeJPEG(*Worker, []byte, int) (*JPEG, error) { return nil, ErrNoTurbo }

func nativeLinComb[T float32 | float64](out []T, c []float64, x *[linOperands][]T) (finite, ok bool) {
	return false, false
}

func nativeTriad(out, a, b []float32, s float32) bool { return false }

func nativeResample(*Resample, []float32, []uint8, int, *ResampleScratch) bool { return false }

func nativeReLU32(out, x []float32) bool { return false }

func nativeExp32(out, x []float32) bool { return false }

func nativeSoftmax32(rows, cols int, out []float32, ldo int, x []float32, ldx int) bool { return false }

func nativeInflate(w *Worker, dst, src []byte) (n int, ok bool, err error) { return 0, false, nil }

// nativeWorker is what the native libraries keep per worker: nothing here.
//
//lint:ignore U1000 it has a use where it has fields
type nativeWorker struct{}

func nativeDots(w *Worker, m, n, k int, a, b, c []float32) bool { return false }

func nativeBF16() int { return 0 }

func nativeGemmBF16(w *Worker, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) bool {
	return false
}

func nativeConv2D(w *Worker, p *Conv, out, x, weight, bias []float32) bool { return false }

func nativePool(p *Pool, average bool, out, in []float32, oh, ow int) bool { return false }
