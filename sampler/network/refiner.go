package network

import (
	"context"
	"fmt"
	"maps"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// Refiner is a network of train.Refining as sampler.FlowTurbo asks it. It serves one goroutine at a time.
type Refiner struct {
	net  *Network
	path diffusion.Path
	// weight is that of classifier-free guidance: r(none) + weight·(r(class) - r(none)), as velocities are guided. 1: none.
	weight float64
	none   *gpu.Tensor
	times  []float64
}

// NewRefiner makes a Refiner of net, which is laid out, for a network on path that is guided by weight, 1 for not at all. It refuses
// networks whose further channels are not as many as a velocity's, and guidance of one without classes.
func NewRefiner(net models.Net, path diffusion.Path, weight float64, o Options) (*Refiner, error) {
	k := net.Takes()
	switch {
	case k.Extra != k.Channels || k.Out != k.Channels:
		return nil, fmt.Errorf("network: NewRefiner: a network of %d and %d further channels to %d; a refiner takes a state and a velocity and predicts a change", k.Channels, k.Extra, k.Out)
	case weight != 1 && k.Classes == 0:
		return nil, fmt.Errorf("network: NewRefiner: guidance %g of a refiner that knows no classes", weight)
	}
	return &Refiner{net: New(net, o), path: path, weight: weight}, nil
}

// Refine implements sampler.Refiner.
func (r *Refiner) Refine(ctx context.Context, out, x, v *gpu.Tensor, p diffusion.Point, c sampler.Cond) error {
	r.times = r.times[:0]
	for range x.Shape()[0] {
		r.times = append(r.times, r.path.Time(p.Sigma()))
	}
	inputs := map[string]*gpu.Tensor{"extra": v}
	maps.Copy(inputs, c.Inputs)
	c.Inputs = inputs
	if err := r.net.Forward(ctx, out, x, r.times, c); err != nil || r.weight == 1 || c.Classes == nil {
		return err
	}
	if r.none == nil || r.none.Len() != out.Len() || r.none.DType() != out.DType() {
		r.none = out.Like()
	}
	c.Classes = nil
	if err := r.net.Forward(ctx, r.none, x, r.times, c); err != nil {
		return err
	}
	ops.LinComb(out, []float64{r.weight, 1 - r.weight}, out, r.none)
	return nil
}
