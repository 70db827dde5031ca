package diffusion

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Spec names a grid and its parameters; zero values mean the defaults.
type Spec struct {
	Rule  string // one of Rules
	Steps int    // n >= 1; ignored by the lists, which say it themselves
	End   End

	SigmaMax, SigmaMin float64   // of the sigma curves; default: the path's range
	Rho                float64   // of karras and polyexponential; default 7 and 1
	Shift              float64   // of flow; default 1
	TauMin             float64   // of flow: noise fraction of the last level; default 1/1000
	Offset             int       // of leading
	List               []float64 // of sigmas and times
}

// Rules lists the names that Build knows, with what each does at both ends.
func Rules() []string {
	return []string{
		"linspace", "linspace-drop", "linspace-real", "leading", "trailing",
		"karras", "exponential", "polyexponential", "flow", "sigmas", "times",
	}
}

// Build makes a grid of s.Steps steps on p.
//
// Integer times of a VP table of T entries:
//
//	linspace       n rounded points, first T-1, last 0
//	linspace-drop  n+1 such points without the last (multistep solvers' habit)
//	linspace-real  like linspace, not rounded
//	leading        Offset + i·⌊T/n⌋, first below T-1 (a note says how much), last Offset
//	trailing       round(T - i·T/n) - 1, first T-1, last above 0
//
// Curves from SigmaMax to SigmaMin, both exact, in any path's scaling:
//
//	karras           linear in sigma^(1/Rho) (Karras et al. 2022, eq. 5)
//	exponential      linear in ln sigma; "lu" and "logsnr" are the same grid
//	polyexponential  ln sigma along ramp^Rho
//	flow             noise fraction linear from 1 to TauMin, then Shift once
//
// Lists: sigmas and times, as they are; with Zero or Min the end is appended.
func Build(p Path, s Spec) (*Grid, error) {
	rule := strings.ToLower(s.Rule)
	switch rule {
	case "lu", "logsnr":
		rule = "exponential"
	case "sigmas", "times":
		return fromList(p, rule, s)
	}
	if !slices.Contains(Rules(), rule) {
		return nil, fmt.Errorf("diffusion: no grid %q; there are %s (lu and logsnr are names of exponential)", s.Rule, strings.Join(Rules(), ", "))
	}
	if s.Steps < 1 {
		return nil, fmt.Errorf("diffusion: grid %s: %d steps; wanted at least 1", rule, s.Steps)
	}
	var pts []Point
	var err error
	switch rule {
	case "karras", "exponential", "polyexponential":
		pts, err = curve(p, rule, s)
	case "flow":
		pts, err = flowTimes(p, s)
	default:
		pts, err = spaced(p, rule, s)
	}
	if err != nil {
		return nil, fmt.Errorf("diffusion: grid %s: %w", rule, err)
	}
	return finish(p, rule, pts, s)
}

// levels is how many noisy levels a rule makes; ownMin tells that its last one is the least sigma.
func (s Spec) levels(ownMin bool) int {
	if s.End == Keep || s.End == Min && ownMin {
		return s.Steps + 1
	}
	return s.Steps
}

func finish(p Path, name string, pts []Point, s Spec) (*Grid, error) {
	most, least := p.Range()
	switch {
	case s.End == Zero && pts[len(pts)-1].B > 0:
		pts = append(pts, Clean(p))
	case s.End == Min && len(pts) == s.Steps:
		end := AtTime(p, least)
		if s.SigmaMin > 0 {
			end = At(p, s.SigmaMin)
		}
		if end.B == 0 {
			return nil, fmt.Errorf("diffusion: grid %s: the least sigma of path %s is 0; give one, or end at zero", name, p.Name())
		}
		pts = append(pts, end)
	}
	g := &Grid{Name: name, Space: p.Space(), Steps: chain(pts)}
	if err := g.Check(); err != nil {
		return nil, err
	}
	if top, first := p.Sigma(most), g.Steps[0].From.Sigma(); first < 0.9*top {
		g.Notes = append(g.Notes, fmt.Sprintf("grid %s starts at sigma %.4g, the path at %.4g; pure noise is a worse start there", name, first, top))
	}
	return g, nil
}

