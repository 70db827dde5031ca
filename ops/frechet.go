package ops

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Frechet sets dist [B] to the Fréchet distance
//
//	‖m₁-m₂‖² + tr S₁ + tr S₂ - 2·tr (S₁^½ S₂ S₁^½)^½
//
// of B pairs of normal distributions with means mean1, mean2 [B, D] and
// covariances cov1, cov2 [B, D, D] (Dowson and Landau 1982). The first side may
// be a single one, [1, D] and [1, D, D], that all pairs share. All are float64.
//
// No root is formed: the trace is the nuclear norm of A₁A₂ᵀ for any Aᵢ with
// AᵢᵀAᵢ = Sᵢ. A distance that rounding makes negative is 0; its error is a
// small multiple of D·2^-52·(tr S₁ + tr S₂), and of the square root of 2^-52
// instead where a covariance is singular.
//
// A covariance that is not finite, not symmetric to rounding or has eigenvalues
// below -1e-5 of its largest gives NaN and a *MatrixError; a mean that is not
// finite gives NaN. Frechet allocates workspace and waits for the device. On a
// GPU a pair with a singular covariance of an order beyond 64 is computed on the
// CPU, whatever the others are.
func Frechet(dist, mean1, cov1, mean2, cov2 *gpu.Tensor) error {
	const op = "Frechet"
	batch, d := squares(op, "cov2", cov2)
	wantShape(op, "cov2", cov2, gpu.Float64, batch, d, d)
	wantShape(op, "mean2", mean2, gpu.Float64, batch, d)
	wantShape(op, "dist", dist, gpu.Float64, batch)
	first := batch
	if s := cov1.Shape(); len(s) == 3 && s[0] == 1 {
		first = 1
	}
	wantShape(op, "cov1", cov1, gpu.Float64, first, d, d)
	wantShape(op, "mean1", mean1, gpu.Float64, first, d)
	sameDevice(op, dist, mean1, cov1, mean2, cov2)
	if d == 0 {
		fail(op, "cov2 has shape %v: no features", cov2.Shape())
	}
	if batch == 0 {
		return nil
	}
	if cov2.Device().CUDA() {
		return frechetCUDA(dist, mean1, cov1, mean2, cov2, first, batch, d)
	}
	pairs := make([]int, batch)
	for i := range pairs {
		pairs[i] = i
	}
	return refusal(op, frechetPairs(dist.F64(), pairs, mean1, cov1, mean2, cov2, first, d))
}

// frechetPairs is Frechet of some pairs of tensors on the CPU; the others'
// values are left alone and their errors nil.
func frechetPairs(dist []float64, pairs []int, mean1, cov1, mean2, cov2 *gpu.Tensor, first, d int) []*MatrixError {
	faults := make([]*MatrixError, len(dist))
	var reference *covFactor
	if first == 1 && len(pairs) > 0 {
		var e *MatrixError
		if reference, e = factorCov(nil, cov1, 0, d); e != nil {
			e.Detail = "of cov1 " + e.Detail
			faults[pairs[0]] = e
			for _, i := range pairs {
				dist[i] = math.NaN()
			}
			return faults
		}
	}
	eachMatrix(len(pairs), func(w *cpu.Worker, p int) {
		i := pairs[p]
		f, k := reference, 0
		var e *MatrixError
		if f == nil {
			k = i
			f, e = factorCov(w, cov1, i, d)
		}
		var value float64
		which := "cov1"
		if e == nil {
			which = "cov2"
			value, e = covTerm(w, f, cov2, i, d)
		}
		if e != nil {
			e.Detail = "of " + which + " " + e.Detail
			faults[i] = e
			dist[i] = math.NaN()
			return
		}
		for j, x := range mean1.F64()[k*d:][:d] {
			y := mean2.F64()[i*d+j]
			value += (x - y) * (x - y)
		}
		dist[i] = value
	})
	return faults
}

// covFactor is a covariance and a factor A of it, AᵀA = S.
type covFactor struct {
	sigma []float64 // S, [d,d]
	trace float64
	lower []float64 // Aᵀ, Cholesky's triangle; nil where S is singular
	rows  []float64 // A, [r,d], from eigenvalues, where S is singular
	r     int
}

