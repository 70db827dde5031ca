package sampler

import (
	"math"

	"github.com/fidlab/fidlab/diffusion"
)

// combo is a linear combination of the state that a step starts from and of the
// denoised D_0, D_1, … at its nodes.
type combo [4]float64

// add is c + k·d.
func (c combo) add(k float64, d combo) combo {
	for i := range c {
		c[i] += k * d[i]
	}
	return c
}

// exponential says which integral a step of DPM-Solver approximates, and how.
// With λ = ln(A/B), h = λ' - λ, and m the denoised D (DPM-Solver++; Lu et al.
// 2022, arXiv 2211.01095) or ε = (x - A·D)/B (DPM-Solver; arXiv 2206.00927):
//
//	D:  z = -h,  x' = (B'/B)·x - A'·(expm1(z)·m_0 + …)
//	ε:  z =  h,  x' = (A'/A)·x - B'·(expm1(z)·m_0 + …)
//
// With nodes at λ + r_j·h, d_j = (m_j - m_0)/r_j, φ₂ = expm1(z)/z - 1 and
// φ₃ = φ₂/z - 1/2 (which are z times those of phi), the dots are
//
//	order 2, midpoint   ½·expm1(z)·d_1
//	order 2, Taylor     φ₂·d_1
//	order 3, midpoint   φ₂·d_2
//	order 3, Taylor     φ₂·(r_2·d_1 - r_1·d_2)/(r_2 - r_1) + φ₃·2(d_2 - d_1)/(r_2 - r_1)
//
// The midpoint form of order 3 supposes r_2 = 2/3.
type exponential struct{ noise, taylor bool }

// step is the state at to of a step that starts at nodes[0] and has as many
// orders as nodes; states[j] is the state at nodes[j]. All levels are finite and
// above zero, unless there is one node.
func (e exponential) step(nodes []diffusion.Point, states []combo, to diffusion.Point) combo {
	from := nodes[0]
	if to.B == 0 || from.A == 0 { // both forms agree: x' = A'·D + B'·ε
		k := to.B / from.B
		return combo{}.add(k, states[0]).add(to.A-k*from.A, combo{1: 1})
	}
	keep, weight, sign := to.B/from.B, to.A, -1.0
	if e.noise {
		keep, weight, sign = to.A/from.A, to.B, 1
	}
	h := math.Log(from.Sigma() / to.Sigma())
	z := sign * h
	phi1, phi2 := z*phi(1, z), z*phi(2, z)
	var d [3]combo // d[j] is d_j
	var r [3]float64
	m0 := e.output(nodes[0], states[0], 0)
	for j := 1; j < len(nodes); j++ {
		r[j] = math.Log(from.Sigma()/nodes[j].Sigma()) / h
		d[j] = e.output(nodes[j], states[j], j).add(-1, m0)
		for i := range d[j] {
			d[j][i] /= r[j]
		}
	}
	x := combo{}.add(keep, states[0]).add(-weight*phi1, m0)
	switch {
	case len(nodes) == 2 && e.taylor:
		x = x.add(-weight*phi2, d[1])
	case len(nodes) == 2:
		x = x.add(-weight*phi1/2, d[1])
	case len(nodes) == 3 && e.taylor:
		phi3 := 2 * z * phi(3, z)
		x = x.add(-weight*(phi2*r[2]-phi3)/(r[2]-r[1]), d[1])
		x = x.add(weight*(phi2*r[1]-phi3)/(r[2]-r[1]), d[2])
	case len(nodes) == 3:
		x = x.add(-weight*phi2, d[2])
	}
	return x
}

// output is m_j of the state at p.
func (e exponential) output(p diffusion.Point, state combo, j int) combo {
	var m combo
	m[1+j] = 1
	if e.noise {
		m[1+j] = -p.A / p.B
		m = m.add(1/p.B, state)
	}
	return m
}
