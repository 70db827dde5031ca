package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// guideOptions are the flags of guidance and limits.
type guideOptions struct {
	weight, rescale float64
	interval, rule  string
	norm, momentum  float64
	parallel        float64
	negative        int
	limit           string
}

func (o *guideOptions) flags(f *pflag.FlagSet) {
	f.Float64Var(&o.weight, "guidance", 1, "guide by weight `W`; 1 is none")
	f.StringVar(&o.rule, "guidance-rule", "cfg", "guide by `RULE`: cfg, cfg++ (W from 0 to 1) or projected")
	f.StringVar(&o.interval, "guidance-interval", "", "guide at noise levels `LO,HI` only; HI may be inf")
	f.Float64Var(&o.rescale, "guidance-rescale", 0, "take back the share `PHI` of the spread that cfg adds")
	f.Float64Var(&o.parallel, "guidance-parallel", 0, "keep the share `X` of what lies along the prediction (projected)")
	f.Float64Var(&o.norm, "guidance-norm", 0, "shorten guidance to the length `X` (projected); 0 is no limit")
	f.Float64Var(&o.momentum, "guidance-momentum", 0, "add `X` times the last step's guidance (projected), e.g. -0.5")
	f.IntVar(&o.negative, "negative-class", -1, "guide away from class `C` instead of from no class")
	f.StringVar(&o.limit, "limit", "", "limit predictions to [-1,1]: clip, or a quantile `Q` of each sample (dynamic thresholding, 0.995)")
}

// wrap puts guidance and limits around a model. classes tells whether samples have one, away whether there is a negative prompt.
func (o *guideOptions) wrap(m *model, net *netOptions, dev *gpu.Device, classes, away bool, grid *diffusion.Grid) (sampler.Denoiser, error) {
	den := m.den
	g := &sampler.Guided{Den: den, Weight: o.weight}
	switch o.rule {
	case "cfg":
		g.Rule = sampler.Standard{Rescale: o.rescale}
	case "cfg++":
		g.PlusPlus = true
	case "projected":
		g.Rule = &sampler.Projected{Parallel: o.parallel, Norm: o.norm, Momentum: o.momentum}
	default:
		return nil, unknown("guidance rule", o.rule, []string{"cfg", "cfg++", "projected"})
	}
	if o.negative != -1 {
		g.Null.Classes = []int{o.negative}
	}
	if o.interval != "" {
		lo, hi, ok := strings.Cut(o.interval, ",")
		var err1, err2 error
		g.Lo, err1 = strconv.ParseFloat(lo, 64)
		g.Hi, err2 = strconv.ParseFloat(hi, 64)
		if !ok || err1 != nil || err2 != nil || !(g.Lo >= 0 && g.Lo < g.Hi) {
			return nil, usagef("--guidance-interval %q: want LO,HI with 0 <= LO < HI", o.interval)
		}
	}
	if o.weight != 1 || o.rule == "cfg++" {
		if !classes && len(m.inputs) == 0 {
			return nil, usagef("--guidance %g: guidance needs a condition, and none was given; give --class or --prompt", o.weight)
		}
		var err error
		if g.Null.Inputs, err = net.empty(m, dev); err != nil {
			return nil, err
		}
		if err := g.Check(grid); err != nil {
			return nil, usagef("%w", err)
		}
		den = g
	}
	if den == m.den && away {
		return nil, usagef("--negative-prompt needs --guidance, which says how far to go away from it")
	}
	if den == m.den && len(net.negative) > 0 {
		return nil, usagef("--negative-input needs --guidance, which says how far to go away from it")
	}
	if o.negative != -1 && !slices.Contains(m.classes, o.negative) {
		return nil, usagef("--negative-class %d: model %s has the classes %v", o.negative, m.name, m.classes)
	}
	if o.limit == "" {
		return den, nil
	}
	if m.lo != -1 || m.hi != 1 {
		return nil, usagef("--limit: the values of model %s go from %g to %g; limits are for -1 to 1", m.name, m.lo, m.hi)
	}
	l := &sampler.Limited{Den: den}
	if o.limit != "clip" {
		q, err := strconv.ParseFloat(o.limit, 64)
		if err != nil || !(q > 0 && q <= 1) {
			return nil, usagef("--limit %q: want clip, or a quantile above 0, at most 1", o.limit)
		}
		l.Quantile = q
	}
	return l, nil
}

// text describes what wrap does, for the record of a run; empty without.
func (o *guideOptions) text() string {
	var parts []string
	if o.weight != 1 || o.rule == "cfg++" {
		parts = append(parts, fmt.Sprintf("%s %g", o.rule, o.weight))
		add := func(name string, v, none float64) {
			if v != none {
				parts = append(parts, fmt.Sprintf("%s %g", name, v))
			}
		}
		add("rescale", o.rescale, 0)
		if o.rule == "projected" {
			add("parallel", o.parallel, math.NaN())
			add("norm", o.norm, 0)
			add("momentum", o.momentum, 0)
		}
		add("away from class", float64(o.negative), -1)
		if o.interval != "" {
			parts = append(parts, "sigma in "+o.interval)
		}
	}
	if o.limit != "" {
		parts = append(parts, "limit "+o.limit)
	}
	return strings.Join(parts, ", ")
}
