package sampler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// testSpec is a random mixture of K components in D dimensions with full covariances.
func testSpec(r *rand.Rand, D, K int) sampler.MixtureSpec {
	var s sampler.MixtureSpec
	var sum float64
	for range K {
		w := 0.2 + r.Float64()
		s.Weights = append(s.Weights, w)
		sum += w
		mu := make([]float64, D)
		for i := range mu {
			mu[i] = 1.5 * r.NormFloat64()
		}
		s.Means = append(s.Means, mu)
		root := make([][]float64, D)
		for i := range root {
			root[i] = make([]float64, D)
			for j := range root[i] {
				root[i][j] = 0.4 * r.NormFloat64() / math.Sqrt(float64(D))
			}
		}
		cov := make([][]float64, D)
		for i := range cov {
			cov[i] = make([]float64, D)
			for j := range cov[i] {
				for l := range D {
					cov[i][j] += root[i][l] * root[j][l]
				}
			}
			cov[i][i] += 0.02
		}
		s.Covs = append(s.Covs, cov)
	}
	for k := range s.Weights {
		s.Weights[k] /= sum
	}
	return s
}

func testMixture(t testing.TB, D, K int) *sampler.Mixture {
	t.Helper()
	m, err := sampler.NewMixture(testSpec(rand.New(rand.NewPCG(uint64(D), uint64(K))), D, K))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// solve is Σ⁻¹v and ln det Σ by Gaussian elimination: an oracle that knows no eigenvectors.
func solve(sigma [][]float64, v []float64) ([]float64, float64) {
	n := len(v)
	m := make([][]float64, n)
	for i := range m {
		m[i] = append(append([]float64(nil), sigma[i]...), v[i])
	}
	var logdet float64
	for i := range n {
		logdet += math.Log(m[i][i])
		for r := i + 1; r < n; r++ {
			f := m[r][i] / m[i][i]
			for c := i; c <= n; c++ {
				m[r][c] -= f * m[i][c]
			}
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		x[i] = m[i][n]
		for c := i + 1; c < n; c++ {
			x[i] -= m[i][c] * x[c]
		}
		x[i] /= m[i][i]
	}
	return x, logdet
}

// exact is E[x0 | a·x0 + b·n = x] from the definition, over the components of the class.
func exact(s sampler.MixtureSpec, x []float64, a, b float64, class int) []float64 {
	D := len(x)
	var logs []float64
	var means [][]float64
	for k, w := range s.Weights {
		if class >= 0 && s.Labels[k] != class {
			continue
		}
		sigma, diff := make([][]float64, D), make([]float64, D)
		for i := range sigma {
			sigma[i] = make([]float64, D)
			for j := range sigma[i] {
				sigma[i][j] = a * a * s.Covs[k][i][j]
			}
			sigma[i][i] += b * b
			diff[i] = x[i] - a*s.Means[k][i]
		}
		y, logdet := solve(sigma, diff)
		var q float64
		post := append([]float64(nil), s.Means[k]...)
		for i := range D {
			q += diff[i] * y[i]
			for j := range D {
				post[i] += a * s.Covs[k][i][j] * y[j]
			}
		}
		logs, means = append(logs, math.Log(w)-logdet/2-q/2), append(means, post)
	}
	top := math.Inf(-1)
	for _, l := range logs {
		top = max(top, l)
	}
	var sum float64
	out := make([]float64, D)
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	for k, l := range logs {
		for i := range out {
			out[i] += math.Exp(l-top) / sum * means[k][i]
		}
	}
	return out
}

var testPoints = []diffusion.Point{{A: 1, B: 80}, {A: 1, B: 1}, {A: 1, B: 0.05}, {A: 0.6, B: 0.8}, {A: 0.25, B: 0.75}, {A: 0, B: 1}}

func checkMixture(t *testing.T, what string, m *sampler.Mixture, s sampler.MixtureSpec, r *rand.Rand, classes []int) {
	t.Helper()
	n, D := 21, len(s.Means[0]) // two pieces, different points and classes side by side
	x := gpu.CPU().Empty64(n, D)
	at := make([]diffusion.Point, n)
	for i := range x.F64() {
		x.F64()[i] = 2 * r.NormFloat64()
	}
	for i := range at {
		at[i] = testPoints[i%len(testPoints)]
	}
	out := x.Like()
	if err := m.DenoiseAt(context.Background(), out, x, at, sampler.Cond{Classes: classes}); err != nil {
		t.Fatal(err)
	}
	f := gpu.CPU().Empty(n, D)
	for i, v := range x.F64() {
		f.F32()[i] = float32(v)
	}
	out32 := f.Like()
	if err := m.DenoiseAt(context.Background(), out32, f, at, sampler.Cond{Classes: classes}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		class := -1
		if classes != nil {
			class = classes[i]
		}
		want := exact(s, x.F64()[i*D:(i+1)*D], at[i].A, at[i].B, class)
		if e := rel(out.F64()[i*D:(i+1)*D], want); e > 1e-10 {
			t.Errorf("%s: image %d at %+v, class %d: differs by %.2g", what, i, at[i], class, e)
		}
		// float32 in and out; the arithmetic between is float64
		x32 := make([]float64, D)
		for j := range x32 {
			x32[j] = float64(f.F32()[i*D+j])
		}
		want = exact(s, x32, at[i].A, at[i].B, class)
		if e := rel(values(out32)[i*D:(i+1)*D], want); e > 2e-7 {
			t.Errorf("%s, float32: image %d differs by %.2g", what, i, e)
		}
	}
}

func TestMixtureIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range [][2]int{{1, 1}, {2, 3}, {7, 5}, {24, 4}} {
		s := testSpec(r, c[0], c[1])
		m, err := sampler.NewMixture(s)
		if err != nil {
			t.Fatal(err)
		}
		checkMixture(t, "full", m, s, r, nil)
		if k := c[1]; k > 1 {
			for i := range k {
				s.Labels = append(s.Labels, i%2)
			}
			if m, err = sampler.NewMixture(s); err != nil {
				t.Fatal(err)
			}
			classes := make([]int, 21)
			for i := range classes {
				classes[i] = i%3 - 1
			}
			checkMixture(t, "classes", m, s, r, classes)
		}
	}
}

func TestIsotropicMixtureIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	s := testSpec(r, 6, 4)
	iso := s
	iso.Covs, iso.Vars = nil, []float64{0.3, 0, 0.01, 2}
	for k, v := range iso.Vars {
		for i := range 6 {
			for j := range 6 {
				s.Covs[k][i][j] = 0
			}
			s.Covs[k][i][i] = v
		}
	}
	m, err := sampler.NewMixture(iso)
	if err != nil {
		t.Fatal(err)
	}
	checkMixture(t, "isotropic", m, s, r, nil)
}

