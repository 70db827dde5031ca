package fid

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// Nearest is the reference vector nearest to a generated one.
type Nearest struct {
	Ref      int     // its row; the first of equals
	Distance float64 // to it
	// Reach is how far that reference vector is from the nearest other one: a copy is nearer than real vectors are to each other.
	Reach float64
}

// Authentic tells that the vector is at least as far from its nearest reference as that is from its own neighbour (Alaa et al. 2022).
func (n Nearest) Authentic() bool { return n.Distance > n.Reach }

// Ratio is Distance over Reach; what copies has one near 0. Where the reference has equal vectors, it is +Inf, or 0 for one
// more of them.
func (n Nearest) Ratio() float64 {
	if n.Distance == 0 {
		return 0
	}
	return n.Distance / n.Reach
}

// NearestOf finds the nearest reference vector of every generated one, exactly in float64. Both need their features, at
// least two.
func NearestOf(ctx context.Context, ref, gen *Stats) ([]Nearest, error) {
	return NearestOn(ctx, nil, ref, gen)
}

// NearestOn is NearestOf with the distances computed on a device, nil for the CPU; the results are the same.
func NearestOn(ctx context.Context, dev *gpu.Device, ref, gen *Stats) ([]Nearest, error) {
	c := &comparison{ref: ref, gen: gen, opt: Options{Device: dev}}
	n, err := c.neighbourhood(ctx, "nearest")
	if err != nil {
		return nil, err
	}
	out := make([]Nearest, gen.N)
	for j, i := range n.nearest {
		out[j] = Nearest{i, math.Sqrt(n.dist[j]), math.Sqrt(n.ref[i*n.k])}
	}
	return out, nil
}
