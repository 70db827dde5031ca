package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// Job is what is trained.
type Job struct {
	// Name is that of the recipe; a checkpoint has it.
	Name string
	// Config is all that the weights depend on besides Settings: the network, its loss, the data and their
	// hash. It marshals to JSON, and a run goes on under the same only.
	Config any
	Nets   []*Network
	// Loss builds the loss of a batch, one number, on the batch's tape. Its gradient goes to all Nets. It is called
	// twice for a batch where a fault is looked for, and must then build the same.
	Loss func(b *Batch) *nn.Var
	// After follows the walk back from Loss, while what Loss built is still there: what is learned without gradients, such as
	// moving averages, is brought up to date here. It is not called where the loss is not finite, nor when a fault is looked
	// for; a step that is left out for its gradient alone is not taken back. nil: there is nothing of the kind.
	After func(b *Batch)
	// Phases, in place of Loss, are the losses of networks that are trained in turn.
	Phases []Phase
	// Figures are the names of what Loss says about a batch by Batch.Figure; the log has their means.
	Figures []string
	// State is what checkpoints must keep besides networks, optimisers and averages.
	State []nn.Part

	// Sample draws a preview, with the networks' first averages in place of their weights. nil: there is none.
	Sample func(ctx context.Context, step int) (*imageio.Image, error)
	// Evaluate measures what Scores names, in that order, also with the averages. It is a function of the weights
	// alone. nil: nothing is measured.
	Evaluate func(ctx context.Context, step int) ([]float64, error)
	Scores   []string
	// Finish follows the last step, after the evaluation, also with the averages: it brings into State what users of the network must
	// know of it. nil: nothing does.
	Finish func(ctx context.Context) error
}

// Network is one of a job's networks.
type Network struct {
	Name      string // a part of tensors' names in the checkpoint
	Params    *nn.Params
	Optimizer nn.Optimizer // nil: that of the Settings
	LR        nn.LR        // by step; nil: that of the Settings
	NoEMA     bool         // no averages are kept of it

	emas []*nn.EMA
}

// Phase is an update of some of the networks. The others are constant in it.
type Phase struct {
	Name string   // of its figures in the log; "" where there is one
	Nets []string // that it updates
	// In steps that are multiples of Every, the first is 0, it makes Times updates, each by a batch of its own.
	// Zeros stand for 1. (Two time scales: a critic each step, a generator every fifth; or a critic's Times 5.)
	Every, Times int
	Loss         func(b *Batch) *nn.Var
	After        func(b *Batch) // see Job.After
}

// Batch is what a loss is built of. What is drawn for example First+i of a phase is a function of that
// number and a seed.
type Batch struct {
	Tape  *nn.Tape
	Step  int    // from 0
	First uint64 // number of the first example, counted over the phase's batches
	Size  int    // examples
	// Seeds are those of the Settings, changed for phases after the first, so that what they draw is independent.
	Seeds Seeds

	run    *run
	stream rng.Stream
}

// Stream is the stream of example i of the batch for a purpose, under one of the Seeds. It is valid until the next call.
func (b *Batch) Stream(seed uint64, i int, p rng.Purpose) *rng.Stream {
	b.stream = *rng.New(seed, uint64(p)<<48|b.First+uint64(i)) // rng.ForImage, which allocates
	return &b.stream
}

// Figure says a value of the batch for the log, under one of the job's Figures.
func (b *Batch) Figure(name string, v float64) {
	i := slices.Index(b.run.job.Figures, name)
	if i < 0 {
		panic(fmt.Sprintf("train: Figure: %q is not among the job's Figures %q", name, b.run.job.Figures))
	}
	b.run.figure(i, v)
}

// ofPhase makes the seeds of phase k; those of the first are the Settings'.
func (s Seeds) ofPhase(k int) Seeds {
	mix := uint64(k) * 0x9e3779b97f4a7c15
	return Seeds{s.Init, s.Data ^ mix, s.Noise ^ mix, s.Dropout ^ mix}
}

// phases are the job's, with their defaults.
func (j *Job) phases() []Phase {
	if j.Loss != nil {
		p := Phase{Every: 1, Times: 1, Loss: j.Loss, After: j.After}
		for _, n := range j.Nets {
			p.Nets = append(p.Nets, n.Name)
		}
		return []Phase{p}
	}
	out := slices.Clone(j.Phases)
	for i := range out {
		out[i].Every, out[i].Times = max(out[i].Every, 1), max(out[i].Times, 1)
	}
	return out
}

// check panics for a job that no recipe should make.
func (j *Job) check() {
	must := func(ok bool, format string, args ...any) {
		if !ok {
			panic(fmt.Sprintf("train: job "+j.Name+": "+format, args...))
		}
	}
	must(j.Name != "", "has no name")
	must(len(j.Nets) > 0, "has no network")
	must((j.Loss == nil) != (len(j.Phases) == 0), "wants either Loss or Phases")
	must(j.After == nil || j.Loss != nil, "has After besides Phases; a phase has its own")
	must((j.Evaluate == nil) == (len(j.Scores) == 0), "wants Evaluate and the names of its Scores together")
	var names []string
	for _, n := range j.Nets {
		must(n.Name != "" && !slices.Contains(names, n.Name), "the network's name %q is empty or taken", n.Name)
		n.Params.Value() // panics before Init
		must(n.Params.Value().Device() == j.Nets[0].Params.Value().Device(), "network %s is on another device than %s", n.Name, j.Nets[0].Name)
		must(n.Params.Value().DType() == j.Nets[0].Params.Value().DType(), "network %s has another dtype than %s", n.Name, j.Nets[0].Name)
		names = append(names, n.Name)
	}
	var phases []string
	for _, p := range j.Phases {
		must(p.Loss != nil && len(p.Nets) > 0, "phase %q has no loss or no networks", p.Name)
		must(!slices.Contains(phases, p.Name) && (p.Name != "" || len(j.Phases) == 1), "the phase's name %q is empty or taken", p.Name)
		phases = append(phases, p.Name)
		for _, n := range p.Nets {
			must(slices.Contains(names, n), "phase %q: no network %q; there are %q", p.Name, n, names)
		}
	}
	for i, f := range slices.Concat(j.Figures, j.Scores) {
		must(f != "" && !slices.Contains(slices.Concat(j.Figures, j.Scores)[:i], f), "the figure's name %q is empty or taken", f)
	}
}
