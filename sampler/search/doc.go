// Package search looks for the steps that suit a model best, and for the layers
// of its network that each of them can do without (AutoDiffusion: Li et al. 2023,
// arXiv 2309.10438). Nothing is trained: candidates are drawn, mutated and
// crossed, and the Fréchet distance of a few hundred samples decides.
//
//	levels, err := search.NewLevels(path, 0)
//	fit := &search.Images{New: …, Solver: sampler.DDIM{}, Levels: levels, Ref: ref, Run: sampler.Options{N: 500, Shape: shape, Seed: 1}}
//	out, err := search.Evolve(ctx, &search.Steps{T: levels.Len(), K: 4}, fit.Fitness, search.Options{Seed: 1, Evaluations: 300})
//
// A candidate is a Choice: the numbers of the visited levels, and for each the
// numbers of the layers that are left out there. Steps is the space of the first
// stage, Layers of both. A Plan is a choice with what it was found for, as a file.
//
// The one rule to know: every candidate of a search sees the same noise, so that
// their distances differ by their steps alone; what is reported is therefore
// measured with other noise (Options.Validate), at one number of samples for all.
//
// What the published search leaves open, or does in a way that defeats it, is
// settled here: a crossing that would visit a level twice draws another one,
// mutations do change the layers that are left out, no candidate is evaluated
// twice, and the ten best are ranked again on more samples with noise of their own.
package search
