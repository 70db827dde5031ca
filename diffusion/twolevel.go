package diffusion

import (
	"fmt"
	"math"
)

// twoLevelPresets are the settings of "Hyperparameters are all you need" (arXiv
// 2510.02390) for Stable Diffusion 1.5 and XL, which share their table of betas
// (vp-scaled). f5 and f6 are the same for both; f8 is that of 1.5.
var twoLevelPresets = map[string]Spec{
	"f5":      {Steps: 5, BaseSteps: 8, BaseRho: 5, Cut: 6, RespaceRho: 1.2},
	"f6":      {Steps: 6, BaseSteps: 8, BaseRho: 5, Cut: 6, RespaceRho: 1.2},
	"f8":      {Steps: 8, BaseSteps: 12, BaseRho: 7, Cut: 9, RespaceRho: 1.2},
	"f8-sdxl": {Steps: 8, BaseSteps: 12, BaseRho: 12, Cut: 10, RespaceRho: 1.2},
}

// TwoLevelPreset is the whole specification of f5, f6, f8 or f8-sdxl: the grid
// and its end, Keep, which leaves the last noise to the decoder.
func TwoLevelPreset(name string) (Spec, error) {
	s, ok := twoLevelPresets[name]
	if !ok {
		return Spec{}, fmt.Errorf("diffusion: no two-level preset %q; there are f5, f6, f8 and f8-sdxl", name)
	}
	s.Rule, s.End = name, Keep
	return s, nil
}

// twoLevelFields fills in what a preset says, and refuses what contradicts it, and
// fields of two-level for any other rule.
func (s Spec) twoLevelFields(rule string) (Spec, error) {
	d, ok := twoLevelPresets[rule]
	if !ok {
		if rule != "two-level" && (s.BaseSteps != 0 || s.BaseRho != 0 || s.Cut != 0 || s.RespaceRho != 0) {
			return s, fmt.Errorf("base %d,%g,%d and re-space rho %g; only two-level has them", s.BaseSteps, s.BaseRho, s.Cut, s.RespaceRho)
		}
		return s, nil
	}
	for _, f := range []struct {
		what      string
		got, want float64
	}{
		{"steps", float64(s.Steps), float64(d.Steps)},
		{"base levels", float64(s.BaseSteps), float64(d.BaseSteps)},
		{"base rho", s.BaseRho, d.BaseRho},
		{"cut", float64(s.Cut), float64(d.Cut)},
		{"re-space rho", s.RespaceRho, d.RespaceRho},
	} {
		if f.got != 0 && f.got != f.want {
			return s, fmt.Errorf("%s %g; it has %g (rule two-level takes others)", f.what, f.got, f.want)
		}
	}
	s.Steps, s.BaseSteps, s.BaseRho, s.Cut, s.RespaceRho = d.Steps, d.BaseSteps, d.BaseRho, d.Cut, d.RespaceRho
	return s, nil
}

// twoLevel stops a steep curve early and spreads the steps anew over the time
// that is left (arXiv 2510.02390 and its authors' code). With curve(n, a, b, rho)
// the n values from a to b that lie evenly in the power 1/rho:
//
//	S = curve(BaseSteps, SigmaMax, SigmaMin, BaseRho)
//	c = curve(Steps+1, t(S_0), t(S_Cut), RespaceRho)     in the table's time
//	sigma_i = sigma(c_i)
//
// t(·) reads the table by ln sigma and sigma(·) by abar, as that code does. Cut
// counts the levels of S from 0, without a zero after them. End Keep, that code's
// own, stops at sigma(c_Steps) > 0. Zero and Min spread Steps levels over the same
// times and step from the cut level to zero or the least sigma. A network's time
// is that of its level, as everywhere; c_i itself is within an index of it.
func twoLevel(p Path, s Spec) ([]Point, error) {
	vp, ok := p.(*VP)
	if !ok {
		return nil, fmt.Errorf("path %s has no table of noise levels; take one that has, such as vp-scaled, or the grid karras", p.Name())
	}
	most, least := p.Range()
	hi, lo := s.SigmaMax, s.SigmaMin
	if hi == 0 {
		hi = p.Sigma(most)
	}
	if lo == 0 {
		lo = p.Sigma(least)
	}
	if s.BaseSteps == 0 {
		s.BaseSteps = 12
	}
	if s.BaseRho == 0 {
		s.BaseRho = 10
	}
	if s.Cut == 0 {
		s.Cut = s.Steps
	}
	if s.RespaceRho == 0 {
		s.RespaceRho = 1.2
	}
	switch {
	case !(lo > 0 && lo < hi) || math.IsInf(hi, 1):
		return nil, fmt.Errorf("sigma from %g to %g; wanted finite, falling, above 0 (set sigma max and min)", hi, lo)
	case hi > p.Sigma(most) || lo < p.Sigma(least):
		return nil, fmt.Errorf("sigma from %g to %g; the table goes from %g to %g", hi, lo, p.Sigma(most), p.Sigma(least))
	case s.BaseSteps < 2:
		return nil, fmt.Errorf("%d base levels; wanted at least 2", s.BaseSteps)
	case !(s.BaseRho > 0) || math.IsInf(s.BaseRho, 1) || !(s.RespaceRho > 0) || math.IsInf(s.RespaceRho, 1):
		return nil, fmt.Errorf("base rho %g, re-space rho %g; wanted finite numbers above 0", s.BaseRho, s.RespaceRho)
	case s.Cut < 1 || s.Cut >= s.BaseSteps:
		return nil, fmt.Errorf("cut at base level %d; wanted 1 to %d, the last of %d levels counted from 0", s.Cut, s.BaseSteps-1, s.BaseSteps)
	}
	start := vp.TimeBy(hi, ByLogSigma)
	end := vp.TimeBy(power(hi, lo, s.Cut, s.BaseSteps-1, s.BaseRho), ByLogSigma)
	n := s.levels(false)
	if known := int(math.Floor(start)-math.Ceil(end)) + 1; n > known {
		return nil, fmt.Errorf("%d levels between times %.4g and %.4g, of which the table has %d; wanted at most that many", n, start, end, known)
	}
	pts := make([]Point, n)
	for i := range pts {
		pts[i] = At(p, vp.SigmaBy(power(start, end, i, n-1, s.RespaceRho), ByABar))
	}
	return pts, nil
}

// power is value i of n along a curve from a to b that is even in the power
// 1/rho, with both ends exact (Karras et al. 2022, eq. 5).
func power(a, b float64, i, n int, rho float64) float64 {
	switch i {
	case 0:
		return a
	case n:
		return b
	}
	a1, b1 := math.Pow(a, 1/rho), math.Pow(b, 1/rho)
	return math.Pow(a1+float64(i)/float64(n)*(b1-a1), rho)
}