// The low-rank form equals the full mixture with covariance Bᵀ S B + τ²(I - BᵀB).
func TestLowRankMixtureIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, residual := range []float64{0, 0.05} {
		low, full := lowRankSpecs(r, residual)
		m, err := sampler.NewMixture(low)
		if err != nil {
			t.Fatal(err)
		}
		checkMixture(t, "low rank", m, full, r, nil)
	}
}

// lowRankSpecs is a random mixture in a subspace, and the same one of all values.
func lowRankSpecs(r *rand.Rand, residual float64) (low, full sampler.MixtureSpec) {
	const D, d, K = 9, 3, 4
	low = testSpec(r, d, K)
	sub := &sampler.Subspace{Residual: residual}
	for range D {
		sub.Mean = append(sub.Mean, r.NormFloat64())
	}
	for i := range d { // Gram-Schmidt
		row := make([]float64, D)
		for j := range row {
			row[j] = r.NormFloat64()
		}
		for range 2 {
			for _, o := range sub.Basis[:i] {
				var dot float64
				for j := range row {
					dot += row[j] * o[j]
				}
				for j := range row {
					row[j] -= dot * o[j]
				}
			}
		}
		var norm float64
		for _, v := range row {
			norm += v * v
		}
		for j := range row {
			row[j] /= math.Sqrt(norm)
		}
		sub.Basis = append(sub.Basis, row)
	}
	full = sampler.MixtureSpec{Weights: low.Weights}
	for k := range K {
		mu := append([]float64(nil), sub.Mean...)
		cov := make([][]float64, D)
		for i := range D {
			cov[i] = make([]float64, D)
			cov[i][i] = residual
			for a := range d {
				mu[i] += low.Means[k][a] * sub.Basis[a][i]
			}
		}
		for i := range D {
			for j := range D {
				for a := range d {
					cov[i][j] -= residual * sub.Basis[a][i] * sub.Basis[a][j]
					for b := range d {
						cov[i][j] += low.Covs[k][a][b] * sub.Basis[a][i] * sub.Basis[b][j]
					}
				}
			}
		}
		full.Means, full.Covs = append(full.Means, mu), append(full.Covs, cov)
	}
	low.Subspace = sub
	return low, full
}

