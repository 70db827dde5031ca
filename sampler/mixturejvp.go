package sampler

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// JVPAt implements JVPDenoiser. With m_k and G_k the mean of x0 in component k
// and its slope, G_k = Q diag(Aλ/v) Qᵀ, and s_k = -(x - Aμ_k)ᵀ Q diag(1/v) Qᵀ v the
// slope of ln r_k along v, but for what all components share,
//
//	J·v = Σ_k r_k (G_k v + (s_k - Σ_l r_l s_l)·m_k)
//
// (the derivative of DenoiseAt's formula; own derivation).
func (m *Mixture) JVPAt(ctx context.Context, out, x, v *gpu.Tensor, at []diffusion.Point, c Cond) error {
	n := len(at)
	mustBatch("Mixture", out, x, n)
	mustBatch("Mixture", v, x, n)
	if n == 0 {
		return nil
	}
	if err := m.serves(x.Len()/n, c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if dev := x.Device(); dev.CUDA() { // by way of the host, as Denoise
		hx, hv := x.To(gpu.CPU()), v.To(gpu.CPU())
		if err := dev.Err(); err != nil {
			return err
		}
		ho := hx.Like()
		if err := m.JVPAt(ctx, ho, hx, hv, at, c); err != nil {
			return err
		}
		out.Copy(ho)
		return dev.Err()
	}
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		class := -1
		if c.Classes != nil {
			class = c.Classes[i]
		}
		m.jvp(out, x, v, i, at[i], class)
	})
	return nil
}

// jvp writes row i of J·v.
func (m *Mixture) jvp(out, x, v *gpu.Tensor, i int, p diffusion.Point, class int) {
	D, d := m.size(), m.d
	xs, vs := make([]float64, D), make([]float64, D)
	load(xs, x, i*D)
	load(vs, v, i*D)
	z, w := xs, vs
	if m.mean != nil {
		z, w = make([]float64, d), make([]float64, d)
		for l := range z {
			for j, b := range m.basis[l*D : (l+1)*D] {
				z[l] += b * (xs[j] - p.A*m.mean[j])
				w[l] += b * vs[j]
			}
		}
	}
	r, means, slopes := m.shares(z, p, class)
	// s_k, and G_k w added to the slope of m_k.
	s := make([]float64, m.K())
	mean := 0.0
	for k, share := range r {
		if share == 0 {
			continue
		}
		s[k] = m.tilt(slopes[k*d:][:d], z, w, k, p)
		mean += share * s[k]
	}
	e := make([]float64, d)
	for k, share := range r {
		for j := range e {
			e[j] += share * (slopes[k*d+j] + (s[k]-mean)*means[k*d+j])
		}
	}
	if m.mean != nil {
		g := m.shrink(p)
		full := make([]float64, D)
		for j := range full {
			full[j] = g * vs[j]
		}
		for l := range e {
			for j, b := range m.basis[l*D : (l+1)*D] {
				full[j] += (e[l] - g*w[l]) * b
			}
		}
		e = full
	}
	for j, value := range e {
		if out.Double() {
			out.F64()[i*D+j] = value
		} else {
			out.F32()[i*D+j] = float32(value)
		}
	}
}

// turned is Qᵀ(z - aμ_k) of component k.
func (m *Mixture) turned(z []float64, a float64, k int) []float64 {
	d := m.d
	u := make([]float64, d)
	for j := range u {
		if m.vectors == nil {
			u[j] = z[j] - a*m.means[k*d+j]
			continue
		}
		for l, q := range m.vectors[(k*d+j)*d:][:d] {
			u[j] += q * z[l]
		}
		u[j] -= a * m.rotated[k*d+j]
	}
	return u
}

// back adds Q·u to out.
func (m *Mixture) back(out, u []float64, k int) {
	d := m.d
	for j, c := range u {
		if m.vectors == nil {
			out[j] += c
			continue
		}
		for l, q := range m.vectors[(k*d+j)*d:][:d] {
			out[l] += c * q
		}
	}
}

// shares is r_k and m_k of the state z, and room for a vector of each component.
func (m *Mixture) shares(z []float64, p diffusion.Point, class int) (r, means, room []float64) {
	d, K := m.d, m.K()
	r, means, room = make([]float64, K), make([]float64, K*d), make([]float64, K*d)
	for k := range r {
		if class >= 0 && m.labels[k] != class {
			r[k] = math.Inf(-1)
			continue
		}
		u := m.turned(z, p.A, k)
		r[k] = m.logw[k]
		for j, c := range u {
			v := m.variance(p, k*d+j)
			r[k] -= math.Log(v)/2 + c*c/(2*v)
			u[j] *= p.A * m.lambda[k*d+j] / v
		}
		copy(means[k*d:], m.means[k*d:][:d])
		m.back(means[k*d:][:d], u, k)
	}
	normalize(r)
	return r, means, room
}

// normalize turns logarithms of weights into shares.
func normalize(logs []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, l := range logs {
		top = max(top, l)
	}
	for k, l := range logs {
		logs[k] = math.Exp(l - top)
		sum += logs[k]
	}
	for k := range logs {
		logs[k] /= sum
	}
}

// tilt adds G_k w to slope and is s_k.
func (m *Mixture) tilt(slope, z, w []float64, k int, p diffusion.Point) (s float64) {
	d := m.d
	u, turned := m.turned(z, p.A, k), m.turned(w, 0, k)
	for j := range turned {
		v := m.variance(p, k*d+j)
		s -= u[j] * turned[j] / v
		turned[j] *= p.A * m.lambda[k*d+j] / v
	}
	m.back(slope, turned, k)
	return s
}

// variance is A²λ + B² of a direction.
func (m *Mixture) variance(p diffusion.Point, i int) float64 {
	return max(p.A*p.A*m.lambda[i]+p.B*p.B, math.SmallestNonzeroFloat64/0x1p-52)
}
