package sampler

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
)

// Stateful is a denoiser that remembers the states it was asked about: each step of a run sees those before it through what is kept of them.
// An evaluation reads what is kept and does not change it; Commit takes in what the last evaluation saw, once a step. Wrappers, such as
// Guided, are Stateful where what they wrap is.
//
// Run resets before each batch and commits after each step. It refuses solvers that evaluate another number of times a step, for which of
// the evaluations should count nobody could say, unless they are a Committer.
type Stateful interface {
	Denoiser
	// Remembers tells whether anything is kept at all.
	Remembers() bool
	// Reset forgets: a batch begins.
	Reset()
	// Commit takes in the last evaluation. It is an error where there was none since the last Commit or Reset.
	Commit() error
}

// Committer is a Solver that commits the state itself, by Eval.Commit, once in every step: after that of its evaluations which is to
// count.
type Committer interface {
	Solver
	Commits() bool
}

// stateful is den where it remembers, else nil.
func stateful(den Denoiser) Stateful {
	if s, ok := den.(Stateful); ok && s.Remembers() {
		return s
	}
	return nil
}

// commits tells whether a solver commits by itself.
func commits(s Solver) bool {
	c, ok := s.(Committer)
	return ok && c.Commits()
}

// CheckStateful refuses what a denoiser with a state cannot be asked for along a grid, the one error for all who want to know before a
// run: a solver of another number of evaluations than steps, and guidance of some levels alone. Of others it says nothing.
func CheckStateful(den Denoiser, s Solver, g *diffusion.Grid) error {
	if stateful(den) == nil {
		return nil
	}
	for k := 1; k <= len(g.Steps) && !commits(s); k++ {
		first := *g // of the steps so far: as many evaluations may be shared out unevenly
		first.Steps = g.Steps[:k]
		n := s.NFE(&first)
		if n == k {
			continue
		}
		often := "a number of times that varies"
		if n != Varies {
			often = fmt.Sprintf("%d times", n)
		}
		return fmt.Errorf("sampler: %s evaluates %s in %d of the %d steps of grid %s, and the state of this denoiser goes on once a step; use a solver of one evaluation a step (flow-sde, ddim, dpm++2m)",
			s.Name(), often, k, len(g.Steps), g.Name)
	}
	if d, ok := den.(*Guided); ok {
		return d.checkState()
	}
	return nil
}

// Commit makes the state of a denoiser go on by the last evaluation, and does nothing where it has none: for solvers that evaluate several
// times a step (Committer).
func (e *Eval) Commit() error {
	if e.state == nil {
		return nil
	}
	e.committed++
	return e.failed(e.state.Commit(), nil)
}

// goOn ends a step of a run: the state has gone on once.
func (w *walk) goOn(asked int) error {
	e := w.eval
	if e.state == nil {
		return nil
	}
	if commits(w.s) {
		if e.committed != 1 {
			return fmt.Errorf("sampler: %s committed the state %d times in step %d; want once", w.s.Name(), e.committed, e.step)
		}
		return nil
	}
	if n := len(e.each); asked != n {
		return fmt.Errorf("sampler: %s evaluated %g times in step %d, and the state of this denoiser goes on once a step; use a solver of one evaluation in each (flow-sde, ddim)",
			w.s.Name(), float64(asked)/float64(n), e.step)
	}
	return e.Commit()
}

// Remembers implements Stateful: it does where its network does.
func (d *Adapted) Remembers() bool { return d.memory() != nil }

// Reset implements Stateful.
func (d *Adapted) Reset() {
	if m := d.memory(); m != nil {
		m.Reset()
	}
}

// Commit implements Stateful.
func (d *Adapted) Commit() error {
	if m := d.memory(); m != nil {
		return m.Commit()
	}
	return nil
}

// StatefulNet is a Net that remembers as Stateful does.
type StatefulNet interface {
	Net
	Remembers() bool
	Reset()
	Commit() error
}

func (d *Adapted) memory() StatefulNet {
	if n, ok := d.net.(StatefulNet); ok && n.Remembers() {
		return n
	}
	return nil
}

// Remembers implements Stateful: it does where one of its denoisers does. Each of the conditions that are asked for in one batch has a
// state of its own.
func (g *Guided) Remembers() bool { return stateful(g.Den) != nil || stateful(g.Weak) != nil }

// Reset implements Stateful.
func (g *Guided) Reset() {
	for _, d := range []Denoiser{g.Den, g.Weak} {
		if s := stateful(d); s != nil {
			s.Reset()
		}
	}
}

// Commit implements Stateful.
func (g *Guided) Commit() error {
	for _, d := range []Denoiser{g.Den, g.Weak} {
		if s := stateful(d); s != nil {
			if err := s.Commit(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkState refuses guidance that a denoiser's state cannot follow: in part of the levels alone, where the state of what is then not asked
// would have gaps.
func (g *Guided) checkState() error {
	if g.Remembers() && (g.Lo > 0 || g.Hi > 0) {
		return fmt.Errorf("sampler: guidance between sigma %g and %g of a denoiser with a state, which would lack the steps without; guide all steps", g.Lo, g.Hi)
	}
	return nil
}
