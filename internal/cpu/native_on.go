//go:build native && cgo

package cpu

import (
	"path/filepath"
	"strings"
	"unsafe"
)

// nativeBuild tells that this program can use native libraries.
const nativeBuild = true

// tileEdge is where libraries come close to their speed on large matrices.
const tileEdge = 512

func libraries() []Library {
	haveDNNL()
	haveBLAS()
	Do(func(w *Worker) {
		haveTurbo(w)
		haveDeflate(w)
	})
	return []Library{dnn.lib, openblas.lib, turbo.lib, deflate.lib}
}

// nativeWorker is what the native libraries keep per worker.
type nativeWorker struct {
	jpeg    unsafe.Pointer // TurboJPEG's decoder, made at first use
	inflate unsafe.Pointer // libdeflate's
	dnn     dnnOps         // oneDNN's primitives for the sizes met so far
}

// soVersion stands in for the version of a library that has no function to ask
// for it: what follows ".so" in the name of the file that path leads to.
func soVersion(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	_, version, _ := strings.Cut(filepath.Base(path), ".so.")
	return "so " + version
}
