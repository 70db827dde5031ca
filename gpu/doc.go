// Package gpu has the device and the tensor that every operation works on.
//
// A Tensor lives on one Device, the CPU or a GPU, has one dtype and a
// contiguous row-major shape. On the CPU its elements are an ordinary slice; on
// a GPU they are device memory, and operations are queued on the device's
// stream. Operations look the same on both:
//
//	dev, err := gpu.Open("auto") // a GPU where there is one, else the CPU
//	x := dev.From(values, 64, 3, 32, 32)
//	y := x.Like()
//	ops.Clamp(y, x, -1, 1)
//	out, err := y.Floats() // waits for the device, and reports its errors
//
// Errors of a GPU (out of memory, a lost device) stick to its stream: later
// work is dropped, and Floats, Read and Sync report the first of them.
package gpu
