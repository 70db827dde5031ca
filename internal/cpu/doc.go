// Package cpu is row 0's arithmetic: GEMM, convolution, pooling, softmax,
// elementwise passes, Cholesky, eigenvalues, singular values and JPEG decoding.
//
// Every function exists twice: natively (oneDNN, OpenBLAS and TurboJPEG,
// compiled against their headers under the tag "native" and opened with dlopen
// at first use, or C of our own) and in pure Go. Both are compiled into the
// native flavour. A library is used only after its numeric self-test has
// passed; Report says what was found and why something is not used.
//
// The one rule to know: native calls run only on the package's workers, W
// goroutines locked to OS threads and created once. Functions take the worker
// they run on as their first argument; nil means "submit this to the pool and
// wait", and large problems are then split over all workers. Inside a worker
// every library runs on one thread. Results do not depend on W, nor on which
// worker ran: work is cut into fixed pieces and summed in a fixed order.
//
//	cpu.Each(len(batches), func(w *cpu.Worker, i int) { plan.Run(w, batches[i], out[i]) })
package cpu
