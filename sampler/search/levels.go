package search

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
)

// Levels are the T noise levels that steps are chosen from, by number from the
// least noise. A network is told the path's own time of a level.
type Levels struct {
	Path  diffusion.Path
	times []float64
}

// defaultT is the number of levels on paths without a table of their own.
const defaultT = 1000

// NewLevels are the levels of a path: the times of a VP table, of which T must be
// the number; on other paths T times evenly from the least noise to the most,
// without a noiseless end. T = 0 is the table's number, or 1000.
func NewLevels(p diffusion.Path, T int) (*Levels, error) {
	l := &Levels{Path: p}
	if vp, ok := p.(*diffusion.VP); ok {
		if T != 0 && T != vp.Len() {
			return nil, fmt.Errorf("search: %d levels of a table of %d times; wanted as many, or 0", T, vp.Len())
		}
		for t := range vp.Len() {
			l.times = append(l.times, float64(t))
		}
		return l, nil
	}
	if T == 0 {
		T = defaultT
	}
	if T < 2 {
		return nil, fmt.Errorf("search: %d levels; wanted at least 2, or 0 for %d", T, defaultT)
	}
	most, least := p.Range()
	steps := T - 1
	if p.Sigma(least) == 0 {
		steps = T
	}
	for i := steps - T + 1; i <= steps; i++ {
		t := least + (most-least)*float64(i)/float64(steps)
		if i == steps {
			t = most
		}
		l.times = append(l.times, t)
	}
	return l, nil
}

// Len is T.
func (l *Levels) Len() int { return len(l.times) }

// Hash identifies the levels: the SHA-256 of their noise levels and times.
func (l *Levels) Hash() string {
	h := sha256.New()
	var b [16]byte
	for _, t := range l.times {
		binary.LittleEndian.PutUint64(b[:8], math.Float64bits(l.Path.Sigma(t)))
		binary.LittleEndian.PutUint64(b[8:], math.Float64bits(t))
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Times are the path's times of levels, in their order.
func (l *Levels) Times(steps []int) []float64 {
	out := make([]float64, len(steps))
	for i, s := range steps {
		out[i] = l.times[s]
	}
	return out
}

// Grid visits the levels of rising numbers steps, noise first, and then steps to
// zero noise. On a VP table that is the sampler of the respaced betas 1 -
// abar[t_i]/abar[t_{i-1}], abar = 1 before the first: steps here lead from level
// to level, so no betas are needed (VP.Respace has them). With all T levels it is
// the sampler of the whole table.
func (l *Levels) Grid(steps []int) (*diffusion.Grid, error) {
	if err := checkSteps(steps, l.Len()); err != nil {
		return nil, err
	}
	times := l.Times(steps)
	slices.Reverse(times)
	g, err := diffusion.Build(l.Path, diffusion.Spec{Rule: "times", List: times})
	if err != nil {
		return nil, err
	}
	g.Name, g.Notes = "plan", nil // the note is of a low start, which is the point here
	return g, nil
}

// checkSteps refuses numbers that are not of T levels, rising and each once.
func checkSteps(steps []int, T int) error {
	if len(steps) < 1 || len(steps) > T {
		return fmt.Errorf("search: %d steps of %d levels; wanted 1 to %d", len(steps), T, T)
	}
	for i, s := range steps {
		switch {
		case s < 0 || s >= T:
			return fmt.Errorf("search: step at level %d; wanted 0 to %d", s, T-1)
		case i > 0 && s == steps[i-1]:
			return fmt.Errorf("search: level %d is visited twice; wanted each once", s)
		case i > 0 && s < steps[i-1]:
			return fmt.Errorf("search: level %d follows %d; wanted rising numbers", s, steps[i-1])
		}
	}
	return nil
}
