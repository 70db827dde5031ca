package search

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// measure is the fitness of candidates, of as many as the time allows.
func (e *evolution[C]) measure(ctx context.Context, part []C) ([]float64, error) {
	values, errs := make([]float64, len(part)), make([]error, len(part))
	took := make([]float64, len(part))
	fresh := make([]bool, len(part))
	n := 0
	var wg sync.WaitGroup
	for i, c := range part {
		if v, ok := e.journal.value(kindSearch, e.space.Key(c)); ok {
			values[i], n = v, n+1
			continue
		}
		if e.o.Budget > 0 && e.seconds() >= e.o.Budget.Seconds() || ctx.Err() != nil {
			break
		}
		fresh[i], n = true, n+1
		wg.Add(1)
		go func() {
			defer wg.Done()
			begun := e.o.Now()
			values[i], errs[i] = measured(ctx, e.fit, c)
			took[i] = e.o.Now().Sub(begun).Seconds()
		}()
	}
	wg.Wait()
	for i := range n {
		if !fresh[i] {
			e.out.Replayed++
			continue
		}
		if errs[i] != nil {
			return nil, fmt.Errorf("search: candidate %s: %w", e.space.Key(part[i]), errs[i])
		}
		if err := e.journal.add(kindSearch, e.space.Key(part[i]), values[i], took[i]); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return values[:n], nil
}

// measured is a fitness, +Inf of a candidate that has none.
func measured[C any](ctx context.Context, fit Fitness[C], c C) (float64, error) {
	v, err := fit(ctx, c)
	var unfit *UnfitError
	switch {
	case errors.As(err, &unfit):
		return math.Inf(1), nil
	case err != nil:
		return 0, err
	case math.IsNaN(v) || math.IsInf(v, -1):
		return 0, fmt.Errorf("its fitness is %g; wanted a number", v)
	}
	return v, nil
}

// Rank measures the n best of an outcome again by another fitness, on more
// samples and with other noise than the search had, and puts them first, in that
// order. Best is then the least of these; values of the two fitnesses are never
// compared. Fewer candidates are all ranked. The journal of o, if any, goes on.
func Rank[C any](ctx context.Context, space Space[C], out *Outcome[C], n int, fit Fitness[C], o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	if n < 1 {
		return fmt.Errorf("search: %d candidates to rank; wanted at least 1", n)
	}
	var j *journal
	if o.Journal != "" {
		var err error
		if j, err = openJournal(o.Journal, o.identity()); err != nil {
			return err
		}
		defer j.close()
	}
	n = min(n, len(out.Top))
	for i := range n {
		s := &out.Top[i]
		v, ok := j.value(kindRank, s.Key)
		if !ok {
			begun := o.Now()
			var err error
			if v, err = measured(ctx, fit, s.C); err != nil {
				return fmt.Errorf("search: candidate %s: %w", s.Key, err)
			}
			if err := j.add(kindRank, s.Key, v, o.Now().Sub(begun).Seconds()); err != nil {
				return err
			}
		}
		s.Held = v
	}
	slices.SortStableFunc(out.Top[:n], func(a, b Scored[C]) int {
		switch {
		case a.Held < b.Held:
			return -1
		case a.Held > b.Held:
			return 1
		}
		return 0
	})
	out.Best = out.Top[0]
	if math.IsInf(out.Best.Held, 1) {
		return fmt.Errorf("search: none of the %d best candidates could be measured again; look at the denoiser and the reference", n)
	}
	return nil
}