func spaced(p Path, rule string, s Spec) ([]Point, error) {
	vp, ok := p.(*VP)
	if !ok {
		return nil, fmt.Errorf("path %s has no table of integer times; use karras, exponential or flow", p.Name())
	}
	T := vp.Len()
	// These visit time 0, the least sigma, themselves.
	n := s.levels(strings.HasPrefix(rule, "linspace") && rule != "linspace-drop" || rule == "leading" && s.Offset == 0)
	m := n
	if rule == "linspace-drop" {
		m = n + 1
	}
	if m > T {
		return nil, fmt.Errorf("%d levels of %d integer times; wanted at most that many", m, T)
	}
	if s.Offset != 0 && rule != "leading" {
		return nil, fmt.Errorf("offset %d; only leading has one", s.Offset)
	}
	pts := make([]Point, n)
	for i := range pts {
		var t float64
		switch rule {
		case "linspace", "linspace-drop":
			t = math.RoundToEven(lerp(float64(T-1), 0, i, m-1))
		case "linspace-real":
			t = lerp(float64(T-1), 0, i, m-1)
		case "leading":
			t = float64((n-1-i)*(T/n) + s.Offset)
		case "trailing":
			t = math.RoundToEven(float64(T)-float64(i)*float64(T)/float64(n)) - 1
		}
		if t < 0 || t > float64(T-1) {
			return nil, fmt.Errorf("level %d is time %g; wanted 0 to %d (offset %d)", i, t, T-1, s.Offset)
		}
		pts[i] = AtTime(p, t)
	}
	return pts, nil
}

func curve(p Path, rule string, s Spec) ([]Point, error) {
	most, least := p.Range()
	hi, lo := s.SigmaMax, s.SigmaMin
	if hi == 0 {
		hi = p.Sigma(most)
	}
	if lo == 0 {
		lo = p.Sigma(least)
	}
	if !(lo > 0 && lo < hi) || math.IsInf(hi, 1) {
		return nil, fmt.Errorf("sigma from %g to %g; wanted finite, falling, above 0 (set sigma max and min)", hi, lo)
	}
	rho := s.Rho
	if rho == 0 {
		rho = map[string]float64{"karras": 7, "polyexponential": 1}[rule]
	}
	if rho < 0 || math.IsNaN(rho) || math.IsInf(rho, 0) {
		return nil, fmt.Errorf("rho %g; wanted a finite number above 0", rho)
	}
	n := s.levels(true)
	pts := make([]Point, n)
	for i := range pts {
		u := lerp(0, 1, i, n-1)
		sigma := hi
		switch {
		case i == 0:
		case i == n-1:
			sigma = lo
		case rule == "karras":
			a, b := math.Pow(hi, 1/rho), math.Pow(lo, 1/rho)
			sigma = math.Pow(a+u*(b-a), rho)
		case rule == "exponential":
			sigma = math.Exp(math.Log(hi) + u*(math.Log(lo)-math.Log(hi)))
		default: // ramp from 1 to 0
			sigma = math.Exp(math.Log(lo) + math.Pow(1-u, rho)*(math.Log(hi)-math.Log(lo)))
		}
		pts[i] = At(p, sigma)
	}
	return pts, nil
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
	pts := make([]Point, n)
	for i := range pts {
		tau := Shift(lerp(1, lo, i, n-1), shift)
		sigma := tau / (1 - tau)
		pts[i] = At(p, sigma)
		if p.Space() == FlowSpace { // keep tau's own digits
			pts[i].A, pts[i].B = 1-tau, tau
		}
	}
	return pts, nil
}

func fromList(p Path, rule string, s Spec) (*Grid, error) {
	if len(s.List) == 0 {
		return nil, fmt.Errorf("diffusion: grid %s: the list is empty; wanted at least one level", rule)
	}
	if s.End == Keep && len(s.List) < 2 {
		return nil, fmt.Errorf("diffusion: grid %s: one level and end keep make no step; wanted two levels or end zero", rule)
	}
	pts := make([]Point, len(s.List))
	for i, v := range s.List {
		if rule == "sigmas" {
			pts[i] = At(p, v)
		} else {
			pts[i] = AtTime(p, v)
		}
	}
	s.Steps = len(pts)
	return finish(p, rule, pts, s)
}
