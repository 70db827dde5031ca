package sampler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// TimeShift is the time-shift sampler of Li et al. 2023 ("Alleviating Exposure Bias
// in Diffusion Models through Sampling with Shifted Time Steps", arXiv 2305.15583,
// TS-DPM). The state of a few-step run is not quite at the level that the grid says;
// its own variance v over the n values of an image tells where it is. A step that
// shifts looks for the time τ, among those at most ⌊Window/2⌋ entries of the path's
// table from the centre c, whose noise explains v best,
//
//	t_s = argmin_τ |v - e(τ)|,   e(τ) = B_τ² = 1 - ᾱ_τ,
//
// and moves one end of the step there. Which end, and around which centre, is where
// the paper and the two released programs differ; p → q is the grid's step:
//
//	ShiftPaper       centre p: the step is t_s → q. The network is told t_s, and x0
//	                 and noise are taken apart at that level
//	ShiftDebiased    as ShiftPaper, with e(τ) = A_τ²·v0 + B_τ²: the state's variance
//	                 is the data's own (v0 = DataVariance, of a clean image's pixels)
//	                 and the noise's. The paper leaves v0 out, which is why it has to
//	                 stay at high noise
//	ShiftRepoTarget  centre q, although v is of the state at p: the step is p → t_s.
//	                 Where the stride is long for the window that is nearly always
//	                 q + ⌊Window/2⌋ (github.com/Mingxiao-Li/TS-DPM)
//	ShiftRepoADM     centre p: the step is p → q + (t_s - p), the network at p
//	                 (github.com/tingyu215/TS-DPM-ADM, which takes a stride of
//	                 T/(S-1) from t_s and one entry more; with the grid's own
//	                 stride a window of 0 changes nothing)
//	ShiftConstant    no variance: the step is p + By → q, the control that shows what
//	                 looking at the image adds
//
// A step shifts if it is not the first, and its centre's time is above Cutoff; none
// of the variants moves the end of a step to zero noise, and candidates outside the
// path's table are left out, as are those that would turn a step round or put an
// evaluation before the last one (only where a window reaches over the stride). With
// a window below 2 nothing is moved.
//
// Every image has its own v and t_s: neither its batch nor its place there matters.
// Guidance asks at the shifted level; CFG++, whose weight is that of the grid's step,
// does not go with a shift.
// Multistep solvers make their coefficients of the levels that each image was at.
type TimeShift struct {
	Mode   ShiftMode
	Window int     // w, in entries of the path's table
	Cutoff float64 // t_c, a time of it
	// SigmaWindow and SigmaCutoff stand for Window and Cutoff on paths without a
	// table: the width in ln sigma, searched in 256 parts, and a noise level.
	SigmaWindow, SigmaCutoff float64
	DataVariance             float64 // v0, of ShiftDebiased
	By                       float64 // of ShiftConstant, in entries of the table
	// Seen hears of every step that looks at the images: their variances, and how
	// far each was moved, in entries of the table or in ln sigma. Both are only valid
	// during the call.
	Seen func(step int, variance, moved []float64)
}

// ShiftMode is a variant of TimeShift.
type ShiftMode string

// The variants; the empty one is ShiftNone.
const (
	ShiftNone       ShiftMode = "none"
	ShiftPaper      ShiftMode = "paper"
	ShiftDebiased   ShiftMode = "debiased"
	ShiftRepoTarget ShiftMode = "repo-target"
	ShiftRepoADM    ShiftMode = "repo-adm"
	ShiftConstant   ShiftMode = "constant"
)

// ShiftModes lists the variants.
func ShiftModes() []string {
	return []string{string(ShiftNone), string(ShiftPaper), string(ShiftDebiased), string(ShiftRepoTarget), string(ShiftRepoADM), string(ShiftConstant)}
}

// sigmaParts is what a window in ln sigma is divided into.
const sigmaParts = 256

// Levels makes the Options.Levels of a run along g, of images of the given shape;
// nil where nothing is ever moved, so that the run is that without. It serves one
// run at a time. It refuses a window below 0 or as long as the path, a cutoff
// outside it, grids without a path, rising ones and those of flows, paths without
// a table unless SigmaWindow is given, images of one value, a ShiftDebiased
// without data variance, and a ShiftRepoADM with cutoff 0, which its program takes
// for no shift at all.
func (s TimeShift) Levels(g *diffusion.Grid, shape []int) (func(step int, x *gpu.Tensor, from, to []diffusion.Point) error, error) {
	if err := s.check(g, shape); err != nil {
		return nil, fmt.Errorf("sampler: time shift: %w", err)
	}
	if s.still() {
		return nil, nil
	}
	return (&shifter{TimeShift: s, g: g}).levels, nil
}

