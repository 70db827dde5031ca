package train

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// sums adds up what the log has means of, from one line to the next. It is part of a checkpoint, so that
// a line has the same bits when the run was resumed between two.
type sums struct {
	kept, now   *gpu.Tensor // float64 [2·(2·phases + figures)]: sum and count of each
	phases, all int
}

func newSums(phases, figures int) *sums {
	n := 2*phases + figures
	return &sums{kept: gpu.CPU().Empty64(2 * n), now: gpu.CPU().Empty64(2 * n), phases: phases, all: n}
}

// State is for the checkpoint; it is taken between steps.
func (s *sums) State() []nn.Named { return []nn.Named{{Name: "sums", Tensor: s.kept}} }

func (s *sums) add(i int, v float64) {
	x := s.now.F64()
	x[2*i] += v
	x[2*i+1]++
}

func (s *sums) phase(i int, loss, norm float64) {
	s.add(2*i, loss)
	s.add(2*i+1, norm)
}

func (s *sums) figure(i int, v float64) { s.add(2*s.phases+i, v) }

// keep takes in what a step added, or forgets it.
func (s *sums) keep(ok bool) {
	now, kept := s.now.F64(), s.kept.F64()
	for i, v := range now {
		if ok {
			kept[i] += v
		}
		now[i] = 0
	}
}

// clear begins the next line.
func (s *sums) clear() { clear(s.kept.F64()) }

func (s *sums) mean(i int) float64 {
	x := s.kept.F64()
	if x[2*i+1] == 0 {
		return math.NaN()
	}
	return x[2*i] / x[2*i+1]
}

// phaseMeans are a phase's loss and the norm of its gradient before it was clipped.
type phaseMeans struct{ loss, norm float64 }

func (s *sums) means() (phases []phaseMeans, figures []float64) {
	for i := range s.phases {
		phases = append(phases, phaseMeans{s.mean(2 * i), s.mean(2*i + 1)})
	}
	for i := 2 * s.phases; i < s.all; i++ {
		figures = append(figures, s.mean(i))
	}
	return phases, figures
}
