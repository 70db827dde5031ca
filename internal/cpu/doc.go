// Package cpu is row 0's arithmetic: GEMM, convolution, attention, pooling,
// softmax, elementwise passes, Cholesky, eigenvalues, singular values, decoding of JPEG
// files and decompression of PNG data.
//
// Every function exists twice: natively (oneDNN, OpenBLAS, TurboJPEG and
// libdeflate, opened with dlopen at first use, or C of our own) and in pure Go.
// Both are compiled into the native flavour. A library is used only after its
// numeric self-test has passed; Report says what was found and why something
// is not used. DecodeJPEG alone has no pure-Go version here: image/jpeg is its
// user's.
//
// The one rule to know: libraries run only on the package's workers, W
// goroutines locked to OS threads and created once. Functions take the worker
// they run on as their first argument; nil means "submit this to the pool and
// wait", and large problems are then split over all workers; on a worker it
// means "work at this, and let the others help" (Run is for chains of such
// calls). Inside a worker every library runs on one thread. A package that calls
// a library itself brackets its calls with the worker's Enter and Leave.
//
//	cpu.Each(len(batches), func(w *cpu.Worker, i int) { plan.Run(w, batches[i], out[i]) })
//
// Results do not depend on W, nor on which worker ran: work is cut into fixed
// pieces and summed in a fixed order. The exception is LAPACK (Cholesky64,
// SymEig64, SingularValues64): called with nil, it has the machine for itself
// and uses W threads, and the last bits may depend on W. Our own C gives the
// bits of the pure-Go version on every processor, except in attention, where it
// fuses multiplications with additions, and in the functions that networks are
// trained with (Func32 and those after it), whose pure-Go versions compute in
// float64; these too give the same bits on every processor.
package cpu
