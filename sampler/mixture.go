package sampler

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Mixture is a Gaussian mixture over images of D values, and its exact
// denoiser. In the low-rank form the mixture lives in a subspace, x = mean +
// Σ_i z_i·basis_i + e, with e isotropic in the complement: only z has components.
type Mixture struct {
	shape  []int
	logw   []float64
	labels []int // class of each component, nil without classes

	mean     []float64 // [D], nil without a subspace
	basis    []float64 // [d, D], orthonormal rows
	residual float64   // variance of e in every direction of the complement

	d       int       // dimensions of the components: D without a subspace
	means   []float64 // [K, d]
	lambda  []float64 // [K, d] variances along the eigenvectors
	vectors []float64 // [K, d, d], row i of a block is an eigenvector; nil when isotropic
	rotated []float64 // [K, d]: the means in their component's eigenvectors

	calls   sync.Pool
	scratch []mixScratch // one per worker, which runs one piece at a time
	setup   sync.Once
}

// rowsPerPiece images are denoised together. Pieces are padded to it, so that
// an image's bits do not depend on how many others there are.
const rowsPerPiece = 32

type mixScratch struct {
	y, z, u, mean, out []float64
	resp               []float64
	gain, inv, logdet  []float64 // of the point below
	at                 diffusion.Point
	ready              bool
}

// K is the number of components.
func (m *Mixture) K() int { return len(m.logw) }

// Shape is the shape of one image.
func (m *Mixture) Shape() []int { return m.shape }

// Labels is the class of every component; nil without classes.
func (m *Mixture) Labels() []int { return m.labels }

// size is D.
func (m *Mixture) size() int {
	if m.mean != nil {
		return len(m.mean)
	}
	return m.d
}

// Denoise implements Denoiser.
func (m *Mixture) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return m.run(ctx, out, x, nil, sigma, c)
}

// DenoiseAt implements PointDenoiser. With Σ_k = Q diag(λ) Qᵀ and v = A²λ + B²,
//
//	E[x0|x] = Σ_k r_k (μ_k + Q diag(Aλ/v) Qᵀ (x - Aμ_k)),
//	ln r_k  = ln w_k - ½Σ ln v - ½|Qᵀ(x - Aμ_k)|²/v + const,
//
// (Tweedie's formula for a mixture; own derivation) in float64 whatever x is. An image with a class sees that class's components only.
func (m *Mixture) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	return m.run(ctx, out, x, at, nil, c)
}

// mixCall is one call's arguments, pooled with its closure so that a call allocates nothing.
type mixCall struct {
	m       *Mixture
	out, x  *gpu.Tensor
	at      []diffusion.Point
	sigma   []float64
	classes []int
	piece   func(w *cpu.Worker, i int)
}

