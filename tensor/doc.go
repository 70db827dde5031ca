// Package tensor holds plain arrays and the file formats they come in.
//
// An Array is a dtype, a shape and little-endian bytes in C order: what an .npy
// member, a safetensors entry or a tensor of a .pth checkpoint has in common.
// The readers here never execute anything: pickles are interpreted by a
// restricted machine that knows arrays, numbers, strings and containers, and
// refuses every other call by name. Each reader takes its sizes from headers
// that it has checked against the bytes that are really there.
//
// The package computes nothing; arithmetic lives in internal/cpu and ops.
package tensor
