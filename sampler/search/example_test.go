package search_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
)

// Three steps of DDIM for a mixture, ranked again on noise that the search has not seen.
func Example() {
	ctx := context.Background()
	den, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{0.5, 0.5}, Means: [][]float64{{1}, {-1}}, Vars: []float64{0.01, 0.01}})
	if err != nil {
		log.Fatal(err)
	}
	ref, err := fid.NewReference(&fid.Stats{Mu: []float64{0}, Sigma: []float64{1.01}})
	if err != nil {
		log.Fatal(err)
	}
	path, err := diffusion.PathByName("vp")
	if err != nil {
		log.Fatal(err)
	}
	levels, err := search.NewLevels(path, 0)
	if err != nil {
		log.Fatal(err)
	}
	fit := &search.Images{Den: den, Solver: sampler.DDIM{}, Levels: levels, Ref: ref, Run: sampler.Options{N: 200, Seed: 1, Shape: []int{1}}}
	held, err := fit.Held(2, 800)
	if err != nil {
		log.Fatal(err)
	}
	space, opt := &search.Steps{T: levels.Len(), K: 3}, search.Options{Seed: 1, Evaluations: 200}
	out, err := search.Evolve(ctx, space, fit.Fitness, opt)
	if err != nil {
		log.Fatal(err)
	}
	if err := search.Rank(ctx, space, out, 10, held.Fitness, opt); err != nil {
		log.Fatal(err)
	}
	uniform, err := held.Fitness(ctx, search.Choice{Steps: search.Uniform(levels.Len(), 3)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.Evaluations, "candidates; better than the uniform list:", out.Best.Held < uniform)
	// Output: 200 candidates; better than the uniform list: true
}
