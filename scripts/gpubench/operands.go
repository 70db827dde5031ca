package main

import (
	"math/rand/v2"

	"github.com/fidlab/fidlab/gpu"
)

// block of normals that operands repeat: their values do not change the time, but denormals and NaNs would.
var block = func() []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, 1<<16-1) // odd, so that rows of a power of two differ
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}()

// normal makes an operand of standard normals of a type.
func normal(dev *gpu.Device, dt gpu.DType, shape ...int) *gpu.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	v := make([]float32, n)
	for i := 0; i < n; i += len(block) {
		copy(v[i:], block)
	}
	return dev.FromAs(dt, v, shape...)
}

// dtypes by the name that cases and specs use.
var dtypes = map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64, "f16": gpu.Float16, "bf16": gpu.BFloat16}

// must stops a case whose operation refuses its operands; its row then says why.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