// factorCov is Cholesky's factor of covariance i of t, or that of its
// eigenvalues where it is singular.
func factorCov(w *cpu.Worker, t *gpu.Tensor, i, d int) (*covFactor, *MatrixError) {
	f := &covFactor{sigma: make([]float64, d*d), r: d}
	if e := loadSymmetric(f.sigma, t, i, d); e != nil {
		return nil, e
	}
	largest := 0.0
	for k := range d {
		largest = max(largest, f.sigma[k*d+k])
		f.trace += f.sigma[k*d+k]
	}
	l := append([]float64(nil), f.sigma...)
	if cpu.Cholesky64(w, d, l, d) == nil {
		least := math.Inf(1)
		for k := range d {
			least = min(least, l[k*d+k]*l[k*d+k])
		}
		if least > float64(d)*0x1p-52*largest { // else the last pivots are rounding
			f.lower = l
			return f, nil
		}
	}
	copy(l, f.sigma)
	rows, r, lambda, err := cpu.Semidefinite64(w, d, l)
	if err != nil {
		return nil, &MatrixError{Fault: NotConverged, Detail: "gives no eigenvalues: " + err.Error()}
	}
	if lambda[0] < indefinite*lambda[d-1] || lambda[d-1] < 0 {
		return nil, indefiniteFault(lambda[0], lambda[d-1])
	}
	f.r, f.rows = r, rows
	return f, nil
}

// indefinite times its largest is the least eigenvalue that rounding, in
// whatever precision a covariance was summed, can give it.
const indefinite = -1e-5

func indefiniteFault(least, largest float64) *MatrixError {
	return &MatrixError{Fault: NotPositive, Detail: fmt.Sprintf(
		"is no covariance: its eigenvalues go from %.3g to %.3g, and none of a covariance is negative", least, largest)}
}

// exactOrder is the order up to which singular values are always taken: they
// keep more digits than eigenvalues and cost little there.
const exactOrder = 256

// covTerm is tr S₁ + tr S₂ - 2·tr (S₁S₂)^½ with S₂ matrix i of t.
func covTerm(w *cpu.Worker, f *covFactor, t *gpu.Tensor, i, d int) (float64, *MatrixError) {
	if f.lower != nil && d > exactOrder {
		s := make([]float64, d*d)
		if e := loadSymmetric(s, t, i, d); e != nil {
			return 0, e
		}
		if value, ok := covTermQuick(w, f, s, d); ok {
			return value, nil
		}
	}
	g, e := factorCov(w, t, i, d)
	if e != nil {
		return 0, e
	}
	if f.r == 0 || g.r == 0 {
		return f.trace + g.trace, nil
	}
	p := make([]float64, f.r*g.r)
	if f.lower != nil && g.lower != nil {
		copy(p, g.lower)
		cpu.Trmm64(w, true, true, d, d, 1, f.lower, d, p, d)
	} else {
		cpu.Gemm64(w, false, true, f.r, g.r, d, 1, f.matrix(d), d, g.matrix(d), d, 0, p, g.r)
	}
	roots, err := cpu.SingularValues64(w, f.r, g.r, p, g.r)
	if err != nil {
		return 0, &MatrixError{Fault: NotConverged, Detail: "gives no singular values: " + err.Error()}
	}
	return difference(f.trace, g.trace, roots), nil
}

// matrix is A, [r,d].
func (f *covFactor) matrix(d int) []float64 {
	if f.lower == nil {
		return f.rows
	}
	out := make([]float64, d*d)
	for i := range d {
		for j := range i + 1 {
			out[j*d+i] = f.lower[i*d+j]
		}
	}
	return out
}

