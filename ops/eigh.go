package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Eigh sets values [B, D] to the eigenvalues, ascending, of the symmetric
// matrices a [B, D, D] and, unless vectors is nil, vectors [B, D, D] to their
// unit eigenvectors: row i of a matrix belongs to its value i, with either
// sign. All have one dtype, float32 or float64. a is unchanged; of its two
// triangles the mean is used.
//
// The result is exact for a matrix within c·eps·‖A‖ of A, with eps of the
// dtype and c a small multiple of D; so is the distance of the vectors from an
// orthonormal set, over ‖A‖.
//
// A matrix that is not finite or not symmetric to rounding, or whose iteration
// does not converge, gives NaN and a *MatrixError. Eigh waits for the device,
// and panics for matrices on a GPU of an order beyond EighGPUOrder.
func Eigh(values, vectors, a *gpu.Tensor) error {
	const op = "Eigh"
	batch, d := squares(op, "a", a)
	wantFloats(op, "a", a)
	wantShape(op, "values", values, a.DType(), batch, d)
	if vectors != nil {
		wantShape(op, "vectors", vectors, a.DType(), batch, d, d)
	}
	sameDevice(op, values, a, vectors)
	if batch*d == 0 {
		return nil
	}
	if dev := a.Device(); dev.CUDA() {
		return eighCUDA(values, vectors, a, batch, d)
	}
	faults := make([]*MatrixError, batch)
	eachMatrix(batch, func(w *cpu.Worker, i int) {
		m := make([]float64, d*d)
		if faults[i] = loadSymmetric(m, a, i, d); faults[i] == nil {
			lambda, err := cpu.SymEig64(w, d, m, d, vectors != nil)
			if err == nil {
				storeFloat64(values, i*d, lambda)
				if vectors != nil {
					storeFloat64(vectors, i*d*d, m)
				}
				return
			}
			faults[i] = &MatrixError{Fault: NotConverged, Detail: "gives no eigenvalues: " + err.Error()}
		}
		fillNaN(values, i*d, d)
		fillNaN(vectors, i*d*d, d*d)
	})
	return refusal(op, faults)
}

// EighGPUOrder is the largest order that Eigh takes on a GPU, where one block
// holds a whole matrix in its shared memory.
const EighGPUOrder = 64

func eighCUDA(values, vectors, a *gpu.Tensor, batch, d int) error {
	const op = "Eigh"
	if d > EighGPUOrder {
		fail(op, "order %d on a GPU, want at most %d; move a to the CPU, or see whether Sqrtm or Frechet do", d, EighGPUOrder)
	}
	dev := a.Device()
	flags := dev.New(gpu.Int32, batch)
	defer flags.Free()
	players := d + d&1
	g := cuda.Grid{X: batch, Y: 1, Z: 1, BX: jacobiThreads(d), BY: 1, BZ: 1, Shared: players * (players + 1) * a.DType().Size()}
	var v cuda.Ptr
	if vectors != nil {
		v = vectors.Ptr()
		g.Shared *= 2
	}
	if a.DType() == gpu.Float64 {
		kernels.JacobiEighF64(dev.Stream(), g, values.Ptr(), v, flags.Ptr(), a.Ptr(), int32(d), asymmetry(a.DType()))
	} else {
		kernels.JacobiEighF32(dev.Stream(), g, values.Ptr(), v, flags.Ptr(), a.Ptr(), int32(d), asymmetry(a.DType()))
	}
	codes, err := readFaults(flags)
	if err != nil {
		return err
	}
	faults := explain(codes, a, d)
	for i, c := range codes {
		if c == NotConverged {
			faults[i] = &MatrixError{Fault: c, Detail: "gives no eigenvalues: 40 sweeps of Jacobi's method did not make it diagonal"}
		}
	}
	return refusal(op, faults)
}

// jacobiThreads is the number of threads that turn a matrix of order d.
func jacobiThreads(d int) int {
	switch {
	case d <= 16:
		return 64
	case d <= 32:
		return 128
	}
	return 256
}