// A call allocates what its two matrix products of each piece do, and nothing else.
func TestMixtureCallsAllocateNothing(t *testing.T) {
	m := testMixture(t, 24, 5)
	x := gpu.CPU().Empty(40, 24)
	out, sigma := x.Like(), make([]float64, 40)
	for i := range sigma {
		sigma[i] = 1
	}
	a := make([]float64, 24*24)
	var gemm float64
	cpu.Do(func(w *cpu.Worker) {
		gemm = oracle.Allocations(20, func() { cpu.Gemm64(w, false, false, 24, 24, 24, 1, a, 24, a, 24, 0, make([]float64, 24*24), 24) }) - 1
	})
	const pieces = 3
	if n := oracle.Allocations(20, func() {
		if err := m.Denoise(context.Background(), out, x, sigma, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
	}); n > 2*pieces*gemm {
		t.Errorf("%v allocations per call, want the %v of %d products", n, 2*pieces*gemm, 2*pieces)
	}
}

// Samples of the mixture by a fine solver have its mean and covariance.
func TestMixtureSamples(t *testing.T) {
	s := testSpec(rand.New(rand.NewPCG(5, 5)), 2, 3)
	m, err := sampler.NewMixture(s)
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 40})
	res, err := sampler.Run(context.Background(), m, solver(t, "heun"), g, sampler.Options{Seed: 1, N: n, Batch: 500, Shape: []int{2}, Double: true})
	if err != nil {
		t.Fatal(err)
	}
	for j := range 2 {
		var want, second, got, gv float64
		for k, w := range s.Weights {
			want += w * s.Means[k][j]
			second += w * (s.Means[k][j]*s.Means[k][j] + s.Covs[k][j][j])
		}
		for i := range n {
			got += res.X.F64()[2*i+j] / n
		}
		for i := range n {
			e := res.X.F64()[2*i+j] - got
			gv += e * e / n
		}
		v := second - want*want
		if z := (got - want) / math.Sqrt(v/n); math.Abs(z) > 4.9 {
			t.Errorf("dimension %d: mean %.4f is %.1f standard errors off %.4f", j, got, z, want)
		}
		if math.Abs(gv/v-1) > 4.9*math.Sqrt(2./n)+0.02 {
			t.Errorf("dimension %d: variance %.4f, want %.4f", j, gv, v)
		}
	}
}

