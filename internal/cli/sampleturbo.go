package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems/flowturbo"
	"github.com/fidlab/fidlab/tensor"
)

// turboOptions are the flags of FlowTurbo's blocks.
type turboOptions struct {
	blocks, refiner string
	compat          bool

	path   string // where the refiner is
	opened *flowturbo.Refiner
}

func (o *turboOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.blocks, "blocks", "", "with --sampler flowturbo: a step for each of the `BLOCKS` H (Heun), P (pseudo-corrector) and R (refiner), with counts: H1P2R3")
	f.StringVar(&o.refiner, "refiner", "", "with --blocks: the refiner in the checkpoint `F` of fidlab train refiner, or one that ships, by name")
	f.BoolVar(&o.compat, "blocks-compat", false, "with --blocks: tell a refiner's second call the velocity of the block before, as the authors' assembled model does")
}

// turboRun is what run.json says of the refiner.
type turboRun struct {
	Refiner     string `json:"refiner"`
	SHA256      string `json:"sha256"`
	Refinements int    `json:"refinements"` // of a sample
}

// turboSolver puts the blocks into s; a grid of as many steps is made for them unless the number was given.
func (o *sampleOptions) turboSolver(s sampler.Solver, p diffusion.Path) (sampler.Solver, error) {
	t := &o.turbo
	if t.blocks == "" {
		if t.refiner != "" || t.compat {
			return nil, usagef("--refiner and --blocks-compat need --blocks, such as H1P2R3")
		}
		return s, nil
	}
	if _, ok := s.(*sampler.FlowTurbo); !ok {
		return nil, usagef("--blocks are of --sampler flowturbo; this is %s", s.Name())
	}
	if strings.Contains(o.sampler, "heun=") {
		return nil, usagef("--sampler %s: --blocks say which steps are Heun's; leave heun out", o.sampler)
	}
	blocks, err := sampler.ParseBlocks(t.blocks)
	if err != nil {
		return nil, usagef("--blocks: %w", err)
	}
	if !o.stepsSet {
		o.steps = len(blocks)
		if f := &o.from; f.image != "" && f.mask == "" && f.strength > 0 && f.strength <= 1 {
			o.steps = int(float64(len(blocks))/f.strength + 1e-9) // of which that share is as many as blocks
		}
	}
	turbo := &sampler.FlowTurbo{Blocks: blocks, Compat: t.compat}
	switch refines := strings.Contains(blocks, "R"); {
	case refines && t.refiner == "":
		return nil, usagef("--blocks %s: R asks a refiner; give --refiner, which fidlab train refiner --on MODEL makes, or leave R out", t.blocks)
	case !refines && (t.refiner != "" || t.compat):
		return nil, usagef("--blocks %s have no R, which a refiner is for", t.blocks)
	case !refines:
		return turbo, nil
	}
	if o.guide.rule != "cfg" || o.guide.interval != "" || o.guide.rescale != 0 || o.guide.negative != -1 || o.guide.limit != "" {
		return nil, usagef("--refiner: refiners are guided by --guidance alone; leave rules, intervals, limits and negative classes out")
	}
	if t.opened, err = t.open(); err != nil {
		return nil, err
	}
	turbo.Refiner, err = t.opened.For(p, o.guide.weight, 0)
	if err != nil {
		return nil, inputf("--refiner %s: %w", t.refiner, err)
	}
	return turbo, nil
}

func (o *turboOptions) open() (*flowturbo.Refiner, error) {
	o.path = fileOrShipped(o.refiner)
	saved, err := savedAt(o.path, "--refiner "+o.refiner+": no such file; fidlab train refiner --on MODEL makes one")
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	r, err := flowturbo.Open(gpu.CPU(), saved)
	if err != nil {
		return nil, &inputError{err}
	}
	return r, nil
}

// fits refuses a model that the refiner is not of, and notes the refiner.
func (o *turboOptions) fits(m *model, s sampler.Solver, g *diffusion.Grid, run *sampleRun) error {
	if o.opened == nil {
		return nil
	}
	if err := o.opened.Fits(m.shape, m.sha256); err != nil {
		return inputf("--refiner %s: %w", o.refiner, err)
	}
	sum, err := tensor.FileSHA256(o.path)
	if err != nil {
		return &inputError{err}
	}
	run.Turbo = &turboRun{Refiner: o.refiner, SHA256: sum, Refinements: s.(*sampler.FlowTurbo).Refinements(g)}
	if longest := longestStep(g); longest > o.opened.Span*1.0001 {
		run.Notes = append(run.Notes, "the grid's longest step is "+short(longest)+" of time, the refiner was trained to look "+short(o.opened.Span)+" ahead: train one with --dt-max "+short(longest))
	}
	return nil
}

// longestStep of a grid, in the flow's time.
func longestStep(g *diffusion.Grid) float64 {
	longest := 0.0
	for _, s := range g.Steps {
		longest = max(longest, s.From.B/(s.From.A+s.From.B)-s.To.B/(s.To.A+s.To.B))
	}
	return longest
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
