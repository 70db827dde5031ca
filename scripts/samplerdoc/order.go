package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// problem is a mixture in one dimension. Its noiseless flow keeps the order of
// points, so it takes the quantile of a noise level to the same quantile of
// another: the exact solution, by the mixture's distribution function.
type problem struct {
	weights, means, devs []float64
	den                  *sampler.Mixture
	starts               []float64 // unit noise
}

func newProblem() (*problem, error) {
	p := &problem{
		weights: []float64{0.5, 0.3, 0.2}, means: []float64{-1, 1.2, 0.3}, devs: []float64{0.25, 0.4, 0.5},
		starts: []float64{-1.3, -0.4, 0.2, 0.9, 1.7},
	}
	spec := sampler.MixtureSpec{Weights: p.weights}
	for i, m := range p.means {
		spec.Means = append(spec.Means, []float64{m})
		spec.Vars = append(spec.Vars, p.devs[i]*p.devs[i])
	}
	var err error
	p.den, err = sampler.NewMixture(spec)
	return p, err
}

// below is the share of x0 + sigma·n below x.
func (p *problem) below(x, sigma float64) (share float64) {
	for k, w := range p.weights {
		share += w * math.Erfc((p.means[k]-x)/math.Hypot(p.devs[k], sigma)/math.Sqrt2) / 2
	}
	return share
}

// flow is where the level sigma's x comes to at another level, by bisection.
func (p *problem) flow(x, sigma, to float64) float64 {
	want := p.below(x, sigma)
	lo, hi := -20.0, 20.0
	for range 200 {
		if mid := (lo + hi) / 2; p.below(mid, to) < want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// failure is the largest error at the end of a grid of n steps.
func (p *problem) failure(ctx context.Context, s sampler.Solver, n int) (float64, error) {
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: n, SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min})
	if err != nil {
		return 0, err
	}
	k := len(p.starts)
	r, err := sampler.Run(ctx, p.den, s, g, sampler.Options{N: k, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64(slices.Clone(p.starts), k, 1)})
	if err != nil {
		return 0, err
	}
	from, to := g.Steps[0].From.Sigma(), g.Steps[n-1].To.Sigma()
	worst := 0.0
	for i, z := range p.starts {
		worst = max(worst, math.Abs(r.X.F64()[i]-p.flow(from*z, from, to)))
	}
	return worst, nil
}

// order is the measured one, in words.
func (p *problem) order(ctx context.Context, info sampler.Info) (string, error) {
	s, err := sampler.ByName(info.Name)
	if err != nil {
		return "", err
	}
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 20})
	if err != nil {
		return "", err
	}
	switch {
	case info.Stochastic:
		return "noise", nil
	case s.Check(g) != nil:
		return "see below", nil
	case s.NFE(g) == sampler.Varies:
		return "adaptive", nil
	}
	e1, err := p.failure(ctx, s, 128)
	if err != nil {
		return "", err
	}
	e2, err := p.failure(ctx, s, 256)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f", math.Log2(e1/e2)), nil
}

// evaluations is what 20 steps to zero take, by a count.
func (p *problem) evaluations(ctx context.Context, name string) (string, error) {
	s, err := sampler.ByName(name)
	if err != nil {
		return "", err
	}
	for _, path := range []string{"ve", "vp", "flow"} {
		way, err := diffusion.PathByName(path)
		if err != nil {
			return "", err
		}
		rule := diffusion.Spec{Rule: "karras", Steps: 20, SigmaMax: 80, SigmaMin: 0.002}
		g, err := diffusion.Build(way, rule)
		if err != nil {
			return "", err
		}
		if err := sampler.Walks(s, g); err != nil {
			if path == "flow" {
				return strings.TrimPrefix(err.Error(), "sampler: "), nil
			}
			continue
		}
		r, err := sampler.Run(ctx, p.den, s, g, sampler.Options{N: 1, Shape: []int{1}, Double: true})
		if err != nil {
			return "", err
		}
		if s.NFE(g) == sampler.Varies {
			return fmt.Sprintf("chosen; %d here", r.NFE), nil
		}
		return fmt.Sprint(r.NFE), nil
	}
	return "", nil
}
