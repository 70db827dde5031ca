package search_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler/search"
)

// counted is a fitness that knows how often it was asked of each candidate.
type counted struct {
	mu    sync.Mutex
	asked map[string]int
	f     func(c search.Choice) float64
	stop  int // evaluations after which the process is killed, 0 never
	kill  context.CancelFunc
}

func (f *counted) fitness(_ context.Context, c search.Choice) (float64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked == nil {
		f.asked = map[string]int{}
	}
	f.asked[c.Key()]++
	if f.stop > 0 && len(f.asked) >= f.stop {
		f.kill()
	}
	return f.f(c), nil
}

// far is a fitness whose optimum lies where no uniform list comes near.
func far(c search.Choice) float64 {
	sum := 0.0
	for i, t := range c.Steps {
		d := float64(t)/1000 - 0.05*float64(i+1)
		sum += d * d
	}
	return sum
}

func evolve(t *testing.T, s search.Space[search.Choice], f func(search.Choice) float64, o search.Options) *search.Outcome[search.Choice] {
	t.Helper()
	c := &counted{f: f}
	out, err := search.Evolve(context.Background(), s, c.fitness, o)
	if err != nil {
		t.Fatal(err)
	}
	for key, n := range c.asked {
		if n != 1 {
			t.Errorf("candidate %s was evaluated %d times", key, n)
		}
	}
	if len(c.asked) != out.Evaluations || len(out.Curve) != out.Evaluations {
		t.Errorf("%d candidates were evaluated, the outcome says %d, its curve %d", len(c.asked), out.Evaluations, len(out.Curve))
	}
	return out
}

// A space of 15 candidates is searched to its end: the best is that of all, and
// the log says how often candidates came that were known.
func TestEvolveSearchesASmallSpaceWhole(t *testing.T) {
	f := func(c search.Choice) float64 { return math.Abs(float64(10*c.Steps[0]+c.Steps[1]) - 24) }
	out := evolve(t, &search.Steps{T: 6, K: 2}, f, search.Options{Population: 10, Parents: 3, Seed: 1, Epochs: 20})
	if out.Evaluations != 15 || out.Ended != "exhausted" || out.Best.Key != "2,4" || out.Best.Fitness != 0 {
		t.Errorf("%d evaluations, ended by %s, best %s at %g; want all 15, exhausted, 2,4 at 0", out.Evaluations, out.Ended, out.Best.Key, out.Best.Fitness)
	}
	known, made := 0, 0
	for _, e := range out.Epochs {
		known += e.Known
		made += e.First + e.Mutants + e.Crosses + e.Random
	}
	if made != 15 || known == 0 {
		t.Errorf("the log counts %d new and %d known candidates; want 15 and some", made, known)
	}
	for i, s := range out.Top {
		if i > 0 && s.Fitness < out.Top[i-1].Fitness {
			t.Errorf("candidate %d of the best is better than the one before it", i)
		}
	}
}

// The published sizes: 50 candidates an epoch, of which the first are the uniform
// one, 25 random and mutations of the uniform; later ones 25 mutants, 15
// crossings, 10 random.
func TestEvolvePopulations(t *testing.T) {
	out := evolve(t, &search.Steps{T: 1000, K: 4}, far, search.Options{Seed: 3})
	if out.Evaluations != 500 || out.Ended != "epochs" || len(out.Epochs) != 10 || len(out.Top) != 50 {
		t.Fatalf("%d evaluations in %d epochs, ended by %s, %d kept", out.Evaluations, len(out.Epochs), out.Ended, len(out.Top))
	}
	for i, e := range out.Epochs {
		got := [4]int{e.First, e.Mutants, e.Crosses, e.Random}
		want := [4]int{0, 25, 15, 10}
		if i > 2 { // parents grow alike: of their crossings fewer are new, and random candidates stand in
			want[2], want[3] = e.Crosses, 25-e.Crosses
		}
		if i == 0 {
			want = [4]int{1, 24, 0, 25}
		}
		if got != want || e.Evaluations != 50*(i+1) {
			t.Errorf("epoch %d: %v new candidates, %d so far; want %v and %d", i, got, e.Evaluations, want, 50*(i+1))
		}
	}
	for i, e := range evolve(t, &search.Steps{T: 1000, K: 4}, far, search.Options{Seed: 3, Mutants: -1, Crosses: -1, Epochs: 2}).Epochs {
		if i > 0 && (e.Mutants != 0 || e.Crosses != 0 || e.Random != 50) {
			t.Errorf("neither mutants nor crossings: %+v", e)
		}
	}
	if out.Curve[0] != far(search.Choice{Steps: []int{0, 250, 500, 750}}) {
		t.Errorf("the first evaluation gave %g, not the uniform candidate's", out.Curve[0])
	}
}

