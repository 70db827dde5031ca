package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems/gaussteleport"
	"github.com/fidlab/fidlab/tensor"
)

// teleportOptions are the flags of analytical teleportation.
type teleportOptions struct {
	law   string // F.npz, or a mixture's model
	skip  int
	sigma float64
	rank  int
	rest  string
}

func (o *teleportOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.law, "teleport", "", "take the first steps by the flow of the Gaussian of `F.npz` (fidlab system gaussteleport fit), or of the mixture gmm:F.json or mnist-gmm, without the model")
	f.IntVar(&o.skip, "skip-steps", 0, "with --teleport: skip the first `K` steps of the grid")
	f.Float64Var(&o.sigma, "sigma-skip", 0, "with --teleport: jump to noise level `S` and take --steps from there")
	f.IntVar(&o.rank, "teleport-rank", 0, "with --teleport: use the `R` leading eigenpairs; 0 is all in the file, or 256")
	f.StringVar(&o.rest, "teleport-rest", "mean", "with --teleport: the variance across those, `V`: mean (of those discarded) or zero")
	completes(cmd, "teleport-rest", "mean", "zero")
}

// teleportRun is what run.json says of it.
type teleportRun struct {
	Law     string  `json:"law"`
	SHA256  string  `json:"sha256"`
	Rank    int     `json:"rank,omitempty"`
	Rest    string  `json:"rest,omitempty"`
	Classes bool    `json:"classes,omitempty"` // the law is that of each sample's class
	Skip    int     `json:"skip"`              // steps of the grid without the model
	Sigma   float64 `json:"sigma"`             // where they end
}

func (o *teleportOptions) on() bool { return o.law != "" }

// skipped is how many steps of the grid the flow takes.
func (o *teleportOptions) skipped() int {
	if o.sigma > 0 {
		return 1
	}
	return o.skip
}

// check refuses flags that do not go together.
func (o *teleportOptions) check(from *imageOptions) error {
	switch {
	case !o.on() && (o.skip != 0 || o.sigma != 0 || o.rank != 0 || o.rest != "mean"):
		return usagef("--skip-steps, --sigma-skip, --teleport-rank and --teleport-rest need --teleport F.npz")
	case !o.on():
		return nil
	case from.image != "":
		return usagef("--teleport starts from noise, --image from a picture; leave one out")
	case o.skip != 0 && o.sigma != 0 || o.skip == 0 && o.sigma == 0:
		return usagef("--teleport: want one of --skip-steps K and --sigma-skip S")
	case o.skip < 0 || o.rank < 0:
		return usagef("--skip-steps %d, --teleport-rank %d: want numbers from 0 on", o.skip, o.rank)
	case !(o.sigma >= 0) || math.IsInf(o.sigma, 1):
		return usagef("--sigma-skip %g: want a noise level above 0", o.sigma)
	case !slices.Contains([]string{"mean", "zero"}, o.rest):
		return unknown("rest", o.rest, []string{"mean", "zero"})
	}
	return nil
}

// grid is g, or with --sigma-skip the one of the same rule that starts there.
func (o *teleportOptions) grid(p diffusion.Path, s diffusion.Spec, g *diffusion.Grid) (*diffusion.Grid, error) {
	if o.sigma == 0 {
		return g, nil
	}
	g, err := sampler.TeleportGrid(p, s, o.sigma)
	if err != nil {
		return nil, usagef("--sigma-skip: %w", err)
	}
	return g, nil
}

// walks is sampler.Walks of s on what the flow leaves of g, before there is a law.
func (o *teleportOptions) walks(s sampler.Solver, g *diffusion.Grid) error {
	if o.on() {
		s = &sampler.Teleport{Solver: s, Law: &sampler.Gaussian{}, Skip: o.skipped()}
	}
	return sampler.Walks(s, g)
}

