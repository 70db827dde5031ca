// Package kernels holds the CUDA kernels and the functions that launch them.
//
// A family is one file, kernels/<family>.cu: entry points named op_pass_dtype,
// each below a comment block that is its contract (formula, shapes, launch,
// bound, expected registers, CPU twin). It includes device.h alone, which
// stands for the machine: CUDA's headers and inline PTX under nvcc, and under a
// plain C++ compiler the same names from host.h. Beside it, device_hopper.h has
// what compute capability 9.0 alone can do; files that include it are compiled
// for that, and XHere tells whether a device is one. zlaunch.go, generated from the
// signatures, has one Go function for each entry point.
//
// # The host device
//
// With the tags native and hostdev the kernels are compiled by g++ into the
// program and answer the CUDA driver's calls themselves, so that the whole
// path from an op through the launcher to the kernel runs on a machine without
// a GPU. It is for tests, about a thousand times slower than a GPU, and never a
// fallback: it is used only when FIDLAB_HOST_DEVICE=1 asks for it. Every CUDA
// thread is a fiber; shared memory starts as NaN in every block, asynchronous
// copies land when they are waited for, device memory starts as NaN, and a
// barrier that not all threads reach ends the process with the block, the
// threads and the lines. A primitive's semantics are exact, except that tensor
// cores round as a chain of float fused multiply-adds and that the fast
// intrinsics are libm's. Of what is asynchronous the models do the worst that
// the PTX manual allows (host_hopper.h).
//
//	FIDLAB_HOST_ORDER=0|1|N   blocks start and threads wake forward, backward,
//	                          or at random from seed N
package kernels
