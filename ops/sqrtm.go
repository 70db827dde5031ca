package ops

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// RootReport is what Sqrtm found out about one matrix.
type RootReport struct {
	Residual   float64 // ‖R·R-A‖/‖A‖ of the root R, in Frobenius norms
	Condition  float64 // largest over least eigenvalue of A; on a GPU an estimate, right within a factor of about 4
	Iterations int     // of Newton–Schulz; 0 on the CPU, which takes eigenvalues
}

// Error is a bound of ‖R-A^½‖/‖A^½‖, in Frobenius norms: R is the root of a
// matrix whose distance from A is the residual, and a root's condition number
// is half the root of A's.
func (r RootReport) Error() float64 { return math.Sqrt(r.Condition) / 2 * r.Residual }

// maxCondition is the condition number from which Sqrtm calls a matrix
// singular: a few digits of the root's smallest directions remain below it.
func maxCondition(dt gpu.DType) float64 {
	if dt == gpu.Float64 {
		return 1e12
	}
	return 1e5
}

// Sqrtm sets root to A^½ and inverse to A^-½, the symmetric positive definite
// roots, for each A of a [B, D, D], which is symmetric positive definite. All
// are float32 or all float64; root or inverse may be nil, and neither may be a.
// The reports, one to a matrix, tell the residual and the condition number.
//
// A matrix that is not finite or not symmetric to rounding, that has a
// condition number beyond 1e12 (float32: 1e5), zero and negative eigenvalues
// included, or whose residual stays above 1e-8 (float32: 1e-3), gives NaN and a
// *MatrixError. Where singular matrices are to be expected, take Eigh, or
// Frechet, which needs no root. Sqrtm allocates workspace of 5 times a and
// waits for the device.
func Sqrtm(root, inverse, a *gpu.Tensor) ([]RootReport, error) {
	const op = "Sqrtm"
	batch, d := squares(op, "a", a)
	wantFloats(op, "a", a)
	for name, t := range map[string]*gpu.Tensor{"root": root, "inverse": inverse} {
		if t == a {
			fail(op, "%s is a, want another tensor", name)
		}
		if t != nil {
			wantShape(op, name, t, a.DType(), batch, d, d)
		}
	}
	sameDevice(op, a, root, inverse)
	reports := make([]RootReport, batch)
	if batch*d == 0 {
		return reports, nil
	}
	faults := make([]*MatrixError, batch)
	eachMatrix(batch, func(w *cpu.Worker, i int) {
		if reports[i], faults[i] = sqrtm(w, root, inverse, a, i, d); faults[i] != nil {
			fillNaN(root, i*d*d, d*d)
			fillNaN(inverse, i*d*d, d*d)
		}
	})
	return reports, refusal(op, faults)
}

// sqrtm is Sqrtm of matrix i, by eigenvalues: half the work of the iteration
// where no tensor cores make its products cheap.
func sqrtm(w *cpu.Worker, root, inverse, a *gpu.Tensor, i, d int) (RootReport, *MatrixError) {
	m := make([]float64, d*d)
	if e := loadSymmetric(m, a, i, d); e != nil {
		return RootReport{}, e
	}
	v := append([]float64(nil), m...)
	lambda, err := cpu.SymEig64(w, d, v, d, true)
	if err != nil {
		return RootReport{}, &MatrixError{Fault: NotConverged, Detail: "gives no eigenvalues: " + err.Error()}
	}
	report := RootReport{Condition: lambda[d-1] / lambda[0]}
	if e := conditionFault(a.DType(), lambda[0], lambda[d-1]); e != nil {
		return report, e
	}
	r := make([]float64, d*d)
	power(w, r, v, lambda, 0.25) // (λ^¼ v)ᵀ(λ^¼ v), symmetric to the last bit
	if root != nil {
		storeFloat64(root, i*d*d, r)
	}
	total := 0.0
	for _, x := range m {
		total += x * x
	}
	cpu.Gemm64(w, false, false, d, d, d, 1, r, d, r, d, -1, m, d)
	off := 0.0
	for _, x := range m {
		off += x * x
	}
	report.Residual = math.Sqrt(off / total)
	if inverse != nil {
		for k := range lambda {
			lambda[k] = 1 / lambda[k]
		}
		power(w, r, v, lambda, 0.25)
		storeFloat64(inverse, i*d*d, r)
	}
	return report, nil
}

// power sets out to Σ λₖ^(2p)·vₖᵀvₖ over the rows vₖ of v.
func power(w *cpu.Worker, out, v, lambda []float64, p float64) {
	d := len(lambda)
	scaled := make([]float64, d*d)
	for k, x := range lambda {
		f := math.Pow(x, p)
		for j, y := range v[k*d:][:d] {
			scaled[k*d+j] = f * y
		}
	}
	cpu.SyrkT64(w, d, d, 1, scaled, d, 0, out, d)
}

// conditionFault refuses a matrix with these extreme eigenvalues.
func conditionFault(dt gpu.DType, least, largest float64) *MatrixError {
	limit := maxCondition(dt)
	switch {
	case least < 0 && -least*limit > largest:
		return &MatrixError{Fault: NotPositive, Detail: fmt.Sprintf(
			"has the eigenvalue %.3g beside %.3g, want all positive; take Eigh and clip them, or add a multiple of the identity", least, largest)}
	case !(least*limit >= largest) || largest <= 0:
		return singularFault(dt, largest/max(least, 0))
	}
	return nil
}

func singularFault(dt gpu.DType, condition float64) *MatrixError {
	advice := "add a multiple of the identity, or take Eigh or Frechet"
	if dt == gpu.Float32 {
		advice = "use float64, add a multiple of the identity, or take Eigh or Frechet"
	}
	return &MatrixError{Fault: Singular, Detail: fmt.Sprintf(
		"is singular in %v: condition number %.1e, want at most %.0e; %s", dt, condition, maxCondition(dt), advice)}
}
