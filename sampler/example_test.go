package sampler_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
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
