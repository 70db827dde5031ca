package sampler_test

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// Draw from a mixture of two points, without noise of its own: every sample
// lands on one of them.
func ExampleRun() {
	m, err := sampler.ReadMixture(strings.NewReader(`{"weights": [0.5, 0.5], "means": [[-1], [1]], "vars": [0, 0]}`))
	if err != nil {
		panic(err)
	}
	solver, _ := sampler.ByName("dpm++2m")
	grid, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 10})
	if err != nil {
		panic(err)
	}
	res, err := sampler.Run(context.Background(), m, solver, grid, sampler.Options{Seed: 1, N: 3, Shape: m.Shape()})
	if err != nil {
		panic(err)
	}
	for _, x := range res.X.F32() {
		fmt.Printf("%.3f ", max(x, -x))
	}
	fmt.Println(res.NFE, "evaluations")
	// Output: 1.000 1.000 1.000 10 evaluations
}

// How likely an image is under a model: here the mixture's own density, at the
// least noise of the path.
func ExampleLogLikelihood() {
	m, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0, 0}}, Vars: []float64{1}})
	if err != nil {
		panic(err)
	}
	x := gpu.CPU().From64([]float64{0, 0, 1, 1}, 2, 2)
	l, err := sampler.LogLikelihood(context.Background(), m, diffusion.Flow{}, x, sampler.LikelihoodOptions{SigmaMin: 1e-4, RTol: 1e-7, ATol: 1e-7})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%.4f %.4f\n", l.Nats[0], l.Nats[1])
	// Output: -1.8379 -2.8379
}

// Mine is Euler's method as a user would add it: a table of coefficients.
type Mine struct{}

func (Mine) Name() string                             { return "mine" }
func (Mine) Check(*diffusion.Grid) error              { return nil }
func (Mine) NFE(g *diffusion.Grid) int                { return len(g.Steps) }
func (s Mine) Start(like *gpu.Tensor) sampler.Stepper { return sampler.StartTable(s, like) }
func (Mine) Keep() int                                { return 1 }
func (Mine) Noisy() bool                              { return false }
func (Mine) Coeffs(c []float64, h *sampler.History) {
	c[0] = h.To.B / h.At[0].B
	c[1] = h.To.A - h.At[0].A*c[0]
}

// A solver of one's own is a table of coefficients.
func ExampleTable() {
	one, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{2, -1}}, Vars: []float64{0.01}})
	if err != nil {
		panic(err)
	}
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 8})
	if err != nil {
		panic(err)
	}
	r, err := sampler.Run(context.Background(), one, Mine{}, g, sampler.Options{Seed: 1, N: 4, Shape: []int{2}})
	if err != nil {
		panic(err)
	}
	near := true
	for i, v := range r.X.F32() {
		near = near && math.Abs(float64(v)-[]float64{2, -1}[i%2]) < 0.5
	}
	fmt.Println(near, r.NFE)
	// Output: true 8
}
