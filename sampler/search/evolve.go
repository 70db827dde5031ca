package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fidlab/fidlab/rng"
)

// Space is what candidates are drawn from. Its methods draw from r alone, and
// return false where they find no candidate.
type Space[C any] interface {
	// Check refuses a space that cannot be searched.
	Check() error
	// Key is the canonical spelling of a candidate: equal ones have equal keys.
	Key(c C) string
	// First are candidates that are known to be reasonable. They are evaluated
	// first, and the rest of the first population is mutations of the first of them.
	First() []C
	Random(r *rng.Stream) (C, bool)
	// Mutate changes each part of c with probability p.
	Mutate(r *rng.Stream, c C, p float64) (C, bool)
	// Cross mixes two candidates; repaired is how many parts did not fit together and were drawn anew.
	Cross(r *rng.Stream, a, b C) (c C, repaired int, ok bool)
}

// Staged is a Space that changes in the course of a search. Begin is told before
// each epoch, from 0 on, whether the last one has changed the best candidate.
type Staged interface{ Begin(epoch int, changed bool) }

// Fitness measures a candidate: the smaller the better. A candidate that cannot
// be measured is an *UnfitError, which counts as the worst; any other error ends the search.
type Fitness[C any] func(ctx context.Context, c C) (float64, error)

// UnfitError says why a candidate has no fitness.
type UnfitError struct{ Err error }

func (e *UnfitError) Error() string {
	return "search: a candidate cannot be measured: " + e.Err.Error()
}

// Unwrap is the cause.
func (e *UnfitError) Unwrap() error { return e.Err }

// Options are the settings of Evolve; zeros stand for the defaults, which are the
// published search's.
type Options struct {
	Population int     // candidates of an epoch; 50
	Parents    int     // the best so far, which are mutated and crossed; 10
	Keep       int     // the best so far that the outcome lists; 50
	Mutants    int     // of a population; half of it; -1 is none
	Crosses    int     // of a population, where 10 to 15 are published; three tenths of it; -1 is none. The rest are drawn afresh
	Mutation   float64 // probability of a part to change; 0.25
	Early      float64 // the same in the first population; 0.1
	Epochs     int     // 10
	Seed       uint64

	Evaluations int              // at most so many candidates; 0 is no limit
	Budget      time.Duration    // no candidate is begun after that time; 0 is no limit
	Now         func() time.Time // the clock; time.Now

	// Aimless draws every candidate but the first afresh: random search, to
	// compare with.
	Aimless bool
	// Parallel candidates are measured at the same time; 1. The outcome does not
	// depend on it. The fitness must then serve so many goroutines.
	Parallel int
	// Journal is a file that every evaluation is appended to. If it is there, it is
	// of a search that was broken off, which goes on as if it had not been: the
	// same outcome to the last bit. Identity is what the fitness depends on; a
	// journal of another identity or of other settings is refused.
	Journal  string
	Identity string
	// Progress hears of each evaluation.
	Progress func(done int, best float64)
}

// maxAttempts times the candidates wanted of an operator it may try.
const maxAttempts = 10

func (o *Options) check() error {
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	set(&o.Population, 50)
	set(&o.Parents, min(10, o.Population))
	set(&o.Keep, 50)
	set(&o.Mutants, o.Population/2)
	set(&o.Crosses, o.Population*3/10)
	set(&o.Epochs, 10)
	set(&o.Parallel, 1)
	o.Mutants, o.Crosses = none(o.Mutants), none(o.Crosses)
	if o.Mutation == 0 {
		o.Mutation = 0.25
	}
	if o.Early == 0 {
		o.Early = 0.1
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Population < 1 || o.Parents < 1 || o.Keep < 1 || o.Epochs < 1 || o.Parallel < 1:
		return fmt.Errorf("search: population %d, parents %d, kept %d, epochs %d, parallel %d; wanted at least 1 each", o.Population, o.Parents, o.Keep, o.Epochs, o.Parallel)
	case o.Population < o.Parents:
		return fmt.Errorf("search: a population of %d for %d parents; wanted at least as many as parents", o.Population, o.Parents)
	case o.Mutants < 0 || o.Crosses < 0 || o.Mutants+o.Crosses > o.Population:
		return fmt.Errorf("search: %d mutants and %d crossings in a population of %d; wanted no more together", o.Mutants, o.Crosses, o.Population)
	case !(o.Mutation > 0 && o.Mutation <= 1) || !(o.Early > 0 && o.Early <= 1):
		return fmt.Errorf("search: probabilities of mutation %g and %g; wanted above 0, at most 1", o.Mutation, o.Early)
	case o.Evaluations < 0 || o.Budget < 0:
		return fmt.Errorf("search: %d evaluations in %v; wanted limits above 0, or 0 for none", o.Evaluations, o.Budget)
	}
	return nil
}

