package sampler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Limits of mixture files.
const (
	maxMixtureFile   = 1 << 30 // bytes
	maxMixtureValues = 1 << 26 // float64 in all covariances or means together
)

// MixtureSpec is a Gaussian mixture as its JSON file says it; exactly one of
// Covs and Vars is set. With Subspace, means and covariances are in its
// coordinates.
type MixtureSpec struct {
	Weights  []float64     `json:"weights"`            // [K], sum 1
	Means    [][]float64   `json:"means"`              // [K][d]
	Covs     [][][]float64 `json:"covs,omitempty"`     // [K][d][d], symmetric, no negative eigenvalue
	Vars     []float64     `json:"vars,omitempty"`     // [K], isotropic
	Labels   []int         `json:"labels,omitempty"`   // [K], class of each component
	Shape    []int         `json:"shape,omitempty"`    // of one image, [H, W, C]; default [D]
	Subspace *Subspace     `json:"subspace,omitempty"` // the low-rank form
}

// Subspace is where a low-rank mixture lives: x = Mean + Σ z_i Basis[i] + e.
type Subspace struct {
	Mean     []float64   `json:"mean"`     // [D]
	Basis    [][]float64 `json:"basis"`    // [d][D], orthonormal rows
	Residual float64     `json:"residual"` // variance of e in every direction of the complement
}

// LoadMixture reads a mixture from a JSON file.
func LoadMixture(path string) (*Mixture, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("sampler: gmm: %w", err)
	}
	defer f.Close()
	m, err := ReadMixture(f)
	if err != nil {
		return nil, fmt.Errorf("sampler: gmm: %s: %w", path, err)
	}
	return m, nil
}

// ReadMixture reads a mixture from JSON. Unknown fields are refused: a
// misspelt "shape" would change what is drawn.
func ReadMixture(r io.Reader) (*Mixture, error) {
	s, err := ReadMixtureSpec(r)
	if err != nil {
		return nil, err
	}
	return NewMixture(s)
}