// covTermQuick takes the eigenvalues of LᵀS₂L, a third of the work of singular
// values. It declines where their error, 2^-52 of the largest, would show in
// the distance, and where S₂ may be singular. It destroys s.
func covTermQuick(w *cpu.Worker, f *covFactor, s []float64, d int) (float64, bool) {
	trace := 0.0
	for k := range d {
		trace += s[k*d+k]
	}
	cpu.Congruence64(w, d, s, d, f.lower, d)
	lambda, err := cpu.SymEig64(w, d, s, d, false)
	if err != nil || !(lambda[0] > float64(d)*0x1p-52*lambda[d-1]) {
		return 0, false
	}
	lost, step := 0.0, 0x1p-52*lambda[d-1]
	for k, v := range lambda {
		lambda[k] = math.Sqrt(v)
		lost += step / lambda[k]
	}
	value := difference(f.trace, trace, lambda)
	return value, lost <= max(1e-9*value, 1e-11*(f.trace+trace))
}

// difference is a + b - 2·Σ roots, not below 0, summed with compensation.
func difference(a, b float64, roots []float64) float64 {
	var sum cpu.Sum
	sum.Add(a)
	sum.Add(b)
	for _, s := range roots {
		sum.Add(-2 * s)
	}
	return max(sum.Value(), 0)
}

// frechetCUDA is Frechet on a GPU. Up to order 64 a block takes a pair, by
// Jacobi's method. Beyond, A₁ and A₂ are Cholesky's factors, and the nuclear
// norm of P = L₁ᵀL₂ is ⟨U, P⟩ with U its polar factor, by the Newton–Schulz
// iteration U ← (β + α·UUᵀ)·U: singular values that are too small to converge
// are too small to count. Pairs that the GPU refuses go to the CPU, which knows
// more ways and says what is wrong.
func frechetCUDA(dist, mean1, cov1, mean2, cov2 *gpu.Tensor, first, batch, d int) error {
	const op = "Frechet"
	codes, err := func() ([]Fault, error) {
		if d <= EighGPUOrder {
			return frechetSmall(dist, mean1, cov1, mean2, cov2, first, batch, d)
		}
		return frechetLarge(dist, mean1, cov1, mean2, cov2, first, batch, d)
	}()
	if err != nil {
		return err
	}
	var rest []int
	for i, c := range codes {
		if c != 0 {
			rest = append(rest, i)
		}
	}
	if rest == nil {
		return nil
	}
	values := make([]float64, batch)
	if err := dist.Read64(values); err != nil {
		return err
	}
	host := gpu.CPU()
	faults := frechetPairs(values, rest, mean1.To(host), cov1.To(host), mean2.To(host), cov2.To(host), first, d)
	patched := dist.Device().From64(values, batch)
	defer patched.Free()
	dist.Copy(patched)
	return refusal(op, faults)
}

func frechetSmall(dist, mean1, cov1, mean2, cov2 *gpu.Tensor, first, batch, d int) ([]Fault, error) {
	dev := dist.Device()
	flags := dev.New(gpu.Int32, batch, 2)
	defer flags.Free()
	players := d + d&1
	g := cuda.Grid{X: batch, Y: 1, Z: 1, BX: jacobiThreads(d), BY: 1, BZ: 1, Shared: 3 * 8 * players * (players + 1)}
	kernels.FrechetSmallF64(dev.Stream(), g, dist.Ptr(), flags.Ptr(), mean1.Ptr(), cov1.Ptr(), mean2.Ptr(), cov2.Ptr(), int32(d), shared(first, batch), asymmetry(gpu.Float64))
	both, err := readFaults(flags)
	if err != nil {
		return nil, err
	}
	codes := make([]Fault, batch)
	for i := range codes {
		codes[i] = max(both[2*i], both[2*i+1])
	}
	return codes, nil
}

// shared is 1 where one first side serves several pairs.
func shared(first, batch int) int32 {
	if first < batch {
		return 1
	}
	return 0
}

