package search_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler/search"
)

// wantSet checks that a candidate visits K levels of T, each once, in order.
func wantSet(t *testing.T, what string, c search.Choice, T, K int) {
	t.Helper()
	if len(c.Steps) != K || c.Steps[0] < 0 || c.Steps[K-1] >= T {
		t.Fatalf("%s: %v; want %d levels of %d", what, c.Steps, K, T)
	}
	for i := 1; i < K; i++ {
		if c.Steps[i] <= c.Steps[i-1] {
			t.Fatalf("%s: %v; want rising levels", what, c.Steps)
		}
	}
}

// Crossing never loses a step. The published one, level by level without repair,
// lets the set shrink, and the same check catches it.
func TestCrossingKeepsTheNumberOfSteps(t *testing.T) {
	s := &search.Steps{T: 12, K: 5}
	r := rng.New(1, 1)
	repaired, shrunk := 0, 0
	for range 2000 {
		a, _ := s.Random(r)
		b, _ := s.Random(r)
		c, n, ok := s.Cross(r, a, b)
		if !ok {
			t.Fatal("no crossing")
		}
		wantSet(t, "crossing", c, 12, 5)
		repaired += n
		kept := 0
		for _, v := range c.Steps {
			if slices.Contains(a.Steps, v) || slices.Contains(b.Steps, v) {
				kept++
			}
		}
		if kept < 5-n {
			t.Fatalf("%v and %v give %v with %d repairs", a.Steps, b.Steps, c.Steps, n)
		}
		naive := map[int]bool{}
		for i := range a.Steps {
			naive[[]int{a.Steps[i], b.Steps[i]}[r.Intn(2)]] = true
		}
		if len(naive) < 5 {
			shrunk++
		}
	}
	if repaired == 0 || shrunk == 0 {
		t.Errorf("%d repairs, and without them %d sets shrink; wanted some of both", repaired, shrunk)
	}
}

// A level is replaced with the probability asked for, and always by an unused one.
func TestMutationRate(t *testing.T) {
	s := &search.Steps{T: 1000, K: 8}
	r := rng.New(2, 1)
	base, _ := s.Random(r)
	for _, p := range []float64{0.1, 0.25, 1} {
		const n = 4000
		changed := 0
		for range n {
			c, _ := s.Mutate(r, base, p)
			wantSet(t, "mutant", c, 1000, 8)
			for _, v := range base.Steps {
				if !slices.Contains(c.Steps, v) {
					changed++
				}
			}
		}
		// A level that was replaced may be drawn again for another one: one in a thousand.
		if sd := math.Sqrt(8 * n * p * (1 - p)); math.Abs(float64(changed)-8*n*p) > 5*sd+8*n*p*0.01 {
			t.Errorf("p = %g: %d of %d levels are replaced", p, changed, 8*n)
		}
	}
	wantSet(t, "the uniform list", s.First()[0], 1000, 8)
	all := &search.Steps{T: 5, K: 5}
	c, ok := all.Random(r)
	if m, _ := all.Mutate(r, c, 1); !ok || m.Key() != "0,1,2,3,4" {
		t.Errorf("all levels mutate to %s", m.Key())
	}
}

// Around given levels every candidate stays within the radius of each, sorted or not.
func TestStepsAroundACore(t *testing.T) {
	core := []int{2, 5, 7, 40, 99}
	s := &search.Steps{T: 100, K: 5, Around: core, Radius: 4}
	r := rng.New(3, 1)
	inside := func(what string, c search.Choice) {
		wantSet(t, what, c, 100, 5)
		for i, v := range c.Steps {
			if v < core[i]-4 || v > core[i]+4 {
				t.Fatalf("%s: %v is more than 4 from %v", what, c.Steps, core)
			}
		}
	}
	for range 2000 {
		a, okA := s.Random(r)
		b, okB := s.Random(r)
		if !okA || !okB {
			continue
		}
		inside("random", a)
		m, _ := s.Mutate(r, a, 0.5)
		inside("mutant", m)
		if c, _, ok := s.Cross(r, a, b); ok {
			inside("crossing", c)
		}
	}
	inside("the first", s.First()[0])
	if tight := (&search.Steps{T: 10, K: 3, Around: []int{4, 5, 6}}); tight.Check() != nil {
		t.Error(tight.Check())
	} else if c, ok := tight.Random(r); ok {
		wantSet(t, "radius 1", c, 10, 3)
	}
}

