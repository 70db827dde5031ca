package diffusion

import (
	"fmt"
	"math"
)

// ownTimes are levels spread over p's own time, or its root.
func ownTimes(p Path, rule string, s Spec) ([]Point, error) {
	most, least := p.Range()
	n := s.levels(true)
	if p.Sigma(least) == 0 { // the end itself follows as the grid's end
		if s.End != Zero {
			return nil, fmt.Errorf("path %s ends without noise, so there is no last level; use end zero, or karras with sigma min", p.Name())
		}
		n++
	}
	if rule == "quadratic" && (most < 0 || least < 0) {
		return nil, fmt.Errorf("path %s has times from %g to %g, and negative ones have no root; use uniform", p.Name(), most, least)
	}
	pts := make([]Point, n)
	for i := range pts {
		t := lerp(most, least, i, n-1)
		if rule == "quadratic" && i > 0 && i < n-1 {
			r := lerp(math.Sqrt(most), math.Sqrt(least), i, n-1)
			t = r * r
		}
		pts[i] = AtTime(p, t)
	}
	return pts, nil
}

// fixedCurve are levels that do not ask for the path's range.
func fixedCurve(p Path, rule string, s Spec) ([]Point, error) {
	n := s.levels(true)
	all := iddpmSigmas()
	vp := DefaultVPSDE()
	pts := make([]Point, n)
	for i := range pts {
		sigma := vp.Sigma(lerp(1, vp.End, i, n-1))
		if rule == "iddpm" {
			if n > len(all) {
				return nil, fmt.Errorf("%d levels of %d; wanted at most that many", n, len(all))
			}
			sigma = all[int(lerp(0, float64(len(all)-1), i, n-1)+0.5)]
		}
		pts[i] = At(p, sigma)
	}
	return pts, nil
}

// iddpmSigmas is the discretisation of Nichol and Dhariwal 2021 in sigma, from
// noise to data, as Karras et al. 2022 write it (table 1 and appendix C.3):
//
//	u_M = 0,  u_{j-1} = √((u_j²+1)/max(abar_{j-1}/abar_j, 0.001) - 1),  abar_j = sin²(π/2·j/(M·1.008))
//
// with M = 1000, without the first eight levels, which lie above sigma 80.
func iddpmSigmas() []float64 {
	const m, first = 1000, 8
	abar := func(j int) float64 {
		v := math.Sin(math.Pi / 2 * float64(j) / (m * 1.008))
		return v * v
	}
	u := make([]float64, m+1)
	for j := m; j > 0; j-- {
		u[j-1] = math.Sqrt((u[j]*u[j]+1)/max(abar(j-1)/abar(j), 0.001) - 1)
	}
	return u[first:m]
}

// aysLevels are the optimised schedules of ten steps of Sabour, Fidler and Kreis 2024 (appendix).
var aysLevels = map[string][]float64{
	"ays-sd15": {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029},
	"ays-sdxl": {14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029},
	"ays-svd":  {700, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002},
}

// optimised are n+1 levels along a table, linear in ln sigma between its entries.
// End zero replaces the last one, as the tools that use these tables do.
func optimised(p Path, rule string, s Spec) ([]Point, error) {
	table := aysLevels[rule]
	pts := make([]Point, s.Steps+1)
	for i := range pts {
		pos := lerp(0, float64(len(table)-1), i, s.Steps)
		j := min(int(pos), len(table)-2)
		sigma := table[j]
		switch f := pos - float64(j); f {
		case 0:
		case 1:
			sigma = table[j+1]
		default:
			sigma = math.Exp(math.Log(table[j]) + f*(math.Log(table[j+1])-math.Log(table[j])))
		}
		pts[i] = At(p, sigma)
	}
	if s.End == Zero {
		pts[s.Steps] = Clean(p)
	}
	return pts, nil
}

// ExpShift is the shift of the flow grid for pictures of that many tokens, as
// flow models of the FLUX kind use it: exp(mu), mu linear from 0.5 at 256 tokens
// to 1.15 at 4096.
func ExpShift(tokens int) float64 { return math.Exp(shiftMu(tokens)) }

// LinearShift is the variant of ExpShift that takes mu itself.
func LinearShift(tokens int) float64 { return shiftMu(tokens) }

func shiftMu(tokens int) float64 {
	return 0.5 + (1.15-0.5)*float64(tokens-256)/(4096-256)
}

func flowTimes(p Path, s Spec) ([]Point, error) {
	shift, lo := s.Shift, s.TauMin
	if shift == 0 {
		shift = 1
	}
	if lo == 0 {
		lo = 1.0 / 1000
	}
	if !(shift > 0) || math.IsInf(shift, 1) || !(lo > 0 && lo < 1) {
		return nil, fmt.Errorf("shift %g, last noise fraction %g; wanted shift > 0 and a fraction between 0 and 1", shift, lo)
	}
	if p.Space() == VESpace {
		return nil, fmt.Errorf("path %s keeps states in VE scaling, which cannot hold the pure noise this grid starts from; use karras or exponential", p.Name())
	}
	n := s.levels(true)
	last := Shift(lo, shift)
	if s.Terminal != 0 && !(s.Terminal > 0 && s.Terminal < 1) {
		return nil, fmt.Errorf("terminal noise fraction %g; wanted a number between 0 and 1", s.Terminal)
	}
	pts := make([]Point, n)
	for i := range pts {
		tau := Shift(lerp(1, lo, i, n-1), shift)
		if s.Terminal != 0 && n > 1 {
			tau = 1 - (1-tau)*(1-s.Terminal)/(1-last)
		}
		sigma := tau / (1 - tau)
		pts[i] = At(p, sigma)
		if p.Space() == FlowSpace { // keep tau's own digits
			pts[i].A, pts[i].B = 1-tau, tau
		}
	}
	return pts, nil
}