// still tells whether nothing is ever moved.
func (s *TimeShift) still() bool {
	switch s.Mode {
	case ShiftNone, "":
		return true
	case ShiftConstant:
		return s.By == 0
	}
	return s.Window < 2 && s.SigmaWindow == 0
}

func (s *TimeShift) check(g *diffusion.Grid, shape []int) error {
	switch {
	case s.Mode == "" || s.Mode == ShiftNone:
		return nil
	case !slices.Contains(ShiftModes(), string(s.Mode)):
		return fmt.Errorf("mode %q; there are %s", s.Mode, strings.Join(ShiftModes(), ", "))
	case g.Rising():
		return fmt.Errorf("grid %s rises; the sampler shifts times on the way from noise to data", g.Name)
	case g.Path == nil:
		return fmt.Errorf("grid %s has no path, whose times could be shifted; build it with diffusion.Build", g.Name)
	case g.Space == diffusion.FlowSpace:
		return fmt.Errorf("states of the flow's scaling have the variance (1-t)²·v0 + t², which falls and rises on the way and is not the 1 - abar that is looked up; flow models need a search on that curve of their own, which there is not: take a model with a vp or ve path")
	}
	if err := s.checkRange(g); err != nil {
		return err
	}
	if s.Mode == ShiftConstant {
		if s.Window != 0 || s.SigmaWindow != 0 {
			return fmt.Errorf("a constant shift has no window; leave it out, or take another mode")
		}
		return nil
	}
	if n := sizeOf(shape); n < 2 {
		return fmt.Errorf("images of shape %v have %d value, and no variance; wanted at least 2 values", shape, n)
	}
	if s.By != 0 {
		return fmt.Errorf("a shift by %g is that of mode constant; mode %s finds its own", s.By, s.Mode)
	}
	return s.checkVariance(g)
}

// checkRange refuses windows and cutoffs that are not on the path.
func (s *TimeShift) checkRange(g *diffusion.Grid) error {
	table := diffusion.TableOf(g.Path)
	switch {
	case s.SigmaWindow != 0 || s.SigmaCutoff != 0:
		switch {
		case s.Window != 0 || s.Cutoff != 0:
			return fmt.Errorf("window %d and cutoff %g in times, and %g and %g in sigma; give one of the two", s.Window, s.Cutoff, s.SigmaWindow, s.SigmaCutoff)
		case !(s.SigmaWindow >= 0) || math.IsInf(s.SigmaWindow, 1):
			return fmt.Errorf("a window of %g in ln sigma; wanted a number of at least 0", s.SigmaWindow)
		case s.SigmaWindow == 0:
			return fmt.Errorf("a cutoff at sigma %g without a window in ln sigma; give both", s.SigmaCutoff)
		case !(s.SigmaCutoff >= 0):
			return fmt.Errorf("a cutoff at sigma %g; wanted a level of at least 0", s.SigmaCutoff)
		}
	case table == nil:
		return fmt.Errorf("path %s has no table of times to take %d entries of; give a window in ln sigma, or take a path with one (vp)", g.Path.Name(), s.Window)
	case s.Window < 0 || s.Window >= table.Len():
		return fmt.Errorf("a window of %d; wanted 0 to %d, less than the %d times of path %s", s.Window, table.Len()-1, table.Len(), g.Path.Name())
	case !(s.Cutoff >= 0 && s.Cutoff < float64(table.Len())):
		return fmt.Errorf("a cutoff at time %g; wanted at least 0 and below the %d times of path %s", s.Cutoff, table.Len(), g.Path.Name())
	case !(math.Abs(s.By) < float64(table.Len())):
		return fmt.Errorf("a shift by %g; wanted less than the %d times of path %s", s.By, table.Len(), g.Path.Name())
	}
	if s.Mode == ShiftRepoADM && s.Cutoff == 0 && s.SigmaCutoff == 0 {
		return fmt.Errorf("cutoff 0 means no shift in the program of mode repo-adm and a shift of all steps elsewhere; take mode none, or a cutoff above 0")
	}
	return nil
}

// checkVariance refuses a data variance that does not belong to the mode.
func (s *TimeShift) checkVariance(g *diffusion.Grid) error {
	switch v := s.DataVariance; {
	case s.Mode != ShiftDebiased && v != 0:
		return fmt.Errorf("a data variance of %g; mode %s compares with the noise's alone, mode debiased with both", v, s.Mode)
	case s.Mode == ShiftDebiased && (!(v > 0) || math.IsInf(v, 1)):
		return fmt.Errorf("mode debiased with a data variance of %g; wanted the mean variance of a clean image's values, above 0 (mode paper is that of 0)", v)
	case g.Space == diffusion.VPSpace && !(v < 1):
		return fmt.Errorf("a data variance of %g; at 1 and more the variance of states does not grow with noise: scale the data, or sample in VE scaling", v)
	}
	return nil
}