// Every candidate of the second stage is within the budget and uses it up: no
// further step fits in, even with as many layers left out as a step may.
func TestLayersSpendTheBudget(t *testing.T) {
	names := make([]string, 6)
	for _, most := range []int{6, 25, 29, 30} {
		s := &search.Layers{T: 40, Names: names, Most: most, MaxSkip: 0.5}
		r := rng.New(4, uint64(most))
		lengths := map[int]bool{}
		for epoch := range 12 {
			s.Begin(epoch, true)
			limit := 0
			if epoch > 4 { // then the share grows by 0.1 of 6 layers an epoch, to a half
				limit = max(int(min(0.1*float64(epoch-4), 0.5)*6+1e-9), 1)
			}
			check := func(what string, c search.Choice) {
				wantSet(t, what, c, 40, len(c.Steps))
				lengths[len(c.Steps)] = true
				for i, skip := range c.Skips {
					if len(skip) > limit {
						t.Fatalf("epoch %d, %s: step %d leaves out %v, more than %d", epoch, what, i, skip, limit)
					}
					for j, l := range skip {
						if l < 0 || l > 5 || j > 0 && l <= skip[j-1] {
							t.Fatalf("%s: layers %v", what, skip)
						}
					}
				}
				if cost := c.Executed(6); cost > most || most-cost >= 6-limit {
					t.Fatalf("epoch %d, %s: %s runs %d layers of %d, a step with %d left out fits in", epoch, what, c.Key(), cost, most, limit)
				}
			}
			for range 300 {
				a, _ := s.Random(r)
				b, _ := s.Random(r)
				check("random", a)
				m, _ := s.Mutate(r, a, 0.25)
				check("mutant", m)
				c, _, _ := s.Cross(r, a, b)
				check("crossing", c)
			}
		}
		if most >= 25 && len(lengths) < 2 {
			t.Errorf("budget %d: all candidates have %v steps", most, lengths)
		}
	}
}

// The second stage begins when the best candidate has not changed, or with epoch 5.
func TestLayersStages(t *testing.T) {
	r := rng.New(5, 5)
	skipping := func(s *search.Layers) bool {
		for range 50 {
			c, _ := s.Random(r)
			if c.Executed(10) < 10*len(c.Steps) {
				return true
			}
		}
		return false
	}
	for name, c := range map[string]struct {
		changed func(epoch int) bool
		from    int
	}{
		"always better": {func(int) bool { return true }, 5},
		"never better":  {func(epoch int) bool { return epoch == 0 }, 1},
		"until epoch 3": {func(epoch int) bool { return epoch < 3 }, 3},
	} {
		s := &search.Layers{T: 50, Names: make([]string, 10), Most: 45, MaxSkip: 0.5}
		for epoch := range 8 {
			s.Begin(epoch, c.changed(epoch))
			if got := skipping(s); got != (epoch >= c.from) {
				t.Errorf("%s: layers are left out in epoch %d: %t", name, epoch, got)
			}
		}
	}
}

// Mutations change the layers that are left out, which the published search
// meant to but never did: it compared where it should have assigned.
func TestMutationChangesLayers(t *testing.T) {
	s := &search.Layers{T: 1000, Names: make([]string, 20), Most: 100, MaxSkip: 0.5}
	for epoch := range 12 {
		s.Begin(epoch, true)
	}
	r := rng.New(6, 6)
	ours, naive := 0, 0
	const n = 500
	for range n {
		a, _ := s.Random(r)
		m, _ := s.Mutate(r, a, 0.25)
		lists := func(c search.Choice) map[string]bool {
			out := map[string]bool{}
			for _, skip := range c.Skips {
				out[fmt.Sprint(skip)] = true
			}
			return out
		}
		fresh := func(c search.Choice) int {
			old := lists(a)
			for l := range lists(c) {
				if !old[l] {
					return 1
				}
			}
			return 0
		}
		ours += fresh(m)
		unassigned := search.Choice{Steps: m.Steps, Skips: a.Skips}
		naive += fresh(unassigned)
	}
	// Of five steps or more a mutation misses all with probability 0.75⁵ = 0.24 at most.
	if ours < n*65/100 || naive > 0 {
		t.Errorf("%d of %d mutants leave out other layers, %d of the naive ones; wanted three quarters and none", ours, n, naive)
	}
}