func frechetLarge(dist, mean1, cov1, mean2, cov2 *gpu.Tensor, first, batch, d int) ([]Fault, error) {
	if batch*d > math.MaxInt32 {
		fail("Frechet", "%d covariances of order %d, want less than 2^31 rows; use smaller batches", batch, d)
	}
	dev := dist.Device()
	n := newNewtonSchulz(dev, gpu.Float64, batch, d)
	defer n.free()
	l1, flags1 := n.cholesky(cov1)
	l2, flags2 := n.cholesky(cov2)
	p, x, x2, m := n.tensor(gpu.Float64, batch, d, d), n.tensor(gpu.Float64, batch, d, d), l2, n.tensor(gpu.Float64, batch, d, d)
	g := gemm{c: p.Ptr(), a: l1.Ptr(), b: l2.Ptr(), m: d, n: d, k: d, strideA: d * d, strideB: d * d, double: true, transA: true}
	if first < batch {
		g.strideA = 0
	}
	g.launch(dev.Stream(), batch)
	n.multiply(m, p, p, nil, 0, 0, true, true) // its norms bound the largest singular value
	n.start(m, nil, 0)
	x.Copy(p)
	n.scale(x, nil)
	for step := 1; ; step++ {
		n.multiply(m, x, x, nil, n.row(stProduct), 0, true, true)
		n.judge(m, 0)
		n.multiply(x2, m, x, x, n.row(stAlpha), n.row(stBeta), false, false)
		x, x2 = x2, x
		if step%4 != 0 {
			continue
		}
		if more, err := n.running(); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	s := dev.Stream()
	kernels.FrechetDotF64(s, cuda.Grid1(batch*d, 8, 256), n.v.Ptr(), x.Ptr(), p.Ptr(), int32(d), int32(batch*d))
	kernels.FrechetSumF64(s, n.perMatrix(), dist.Ptr(), mean1.Ptr(), cov1.Ptr(), mean2.Ptr(), cov2.Ptr(), n.v.Ptr(), flags1.Ptr(), flags2.Ptr(), int32(d), shared(first, batch))
	codes1, err := readFaults(flags1)
	if err != nil {
		return nil, err
	}
	codes, err := readFaults(flags2)
	if err != nil {
		return nil, err
	}
	st, err := n.read()
	if err != nil {
		return nil, err
	}
	for i := range codes {
		codes[i] = max(codes[i], codes1[i%first], Fault(st[stFault][i]))
	}
	return codes, nil
}

// cholesky is the lower factors of the matrices of a, and what is wrong with
// those that have none.
func (n *newtonSchulz) cholesky(a *gpu.Tensor) (l, flags *gpu.Tensor) {
	const panel = 64
	s, d, batch := n.dev.Stream(), n.d, a.Shape()[0]
	l, flags = n.tensor(gpu.Float64, batch, d, d), n.tensor(gpu.Int32, batch)
	most := n.tensor(gpu.Float64, batch)
	stats, tiles := n.symmetric(l, a)
	each := cuda.Grid{X: batch, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	kernels.CholeskyCheckF64(s, each, most.Ptr(), flags.Ptr(), stats.Ptr(), asymmetry(gpu.Float64), int32(tiles))
	minus := make([]float64, batch)
	for i := range minus {
		minus[i] = -1
	}
	ones := n.dev.From64(minus, batch)
	n.owned = append(n.owned, ones)
	for j := 0; j < d; j += panel {
		kernels.CholeskyDiagonalF64(s, each, l.Ptr(), flags.Ptr(), most.Ptr(), int32(d), int32(j))
		rest := d - j - panel
		if rest <= 0 {
			break
		}
		strips := ceil(rest, panel)
		kernels.CholeskyPanelF64(s, cuda.Grid{X: batch * strips, Y: 1, Z: 1, BX: panel, BY: 1, BZ: 1, Shared: 2 * 8 * panel * (panel + 1)}, l.Ptr(), flags.Ptr(), int32(d), int32(j), int32(strips))
		below := l.Ptr() + cuda.Ptr(8*((j+panel)*d+j))
		corner := below + cuda.Ptr(8*panel)
		gemm{
			c: corner, a: below, b: below, d: corner, alpha: ones.Ptr(), m: rest, n: rest, k: panel, lda: d, ldb: d, ldc: d,
			strideA: d * d, strideB: d * d, strideC: d * d, double: true, transB: true, symmetric: true,
		}.launch(s, batch)
	}
	kernels.CholeskyUpperF64(s, cuda.Grid1(batch*d*d, 256, 256), l.Ptr(), int32(d), int64(batch*d*d))
	return l, flags
}