// none is 0 for -1.
func none(n int) int {
	if n == -1 {
		return 0
	}
	return n
}

// Scored is a candidate with its fitness.
type Scored[C any] struct {
	C       C
	Key     string
	Fitness float64 // +Inf where it could not be measured
	Epoch   int
	Held    float64 // what Rank measured; NaN where it did not
}

// Epoch is the log of one population. The candidates that were asked of an
// operator, beyond those it gave, were known already: each is evaluated once.
type Epoch struct {
	First       int     `json:"first"` // new candidates by where they are from
	Mutants     int     `json:"mutants"`
	Crosses     int     `json:"crosses"`
	Random      int     `json:"random"`
	Known       int     `json:"known"`       // drawn, but evaluated before
	Repaired    int     `json:"repaired"`    // parts of crossings that were drawn anew
	Failed      int     `json:"failed"`      // could not be measured
	Evaluations int     `json:"evaluations"` // so far
	Best        float64 `json:"best"`        // so far
	Key         string  `json:"key"`         // of the best so far
	Seconds     float64 `json:"seconds"`     // so far, of all runs of this search
}

// Outcome is what a search has found.
type Outcome[C any] struct {
	Best        Scored[C]
	Top         []Scored[C] // the best, by fitness; after Rank its ranked ones come first, by Held
	Epochs      []Epoch
	Curve       []float64 // the least fitness after each evaluation
	Evaluations int       // of different candidates
	Replayed    int       // of those, taken from the journal
	Seconds     float64
	Ended       string // "epochs", "evaluations", "time" or "exhausted" (no new candidates were found)
}

// evolution is a search on its way.
type evolution[C any] struct {
	o       *Options
	space   Space[C]
	fit     Fitness[C]
	r       *rng.Stream
	seen    map[string]bool
	out     *Outcome[C]
	journal *journal
	begun   time.Time
	before  float64 // seconds of earlier runs
}

// Evolve searches space for the candidate of least fitness, by the published
// scheme: the first population is the space's first candidates, as many random
// ones as half of it, and mutations of the first; every further one is mutants
// and crossings of the best so far, and random candidates. The outcome depends on
// the space, the fitness and the seed; not on Parallel, nor on how often a search
// with a journal was broken off. ctx breaks it off.
func Evolve[C any](ctx context.Context, space Space[C], fit Fitness[C], o Options) (*Outcome[C], error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := space.Check(); err != nil {
		return nil, err
	}
	e := &evolution[C]{
		o: &o, space: space, fit: fit, r: rng.ForImage(o.Seed, 0, rng.Resample), seen: map[string]bool{},
		out: &Outcome[C]{}, begun: o.Now(),
	}
	if s, ok := space.(interface{ restart() }); ok {
		s.restart()
	}
	if o.Journal != "" {
		j, err := openJournal(o.Journal, o.identity())
		if err != nil {
			return nil, err
		}
		defer j.close()
		e.journal, e.before = j, j.seconds
	}
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	if len(e.out.Top) == 0 {
		return nil, fmt.Errorf("search: no candidate was evaluated within %v; allow more time", o.Budget)
	}
	e.out.Best, e.out.Seconds = e.out.Top[0], e.seconds()
	if math.IsInf(e.out.Best.Fitness, 1) {
		return nil, fmt.Errorf("search: none of the %d candidates could be measured; look at the denoiser and the reference", e.out.Evaluations)
	}
	return e.out, nil
}

// identity is what a journal belongs to. Limits are left out: a search may go on with others.
func (o *Options) identity() string {
	return fmt.Sprintf("population %d parents %d mutants %d crosses %d mutation %g early %g seed %d aimless %t; %s",
		o.Population, o.Parents, o.Mutants, o.Crosses, o.Mutation, o.Early, o.Seed, o.Aimless, o.Identity)
}

func (e *evolution[C]) seconds() float64 { return e.before + e.o.Now().Sub(e.begun).Seconds() }

