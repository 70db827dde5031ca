package ops

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Fault is why an operation of linear algebra refuses a matrix.
type Fault uint8

// The faults of a matrix.
const (
	NotFinite    Fault = iota + 1 // it has a NaN or an infinity
	NotSymmetric                  // it differs from its transpose by more than rounding
	NotPositive                   // it has an eigenvalue that is negative beyond rounding
	Singular                      // its condition number is beyond what the operation takes
	NotConverged                  // the iteration did not reach its residual
)

// MatrixError says which matrix of a batch an operation refused. The others of
// the batch are done; the refused one's results are NaN.
type MatrixError struct {
	Op     string
	Index  int // of the first refused matrix
	Batch  int // number of matrices
	Failed int // number of those refused
	Fault  Fault
	Detail string // what was found, what is wanted and what to do
}

func (e *MatrixError) Error() string {
	more := ""
	if e.Failed > 1 {
		more = fmt.Sprintf(" (and %d more)", e.Failed-1)
	}
	return fmt.Sprintf("ops: %s: matrix %d of %d%s %s", e.Op, e.Index, e.Batch, more, e.Detail)
}

// refusal is the error of the first matrix in faults that has one, or nil.
func refusal(op string, faults []*MatrixError) error {
	var first *MatrixError
	failed := 0
	for i, e := range faults {
		if e == nil {
			continue
		}
		failed++
		if first == nil {
			first, e.Op, e.Index, e.Batch = e, op, i, len(faults)
		}
	}
	if first == nil {
		return nil
	}
	first.Failed = failed
	return first
}

// squares panics unless t, called name, is [B, D, D]; it returns both sizes.
func squares(op, name string, t *gpu.Tensor) (batch, d int) {
	s := t.Shape()
	if len(s) != 3 || s[1] != s[2] {
		fail(op, "%s has shape %v, want [B, D, D]", name, s)
	}
	if s[1] > maxOrder {
		fail(op, "%s has order %d, want at most %d", name, s[1], maxOrder)
	}
	return s[0], s[1]
}

// maxOrder is the largest order of a matrix: the square of a larger one
// overflows the 32-bit sizes of LAPACK.
const maxOrder = 1 << 14

// wantShape panics unless t, called name, has the dtype and the shape.
func wantShape(op, name string, t *gpu.Tensor, dt gpu.DType, shape ...int) {
	if t.DType() != dt {
		fail(op, "%s is %v, want %v", name, t.DType(), dt)
	}
	ok := len(t.Shape()) == len(shape)
	for i := 0; ok && i < len(shape); i++ {
		ok = t.Shape()[i] == shape[i]
	}
	if !ok {
		fail(op, "%s has shape %v, want %v", name, t.Shape(), shape)
	}
}

// wantFloats panics unless t, called name, is float32 or float64.
func wantFloats(op, name string, t *gpu.Tensor) {
	if dt := t.DType(); dt != gpu.Float32 && dt != gpu.Float64 {
		fail(op, "%s is %v, want float32 or float64", name, dt)
	}
}

// eachMatrix runs f for every matrix of a batch: several at a time, one to a
// worker, or a single one on all workers (w is then nil).
func eachMatrix(batch int, f func(w *cpu.Worker, i int)) {
	if batch == 1 {
		f(nil, 0)
		return
	}
	cpu.Each(batch, f)
}

// onWorkers runs f for 0..n-1: on w, or over all workers where w is nil.
func onWorkers(w *cpu.Worker, n int, f func(w *cpu.Worker, i int)) {
	if w == nil {
		cpu.Each(n, f)
		return
	}
	for i := range n {
		f(w, i)
	}
}

// loadFloat64 sets dst to the elements of t from off on.
func loadFloat64(dst []float64, t *gpu.Tensor, off int) {
	switch t.DType() {
	case gpu.Float64:
		copy(dst, t.F64()[off:])
	case gpu.Float32:
		for i, v := range t.F32()[off:][:len(dst)] {
			dst[i] = float64(v)
		}
	case gpu.BFloat16:
		for i, v := range t.U16()[off:][:len(dst)] {
			dst[i] = float64(gpu.BF16ToFloat(v))
		}
	case gpu.Float16:
		for i, v := range t.U16()[off:][:len(dst)] {
			dst[i] = float64(gpu.F16ToFloat(v))
		}
	}
}

// storeFloat64 sets the elements of t, float32 or float64, from off on to src.
func storeFloat64(t *gpu.Tensor, off int, src []float64) {
	if t.DType() == gpu.Float64 {
		copy(t.F64()[off:], src)
		return
	}
	dst := t.F32()[off:][:len(src)]
	for i, v := range src {
		dst[i] = float32(v)
	}
}

// asymmetry is how far a matrix may be from its transpose, relative to its
// largest element: generous to sums in another order, closed to any mistake.
func asymmetry(dt gpu.DType) float64 {
	if dt == gpu.Float64 {
		return 0x1p-36
	}
	return 0x1p-16
}

// loadSymmetric sets a to (M+Mᵀ)/2 where M is matrix i of t, or says what is
// wrong with M.
func loadSymmetric(a []float64, t *gpu.Tensor, i, d int) *MatrixError {
	loadFloat64(a, t, i*d*d)
	largest := 0.0
	for k, v := range a {
		if v-v != 0 {
			return &MatrixError{Fault: NotFinite, Detail: fmt.Sprintf("has %g at (%d,%d), want finite numbers", v, k/d, k%d)}
		}
		largest = max(largest, math.Abs(v))
	}
	for r := range d {
		for c := range r {
			x, y := a[r*d+c], a[c*d+r]
			if math.Abs(x-y) > asymmetry(t.DType())*largest {
				return &MatrixError{Fault: NotSymmetric, Detail: fmt.Sprintf("is not symmetric: %g at (%d,%d), %g at (%d,%d); give (A+Aᵀ)/2", x, r, c, y, c, r)}
			}
			m := x + (y-x)/2
			a[r*d+c], a[c*d+r] = m, m
		}
	}
	return nil
}

// fillNaN marks the results of a refused matrix.
func fillNaN(t *gpu.Tensor, off, n int) {
	if t == nil {
		return
	}
	if t.DType() == gpu.Float64 {
		for i := range n {
			t.F64()[off+i] = math.NaN()
		}
		return
	}
	for i := range n {
		t.F32()[off+i] = float32(math.NaN())
	}
}

// readFaults is what a kernel wrote of each matrix, as numbers of Fault; 0 is
// none. It waits for the device.
func readFaults(t *gpu.Tensor) ([]Fault, error) {
	v, err := t.Floats()
	if err != nil {
		return nil, err
	}
	out := make([]Fault, len(v))
	for i, x := range v {
		out[i] = Fault(x)
	}
	return out, nil
}

// explain turns the faults that a GPU found in the matrices of t, NotFinite and
// NotSymmetric, into errors that name the element; the others stay nil.
func explain(codes []Fault, t *gpu.Tensor, d int) []*MatrixError {
	faults := make([]*MatrixError, len(codes))
	var host *gpu.Tensor
	for i, c := range codes {
		if c != NotFinite && c != NotSymmetric {
			continue
		}
		if host == nil {
			host = t.To(gpu.CPU())
		}
		k := i % t.Shape()[0] // one matrix may serve all
		if faults[i] = loadSymmetric(make([]float64, d*d), host, k, d); faults[i] == nil {
			faults[i] = &MatrixError{Fault: c, Detail: "was refused on the GPU, but what came back from there is sound; is its memory?"}
		}
	}
	return faults
}