func TestMixtureFilesRefused(t *testing.T) {
	for want, text := range map[string]string{
		"wanted {":                  `{"weights": 3}`,
		"unknown field":             `{"weights":[1],"means":[[0]],"vars":[1],"shap":[1]}`,
		"something follows":         `{"weights":[1],"means":[[0]],"vars":[1]} {}`,
		"0 weights":                 `{"weights":[],"means":[],"vars":[]}`,
		"2 weights and 1 means":     `{"weights":[0.5,0.5],"means":[[0]],"vars":[1,1]}`,
		"sum to 0.9":                `{"weights":[0.5,0.4],"means":[[0],[1]],"vars":[1,1]}`,
		"weight 1 is -0.5":          `{"weights":[1.5,-0.5],"means":[[0],[1]],"vars":[1,1]}`,
		"mean 0 is empty":           `{"weights":[1],"means":[[]],"vars":[1]}`,
		"mean 1: 1 values":          `{"weights":[0.5,0.5],"means":[[0,0],[1]],"vars":[1,1]}`,
		"both or neither":           `{"weights":[1],"means":[[0]]}`,
		"2 vars":                    `{"weights":[1],"means":[[0]],"vars":[1,1]}`,
		"var 0 is -1":               `{"weights":[1],"means":[[0]],"vars":[-1]}`,
		"0 covs":                    `{"weights":[1],"means":[[0]],"covs":[]}`,
		"cov 0 has 1 rows":          `{"weights":[1],"means":[[0,0]],"covs":[[[1,0]]]}`,
		"row 1: 1 values":           `{"weights":[1],"means":[[0,0]],"covs":[[[1,0],[0]]]}`,
		"not symmetric":             `{"weights":[1],"means":[[0,0]],"covs":[[[1,0.5],[0.4,1]]]}`,
		"eigenvalue -1":             `{"weights":[1],"means":[[0,0]],"covs":[[[1,2],[2,1]]]}`,
		"2 labels":                  `{"weights":[1],"means":[[0]],"vars":[1],"labels":[1,2]}`,
		"label 0 is -1":             `{"weights":[1],"means":[[0]],"vars":[1],"labels":[-1]}`,
		"does not hold":             `{"weights":[1],"means":[[0,0,0]],"vars":[1],"shape":[1,2]}`,
		"wanted sizes whose":        `{"weights":[1],"means":[[0]],"vars":[1],"shape":[-1,-1]}`,
		"subspace: the mean":        `{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[],"basis":[[1]],"residual":0}}`,
		"2 basis vectors":           `{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[0,0],"basis":[[1,0],[0,1]],"residual":0}}`,
		"residual -1":               `{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[0,0],"basis":[[1,0]],"residual":-1}}`,
		"basis 0 times basis 0":     `{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[0,0],"basis":[[1,1]],"residual":0}}`,
		"cannot unmarshal number":   `{"weights":[1],"means":[[1e999]],"vars":[1]}`,
		"invalid character 'N'":     `{"weights":[NaN],"means":[[0]],"vars":[1]}`,
		"unexpected EOF":            `{"weights":[1],"means":[[0]],`,
		"basis 0: 1 values; wanted": `{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[0,0],"basis":[[1]],"residual":0}}`,
	} {
		if _, err := sampler.ReadMixture(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n\terror %v, want %q", text, err, want)
		}
	}
	if _, err := sampler.LoadMixture(t.TempDir() + "/none.json"); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("missing file: %v", err)
	}
}

func FuzzReadMixture(f *testing.F) {
	f.Add([]byte(`{"weights":[0.5,0.5],"means":[[0,1],[1,0]],"covs":[[[1,0],[0,1]],[[2,1],[1,2]]],"shape":[2,1],"labels":[0,1]}`))
	f.Add([]byte(`{"weights":[1],"means":[[0]],"vars":[1],"subspace":{"mean":[0,0],"basis":[[1,0]],"residual":0.1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := sampler.ReadMixture(bytes.NewReader(b))
		if err != nil {
			return
		}
		n := 1
		for _, d := range m.Shape() {
			n *= d
		}
		if n > 1<<12 || m.K() > 1<<8 {
			return
		}
		x := gpu.CPU().Empty64(2, n)
		out := x.Like()
		if err := m.Denoise(context.Background(), out, x, []float64{1, 2}, sampler.Cond{}); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

// A specification survives its JSON.
func TestMixtureSpecRoundTrip(t *testing.T) {
	s := testSpec(rand.New(rand.NewPCG(8, 8)), 4, 3)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sampler.ReadMixture(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	checkMixture(t, "from JSON", m, s, rand.New(rand.NewPCG(9, 9)), nil)
}

// One mixture serves any number of goroutines at once.
func TestMixtureServesGoroutines(t *testing.T) {
	m := testMixture(t, 24, 5)
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 5})
	opt := sampler.Options{Seed: 1, N: 40, Batch: 13, Shape: []int{24}}
	want := bits(t, m, "heun", g, opt)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			res, err := sampler.Run(context.Background(), m, sampler.Heun{}, g, opt)
			if err != nil {
				t.Error(err)
				return
			}
			for i, v := range values(res.X) {
				if math.Float64bits(v) != want[i] {
					t.Errorf("value %d is %g beside others", i, v)
					return
				}
			}
		})
	}
	wg.Wait()
}
