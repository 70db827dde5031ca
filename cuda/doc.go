// Package cuda talks to the CUDA driver and to nothing else.
//
// It is the only package that imports gorgonia.org/cu. Nothing of CUDA is
// linked: libcuda.so.1 is opened at run time, under the tag "native" only. Built
// without it, or run where there is no driver or no device, Open returns an
// ErrNoDevice with the reason and everything runs on the CPU.
//
// A Dev is one GPU, its primary context and its memory. A Stream is a queue of
// work on it; it keeps the first error of any call made on it, and launches
// return none. Sync and the copies back to the host report it:
//
//	dev, err := cuda.Open(0)
//	...
//	s, err := dev.NewStream()
//	...
//	x := s.Alloc(4 * n)
//	s.CopyIn(x, bytes)
//	kernels.ScaleF32(s, cuda.Grid1(n, 1024, 256), x, x, 2, int32(n))
//	s.CopyOut(bytes, x)
//	if err := s.Sync(); err != nil { // the launch's error, or the copy's
//
// Every method may be called from any goroutine. Work of one stream runs in the
// order of the calls, so goroutines that do not mean to share an order use a
// stream each.
//
// FIDLAB_SYNC=1 makes every launch wait for its end and print its time. Under
// the tag hostdev, which is for tests, FIDLAB_HOST_DEVICE=1 takes the host
// device, on which the kernels run as C++, in place of the driver.
package cuda