// ReadMixtureSpec reads the specification of a mixture from JSON, which NewMixture checks.
func ReadMixtureSpec(r io.Reader) (s MixtureSpec, err error) {
	b, err := io.ReadAll(io.LimitReader(r, maxMixtureFile+1))
	if err != nil {
		return s, err
	}
	if len(b) > maxMixtureFile {
		return s, fmt.Errorf("more than %d bytes; use fewer components, or the low-rank form", maxMixtureFile)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("%w; wanted {\"weights\":[K], \"means\":[K][D], \"covs\":[K][D][D] or \"vars\":[K]}", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return s, fmt.Errorf("something follows the mixture's closing brace")
	}
	return s, nil
}

// NewMixture checks a specification and decomposes its covariances.
func NewMixture(s MixtureSpec) (*Mixture, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	K, d := len(s.Weights), len(s.Means[0])
	m := &Mixture{d: d, logw: make([]float64, K), lambda: make([]float64, K*d), labels: s.Labels, shape: s.Shape}
	var sum float64
	for _, w := range s.Weights {
		sum += w
	}
	for k, w := range s.Weights {
		m.logw[k] = math.Log(w / sum)
	}
	for _, mu := range s.Means {
		m.means = append(m.means, mu...)
	}
	if s.Subspace != nil {
		m.mean, m.residual = s.Subspace.Mean, s.Subspace.Residual
		for _, row := range s.Subspace.Basis {
			m.basis = append(m.basis, row...)
		}
	}
	if m.shape == nil {
		m.shape = []int{m.size()}
	}
	if s.Vars != nil {
		for k, v := range s.Vars {
			for j := range d {
				m.lambda[k*d+j] = v
			}
		}
		return m, nil
	}
	m.vectors = make([]float64, K*d*d)
	m.rotated = make([]float64, K*d)
	errs := make([]error, K)
	cpu.Each(K, func(w *cpu.Worker, k int) { errs[k] = m.decompose(w, k, s.Covs[k]) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Mixture) decompose(w *cpu.Worker, k int, cov [][]float64) error {
	d := m.d
	q := m.vectors[k*d*d : (k+1)*d*d]
	for i, row := range cov {
		copy(q[i*d:], row)
	}
	values, err := cpu.SymEig64(w, d, q, d, true)
	if err != nil {
		return fmt.Errorf("component %d: covariance: %w", k, err)
	}
	// Rounding makes eigenvalues of a singular matrix negative by a few ulps of the largest.
	if low, high := values[0], values[d-1]; low < -1e-9*math.Max(high, 0) || high < 0 {
		return fmt.Errorf("component %d: covariance has the eigenvalue %g (largest %g); wanted none below 0", k, low, high)
	}
	for j, v := range values {
		m.lambda[k*d+j] = max(v, 0)
		var r float64
		for i, mu := range m.means[k*d : (k+1)*d] {
			r += q[j*d+i] * mu
		}
		m.rotated[k*d+j] = r
	}
	return nil
}

func (s *MixtureSpec) check() error {
	K := len(s.Weights)
	if K == 0 || len(s.Means) != K {
		return fmt.Errorf("%d weights and %d means; wanted as many, at least 1", K, len(s.Means))
	}
	var sum float64
	for k, w := range s.Weights {
		if !(w > 0) || math.IsInf(w, 0) {
			return fmt.Errorf("weight %d is %g; wanted a number above 0", k, w)
		}
		sum += w
	}
	if math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("the weights sum to %.9g; wanted 1", sum)
	}
	d := len(s.Means[0])
	if d == 0 {
		return fmt.Errorf("mean 0 is empty; wanted at least one dimension")
	}
	for k, mu := range s.Means {
		if err := vector(mu, d); err != nil {
			return fmt.Errorf("mean %d: %w", k, err)
		}
	}
	if (s.Covs == nil) == (s.Vars == nil) {
		return fmt.Errorf("covs and vars: both or neither are there; wanted one")
	}
	if s.Vars != nil {
		if len(s.Vars) != K {
			return fmt.Errorf("%d vars for %d components", len(s.Vars), K)
		}
		for k, v := range s.Vars {
			if !(v >= 0) || math.IsInf(v, 0) {
				return fmt.Errorf("var %d is %g; wanted a number of at least 0", k, v)
			}
		}
	} else if err := s.checkCovs(K, d); err != nil {
		return err
	}
	if s.Labels != nil && len(s.Labels) != K {
		return fmt.Errorf("%d labels for %d components", len(s.Labels), K)
	}
	for k, l := range s.Labels {
		if l < 0 {
			return fmt.Errorf("label %d is %d; wanted 0 or more", k, l)
		}
	}
	D, err := s.Subspace.check(d)
	if err != nil {
		return err
	}
	return checkShape(s.Shape, D)
}

func (s *MixtureSpec) checkCovs(K, d int) error {
	if len(s.Covs) != K {
		return fmt.Errorf("%d covs for %d components", len(s.Covs), K)
	}
	if d > maxMixtureValues/d/K {
		return fmt.Errorf("%d covariances of %d×%d; wanted at most %d values in all (use vars or the low-rank form)", K, d, d, maxMixtureValues)
	}
	for k, c := range s.Covs {
		if len(c) != d {
			return fmt.Errorf("cov %d has %d rows; wanted %d", k, len(c), d)
		}
		for i, row := range c {
			if err := vector(row, d); err != nil {
				return fmt.Errorf("cov %d, row %d: %w", k, i, err)
			}
		}
		for i := range d {
			for j := range i {
				a, b := c[i][j], c[j][i]
				if scale := math.Sqrt(math.Abs(c[i][i]*c[j][j])) + math.Abs(a) + math.Abs(b); math.Abs(a-b) > 1e-9*scale {
					return fmt.Errorf("cov %d is not symmetric: [%d][%d] is %g, [%d][%d] is %g", k, i, j, a, j, i, b)
				}
			}
		}
	}
	return nil
}

// check returns D, the size of an image.
func (s *Subspace) check(d int) (int, error) {
	if s == nil {
		return d, nil
	}
	D := len(s.Mean)
	if D == 0 {
		return 0, fmt.Errorf("subspace: the mean is empty; wanted the D values of an image")
	}
	if err := vector(s.Mean, D); err != nil {
		return 0, fmt.Errorf("subspace: mean: %w", err)
	}
	if len(s.Basis) != d || d > D {
		return 0, fmt.Errorf("subspace: %d basis vectors for means of %d in a space of %d; wanted as many as the means, at most the space", len(s.Basis), d, D)
	}
	if !(s.Residual >= 0) || math.IsInf(s.Residual, 0) {
		return 0, fmt.Errorf("subspace: residual %g; wanted a variance of at least 0", s.Residual)
	}
	for i, row := range s.Basis {
		if err := vector(row, D); err != nil {
			return 0, fmt.Errorf("subspace: basis %d: %w", i, err)
		}
		for j, other := range s.Basis[:i+1] {
			var dot, want float64
			for l := range row {
				dot += row[l] * other[l]
			}
			if i == j {
				want = 1
			}
			if math.Abs(dot-want) > 1e-6 {
				return 0, fmt.Errorf("subspace: basis %d times basis %d is %g; wanted %g (orthonormal rows)", i, j, dot, want)
			}
		}
	}
	return D, nil
}

func checkShape(shape []int, D int) error {
	if shape == nil {
		return nil
	}
	n := 1
	for _, v := range shape {
		if v < 1 || v > D {
			return fmt.Errorf("shape %v; wanted sizes whose product is %d", shape, D)
		}
		if n *= v; n > D {
			break
		}
	}
	if n != D {
		return fmt.Errorf("shape %v does not hold the mixture's %d values", shape, D)
	}
	return nil
}

func vector(v []float64, d int) error {
	if len(v) != d {
		return fmt.Errorf("%d values; wanted %d", len(v), d)
	}
	for i, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("value %d is %g; wanted a finite number", i, x)
		}
	}
	return nil
}
