//go:build native && cgo

package cpu

// nativeBuild tells that this program can use native libraries.
const nativeBuild = true

func libraries() []Library {
	haveDNNL()
	haveBLAS()
	Do(func(w *Worker) {
		haveTurbo(w)
		haveDeflate(w)
	})
	return []Library{dnn.lib, openblas.lib, turbo.lib, deflate.lib}
}
