// Package ops is every operation on gpu.Tensor: its shape rule, its CPU loop
// and its launch, one file per operation.
//
// Operations work in the dtype of their operands, float32 or float64, which
// must agree. They write to their first argument, allocate nothing, and panic
// on misuse (shapes or dtypes that differ).
package ops