// shifter is a TimeShift on its way along a grid.
type shifter struct {
	TimeShift
	g        *diffusion.Grid
	variance []float64
	moved    []float64
	last     []diffusion.Point // where each image's last evaluation was
	found    []candidate
}

// candidate is a level that a step's end may be moved to.
type candidate struct {
	at       diffusion.Point
	expected float64 // variance there
	moved    float64
}

// target tells whether the mode moves the end of a step, not its start.
func (s *shifter) target() bool { return s.Mode == ShiftRepoTarget || s.Mode == ShiftRepoADM }

// levels is Options.Levels.
func (s *shifter) levels(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
	if n := len(from); cap(s.last) < n {
		s.last, s.variance, s.moved = make([]diffusion.Point, n), make([]float64, n), make([]float64, n)
	}
	last := s.last[:len(from)]
	// The grid's own levels, which all images share.
	p, q := from[0], to[0]
	if step == 0 || !s.shifts(p, q) {
		copy(last, from)
		return ErrGridLevels
	}
	variance, moved := s.variance[:len(from)], s.moved[:len(from)]
	if s.Mode != ShiftConstant {
		ops.RowVariance(variance, x)
	} else {
		clear(variance)
	}
	s.look(p, q)
	for b := range from {
		best, least := -1, math.Inf(1)
		for i := range s.found {
			c := &s.found[i]
			// Levels fall from one evaluation to the next, and along each step.
			if sigma := c.at.Sigma(); s.target() && !(sigma < p.Sigma()) || !s.target() && !(sigma < last[b].Sigma() && sigma > q.Sigma()) {
				continue
			}
			if far := math.Abs(variance[b] - c.expected); far < least {
				best, least = i, far
			}
		}
		moved[b] = 0
		switch {
		case best < 0: // the variance is not finite, which the step will refuse
		case s.target():
			to[b], moved[b] = s.found[best].at, s.found[best].moved
		default:
			from[b], moved[b] = s.found[best].at, s.found[best].moved
		}
	}
	copy(last, from)
	if s.Seen != nil {
		s.Seen(step, variance, moved)
	}
	return nil
}

// centre is where the window of a step is.
func (s *shifter) centre(p, q diffusion.Point) diffusion.Point {
	if s.Mode == ShiftRepoTarget {
		return q
	}
	return p
}

// shifts tells whether a step does.
func (s *shifter) shifts(p, q diffusion.Point) bool {
	c := s.centre(p, q)
	if s.target() && q.B == 0 || c.A == 0 {
		return false
	}
	if s.SigmaWindow > 0 {
		return c.Sigma() > s.SigmaCutoff
	}
	return c.T > s.Cutoff
}

// look lists where a step's end may be moved to, in the order of time.
func (s *shifter) look(p, q diffusion.Point) {
	c, end := s.centre(p, q), p
	if s.target() {
		end = q
	}
	s.found = s.found[:0]
	add := func(d float64) {
		level, at := s.moveBy(c, d), s.moveBy(end, d)
		if level.B < 0 || at.B < 0 {
			return
		}
		s.found = append(s.found, candidate{at, level.A*level.A*s.DataVariance + level.B*level.B, d})
	}
	switch {
	case s.Mode == ShiftConstant:
		add(s.By)
	case s.SigmaWindow > 0:
		for i := -sigmaParts / 2; i <= sigmaParts/2; i++ {
			add(float64(i) / sigmaParts * s.SigmaWindow)
		}
	default:
		for d := -(s.Window / 2); d <= s.Window/2; d++ {
			add(float64(d))
		}
	}
}

// moveBy is the point d entries of the table, or in ln sigma, from p; p itself for
// 0. B is negative outside the path.
func (s *shifter) moveBy(p diffusion.Point, d float64) diffusion.Point {
	if d == 0 {
		return p
	}
	path := s.g.Path
	most, least := path.Range()
	sigma := p.Sigma() * math.Exp(d)
	t := path.Time(sigma)
	if s.SigmaWindow == 0 {
		t = p.T + d
		sigma = path.Sigma(t)
		if t < least || t > most {
			return diffusion.Point{B: -1}
		}
	} else if sigma < path.Sigma(least) || sigma > path.Sigma(most) {
		return diffusion.Point{B: -1}
	}
	a, b := s.g.Space.Scale(sigma)
	return diffusion.Point{T: t, A: a, B: b}
}
