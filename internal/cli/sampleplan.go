package cli

import (
	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/tensor"
)

// planOptions are the flags of fidlab sample that follow a searched plan.
type planOptions struct {
	file  string
	force bool
	given func(flag string) bool // on the command line

	plan   *search.Plan
	levels *search.Levels
	sum    string // of the file
}

// planRun is what run.json says of a plan.
type planRun struct {
	Plan       string     `json:"plan,omitempty"`
	PlanSHA256 string     `json:"plan_sha256,omitempty"`
	Start      string     `json:"start,omitempty"` // "unit": from unit noise
	Skips      [][]string `json:"skips,omitempty"` // layers that the steps leave out
}

func (o *planOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.file, "plan", "", "follow the plan in `F.json` (of fidlab system autodiffusion search): its sampler, its steps and the layers that they leave out")
	f.BoolVar(&o.force, "force", false, "follow a plan that was found for another model, schedule, sampler or guidance")
	o.given = cmd.Flags().Changed
}

// read reads the plan, if there is one, and sets the sampler that it was found
// for unless another one was asked for.
func (o *planOptions) read(solver *string) error {
	switch {
	case o.file == "" && o.force:
		return usagef("--force is for --plan, and there is none")
	case o.file == "":
		return nil
	}
	for _, flag := range []string{"grid", "steps", "end", "sigma-max", "sigma-min", "rho", "shift", "base", "respace-rho"} {
		if o.given(flag) {
			return usagef("--%s: the plan says where its steps are; give --plan or --%s", flag, flag)
		}
	}
	var err error
	if o.plan, err = search.ReadPlan(o.file); err != nil {
		return &inputError{err}
	}
	if o.sum, err = tensor.FileSHA256(o.file); err != nil {
		return &inputError{err}
	}
	if !o.given("sampler") {
		*solver = o.plan.Sampler
	}
	return nil
}

// unitStart tells whether samples start from unit noise.
func (o *planOptions) unitStart() bool { return o.plan != nil && o.plan.Start == search.UnitStart }

// anyPath tells whether a model's path stands for any: its denoiser takes every noise level.
func anyPath(p diffusion.Path) bool { return p == diffusion.DefaultVE() }

// path is the plan's, for a model that takes any.
func (o *planOptions) path(own diffusion.Path) (diffusion.Path, error) {
	if o.plan == nil || o.given("path") || !anyPath(own) {
		return own, nil
	}
	p, err := diffusion.PathByName(o.plan.Path)
	if err != nil {
		return nil, inputf("%s: %w", o.file, err)
	}
	return p, nil
}

// build is the plan's grid on path p, or that of the rule where there is no plan.
func (o *planOptions) build(p diffusion.Path, rule diffusion.Spec) (*diffusion.Grid, error) {
	if o.plan != nil {
		return o.grid(p)
	}
	g, err := diffusion.Build(p, rule)
	if err != nil {
		return nil, usagef("--grid: %w", err)
	}
	return g, nil
}

// grid is the plan's on path p.
func (o *planOptions) grid(p diffusion.Path) (*diffusion.Grid, error) {
	T := o.plan.T
	if vp, ok := p.(*diffusion.VP); ok {
		T = vp.Len()
	}
	var err error
	if o.levels, err = search.NewLevels(p, T); err != nil {
		return nil, inputf("%s: %w", o.file, err)
	}
	g, err := o.plan.Grid(o.levels)
	if err != nil {
		return nil, inputf("%s: %w", o.file, err)
	}
	return g, nil
}

// apply refuses a model, sampler or guidance that the plan was not found for,
// makes the model leave out the plan's layers, and records what it did.
func (o *planOptions) apply(m *model, s sampler.Solver, guidance string, run *sampleRun) error {
	if o.plan == nil {
		return nil
	}
	err := o.plan.Fits(search.Setting{
		Path: o.levels.Path.Name(), Schedule: o.levels.Hash(), T: o.levels.Len(), Prediction: m.pred, Guidance: guidance,
		Sampler: s.Name(), Model: m.name, ModelHash: m.sha256,
	})
	switch {
	case err != nil && !o.force:
		return inputf("%s: %w; --force follows it all the same", o.file, err)
	case err != nil:
		run.Notes = append(run.Notes, "by force: "+err.Error())
	}
	run.Plan, run.PlanSHA256, run.Start = o.file, o.sum, o.plan.Start
	if o.plan.Skips == nil {
		return nil
	}
	run.Skips = o.plan.Skips
	den := m.den
	if m.layers != nil {
		layered, err := m.layers(len(o.plan.Layers))
		if err != nil {
			return inputf("%s: layers of model %s: %w", o.file, m.name, err)
		}
		den = layered
	}
	if m.den, err = o.plan.Wrap(den); err != nil {
		return inputf("%s: model %s: %w", o.file, m.name, err)
	}
	return nil
}