func (e *evolution[C]) run(ctx context.Context) error {
	best, changed := "", true
	for n := range e.o.Epochs {
		if s, ok := e.space.(Staged); ok {
			s.Begin(n, changed)
		}
		log := Epoch{}
		population := e.population(n, &log)
		if len(population) == 0 {
			e.out.Ended = "exhausted"
			return nil
		}
		enough, err := e.evaluate(ctx, n, population, &log)
		if err != nil {
			return err
		}
		if len(e.out.Top) > 0 {
			log.Best, log.Key = e.out.Top[0].Fitness, e.out.Top[0].Key
		}
		log.Evaluations, log.Seconds = e.out.Evaluations, e.seconds()
		e.out.Epochs = append(e.out.Epochs, log)
		if enough {
			return nil
		}
		changed, best = log.Key != best, log.Key
	}
	e.out.Ended = "epochs"
	return nil
}

// population draws the candidates of an epoch, none of which were seen before.
func (e *evolution[C]) population(epoch int, log *Epoch) (out []C) {
	o, r := e.o, e.r
	take := func(c C, ok bool) bool {
		if !ok {
			return false
		}
		key := e.space.Key(c)
		if e.seen[key] {
			log.Known++
			return false
		}
		e.seen[key] = true
		out = append(out, c)
		return true
	}
	draw := func(want int, count *int, one func() (C, bool)) {
		tries := maxAttempts * want
		for try := 0; try < tries && want > 0; try++ {
			if take(one()) {
				*count++
				want--
			}
		}
	}
	random := func() (C, bool) { return e.space.Random(r) }
	if epoch == 0 {
		first := e.space.First()
		for _, c := range first {
			if len(out) < o.Population && take(c, true) {
				log.First++
			}
		}
		if !o.Aimless && len(first) > 0 {
			draw(min(o.Population/2, o.Population-len(out)), &log.Random, random)
			draw(o.Population-len(out), &log.Mutants, func() (C, bool) { return e.space.Mutate(r, first[0], o.Early) })
		}
	} else if !o.Aimless {
		parents := e.out.Top[:min(o.Parents, len(e.out.Top))]
		parent := func() C { return parents[r.Intn(len(parents))].C }
		draw(o.Mutants, &log.Mutants, func() (C, bool) { return e.space.Mutate(r, parent(), o.Mutation) })
		draw(o.Crosses, &log.Crosses, func() (c C, ok bool) {
			c, repaired, ok := e.space.Cross(r, parent(), parent())
			log.Repaired += repaired
			return c, ok
		})
	}
	draw(o.Population-len(out), &log.Random, random)
	return out
}

// evaluate measures a population and merges it into the best so far, and tells
// whether the search has used its budget. Results are taken in the order of the
// population, whatever order they come in.
func (e *evolution[C]) evaluate(ctx context.Context, epoch int, population []C, log *Epoch) (enough bool, err error) {
	left := e.o.Evaluations - e.out.Evaluations
	last := e.o.Evaluations > 0 && left <= len(population)
	if last {
		population = population[:left]
	}
	keep := max(e.o.Keep, e.o.Parents)
	for lo := 0; lo < len(population); lo += e.o.Parallel {
		part := population[lo:min(lo+e.o.Parallel, len(population))]
		values, err := e.measure(ctx, part)
		if err != nil {
			return false, err
		}
		for i, v := range values {
			s := Scored[C]{C: part[i], Key: e.space.Key(part[i]), Fitness: v, Epoch: epoch, Held: math.NaN()}
			if math.IsInf(v, 1) {
				log.Failed++
			}
			at, _ := slices.BinarySearchFunc(e.out.Top, s, func(a, b Scored[C]) int {
				if a.Fitness <= b.Fitness { // the earlier one of equals stays ahead
					return -1
				}
				return 1
			})
			e.out.Top = slices.Insert(e.out.Top, at, s)
			e.out.Top = e.out.Top[:min(len(e.out.Top), keep)]
			e.out.Evaluations++
			e.out.Curve = append(e.out.Curve, e.out.Top[0].Fitness)
			if e.o.Progress != nil {
				e.o.Progress(e.out.Evaluations, e.out.Top[0].Fitness)
			}
		}
		if len(values) < len(part) {
			e.out.Ended = "time"
			return true, nil
		}
	}
	if last {
		e.out.Ended = "evaluations"
	}
	return last, nil
}
