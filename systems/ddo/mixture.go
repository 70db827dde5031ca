package ddo

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/optimize"

	"github.com/fidlab/fidlab/rng"
)

// mixture is a mixture of normal distributions on a line, with density and gradient in closed form.
type mixture struct {
	w, mean, dev []float64 // weights add up to 1
}

// params are what an optimiser turns: logits of the weights but for the first, means, logarithms of deviations.
func (m mixture) params() []float64 {
	var out []float64
	for _, w := range m.w[1:] {
		out = append(out, math.Log(w/m.w[0]))
	}
	out = append(out, m.mean...)
	for _, s := range m.dev {
		out = append(out, math.Log(s))
	}
	return out
}

// mixtureOf is the mixture of params.
func mixtureOf(v []float64) mixture {
	k := (len(v) + 1) / 3
	m := mixture{w: make([]float64, k), mean: v[k-1 : 2*k-1], dev: make([]float64, k)}
	m.w[0] = 1
	sum := 1.
	for i := 1; i < k; i++ {
		m.w[i] = math.Exp(v[i-1])
		sum += m.w[i]
	}
	for i := range k {
		m.w[i] /= sum
		m.dev[i] = math.Exp(v[2*k-1+i])
	}
	return m
}

// logp is the logarithm of the density at x; grad, if it is not nil, gets the derivatives by the params.
func (m mixture) logp(x float64, grad []float64) float64 {
	k := len(m.w)
	var each [8]float64
	most := math.Inf(-1)
	for i := range k {
		z := (x - m.mean[i]) / m.dev[i]
		each[i] = math.Log(m.w[i]) - z*z/2 - math.Log(m.dev[i]) - math.Log(2*math.Pi)/2
		most = max(most, each[i])
	}
	var sum float64
	for i := range k {
		sum += math.Exp(each[i] - most)
	}
	lp := most + math.Log(sum)
	if grad != nil {
		for i := range k {
			r, z := math.Exp(each[i]-lp), (x-m.mean[i])/m.dev[i]
			if i > 0 {
				grad[i-1] = r - m.w[i]
			}
			grad[k-1+i] = r * z / m.dev[i]
			grad[2*k-1+i] = r * (z*z - 1)
		}
	}
	return lp
}

// points are places with weights that stand for a distribution: a quadrature of it, or samples.
type points struct{ x, w []float64 }

// The line of quadratures: trapezoids, whose error for such densities is far below rounding.
const (
	lineEnd    = 12.
	linePoints = 1201
)

// line is the quadrature's places; the weight of each is the step.
func line() (x []float64, step float64) {
	step = 2 * lineEnd / (linePoints - 1)
	for i := range linePoints {
		x = append(x, -lineEnd+float64(i)*step)
	}
	return x, step
}

// quadrature of a mixture.
func (m mixture) quadrature() points {
	x, step := line()
	p := points{x: x}
	for _, v := range x {
		p.w = append(p.w, step*math.Exp(m.logp(v, nil)))
	}
	return p
}

// draws are n samples, alike.
func (m mixture) draws(s *rng.Stream, n int) points {
	p := points{}
	for range n {
		u, k := s.Float64(), 0
		for k < len(m.w)-1 && u >= m.w[k] {
			u -= m.w[k]
			k++
		}
		p.x, p.w = append(p.x, m.mean[k]+m.dev[k]*s.Normal()), append(p.w, 1/float64(n))
	}
	return p
}

// fit turns the params from start on until the loss is least.
func fit(start mixture, of loss) (mixture, error) {
	n := len(start.params())
	p := optimize.Problem{
		Func: func(v []float64) float64 { return of(mixtureOf(v), nil) },
		Grad: func(grad, v []float64) {
			clear(grad)
			of(mixtureOf(v), grad)
		},
	}
	r, err := optimize.Minimize(p, start.params(), &optimize.Settings{GradientThreshold: 1e-8, MajorIterations: 200}, &optimize.BFGS{})
	if r == nil || len(r.X) != n {
		return mixture{}, fmt.Errorf("ddo: a mixture of %d normals was not fitted: %w", len(start.w), err)
	}
	for _, v := range r.X {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return mixture{}, fmt.Errorf("ddo: a mixture of %d normals ran away: %v", len(start.w), r.X)
		}
	}
	return mixtureOf(r.X), nil // where the line search can do no more, an error says so, and the place is the least all the same
}

