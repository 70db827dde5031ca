package diffusion

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mathext"

	"github.com/fidlab/fidlab/text"
)

// Spec names a grid and its parameters; zero values mean the defaults.
type Spec struct {
	Rule  string // one of Rules
	Steps int    // n >= 1; ignored by the lists, which say it themselves
	End   End

	SigmaMax, SigmaMin float64   // of the sigma curves; default: the path's range
	Rho                float64   // of karras and polyexponential; default 7 and 1
	Alpha, Beta        float64   // of beta; default 0.6 each
	Shift              float64   // of flow; default 1 (ExpShift and LinearShift are for a picture's size)
	TauMin             float64   // of flow: noise fraction of the last level; default 1/1000
	Terminal           float64   // of flow: where the last level is stretched to after the shift; 0 is nowhere
	Offset             int       // of leading
	Known              int       // of lcm: how many times the model knows; default 50
	BaseSteps          int       // of two-level: levels of the curve that is cut; default 12
	BaseRho            float64   // of two-level: its rho; default 10
	Cut                int       // of two-level: the curve's last level, counted from 0; default Steps
	RespaceRho         float64   // of two-level: rho of the times up to there; default 1.2
	List               []float64 // of sigmas and times
}

// Rule describes a way to place levels.
type Rule struct {
	Name   string
	Places string // where its levels lie
	Ends   string // what it does at both ends; End decides what follows the last level
	Source string
}

// rules in the order of the documentation.
var rules = []Rule{
	{"linspace", "integer times of a VP table, evenly, rounded", "first T-1, last 0", "diffusers"},
	{"linspace-drop", "n+1 such times without the last", "first T-1, last above 0, nearer to it the more steps", "diffusers' multistep solvers"},
	{"linspace-real", "like linspace, not rounded", "first T-1, last 0", "diffusers' Euler"},
	{"leading", "integer times Offset + i·⌊T/n⌋", "first below T-1, a note says how far; last Offset", "Song, Meng and Ermon 2021, arXiv 2010.02502"},
	{"trailing", "integer times round(T - i·T/n) - 1", "first T-1, last above 0", "Lin et al. 2024, arXiv 2305.08891"},
	{"lcm", "integer times k·⌊T/Known⌋ - 1 of the Known that the model was trained on, number ⌊i·Known/n⌋ from the top", "first T-1 where Known divides T, last above 0", "Luo et al. 2023, arXiv 2310.04378"},
	{"uniform", "evenly in the path's own time", "both ends of the path, exactly", "Lu et al. 2022, arXiv 2206.00927 (time_uniform)"},
	{"quadratic", "evenly in the root of the path's own time", "both ends of the path, exactly", "Lu et al. 2022, arXiv 2206.00927 (time_quadratic)"},
	{"quadratic-ddim", "integer times ⌊i²·0.8·T/(n-1)²⌋ of a VP table", "first 0.8·T, a note says how far below the path; last 0", "Song, Meng and Ermon 2021, arXiv 2010.02502"},
	{"karras", "evenly in sigma^(1/Rho)", "SigmaMax and SigmaMin, exactly", "Karras et al. 2022, arXiv 2206.00364, eq. 5"},
	{"exponential", "evenly in ln sigma; lu and logsnr are other names of it", "SigmaMax and SigmaMin, exactly", "k-diffusion; Lu et al. 2022, arXiv 2206.00927"},
	{"polyexponential", "ln sigma along (1 - i/(n-1))^Rho", "SigmaMax and SigmaMin, exactly", "k-diffusion"},
	{"beta", "sigma along the quantiles of Beta(Alpha, Beta)", "SigmaMax and SigmaMin, exactly", "Lee et al. 2024, arXiv 2407.12173"},
	{"vp-curve", "sigma of the continuous VP path, evenly in its time from 1 to 0.001", "sigma 152 and 0.010, whatever the path's range is", "Song et al. 2021, arXiv 2011.13456"},
	{"iddpm", "1000 levels of a cosine, of which n evenly", "sigma 80 and 0.006", "Nichol and Dhariwal 2021, as Karras et al. 2022 rewrite it (table 1)"},
	{"ays-sd15", "optimised levels of Stable Diffusion 1.5; other counts than 10 lie between them in ln sigma", "sigma 14.6, and 0.029, which end zero replaces", "Sabour, Fidler and Kreis 2024, arXiv 2404.14507"},
	{"ays-sdxl", "optimised levels of Stable Diffusion XL", "sigma 14.6, and 0.029, which end zero replaces", "Sabour, Fidler and Kreis 2024, arXiv 2404.14507"},
	{"ays-svd", "optimised levels of Stable Video Diffusion", "sigma 700, and 0.002, which end zero replaces", "Sabour, Fidler and Kreis 2024, arXiv 2404.14507"},
	{"two-level", "a karras curve of BaseSteps and BaseRho, cut at level Cut; then times evenly in t^(1/RespaceRho) from its start to there", "SigmaMax, and the cut level", "Hyperparameters are all you need, arXiv 2510.02390"},
	{"f5", "two-level for Stable Diffusion 1.5 and XL: 5 steps, curve 8 of rho 5 cut at 6", "sigma 14.6, and 0.132 on vp-scaled", "arXiv 2510.02390"},
	{"f6", "two-level for Stable Diffusion 1.5 and XL: 6 steps, curve 8 of rho 5 cut at 6", "sigma 14.6, and 0.132 on vp-scaled", "arXiv 2510.02390"},
	{"f8", "two-level for Stable Diffusion 1.5: 8 steps, curve 12 of rho 7 cut at 9", "sigma 14.6, and 0.147 on vp-scaled", "arXiv 2510.02390"},
	{"f8-sdxl", "two-level for Stable Diffusion XL: 8 steps, curve 12 of rho 12 cut at 10", "sigma 14.6, and 0.060 on vp-scaled", "arXiv 2510.02390"},
	{"flow", "noise fractions evenly from 1 to TauMin, then Shift once, then Terminal", "pure noise, and the shifted TauMin or Terminal", "Esser et al. 2024, arXiv 2403.03206"},
	{"sigmas", "the noise levels of a list", "as listed", ""},
	{"times", "the path's times of a list", "as listed", ""},
}

