package fid

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// VendiValue is the outcome of "vendi".
type VendiValue struct {
	Gen float64 `json:"gen"`
	Ref float64 `json:"ref"`
}

// Number is the generated set's score.
func (v VendiValue) Number() float64 { return v.Gen }

// computeVendi is the Vendi score of both sets (Friedman and Dieng 2023): the
// exponential of the entropy of the eigenvalues of K/n, K the cosines of all
// pairs of vectors. It is 1 for n equal directions and n for orthogonal ones: a
// number of different pictures.
func computeVendi(_ context.Context, c *comparison) (Value, []string, error) {
	if err := needFeatures("vendi", c.ref, c.gen, 1); err != nil {
		return nil, nil, err
	}
	var out [2]float64
	for i, s := range []*Stats{c.ref, c.gen} {
		v, err := newVectors(s, true)
		if err != nil {
			return nil, nil, err
		}
		if out[i], err = vendi(v); err != nil {
			return nil, nil, err
		}
	}
	return VendiValue{Ref: out[0], Gen: out[1]}, nil, nil
}

// vendi takes the smaller of the two matrices XXᵀ and XᵀX, whose eigenvalues
// other than zero are the same.
func vendi(v *vectors) (float64, error) {
	order := min(v.n, v.d)
	gram := make([]float64, order*order)
	if v.n <= v.d {
		x := make([]float64, v.n*v.d)
		v.load(x, 0, v.n)
		cpu.Gemm64(nil, false, true, v.n, v.n, v.d, 1/float64(v.n), x, v.d, x, v.d, 0, gram, v.n)
	} else {
		const chunk = 1024
		x := make([]float64, chunk*v.d)
		for i := 0; i < v.n; i += chunk {
			m := min(chunk, v.n-i)
			v.load(x, i, m)
			cpu.SyrkT64(nil, v.d, m, 1/float64(v.n), x, v.d, 1, gram, v.d)
		}
	}
	values, err := cpu.SymEig64(nil, order, gram, order, false)
	if err != nil {
		return 0, numeric("vendi: %v", err)
	}
	entropy := 0.0
	for _, l := range values {
		if l > 0 {
			entropy -= l * math.Log(l)
		}
	}
	return math.Exp(entropy), nil
}
