package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
)

// Port is an input or output of a model as its file declares it.
type Port struct {
	Name  string
	DType string // "float32", "float64", "float16", "int64", "int32", or what else the file says
	Shape []int  // -1 where the file leaves the size open
}

func (p Port) String() string { return fmt.Sprintf("%s %s%v", p.Name, p.DType, p.Shape) }

// array is what a call gives for an input or takes from an output: the memory of
// a tensor itself where it fits, else a buffer that is kept.
type array struct {
	port  Port
	shape []int64
	f32   []float32
	f64   []float64
	f16   []uint16
	i64   []int64
	i32   []int32
	u8    []uint8 // outputs only

	own struct { // the kept buffers
		f32 []float32
		f64 []float64
		f16 []uint16
		i64 []int64
		i32 []int32
		u8  []uint8
	}
}

// known tells whether this package can hold arrays of that dtype.
func known(dtype string) bool {
	return slices.Contains([]string{"float32", "float64", "float16", "int64", "int32"}, dtype)
}

// reshape sets the shape to rows and the sizes after it; scalars have none.
func (a *array) reshape(rows int, rest []int) {
	a.shape = a.shape[:0]
	if len(a.port.Shape) == 0 {
		return
	}
	a.shape = append(a.shape, int64(rows))
	for _, d := range rest {
		a.shape = append(a.shape, int64(d))
	}
}

// buffer makes the array one of n elements of the kept memory.
func (a *array) buffer(n int) {
	switch a.port.DType {
	case "float32":
		a.f32 = grown(&a.own.f32, n)
	case "float64":
		a.f64 = grown(&a.own.f64, n)
	case "float16":
		a.f16 = grown(&a.own.f16, n)
	case "int64":
		a.i64 = grown(&a.own.i64, n)
	case "int32":
		a.i32 = grown(&a.own.i32, n)
	case "uint8":
		a.u8 = grown(&a.own.u8, n)
	}
}

func grown[T any](kept *[]T, n int) []T {
	if cap(*kept) < n {
		*kept = make([]T, n)
	}
	return (*kept)[:n]
}

// set writes element i, rounded as the dtype needs.
func (a *array) set(i int, v float64) {
	switch a.port.DType {
	case "float32":
		a.f32[i] = float32(v)
	case "float64":
		a.f64[i] = v
	case "float16":
		a.f16[i] = gpu.FloatToF16(float32(v))
	case "int64":
		a.i64[i] = int64(math.RoundToEven(v))
	case "int32":
		a.i32[i] = int32(math.RoundToEven(v))
	}
}

// fill sets n elements to v.
func (a *array) fill(n int, v float64) {
	a.buffer(n)
	for i := range n {
		a.set(i, v)
	}
}

// at is element i.
func (a *array) at(i int) float64 {
	switch a.port.DType {
	case "float32":
		return float64(a.f32[i])
	case "float64":
		return a.f64[i]
	case "uint8":
		return float64(a.u8[i])
	}
	return float64(gpu.F16ToFloat(a.f16[i]))
}

// direct makes the array t's own memory when its dtype is the model's.
func (a *array) direct(t *gpu.Tensor) bool {
	switch {
	case a.port.DType == "float32" && t.DType() == gpu.Float32:
		a.f32 = t.F32()
	case a.port.DType == "float64" && t.DType() == gpu.Float64:
		a.f64 = t.F64()
	case a.port.DType == "int32" && t.DType() == gpu.Int32:
		a.i32 = t.I32()
	default:
		return false
	}
	return true
}

// value is element i of a tensor on the CPU.
func value(t *gpu.Tensor, i int) float64 {
	switch t.DType() {
	case gpu.Float32:
		return float64(t.F32()[i])
	case gpu.Float64:
		return t.F64()[i]
	case gpu.Int32:
		return float64(t.I32()[i])
	case gpu.Uint8:
		return float64(t.U8()[i])
	case gpu.Float16:
		return float64(gpu.F16ToFloat(t.U16()[i]))
	}
	return float64(gpu.BF16ToFloat(t.U16()[i]))
}

// load gives the array the rows of t [n, ...], the last one repeated to make up rows.
func (a *array) load(t *gpu.Tensor, rows int) {
	n := t.Shape()[0]
	a.reshape(rows, t.Shape()[1:])
	if n == rows && a.direct(t) {
		return
	}
	size := t.Len() / n
	a.buffer(rows * size)
	for r := range rows {
		from := min(r, n-1) * size
		for i := range size {
			a.set(r*size+i, value(t, from+i))
		}
	}
}

// store writes the array's first values of every row to t [n, ...]: all of them,
// or the first half where the network also predicts a variance.
func (a *array) store(t *gpu.Tensor, rows, stride int) {
	n := t.Shape()[0]
	size := t.Len() / n
	for r := range n {
		for i := range size {
			v := a.at(r*stride + i)
			if t.Double() {
				t.F64()[r*size+i] = v
			} else {
				t.F32()[r*size+i] = float32(v)
			}
		}
	}
}