func (m *Mixture) run(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, sigma []float64, c Cond) error {
	n := max(len(at), len(sigma))
	mustBatch("Mixture", out, x, n)
	if n == 0 {
		return nil
	}
	if err := m.serves(x.Len()/n, c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.Device().CUDA() {
		return onHost(out, x, func(out, x *gpu.Tensor) error { return m.run(ctx, out, x, at, sigma, c) })
	}
	m.setup.Do(func() { m.scratch = make([]mixScratch, cpu.Workers()) })
	call, _ := m.calls.Get().(*mixCall)
	if call == nil {
		call = &mixCall{m: m}
		call.piece = call.run
	}
	call.out, call.x, call.at, call.sigma, call.classes = out, x, at, sigma, c.Classes
	cpu.Each((n+rowsPerPiece-1)/rowsPerPiece, call.piece)
	*call = mixCall{m: m, piece: call.piece}
	m.calls.Put(call)
	return nil
}

// serves refuses images of another size and classes without components.
func (m *Mixture) serves(size int, c Cond) error {
	if size != m.size() {
		return fmt.Errorf("sampler: gmm: images of %d values; the mixture has %d", size, m.size())
	}
	for i, k := range c.Classes {
		if k >= 0 && !m.hasClass(k) {
			return fmt.Errorf("sampler: gmm: image %d wants class %d; the mixture has no component of it", i, k)
		}
	}
	return nil
}

func (m *Mixture) hasClass(k int) bool {
	for _, l := range m.labels {
		if l == k {
			return true
		}
	}
	return false
}

func (c *mixCall) point(i int) diffusion.Point {
	if c.at != nil {
		return diffusion.Point{A: c.at[i].A, B: c.at[i].B}
	}
	return diffusion.Point{A: 1, B: c.sigma[i]}
}

// run denoises piece p.
func (c *mixCall) run(w *cpu.Worker, p int) {
	m, D, d, K := c.m, c.m.size(), c.m.d, c.m.K()
	s := &m.scratch[w.ID]
	if s.y == nil {
		s.alloc(m)
	}
	lo := p * rowsPerPiece
	n := min(rowsPerPiece, c.x.Shape()[0]-lo)
	for i := range n {
		load(s.y[i*D:(i+1)*D], c.x, (lo+i)*D)
		if a := c.point(lo + i).A; m.mean != nil {
			for j, v := range m.mean {
				s.y[i*D+j] -= a * v
			}
		}
	}
	clear(s.y[n*D:])
	z := s.y
	if m.mean != nil {
		z = s.z
		cpu.Gemm64(w, false, true, rowsPerPiece, d, D, 1, s.y, D, m.basis, D, 0, z, d)
	}
	if m.vectors != nil {
		cpu.Gemm64(w, false, true, rowsPerPiece, K*d, d, 1, z, d, m.vectors, d, 0, s.u, K*d)
	}
	dense := false
	for i := range n {
		pt := c.point(lo + i)
		if !s.ready || pt != s.at {
			s.tabulate(m, pt)
		}
		class := -1
		if c.classes != nil {
			class = c.classes[lo+i]
		}
		dense = m.posterior(s, i, z[i*d:(i+1)*d], pt, class) || dense
	}
	clear(s.mean[n*d:])
	e := s.mean // E[z0]
	if dense {
		clear(s.u[n*K*d:])
		cpu.Gemm64(w, false, false, rowsPerPiece, d, K*d, 1, s.u, K*d, m.vectors, d, 1, e, d)
	}
	if m.mean == nil {
		for i := range n {
			c.store(lo+i, e[i*d:(i+1)*d])
		}
		return
	}
	for i := range n { // what the subspace adds to the shrunk residual
		g := m.shrink(c.point(lo + i))
		for j := range d {
			e[i*d+j] -= g * z[i*d+j]
		}
	}
	cpu.Gemm64(w, false, false, rowsPerPiece, D, d, 1, e, d, m.basis, D, 0, s.out, D)
	for i := range n {
		g, o := m.shrink(c.point(lo+i)), s.out[i*D:(i+1)*D]
		for j := range o {
			o[j] += m.mean[j] + g*s.y[i*D+j]
		}
		c.store(lo+i, o)
	}
}

// shrink is the factor of the residual: Aτ²/(A²τ²+B²).
func (m *Mixture) shrink(p diffusion.Point) float64 {
	if m.residual == 0 {
		return 0
	}
	return p.A * m.residual / (p.A*p.A*m.residual + p.B*p.B)
}

// store writes image i; without noise the state itself is the answer.
func (c *mixCall) store(i int, v []float64) {
	D := len(v)
	if p := c.point(i); p.B == 0 {
		load(v, c.x, i*D)
		for j := range v {
			v[j] /= p.A
		}
	}
	save(c.out, i*D, v)
}

// onHost is f of a GPU's tensors for denoisers that are computed on the CPU.
func onHost(out, x *gpu.Tensor, f func(out, x *gpu.Tensor) error) error {
	dev := x.Device()
	hx := x.To(gpu.CPU())
	if err := dev.Err(); err != nil {
		return err
	}
	ho := hx.Like()
	if err := f(ho, hx); err != nil {
		return err
	}
	out.Copy(ho)
	return dev.Err()
}

// save writes v to x from that element on; load is its inverse.
func save(x *gpu.Tensor, from int, v []float64) {
	if x.Double() {
		copy(x.F64()[from:], v)
		return
	}
	o := x.F32()[from : from+len(v)]
	for j, e := range v {
		o[j] = float32(e)
	}
}

func load(dst []float64, x *gpu.Tensor, from int) {
	if x.Double() {
		copy(dst, x.F64()[from:])
		return
	}
	for j, v := range x.F32()[from : from+len(dst)] {
		dst[j] = float64(v)
	}
}

func (s *mixScratch) alloc(m *Mixture) {
	D, d, K := m.size(), m.d, m.K()
	s.y = make([]float64, rowsPerPiece*D)
	s.z = make([]float64, rowsPerPiece*d)
	s.mean = make([]float64, rowsPerPiece*d)
	s.out = make([]float64, rowsPerPiece*D)
	s.resp = make([]float64, K)
	s.gain, s.inv, s.logdet = make([]float64, K*d), make([]float64, K*d), make([]float64, K)
	if m.vectors != nil {
		s.u = make([]float64, rowsPerPiece*K*d)
	}
}

// tabulate keeps what depends on the point only: Aλ/v, 1/v and ½Σ ln v.
func (s *mixScratch) tabulate(m *Mixture, p diffusion.Point) {
	d := m.d
	for k := range s.logdet {
		var sum float64
		for j := k * d; j < (k+1)*d; j++ {
			v := m.variance(p, j)
			s.gain[j], s.inv[j] = p.A*m.lambda[j]/v, 1/v
			sum += math.Log(v)
		}
		s.logdet[k] = sum / 2
	}
	s.at, s.ready = p, true
}

// posterior sets row i of mean to the expectation, or, when many components
// share the image, to Σ r_k μ_k, leaves r_k·gain·u in row i of u for a product
// with the eigenvectors, and returns true. Which it is depends on this image only.
func (m *Mixture) posterior(s *mixScratch, i int, z []float64, p diffusion.Point, class int) (dense bool) {
	d, K := m.d, m.K()
	top := math.Inf(-1)
	for k := range K {
		s.resp[k] = math.Inf(-1)
		if class >= 0 && m.labels[k] != class {
			continue
		}
		var q float64
		block := k * d
		if m.vectors != nil {
			u, r := s.u[i*K*d+block:][:d], m.rotated[block:][:d]
			for j := range u {
				u[j] -= p.A * r[j]
				q += u[j] * u[j] * s.inv[block+j]
			}
		} else {
			mu := m.means[block:][:d]
			for j := range mu {
				e := z[j] - p.A*mu[j]
				q += e * e
			}
			q *= s.inv[block]
		}
		s.resp[k] = m.logw[k] - s.logdet[k] - q/2
		top = max(top, s.resp[k])
	}
	var sum float64
	for k, l := range s.resp {
		s.resp[k] = math.Exp(l - top)
		sum += s.resp[k]
	}
	mean := s.mean[i*d : (i+1)*d]
	clear(mean)
	active := 0
	for k := range s.resp {
		if s.resp[k] /= sum; s.resp[k] < negligible {
			s.resp[k] = 0
			continue
		}
		active++
	}
	dense = m.vectors != nil && active > fewComponents
	for k, r := range s.resp {
		block := k * d
		mu := m.means[block:][:d]
		switch {
		case m.vectors == nil:
			if r > 0 {
				for j := range mu {
					mean[j] += r * (mu[j] + s.gain[block]*(z[j]-p.A*mu[j]))
				}
			}
		case r == 0:
			clear(s.u[i*K*d+block:][:d])
		default:
			u, g := s.u[i*K*d+block:][:d], s.gain[block:][:d]
			for j := range u {
				mean[j] += r * mu[j]
				u[j] *= r * g[j]
			}
			if !dense {
				for j, c := range u {
					for l, q := range m.vectors[(block+j)*d:][:d] {
						mean[l] += c * q
					}
					u[j] = 0
				}
			}
		}
	}
	return dense
}

const (
	// negligible is a share that cannot change a float64 sum of the others.
	negligible = 0x1p-60
	// fewComponents are turned back one by one; more go through one product for all images.
	fewComponents = 4
)
