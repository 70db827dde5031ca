package diffusion

import (
	"fmt"
	"math"
)

// Step is one solver step, between two points of falling noise.
type Step struct{ From, To Point }

// Grid is the steps of a trajectory, noise first.
type Grid struct {
	Name  string
	Space Space // the scaling of all points
	Steps []Step
	Notes []string // what a user should know about this grid
	Path  Path     // that it was built on; nil for one made by hand

	rising bool
}

// Rising tells whether the grid leads from data to noise: it is a Reversed one.
func (g *Grid) Rising() bool { return g.rising }

// Reversed is the grid walked backwards, from data to noise, for inversion. A
// step to zero noise is left out: the walk starts at the last noisy level, where
// an image stands for the state.
func (g *Grid) Reversed() *Grid {
	out := &Grid{Name: g.Name + " reversed", Space: g.Space, Notes: g.Notes, Path: g.Path, rising: !g.rising}
	for i := len(g.Steps) - 1; i >= 0; i-- {
		if s := g.Steps[i]; s.To.B > 0 {
			out.Steps = append(out.Steps, Step{From: s.To, To: s.From})
		}
	}
	return out
}

// End is what a grid does after its last noisy level.
type End uint8

// The ends. A grid of n steps always has exactly n steps.
const (
	// Zero steps to sigma = 0: n levels, then 0.
	Zero End = iota
	// Min steps to the path's (or the given) least sigma: n levels, then it; a
	// rule that would end there itself spreads n+1 levels instead.
	Min
	// Keep ends at the rule's own last level: n+1 levels.
	Keep
)

func (e End) String() string { return [...]string{"zero", "min", "keep"}[e] }

// EndByName is the inverse of String.
func EndByName(name string) (End, error) {
	for _, e := range []End{Zero, Min, Keep} {
		if e.String() == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("diffusion: no grid end %q; there are zero, min and keep", name)
}

// Clean is the noiseless point of p.
func Clean(p Path) Point { return At(p, 0) }

// chain makes the steps between neighbouring points.
func chain(pts []Point) []Step {
	steps := make([]Step, len(pts)-1)
	for i := range steps {
		steps[i] = Step{pts[i], pts[i+1]}
	}
	return steps
}

// Strength is the last part of the grid that image-to-image starts from: of n
// steps the last ⌈strength·n⌉. 1 is the whole grid. It refuses a strength
// outside (0, 1].
func (g *Grid) Strength(strength float64) (*Grid, error) {
	if !(strength > 0 && strength <= 1) {
		return nil, fmt.Errorf("diffusion: strength %g; wanted a number above 0, at most 1", strength)
	}
	n := len(g.Steps)
	keep := min(int(math.Ceil(strength*float64(n)-1e-9)), n)
	out := *g
	out.Name = fmt.Sprintf("%s from step %d", g.Name, n-keep)
	out.Steps = g.Steps[n-keep:]
	out.Notes = nil
	return &out, nil
}

// After is the grid without its first k steps; k is 0 to the number of steps.
func (g *Grid) After(k int) *Grid {
	out := *g
	out.Steps = g.Steps[k:]
	return &out
}

// From is the grid with a step from p to its first level in front.
func (g *Grid) From(p Point) *Grid {
	out := *g
	out.Steps = append([]Step{{From: p, To: g.Steps[0].From}}, g.Steps...)
	return &out
}

// Check refuses a grid without steps, and levels that are not finite and
// falling (the first may be infinite outside VESpace), naming step and sigma.
// The levels of a Reversed grid must be finite and rise.
func (g *Grid) Check() error {
	if g.rising {
		back := g.Reversed()
		if len(g.Steps) > 0 && g.Steps[0].From.B == 0 {
			return fmt.Errorf("diffusion: grid %s starts without noise; wanted a level above 0", g.Name)
		}
		if n := len(g.Steps); n > 0 && g.Steps[n-1].To.A == 0 {
			return fmt.Errorf("diffusion: grid %s rises to infinite noise, which no step from data reaches; end it lower", g.Name)
		}
		return back.Check()
	}
	if len(g.Steps) == 0 {
		return fmt.Errorf("diffusion: grid %s has no steps; wanted at least 1", g.Name)
	}
	prev := math.Inf(1)
	for i, s := range g.Steps {
		from, to := s.From.Sigma(), s.To.Sigma()
		bad := func(p Point) bool {
			return math.IsNaN(p.A+p.B+p.T) || math.IsInf(p.A+p.B, 0) || p.A < 0 || p.B < 0 || p.A == 0 && p.B == 0
		}
		switch {
		case bad(s.From) || bad(s.To) || math.IsInf(to, 1):
			return fmt.Errorf("diffusion: grid %s: step %d goes from sigma %g to %g; wanted finite levels >= 0 (only the start may be infinite, and not in VE scaling)", g.Name, i, from, to)
		case !(to < from):
			return fmt.Errorf("diffusion: grid %s: step %d goes from sigma %g to %g; wanted a falling sequence", g.Name, i, from, to)
		case i > 0 && !(from < prev):
			return fmt.Errorf("diffusion: grid %s: step %d starts at sigma %g, step %d at %g; wanted a falling sequence", g.Name, i-1, prev, i, from)
		}
		prev = from
	}
	return nil
}

// In is the same grid with states scaled for another space.
func (g *Grid) In(s Space) *Grid {
	out := &Grid{Name: g.Name, Space: s, Steps: make([]Step, len(g.Steps)), Notes: g.Notes, Path: g.Path, rising: g.rising}
	conv := func(p Point) Point {
		if g.Space != s {
			p.A, p.B = s.Scale(p.Sigma())
		}
		return p
	}
	for i, st := range g.Steps {
		out.Steps[i] = Step{conv(st.From), conv(st.To)}
	}
	return out
}

// Sigmas lists the noise levels: the start of every step, then the end of the last.
func (g *Grid) Sigmas() []float64 {
	var s []float64
	for _, st := range g.Steps {
		s = append(s, st.From.Sigma())
	}
	if n := len(g.Steps); n > 0 {
		s = append(s, g.Steps[n-1].To.Sigma())
	}
	return s
}