// wrap reads the law and puts its flow before s. What the model says of the law's
// data is checked first; a doubt is noted.
func (o *teleportOptions) wrap(ctx context.Context, a *app, m *model, p diffusion.Path, s sampler.Solver, g *diffusion.Grid, c sampler.Cond, run *sampleRun) (sampler.Solver, error) {
	if !o.on() {
		return s, nil
	}
	to := g.Steps[o.skipped()-1].To
	info := &teleportRun{Law: o.law, Skip: o.skipped(), Sigma: to.Sigma()}
	law, err := o.open(ctx, a, m, info)
	if err != nil {
		return nil, err
	}
	if info.Classes = info.Classes && c.Classes != nil; !info.Classes && c.Classes != nil && info.Rank > 0 {
		run.Notes = append(run.Notes, "the statistics are not of single classes: samples of all start alike")
	}
	if err := law.Serves(m.shape, c); err != nil {
		return nil, inputf("--teleport %s: %w", o.law, err)
	}
	at := g.Steps[0].From
	if at.A == 0 { // a network may not say anything there, and need not any more
		at = diffusion.At(p, 80)
	}
	class := -1
	if c.Classes != nil {
		class = c.Classes[0]
	}
	var bad *sampler.LawError
	switch err := sampler.CheckLaw(ctx, m.den, law, at, m.shape, class, m.inputs); {
	case errors.As(err, &bad):
		run.Notes = append(run.Notes, fmt.Sprintf("--teleport %s: %v", o.law, err))
	case err != nil:
		return nil, err
	}
	run.Teleport = info
	t := &sampler.Teleport{Solver: s, Law: law, Skip: o.skipped()}
	return t, t.Check(g)
}

// open reads the law for a model's samples.
func (o *teleportOptions) open(ctx context.Context, a *app, m *model, info *teleportRun) (sampler.Law, error) {
	if entry, err := findModel(o.law); err == nil {
		if o.rank != 0 || o.rest != "mean" {
			return nil, usagef("--teleport-rank and --teleport-rest are of statistics; %s is a mixture", o.law)
		}
		other, err := entry.open(ctx, a, opening{model: o.law, n: 1})
		if err != nil {
			return nil, err
		}
		mix, ok := other.den.(*sampler.Mixture)
		if !ok {
			other.done()
			return nil, usagef("--teleport %s: its flow would ask it itself; want statistics, or a mixture: gmm:FILE.json or mnist-gmm", o.law)
		}
		info.SHA256, info.Classes = other.sha256, mix.Labels() != nil
		return &gaussteleport.Integrated{PointDenoiser: mix, Shape: mix.Shape()}, nil
	}
	sum, err := tensor.FileSHA256(o.law)
	if err != nil {
		return nil, &inputError{err}
	}
	s, err := fid.ReadSpectrum(o.law, o.rank)
	if err != nil {
		return nil, err
	}
	if err := sameValues(s, m); err != nil {
		return nil, inputf("--teleport %s: %w", o.law, err)
	}
	if s.Provenance != nil {
		for _, n := range s.Provenance.Notes {
			a.say("note: %s: %s", o.law, n)
		}
	}
	law, err := gaussteleport.LawOf(s, gaussteleport.Rest(o.rest), m.shape)
	if err != nil {
		return nil, inputf("--teleport %s: %w", o.law, err)
	}
	info.SHA256, info.Rank, info.Rest, info.Classes = sum, len(s.Values), o.rest, s.Classes != nil
	return law, nil
}

// sameValues is the error of statistics that say themselves that they are of other values than the model's, else nil.
func sameValues(s *fid.Spectrum, m *model) error {
	switch {
	case len(s.Mu) != size(m.shape):
		return fmt.Errorf("statistics of %d values; samples of %s have %d (%s): fit them with --model %s", len(s.Mu), m.name, size(m.shape), describe(m.shape), m.name)
	case s.Shape != nil && !slices.Equal(s.Shape, m.shape):
		return fmt.Errorf("statistics of samples of %s; those of %s are %s: fit them with --model %s", describe(s.Shape), m.name, describe(m.shape), m.name)
	case s.Range[0] < s.Range[1] && !m.latent && s.Range != [2]float64{m.lo, m.hi}:
		return fmt.Errorf("statistics of values from %g to %g; those of %s go from %g to %g: fit them with --model %s", s.Range[0], s.Range[1], m.name, m.lo, m.hi, m.name)
	}
	return nil
}