// Where the optimum is far from uniform, a search that only perturbs the uniform
// list stays behind, and so does random search; the log's counters tell them apart.
func TestNaiveSearchesStayBehind(t *testing.T) {
	s := &search.Steps{T: 1000, K: 4}
	var mean, random, naive float64
	const seeds = 5
	for seed := range uint64(seeds) {
		out := evolve(t, s, far, search.Options{Seed: seed, Evaluations: 300})
		mean += out.Best.Fitness / seeds
		fresh := 0
		for _, e := range out.Epochs[1:] {
			fresh += e.Random
		}
		if fresh == 0 {
			t.Errorf("seed %d: no random restarts after the first population", seed)
		}
		aimless := evolve(t, s, far, search.Options{Seed: seed, Evaluations: 300, Aimless: true})
		random += aimless.Best.Fitness / seeds
		if e := aimless.Epochs[1]; e.Random != 50 || e.Mutants+e.Crosses != 0 || aimless.Evaluations != 300 {
			t.Errorf("random search: %+v of %d", e, aimless.Evaluations)
		}
		r := rng.New(seed, 1)
		best := math.Inf(1)
		for range 300 {
			c, _ := s.Mutate(r, s.First()[0], 0.1)
			best = min(best, far(c))
		}
		naive += best / seeds
	}
	if mean > 0.5*random || mean > 0.1*naive {
		t.Errorf("evolution %.4g, random search %.4g, perturbing the uniform list %.4g; wanted half and a tenth at most", mean, random, naive)
	}
}

// An outcome without what depends on the clock and on how often it was broken off.
func timeless(o *search.Outcome[search.Choice]) search.Outcome[search.Choice] {
	out := *o
	out.Seconds, out.Replayed = 0, 0
	out.Epochs = append([]search.Epoch(nil), out.Epochs...)
	for i := range out.Epochs {
		out.Epochs[i].Seconds = 0
	}
	nan := func(s search.Scored[search.Choice]) search.Scored[search.Choice] {
		if math.IsNaN(s.Held) {
			s.Held = -1
		}
		return s
	}
	out.Best = nan(out.Best)
	out.Top = append([]search.Scored[search.Choice](nil), out.Top...)
	for i := range out.Top {
		out.Top[i] = nan(out.Top[i])
	}
	return out
}

// The outcome is a function of the space, the fitness and the seed.
func TestEvolveIsReproducible(t *testing.T) {
	s := &search.Layers{T: 100, Names: make([]string, 6), Most: 25, MaxSkip: 0.5}
	o := search.Options{Seed: 8, Evaluations: 230}
	want := timeless(evolve(t, s, far, o))
	for _, parallel := range []int{1, 3, 64} {
		o.Parallel = parallel
		if got := timeless(evolve(t, s, far, o)); !reflect.DeepEqual(got, want) {
			t.Errorf("with %d in parallel: %+v\nwant %+v", parallel, got.Best, want.Best)
		}
	}
	o.Seed = 9
	if got := timeless(evolve(t, s, far, o)); reflect.DeepEqual(got.Top, want.Top) {
		t.Error("another seed gives the same search")
	}
}

