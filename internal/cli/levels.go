package cli

import (
	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
)

// levels is where noise levels lie, but for the rule that spreads them: the
// flags of every command that walks a grid.
type levels struct {
	end, path          string
	sigmaMax, sigmaMin float64
	rho, shift         float64
}

func (l *levels) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.end, "end", "zero", "end at `E`: zero, min or keep (the grid's own last level)")
	f.StringVar(&l.path, "path", "", "walk the path `P` (ve, edm, vp, vp-scaled, vp-cosine, vp-sde, flow); default: the model's")
	f.Float64Var(&l.sigmaMax, "sigma-max", 0, "start at noise level `X`; 0 is the path's")
	f.Float64Var(&l.sigmaMin, "sigma-min", 0, "end the grid's curve at noise level `X`; 0 is the path's")
	f.Float64Var(&l.rho, "rho", 0, "curve of the karras and polyexponential grids; 0 is the rule's own")
	f.Float64Var(&l.shift, "shift", 0, "shift of the flow grid; 0 is none")
	completes(cmd, "end", "zero", "min", "keep")
}

// on settles the path, the model's own unless another was asked for, and the end.
func (l *levels) on(p diffusion.Path) (diffusion.Path, diffusion.Spec, error) {
	var err error
	if l.path != "" {
		if p, err = diffusion.PathByName(l.path); err != nil {
			return nil, diffusion.Spec{}, usagef("--path: %w", err)
		}
	}
	end, err := diffusion.EndByName(l.end)
	if err != nil {
		return nil, diffusion.Spec{}, usagef("--end: %w", err)
	}
	return p, diffusion.Spec{End: end, SigmaMax: l.sigmaMax, SigmaMin: l.sigmaMin, Rho: l.rho, Shift: l.shift}, nil
}
