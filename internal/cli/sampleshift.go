package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/sampler"
)

// shiftOptions are the flags of the time shift and of the scaled noise: what is done
// about states that are not where the grid says.
type shiftOptions struct {
	mode                string
	window              int
	cutoff              float64
	said                bool // something of the shift was
	windowSet           bool
	cutoffSet           bool
	sigmaWindow, sigmaC float64
	variance            float64
	by                  float64
	scale, slope        float64
}

func (o *shiftOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.mode, "time-shift", "none", "shift each image's time by its own variance, in the variant `V`: "+strings.Join(sampler.ShiftModes(), ", "))
	f.IntVar(&o.window, "window", 0, "look `W`/2 times up and down for the shifted one")
	f.Float64Var(&o.cutoff, "cutoff", 0, "shift at times above `T` only")
	f.Float64Var(&o.sigmaWindow, "window-sigma", 0, "in place of --window: look `X`/2 up and down in ln sigma, on paths without a table of times")
	f.Float64Var(&o.sigmaC, "cutoff-sigma", 0, "in place of --cutoff: shift at noise levels above `X` only")
	f.Float64Var(&o.variance, "data-variance", 0, "mean variance `V` of a clean image's values, for --time-shift debiased; default: the mixture's own")
	f.Float64Var(&o.by, "shift-by", 0, "shift by `D` times, for --time-shift constant")
	f.Float64Var(&o.scale, "eps-scale", 1, "divide the predicted noise by `X`")
	f.Float64Var(&o.slope, "eps-slope", 0, "divide it by --eps-scale and `X` more in every step")
	completes(cmd, "time-shift", sampler.ShiftModes()...)
}

// given notes whether anything was said of the shift itself.
func (o *shiftOptions) given(cmd *cobra.Command) {
	for _, name := range []string{"window", "cutoff", "window-sigma", "cutoff-sigma", "data-variance", "shift-by"} {
		o.said = o.said || cmd.Flags().Changed(name)
	}
	o.windowSet = cmd.Flags().Changed("window") || cmd.Flags().Changed("window-sigma")
	o.cutoffSet = cmd.Flags().Changed("cutoff") || cmd.Flags().Changed("cutoff-sigma")
}

// shift is the time shift that was asked for.
func (o *shiftOptions) shift(m *model) (sampler.TimeShift, error) {
	s := sampler.TimeShift{
		Mode: sampler.ShiftMode(o.mode), Window: o.window, Cutoff: o.cutoff, SigmaWindow: o.sigmaWindow, SigmaCutoff: o.sigmaC,
		DataVariance: o.variance, By: o.by,
	}
	switch {
	case s.Mode == sampler.ShiftNone:
		if o.said {
			return s, usagef("--window, --cutoff, --data-variance and --shift-by belong to a time shift, and there is none; give --time-shift")
		}
	case s.Mode == sampler.ShiftRepoADM && !o.windowSet:
		s.Window = 2 // that program's own
		if !o.cutoffSet {
			s.Cutoff = 300
		}
	case s.Mode != sampler.ShiftConstant && !o.windowSet:
		return s, usagef("--time-shift %s: give --window, or --window-sigma on a path without a table of times (published: 2 to 30, --cutoff 300 to 900)", o.mode)
	}
	if s.Mode == sampler.ShiftDebiased && s.DataVariance == 0 {
		known, ok := m.den.(interface{ PixelVariance() (float64, error) })
		if !ok {
			return s, usagef("--time-shift debiased: model %s does not know its data; give --data-variance (fidlab system shiftsteps tune --ref R prints it)", m.name)
		}
		var err error
		if s.DataVariance, err = known.PixelVariance(); err != nil {
			return s, usagef("--time-shift debiased: %w", err)
		}
	}
	return s, nil
}

// apply puts the shift and the scaled noise on a drawing, and into its record.
func (o *shiftOptions) apply(d *drawing, run *sampleRun) error {
	shift, err := o.shift(d.m)
	if err != nil {
		return err
	}
	if d.opt.Levels, err = shift.Levels(d.g, d.opt.Shape); err != nil {
		return usagef("--time-shift: %w", err)
	}
	if d.opt.Levels != nil && d.o.guide.rule == "cfg++" {
		return usagef("--time-shift %s: cfg++ has the weight of the grid's step, which is no image's any more; take --guidance-rule cfg or projected", o.mode)
	}
	if d.opt.Levels != nil && !sampler.OwnLevels(d.s) {
		return usagef("--time-shift %s: sampler %s takes all images through the same levels; those of one evaluation a step (ddim, ddpm, dpm++2m, deis), pndm and dpm-solver-2 do not", o.mode, d.s.Name())
	}
	if shift.Mode != sampler.ShiftNone {
		run.TimeShift = shiftText(shift)
	}
	if o.scale == 1 && o.slope == 0 {
		return nil
	}
	scaled := &sampler.ScaledNoise{Den: d.den, By: o.scale, Slope: o.slope}
	if err := scaled.Check(d.g); err != nil {
		return usagef("--eps-scale, --eps-slope: %w", err)
	}
	d.den, run.EpsScale = scaled, fmt.Sprintf("%g + %g·step", o.scale, o.slope)
	return nil
}

// shiftText describes a time shift, for the record of a run.
func shiftText(s sampler.TimeShift) string {
	parts := []string{string(s.Mode)}
	switch {
	case s.Mode == sampler.ShiftConstant:
		parts = append(parts, fmt.Sprintf("by %g, above time %g", s.By, s.Cutoff))
	case s.SigmaWindow > 0:
		parts = append(parts, fmt.Sprintf("window %g in ln sigma, above sigma %g", s.SigmaWindow, s.SigmaCutoff))
	default:
		parts = append(parts, fmt.Sprintf("window %d, above time %g", s.Window, s.Cutoff))
	}
	if s.DataVariance > 0 {
		parts = append(parts, fmt.Sprintf("data variance %.6g", s.DataVariance))
	}
	return strings.Join(parts, ", ")
}
