//go:build native && cgo

package cpu

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
