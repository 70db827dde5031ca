package ops

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
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
	if a.Device().CUDA() {
		return sqrtmCUDA(root, inverse, a, batch, d)
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

// sqrtmCUDA is the coupled Newton–Schulz iteration (Higham 2008, eq. 6.35): with
// A scaled to eigenvalues of at most 1, Y = A and Z = I,
//
//	M = Z·Y,  Y ← Y·(β + α·M),  Z ← (β + α·M)·Z
//
// lets Y go to A^½ and Z to A^-½. α and β are those of Chen and Chow (2014),
// which more than double the growth of small eigenvalues. The order of the
// products matters: with M = Y·Z, or with halves mirrored, rounding grows.
func sqrtmCUDA(root, inverse, a *gpu.Tensor, batch, d int) ([]RootReport, error) {
	const op = "Sqrtm"
	if batch*d > math.MaxInt32 {
		fail(op, "%d matrices of order %d, want less than 2^31 rows; use smaller batches", batch, d)
	}
	n := newNewtonSchulz(a.Device(), a.DType(), batch, d)
	defer n.free()
	y, y2, z, z2, m := n.tensor(n.dt, batch, d, d), n.tensor(n.dt, batch, d, d), n.tensor(n.dt, batch, d, d), n.tensor(n.dt, batch, d, d), n.tensor(n.dt, batch, d, d)
	stats, tiles := n.symmetric(y, a)
	n.start(y, stats, tiles)
	n.scale(y, z)
	for step := 1; ; step++ {
		product := m
		if step == 1 {
			product = y // Z is the identity
		} else {
			n.multiply(m, z, y, nil, n.row(stProduct), 0, false, false)
		}
		n.judge(product, maxCondition(n.dt))
		n.multiply(y2, y, product, y, n.row(stAlpha), n.row(stBeta), false, false)
		n.multiply(z2, product, z, z, n.row(stAlpha), n.row(stBeta), false, false)
		y, y2, z, z2 = y2, y, z2, z
		if step%4 != 0 {
			continue
		}
		if more, err := n.running(); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	least, err := n.power(z, 8, false) // the vector leans towards the least eigenvalue's already
	if err != nil {
		return nil, err
	}
	largest, err := n.power(y, 8, true)
	if err != nil {
		return nil, err
	}
	n.multiply(m, y, y, a, 0, n.row(stInverse), false, false)
	if _, err := n.power(m, 1, false); err != nil {
		return nil, err
	}
	st, err := n.read()
	if err != nil {
		return nil, err
	}
	codes := make([]Fault, batch)
	for i, f := range st[stFault] {
		codes[i] = Fault(f)
	}
	reports, faults := make([]RootReport, batch), explain(codes, a, d)
	for i := range reports {
		r := &reports[i]
		r.Iterations = int(st[stSteps][i])
		r.Condition = max(1, square(largest[i]*least[i]))
		r.Residual = math.Sqrt(st[stGrowth][i]) * st[stScale][i] / st[stNorm][i]
		if faults[i] == nil {
			faults[i] = r.fault(codes[i], n.dt, st[stResidual][i])
		}
		if faults[i] != nil {
			st[stFault][i] = float64(faults[i].Fault)
		}
	}
	refused := n.dev.From64(append([]float64(nil), st[stFault]...), batch)
	defer refused.Free()
	total := n.matrices()
	g := cuda.Grid1(total, 256, 256)
	for i, out := range []*gpu.Tensor{root, inverse} {
		switch from := []*gpu.Tensor{y, z}[i]; {
		case out == nil:
		case n.double():
			kernels.SqrtmResultF64(n.dev.Stream(), g, out.Ptr(), from.Ptr(), n.row(stScale), refused.Ptr(), int32(i), int32(d), int64(total))
		default:
			kernels.SqrtmResultF32(n.dev.Stream(), g, out.Ptr(), from.Ptr(), n.row(stScale), refused.Ptr(), int32(i), int32(d), int64(total))
		}
	}
	return reports, refusal(op, faults)
}

func square(x float64) float64 { return x * x }

// maxResidual is the residual that Sqrtm lets pass.
func maxResidual(dt gpu.DType) float64 {
	if dt == gpu.Float64 {
		return 1e-8
	}
	return 1e-3
}

// fault says what the device's code for a matrix means, and refuses a residual that is too large.
func (r *RootReport) fault(code Fault, dt gpu.DType, distance float64) *MatrixError {
	switch {
	case code == NotPositive:
		return &MatrixError{Fault: code, Detail: "has a negative eigenvalue, want all positive; take Eigh and clip them, or add a multiple of the identity"}
	case code == Singular || code == 0 && r.Condition > 4*maxCondition(dt):
		r.Condition = max(r.Condition, maxCondition(dt))
		return singularFault(dt, r.Condition)
	case code != 0 || !(r.Residual <= maxResidual(dt)):
		return &MatrixError{Fault: NotConverged, Detail: fmt.Sprintf(
			"did not converge: residual %.1e after %d steps (‖I-ZY‖ %.1e), want %.0e; use float64, or add a multiple of the identity", r.Residual, r.Iterations, distance, maxResidual(dt))}
	}
	return nil
}