// RuleList describes every rule that Build knows.
func RuleList() []Rule { return slices.Clone(rules) }

// Rules lists the names that Build knows.
func Rules() []string {
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	return names
}

// Build makes a grid of s.Steps steps on p. RuleList has every rule's formula and
// what it does at both ends; with the lists and Zero or Min the end is appended.
func Build(p Path, s Spec) (*Grid, error) {
	rule := strings.ToLower(s.Rule)
	s, err := s.twoLevelFields(rule)
	if err != nil {
		return nil, fmt.Errorf("diffusion: grid %s: %w", rule, err)
	}
	switch rule {
	case "lu", "logsnr":
		rule = "exponential"
	case "sigmas", "times":
		return fromList(p, rule, s)
	}
	if !slices.Contains(Rules(), rule) {
		meant := ""
		if n := text.Nearest(rule, Rules()); n != "" {
			meant = ", did you mean " + n + "?"
		}
		return nil, fmt.Errorf("diffusion: no grid %q%s; there are %s (lu and logsnr are names of exponential)", s.Rule, meant, strings.Join(Rules(), ", "))
	}
	if s.Steps < 1 {
		return nil, fmt.Errorf("diffusion: grid %s: %d steps; wanted at least 1", rule, s.Steps)
	}
	var pts []Point
	switch {
	case rule == "karras" || rule == "exponential" || rule == "polyexponential" || rule == "beta":
		pts, err = curve(p, rule, s)
	case rule == "uniform" || rule == "quadratic":
		pts, err = ownTimes(p, rule, s)
	case rule == "vp-curve" || rule == "iddpm":
		pts, err = fixedCurve(p, rule, s)
	case strings.HasPrefix(rule, "ays-"):
		pts, err = optimised(p, rule, s)
	case rule == "flow":
		pts, err = flowTimes(p, s)
	case rule == "two-level" || twoLevelPresets[rule].Steps != 0:
		pts, err = twoLevel(p, s)
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
	g := &Grid{Name: name, Space: p.Space(), Steps: chain(pts), Path: p}
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
	n := s.levels(strings.HasPrefix(rule, "linspace") && rule != "linspace-drop" || rule == "leading" && s.Offset == 0 || rule == "quadratic-ddim")
	m := n
	if rule == "linspace-drop" {
		m = n + 1
	}
	known := s.Known
	if known == 0 {
		known = 50
	}
	if rule == "lcm" && (known < n || known > T) {
		return nil, fmt.Errorf("%d levels of %d known times, of a table of %d; wanted that order", n, known, T)
	}
	if s.Known != 0 && rule != "lcm" {
		return nil, fmt.Errorf("%d known times; only lcm has them", s.Known)
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
		case "quadratic-ddim":
			r := lerp(math.Sqrt(0.8*float64(T)), 0, i, m-1)
			t = math.Floor(r * r)
		case "lcm":
			t = float64((known-i*known/n)*(T/known) - 1)
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
	if s.Alpha == 0 {
		s.Alpha = 0.6
	}
	if s.Beta == 0 {
		s.Beta = 0.6
	}
	if !(s.Alpha > 0 && s.Beta > 0) || math.IsInf(s.Alpha+s.Beta, 1) {
		return nil, fmt.Errorf("alpha %g and beta %g; wanted finite numbers above 0", s.Alpha, s.Beta)
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
		case rule == "beta":
			sigma = lo + (hi-lo)*mathext.InvRegIncBeta(s.Alpha, s.Beta, 1-u)
		case rule == "karras":
			sigma = power(hi, lo, i, n-1, rho)
		case rule == "exponential":
			sigma = math.Exp(math.Log(hi) + u*(math.Log(lo)-math.Log(hi)))
		default: // ramp from 1 to 0
			sigma = math.Exp(math.Log(lo) + math.Pow(1-u, rho)*(math.Log(hi)-math.Log(lo)))
		}
		pts[i] = At(p, sigma)
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
