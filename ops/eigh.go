package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
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
// does not converge, gives NaN and a *MatrixError. Eigh waits for the device.
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