// loss is a loss of a mixture; it adds its gradient by the params to grad where that is not nil.
type loss func(m mixture, grad []float64) float64

// contrast is the loss of the method against ref, of which fakes are draws.
func contrast(ref mixture, data, fakes points, alpha, beta float64) loss {
	kinds := []struct {
		points
		sign, share float64
		ref         []float64 // its logarithms there
	}{{data, -beta, 1, ref.logps(data.x)}, {fakes, beta, alpha, ref.logps(fakes.x)}}
	return func(m mixture, grad []float64) (sum float64) {
		g := make([]float64, len(grad))
		for _, k := range kinds {
			for i, x := range k.x {
				if k.w[i] == 0 {
					continue
				}
				u := k.sign * (m.logp(x, at(g, grad)) - k.ref[i])
				sum += k.share * k.w[i] * softplus(u)
				add(grad, g, k.share*k.w[i]*k.sign/(1+math.Exp(-u)))
			}
		}
		return sum
	}
}

// logps are logarithms of the density at places.
func (m mixture) logps(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = m.logp(v, nil)
	}
	return out
}

// unlikely is minus the mean logarithm of the density of data.
func unlikely(data points) loss {
	return func(m mixture, grad []float64) (sum float64) {
		g := make([]float64, len(grad))
		for i, x := range data.x {
			if data.w[i] == 0 {
				continue
			}
			sum -= data.w[i] * m.logp(x, at(g, grad))
			add(grad, g, -data.w[i])
		}
		return sum
	}
}

// descend goes from start down a loss in steps of a rate times the gradient, and is the best of what it sees every so many steps, the start
// included; less of score is better.
func descend(start mixture, of loss, steps, every int, rate float64, score func(mixture) float64) mixture {
	v := start.params()
	grad := make([]float64, len(v))
	best, least := start, score(start)
	for k := range steps {
		clear(grad)
		of(mixtureOf(v), grad)
		for i := range v {
			v[i] -= rate * grad[i]
		}
		if (k+1)%every == 0 {
			if s := score(mixtureOf(v)); s < least {
				best, least = mixtureOf(slices.Clone(v)), s
			}
		}
	}
	return best
}

// at is g where a gradient is wanted, else nil.
func at(g, grad []float64) []float64 {
	if grad == nil {
		return nil
	}
	return g
}

func add(grad, g []float64, by float64) {
	for i := range grad {
		grad[i] += by * g[i]
	}
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// divergence is KL(p‖q) in nats.
func divergence(p, q mixture) (sum float64) {
	x, step := line()
	for _, v := range x {
		lp := p.logp(v, nil)
		sum += step * math.Exp(lp) * (lp - q.logp(v, nil))
	}
	return sum
}

// precision is how much of q lies where p is densest, in the least region that has a share of p.
func precision(p, q mixture, share float64) float64 {
	x, step := line()
	hi := math.Inf(-1)
	for _, v := range x {
		hi = max(hi, p.logp(v, nil))
	}
	mass := func(of mixture, floor float64) (sum float64) {
		for _, v := range x {
			if p.logp(v, nil) >= floor {
				sum += step * math.Exp(of.logp(v, nil))
			}
		}
		return sum
	}
	lo := hi - 1
	for mass(p, lo) < share {
		lo--
	}
	for range 40 {
		if mid := (lo + hi) / 2; mass(p, mid) < share {
			hi = mid
		} else {
			lo = mid
		}
	}
	return mass(q, lo)
}

// target is three modes on a line, drawn by a seed; no two lie on each other.
func target(seed uint64) mixture {
	s := rng.ForImage(seed, 0, rng.Noising)
	m := mixture{}
	var sum float64
	for i := range 3 {
		m.mean = append(m.mean, 2.5*float64(i-1)+s.Float64()-0.5)
		m.dev = append(m.dev, 0.25+0.35*s.Float64())
		m.w = append(m.w, 0.5+s.Float64())
		sum += m.w[i]
	}
	for i := range m.w {
		m.w[i] /= sum
	}
	return m
}
