// Command sanitize looks for mistakes in the CUDA kernels that a right result
// does not exclude, on a machine without a GPU.
//
// It runs the tests of the ops on the host device and records launches of every
// kernel: the first of each class of shapes, with all buffers before and after.
// These launches come from tests that compare with a float64 oracle. Then it
// compiles the kernels anew, outside of Go, and plays every recording again:
//
//	order 0 1 7   plain, threads woken forward, backward and at random;
//	              uninitialised variables hold a pattern
//	asan          under AddressSanitizer and UndefinedBehaviorSanitizer, every
//	              buffer a heap block of its exact size
//	tsan          under ThreadSanitizer: threads and blocks are concurrent but
//	              for what barriers, fences and atomics order
//
// The outputs must be those of the recording, bit for bit; only a kernel whose
// contract says "repro no" may differ, within a tolerance and in another order
// than the recording's.
//
// With -mutations it also checks the detectors: each mutation of mutations.go
// puts one mistake into a kernel, and the detector that is named beside it must
// find it.
package main
