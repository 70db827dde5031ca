package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/rng"
)

// Choice is a candidate.
type Choice struct {
	Steps []int   // numbers of the visited levels, rising
	Skips [][]int // of each step, the numbers of the layers left out, rising; nil where all layers always run
}

// Key spells a choice: "64,151:0.3,400" leaves out layers 0 and 3 at level 151.
func (c Choice) Key() string {
	var b strings.Builder
	for i, s := range c.Steps {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s))
		if c.Skips == nil {
			continue
		}
		for j, l := range c.Skips[i] {
			b.WriteByte(":."[min(j, 1)])
			b.WriteString(strconv.Itoa(l))
		}
	}
	return b.String()
}

// Executed is how many of a network's layers run in all steps together.
func (c Choice) Executed(layers int) int {
	n := layers * len(c.Steps)
	for _, s := range c.Skips {
		n -= len(s)
	}
	return n
}

// Steps is the space of K levels of T, the first stage of the search. With Around
// given, level i of a candidate stays within Radius of Around[i].
type Steps struct {
	T, K   int
	Around []int // rising; nil for no limit
	Radius int   // 0 is T/100
}

// Check refuses a space that has no candidates.
func (s *Steps) Check() error {
	if s.K < 1 || s.K > s.T {
		return fmt.Errorf("search: %d steps of %d levels; wanted 1 to %d", s.K, s.T, s.T)
	}
	if s.Around == nil {
		return nil
	}
	if len(s.Around) != s.K {
		return fmt.Errorf("search: %d levels to stay around for %d steps; wanted one each", len(s.Around), s.K)
	}
	if s.Radius < 0 {
		return fmt.Errorf("search: radius %d; wanted at least 1, or 0 for a hundredth of the levels", s.Radius)
	}
	return checkSteps(s.Around, s.T)
}

// Key implements Space.
func (s *Steps) Key(c Choice) string { return c.Key() }

// Uniform are K levels by the stride of DDIM, i·⌊T/K⌋.
func Uniform(T, K int) []int {
	steps := make([]int, K)
	for i := range steps {
		steps[i] = i * (T / K)
	}
	return steps
}

// First implements Space: the uniform choice, or Around.
func (s *Steps) First() []Choice {
	if s.Around != nil {
		return []Choice{{Steps: slices.Clone(s.Around)}}
	}
	return []Choice{{Steps: Uniform(s.T, s.K)}}
}

// limits of level number i.
func (s *Steps) limits(i int) (lo, hi int) {
	if s.Around == nil {
		return 0, s.T - 1
	}
	r := s.Radius
	if r == 0 {
		r = max(s.T/100, 1)
	}
	return max(s.Around[i]-r, 0), min(s.Around[i]+r, s.T-1)
}

// unused draws a level from lo to hi that is not among used, -1 where there is none.
func unused(r *rng.Stream, lo, hi int, used []int) int {
	free := hi - lo + 1
	for _, u := range used {
		if u >= lo && u <= hi {
			free--
		}
	}
	if free <= 0 {
		return -1
	}
	n := r.Intn(free)
	for v := lo; ; v++ {
		if slices.Contains(used, v) {
			continue
		}
		if n == 0 {
			return v
		}
		n--
	}
}

// Random implements Space.
func (s *Steps) Random(r *rng.Stream) (Choice, bool) {
	var c Choice
	for i := range s.K {
		lo, hi := s.limits(i)
		v := unused(r, lo, hi, c.Steps)
		if v < 0 {
			return c, false
		}
		c.Steps = append(c.Steps, v)
	}
	slices.Sort(c.Steps) // level i stays within its limits: both ends of these rise with i
	return c, true
}

// Mutate implements Space: every level is replaced with probability p, by one
// that the candidate does not visit yet.
func (s *Steps) Mutate(r *rng.Stream, c Choice, p float64) (Choice, bool) {
	out := Choice{Steps: slices.Clone(c.Steps)}
	for i := range out.Steps {
		if r.Float64() >= p {
			continue
		}
		lo, hi := s.limits(i)
		if v := unused(r, lo, hi, out.Steps); v >= 0 {
			out.Steps[i] = v
		}
	}
	slices.Sort(out.Steps)
	return out, true
}

// Cross implements Space: level i is that of either parent. One that is there
// already is drawn anew, where the published search lets the set shrink.
func (s *Steps) Cross(r *rng.Stream, a, b Choice) (out Choice, repaired int, ok bool) {
	for i := range s.K {
		v := a.Steps[i]
		if r.Float64() < 0.5 {
			v = b.Steps[i]
		}
		if slices.Contains(out.Steps, v) {
			repaired++
			lo, hi := s.limits(i)
			if v = unused(r, lo, hi, out.Steps); v < 0 {
				return out, repaired, false
			}
		}
		out.Steps = append(out.Steps, v)
	}
	slices.Sort(out.Steps)
	return out, repaired, true
}
