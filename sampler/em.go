package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// classFit fits a mixture with full covariances to the vectors z of one class.
type classFit struct {
	d   int
	o   FitOptions
	rng *rng.Stream
	z   []float64 // [n, d]

	weights []float64 // [K]
	means   []float64 // [K, d]
	covs    []float64 // [K, d, d]
	loglik  []float64 // mean log-likelihood before each iteration
	err     error
}

func (f *classFit) fit(ctx context.Context, w *cpu.Worker) {
	n, K := len(f.z)/f.d, f.o.Components
	f.weights, f.means, f.covs = make([]float64, K), make([]float64, K*f.d), make([]float64, K*f.d*f.d)
	resp := make([]float64, K*n) // [K, n]
	for i, k := range f.kmeans() {
		resp[k*n+i] = 1
	}
	f.maximise(w, resp)
	for range f.o.Iterations {
		if f.err == nil {
			f.err = ctx.Err()
		}
		if f.err != nil {
			return
		}
		if f.err = f.expect(w, resp); f.err == nil {
			f.maximise(w, resp)
		}
	}
}

func dist2(a, b []float64) float64 {
	var s float64
	for i, v := range a {
		e := v - b[i]
		s += e * e
	}
	return s
}

// kmeans assigns every vector: k-means++ seeds, then at most 20 of Lloyd's
// iterations. A centre that loses all its vectors moves to the farthest one.
func (f *classFit) kmeans() []int {
	d, n, K := f.d, len(f.z)/f.d, f.o.Components
	at := func(i int) []float64 { return f.z[i*d : (i+1)*d] }
	centre := func(k int) []float64 { return f.means[k*d : (k+1)*d] }
	near := make([]float64, n) // squared distance to the nearest centre
	copy(centre(0), at(f.rng.Intn(n)))
	for i := range near {
		near[i] = dist2(at(i), centre(0))
	}
	for k := 1; k < K; k++ {
		var total float64
		for _, v := range near {
			total += v
		}
		u, pick := f.rng.Float64()*total, n-1
		for i, v := range near {
			if u -= v; u < 0 {
				pick = i
				break
			}
		}
		copy(centre(k), at(pick))
		for i := range near {
			near[i] = min(near[i], dist2(at(i), centre(k)))
		}
	}
	assign, count := make([]int, n), make([]int, K)
	for iter := range 20 {
		moved := iter == 0
		far := 0
		for i := range assign {
			best, bd := 0, math.Inf(1)
			for k := range K {
				if v := dist2(at(i), centre(k)); v < bd {
					best, bd = k, v
				}
			}
			moved = moved || assign[i] != best
			assign[i], near[i] = best, bd
			if bd > near[far] {
				far = i
			}
		}
		if !moved {
			break
		}
		clear(f.means)
		clear(count)
		for i, k := range assign {
			count[k]++
			for j, v := range at(i) {
				f.means[k*d+j] += v
			}
		}
		for k, c := range count {
			if c == 0 {
				copy(centre(k), at(far))
				continue
			}
			for j := range d {
				f.means[k*d+j] /= float64(c)
			}
		}
	}
	return assign
}

// expect sets resp[k, i] to the probability that vector i came from component
// k. With Σ_k = L Lᵀ, |L⁻¹(z-μ)|² and ln det follow from L⁻¹.
func (f *classFit) expect(w *cpu.Worker, resp []float64) error {
	d, n, K := f.d, len(f.z)/f.d, f.o.Components
	chol, inv, shift := make([]float64, d*d), make([]float64, d*d), make([]float64, d)
	u := make([]float64, fitChunk*d)
	for k := range K {
		copy(chol, f.covs[k*d*d:(k+1)*d*d])
		if err := cpu.Cholesky64(w, d, chol, d); err != nil {
			return fmt.Errorf("component %d: %w", k, err)
		}
		logdet := invertLower(inv, chol, d)
		for i := range d { // L⁻¹μ
			shift[i] = 0
			for j := range i + 1 {
				shift[i] += inv[i*d+j] * f.means[k*d+j]
			}
		}
		base := math.Log(f.weights[k]) - logdet - float64(d)/2*math.Log(2*math.Pi)
		for lo := 0; lo < n; lo += fitChunk {
			m := min(fitChunk, n-lo)
			cpu.Gemm64(w, false, true, m, d, d, 1, f.z[lo*d:], d, inv, d, 0, u, d)
			for i := range m {
				resp[k*n+lo+i] = base - dist2(u[i*d:(i+1)*d], shift)/2
			}
		}
	}
	var ll float64
	for i := range n {
		top := math.Inf(-1)
		for k := range K {
			top = max(top, resp[k*n+i])
		}
		var sum float64
		for k := range K {
			e := math.Exp(resp[k*n+i] - top)
			resp[k*n+i] = e
			sum += e
		}
		for k := range K {
			resp[k*n+i] /= sum
		}
		ll += top + math.Log(sum)
	}
	f.loglik = append(f.loglik, ll/float64(n))
	return nil
}

// invertLower sets inv to the inverse of the lower triangle l and returns ln det l.
func invertLower(inv, l []float64, d int) (logdet float64) {
	clear(inv)
	for i := range d {
		r := 1 / l[i*d+i]
		logdet -= math.Log(r)
		row := inv[i*d : i*d+i]
		for j := range i {
			c := l[i*d+j]
			for q, v := range inv[j*d : j*d+j+1] {
				row[q] += c * v
			}
		}
		for q := range row {
			row[q] *= -r
		}
		inv[i*d+i] = r
	}
	return logdet
}

// maximise sets weights, means and covariances from the responsibilities. Each
// covariance is drawn to the class's within-component one, worth o.Pool vectors.
func (f *classFit) maximise(w *cpu.Worker, resp []float64) {
	d, n, K := f.d, len(f.z)/f.d, f.o.Components
	pooled := make([]float64, d*d)
	rows := make([]float64, 0, fitChunk*d)
	mass := make([]float64, K)
	for k := range K {
		r, mu := resp[k*n:(k+1)*n], f.means[k*d:(k+1)*d]
		clear(mu)
		for i, p := range r {
			if mass[k] += p; p < minResp {
				continue
			}
			for j, v := range f.z[i*d : (i+1)*d] {
				mu[j] += p * v
			}
		}
		for j := range mu {
			mu[j] /= math.Max(mass[k], minResp)
		}
		cov := f.covs[k*d*d : (k+1)*d*d]
		clear(cov)
		flush := func() {
			cpu.SyrkT64(w, d, len(rows)/d, 1, rows, d, 1, cov, d)
			rows = rows[:0]
		}
		for i, p := range r {
			if p < minResp { // most vectors belong to one component alone
				continue
			}
			s := math.Sqrt(p)
			for j, v := range f.z[i*d : (i+1)*d] {
				rows = append(rows, s*(v-mu[j]))
			}
			if len(rows) == cap(rows) {
				flush()
			}
		}
		if len(rows) > 0 {
			flush()
		}
		for j, v := range cov {
			pooled[j] += v / float64(n)
		}
	}
	for k := range K {
		f.weights[k] = math.Max(mass[k], minResp) / float64(n)
		cov := f.covs[k*d*d : (k+1)*d*d]
		for j := range cov {
			cov[j] = (cov[j] + f.o.Pool*pooled[j]) / (mass[k] + f.o.Pool)
		}
	}
}

// minResp is the responsibility below which a vector does not count.
const minResp = 1e-8
