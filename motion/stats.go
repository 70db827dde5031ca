package motion

import (
	"fmt"
	"math"
)

// Stats are the mean and the standard deviation of every channel. A model keeps
// the Stats it was trained with; an evaluator has its own, see Convert.
type Stats struct {
	Layout    *Layout
	Mean, Std []float64 // one of each channel
}

// Sums gather the rows of many clips for Stats, in the order in which they come.
type Sums struct {
	layout *Layout
	n      int
	mean   []float64
	m2     []float64 // squared deviations from the mean so far (Welford 1962)
}

// NewSums are no rows yet.
func NewSums(l *Layout) *Sums {
	return &Sums{layout: l, mean: make([]float64, l.Width), m2: make([]float64, l.Width)}
}

// Add takes in the rows of a clip, or refuses them all.
func (s *Sums) Add(rows []float32) error {
	n, err := Rows(s.layout, rows)
	if err != nil {
		return err
	}
	for t := range n {
		s.n++
		for c := range s.layout.Width {
			d := float64(rows[t*s.layout.Width+c]) - s.mean[c]
			s.mean[c] += d / float64(s.n)
			s.m2[c] += d * (float64(rows[t*s.layout.Width+c]) - s.mean[c])
		}
	}
	return nil
}

// Stats are the means, and the deviations (divided by n, not n−1) averaged inside
// each of the layout's Groups, so that the parts of a body keep their proportions
// (cal_mean_variance of HumanML3D). A group that never changes is refused.
func (s *Sums) Stats() (*Stats, error) {
	if s.n == 0 {
		return nil, fmt.Errorf("motion: statistics of no rows; add a clip first")
	}
	out := &Stats{s.layout, append([]float64(nil), s.mean...), make([]float64, s.layout.Width)}
	for _, g := range s.layout.Groups() {
		sum := 0.0
		for c := g.From; c < g.To; c++ {
			sum += math.Sqrt(s.m2[c] / float64(s.n))
		}
		if sum == 0 {
			return nil, fmt.Errorf("motion: %s (channels %d to %d) never change in %d rows, so they have no scale; add clips that move", g.Name, g.From, g.To-1, s.n)
		}
		for c := g.From; c < g.To; c++ {
			out.Std[c] = sum / float64(g.To-g.From)
		}
	}
	return out, nil
}

// Check refuses statistics that cannot normalise: of another width, not finite,
// or with a deviation that is not positive.
func (s *Stats) Check() error {
	if len(s.Mean) != s.Layout.Width || len(s.Std) != s.Layout.Width {
		return fmt.Errorf("motion: statistics of %d means and %d deviations; want %d of each (%s)", len(s.Mean), len(s.Std), s.Layout.Width, s.Layout.Name)
	}
	for c := range s.Mean {
		if !finite(s.Mean[c]) {
			return fmt.Errorf("motion: the mean of channel %d is %v; want a finite number", c, s.Mean[c])
		}
		if !(s.Std[c] > 0) || !finite(s.Std[c]) {
			return fmt.Errorf("motion: the deviation of channel %d is %v; want more than 0", c, s.Std[c])
		}
	}
	return nil
}

// Normalize makes rows (x − mean)/std in place.
func Normalize[T Float](s *Stats, rows []T) error {
	return s.each(len(rows), func(i, c int) { rows[i] = T((float64(rows[i]) - s.Mean[c]) / s.Std[c]) })
}

// Denormalize undoes Normalize in place.
func Denormalize[T Float](s *Stats, rows []T) error {
	return s.each(len(rows), func(i, c int) { rows[i] = T(float64(rows[i])*s.Std[c] + s.Mean[c]) })
}

// Convert takes rows normalised with s to those normalised with to, in place:
// what stands between a model and an evaluator with statistics of its own.
func Convert[T Float](s, to *Stats, rows []T) error {
	if s.Layout != to.Layout {
		return fmt.Errorf("motion: statistics of %s and %s; want one layout", s.Layout.Name, to.Layout.Name)
	}
	if err := to.Check(); err != nil {
		return err
	}
	return s.each(len(rows), func(i, c int) { rows[i] = T((float64(rows[i])*s.Std[c] + s.Mean[c] - to.Mean[c]) / to.Std[c]) })
}

func (s *Stats) each(n int, f func(i, c int)) error {
	if err := s.Check(); err != nil {
		return err
	}
	if n%s.Layout.Width != 0 {
		return fmt.Errorf("motion: %d numbers; want rows of %d (%s)", n, s.Layout.Width, s.Layout.Name)
	}
	for i := range n {
		f(i, i%s.Layout.Width)
	}
	return nil
}