// A search that was killed, however often, and in the middle of a line of its
// journal too, goes on to the outcome of the one that was not, and evaluates
// nothing twice.
func TestEvolveGoesOnAfterAKill(t *testing.T) {
	s := &search.Layers{T: 100, Names: make([]string, 6), Most: 25, MaxSkip: 0.5}
	rank := func(_ context.Context, c search.Choice) (float64, error) { return far(c) / 3, nil }
	finish := func(f search.Fitness[search.Choice], ctx context.Context, o search.Options) (*search.Outcome[search.Choice], error) {
		out, err := search.Evolve(ctx, s, f, o)
		if err != nil {
			return nil, err
		}
		return out, search.Rank(ctx, s, out, 4, rank, o)
	}
	whole := &counted{f: far}
	o := search.Options{Seed: 4, Evaluations: 220, Identity: "toy"}
	want, err := finish(whole.fitness, context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, parallel := range []int{1, 4} {
		o.Parallel, o.Journal = parallel, filepath.Join(t.TempDir(), "journal")
		asked := map[string]int{}
		var got *search.Outcome[search.Choice]
		for run := 0; got == nil; run++ {
			if run > 20 {
				t.Fatal("the search does not come to an end")
			}
			ctx, kill := context.WithCancel(context.Background())
			c := &counted{f: far, stop: 37, kill: kill}
			got, err = finish(c.fitness, ctx, o)
			kill()
			for key, n := range c.asked {
				asked[key] += n
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			f, err := os.OpenFile(o.Journal, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				fmt.Fprintf(f, `{"kind":"search","key":"1,2`) // what a kill leaves of a line
			}
			f.Close()
		}
		if !reflect.DeepEqual(timeless(got), timeless(want)) {
			t.Errorf("%d in parallel: the outcome is %+v, uninterrupted %+v", parallel, got.Best, want.Best)
		}
		if got.Replayed == 0 {
			t.Error("nothing was taken from the journal")
		}
		for key, n := range asked {
			if n > 1 {
				t.Errorf("%d in parallel: candidate %s was evaluated %d times", parallel, key, n)
			}
		}
	}
}

func TestJournalRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	s := &search.Steps{T: 50, K: 2}
	f := &counted{f: far}
	run := func(o search.Options) error {
		o.Journal, o.Evaluations = path, 10
		_, err := search.Evolve(context.Background(), s, f.fitness, o)
		return err
	}
	if err := run(search.Options{Seed: 1, Identity: "model A"}); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]search.Options{
		"is of another search": {Seed: 1, Identity: "model B"},
		`this one is "population 50 parents 10 mutants 25 crosses 15 mutation 0.25 early 0.1 seed 2`: {Seed: 2, Identity: "model A"},
	} {
		var refused *search.JournalError
		if err := run(o); !errors.As(err, &refused) || refused.Path != path || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	if len(lines) != 12 { // head, ten evaluations, the end
		t.Fatalf("%d lines", len(lines))
	}
	for want, text := range map[string]string{
		"line 3 is damaged":     lines[0] + lines[1] + "nonsense\n" + lines[2],
		"first line is not":     "{}\n" + lines[1],
		"line 2 is damaged: \"": lines[0] + `{"kind":"other","key":"1","value":1,"seconds":0}` + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := run(search.Options{Seed: 1, Identity: "model A"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The time of earlier runs counts, and no candidate is begun after it is used up.
func TestEvolveEndsInTime(t *testing.T) {
	clock := time.Unix(0, 0)
	var mu sync.Mutex
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return clock
	}
	f := func(_ context.Context, c search.Choice) (float64, error) {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return far(c), nil
	}
	o := search.Options{Seed: 1, Budget: 70 * time.Second, Now: now, Journal: filepath.Join(t.TempDir(), "journal")}
	s := &search.Steps{T: 1000, K: 4}
	out, err := search.Evolve(context.Background(), s, f, o)
	if err != nil || out.Evaluations != 70 || out.Ended != "time" || out.Seconds != 70 {
		t.Fatalf("%+v, %v; want 70 evaluations", out, err)
	}
	o.Budget = 90 * time.Second
	if out, err = search.Evolve(context.Background(), s, f, o); err != nil || out.Evaluations != 90 || out.Replayed != 70 || out.Seconds != 90 {
		t.Fatalf("%+v, %v; want 90 evaluations, 70 of them from the journal", out, err)
	}
	o.Journal, o.Budget = "", 1
	if _, err = search.Evolve(context.Background(), s, f, o); err != nil {
		t.Fatal(err) // the clock stands still until the first candidate: one is evaluated
	}
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}
	if _, err = search.Evolve(context.Background(), s, f, o); err == nil || !strings.Contains(err.Error(), "within 1ns; allow more time") {
		t.Errorf("no time: %v", err)
	}
}

// Candidates that cannot be measured count as the worst, and do not end the search.
func TestUnfitCandidates(t *testing.T) {
	s := &search.Steps{T: 30, K: 2}
	f := func(_ context.Context, c search.Choice) (float64, error) {
		if c.Steps[0]%2 == 0 {
			return 0, &search.UnfitError{Err: errors.New("overflow")}
		}
		return far(c), nil
	}
	o := search.Options{Seed: 2, Evaluations: 120, Journal: filepath.Join(t.TempDir(), "journal")}
	var outs []*search.Outcome[search.Choice]
	for range 2 { // the second time from the journal
		out, err := search.Evolve(context.Background(), s, f, o)
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, e := range out.Epochs {
			failed += e.Failed
		}
		if failed == 0 || failed == 120 || out.Best.C.Steps[0]%2 == 0 {
			t.Errorf("%d failed, best %s", failed, out.Best.Key)
		}
		outs = append(outs, out)
	}
	if outs[1].Replayed != 120 || !reflect.DeepEqual(timeless(outs[0]), timeless(outs[1])) {
		t.Error("the journal keeps failures otherwise than they were")
	}
	o.Journal = ""
	for want, f := range map[string]search.Fitness[search.Choice]{
		"none of the 120 candidates": func(context.Context, search.Choice) (float64, error) {
			return 0, &search.UnfitError{Err: errors.New("x")}
		},
		"its fitness is NaN":        func(context.Context, search.Choice) (float64, error) { return math.NaN(), nil },
		"candidate 0,15: no memory": func(context.Context, search.Choice) (float64, error) { return 0, errors.New("no memory") },
	} {
		if _, err := search.Evolve(context.Background(), s, f, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// noisy is a fitness with an error of its own for each candidate and noise seed.
func noisy(seed uint64, deviation float64) search.Fitness[search.Choice] {
	return func(_ context.Context, c search.Choice) (float64, error) {
		h := uint64(14695981039346656037)
		for _, b := range []byte(c.Key()) {
			h = (h ^ uint64(b)) * 1099511628211
		}
		return far(c) + deviation*rng.New(seed, h).Normal(), nil
	}
}

// What the search says of its winner on the noise that it was chosen by is too
// good; Rank measures by other noise and chooses by that alone.
func TestRankByOtherNoise(t *testing.T) {
	s := &search.Steps{T: 1000, K: 4}
	var flattered, honest float64
	const seeds = 20
	for seed := range uint64(seeds) {
		o := search.Options{Seed: seed, Evaluations: 100}
		out, err := search.Evolve(context.Background(), s, noisy(seed, 0.1), o)
		if err != nil {
			t.Fatal(err)
		}
		naive := out.Best
		flattered += (naive.Fitness - far(naive.C)) / seeds
		if err := search.Rank(context.Background(), s, out, 10, noisy(seed+100, 0.05), o); err != nil {
			t.Fatal(err)
		}
		honest += (out.Top[0].Held - far(out.Top[0].C)) / seeds
		for i, c := range out.Top {
			if ranked := !math.IsNaN(c.Held); ranked != (i < 10) {
				t.Fatalf("candidate %d has the held-out value %g", i, c.Held)
			}
			if i > 0 && i < 10 && c.Held < out.Top[i-1].Held {
				t.Fatalf("candidate %d is better than the one before it", i)
			}
		}
		if out.Best.Key != out.Top[0].Key {
			t.Error("the best is not the first")
		}
	}
	// The least of a hundred errors of deviation 0.1 is about -0.25, that of ten of
	// 0.05 about -0.08; both are of candidates that differ, and so somewhat less.
	if flattered > -0.1 || math.Abs(honest) > 0.08 {
		t.Errorf("the search flatters its winner by %.3f, the ranking by %.3f; wanted below -0.1, and within 0.08", flattered, honest)
	}
}

func TestSearchRefused(t *testing.T) {
	steps := &search.Steps{T: 10, K: 2}
	names := make([]string, 5)
	type space = search.Space[search.Choice]
	for want, c := range map[string]struct {
		s space
		o search.Options
	}{
		"11 steps of 10 levels":                     {&search.Steps{T: 10, K: 11}, search.Options{}},
		"0 steps of 10 levels":                      {&search.Steps{T: 10}, search.Options{}},
		"a population of 5 for 10 parents":          {steps, search.Options{Population: 5, Parents: 10}},
		"population -1":                             {steps, search.Options{Population: -1}},
		"8 mutants and 8 crossings":                 {steps, search.Options{Population: 10, Mutants: 8, Crosses: 8}},
		"probabilities of mutation 1.5":             {steps, search.Options{Mutation: 1.5}},
		"-2 mutants and 15 crossings":               {steps, search.Options{Mutants: -2}},
		"-1 evaluations":                            {steps, search.Options{Evaluations: -1}},
		"1 levels to stay around for 2 steps":       {&search.Steps{T: 10, K: 2, Around: []int{3}}, search.Options{}},
		"level 3 is visited twice":                  {&search.Steps{T: 10, K: 2, Around: []int{3, 3}}, search.Options{}},
		"radius -1":                                 {&search.Steps{T: 10, K: 2, Around: []int{3, 4}, Radius: -1}, search.Options{}},
		"a budget of 4 layers; one step takes 5":    {&search.Layers{T: 10, Names: names, Most: 4}, search.Options{}},
		"a budget of 51 layers; all 10 levels take": {&search.Layers{T: 10, Names: names, Most: 51}, search.Options{}},
		"no layers to leave out":                    {&search.Layers{T: 10, Most: 4}, search.Options{}},
		"a share of 0.5 to 0.1":                     {&search.Layers{T: 10, Names: names, Most: 9, MinSkip: 0.5}, search.Options{}},
		"a share of 0 to 1 of":                      {&search.Layers{T: 10, Names: names, Most: 9, MaxSkip: 1}, search.Options{}},
		"0 levels":                                  {&search.Layers{Names: names, Most: 9}, search.Options{}},
	} {
		f := &counted{f: far}
		if _, err := search.Evolve(context.Background(), c.s, f.fitness, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	out := evolve(t, steps, far, search.Options{Evaluations: 3})
	f := &counted{f: far}
	if err := search.Rank(context.Background(), steps, out, 0, f.fitness, search.Options{}); err == nil || !strings.Contains(err.Error(), "0 candidates to rank") {
		t.Errorf("ranking none: %v", err)
	}
}
