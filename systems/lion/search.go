package lion

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// Way is how a search makes programs.
type Way string

// The ways: regularised evolution (Real et al. 2019, arXiv 1802.01548), which mutates the
// best of a few and lets the oldest go; the same with mutations of numbers alone, which
// tunes the settings of where it starts; and mutations of the start that build on nothing.
const (
	Evolve Way = "evolve"
	Tune   Way = "tune"
	Random Way = "random"
)

// Scorer trains by a program and says how well that went. It is called from several
// goroutines, and gives equal scores to equal graphs.
type Scorer func(ctx context.Context, g *Graph) (Score, error)

// Options are a search's.
type Options struct {
	Seed        uint64
	Way         Way
	Start       *Program
	Evaluations int // programs that are trained; what is known already does not count
	Population  int
	Tournament  int // of so many the best has the child
	MaxLength   int // statements
	Restarts    int // populations, one after the other; every second begins with the best so far
	Keep        int // the best programs that are handed back
	Workers     int // at once; 0 is one a CPU. The outcome does not depend on it
	Score       Scorer
	// Journal keeps scores, and gives those that an interrupted search had; nil keeps none.
	Journal *Journal
	// Progress hears of evaluations done and the best fitness so far.
	Progress func(done, total int, best float64)

	hash func(*Graph) [16]byte // of tests; Graph.Hash otherwise
}

// Check says what is wrong with options.
func (o *Options) Check() error {
	switch {
	case o.Way != Evolve && o.Way != Tune && o.Way != Random:
		return fmt.Errorf("lion: search by %q; want %s, %s or %s", o.Way, Evolve, Tune, Random)
	case o.Start == nil || o.Score == nil:
		return fmt.Errorf("lion: a search wants a program to start from and a score")
	case o.MaxLength < len(o.Start.Body):
		return fmt.Errorf("lion: at most %d statements, the start has %d; want as many at least", o.MaxLength, len(o.Start.Body))
	case o.Evaluations < 1 || o.Population < 2 || o.Tournament < 1 || o.Tournament > o.Population:
		return fmt.Errorf("lion: %d evaluations, population %d, tournaments of %d; want at least 1, 2 and 1, and no tournament beyond the population", o.Evaluations, o.Population, o.Tournament)
	case o.Restarts < 1 || o.Keep < 1 || o.Workers < 0:
		return fmt.Errorf("lion: %d populations, %d kept, %d workers; want at least 1, 1 and 0", o.Restarts, o.Keep, o.Workers)
	}
	return o.Start.Check()
}

// Found is a program that a search has scored.
type Found struct {
	Program *Program
	Graph   *Graph
	Score   Score
	At      int // its place among the evaluations, from 1; 0 is the start
}

// better orders by fitness, then by size, then by age.
func (f *Found) better(o *Found) bool {
	a, b := f.Score.Fitness(), o.Score.Fitness()
	switch {
	case a != b:
		return a > b
	case f.Graph.Size() != o.Graph.Size():
		return f.Graph.Size() < o.Graph.Size()
	}
	return f.At < o.At
}

// Report is what a search did.
type Report struct {
	Moves
	Candidates int       `json:"candidates"` // programs made
	Evaluated  int       `json:"evaluated"`  // of those, trained
	Known      int       `json:"known"`      // of those, taken from the cache
	Broken     int       `json:"broken"`     // of those trained, ended early by what is not finite
	Collisions int       `json:"collisions"` // equal hashes of unlike programs
	Curve      []float64 `json:"curve"`      // the best fitness after every hundredth of the evaluations
}

// Outcome is a search's best programs, the best first, no two of one graph. The start is
// among them, last where it is none of the best, so that no funnel ends below it.
type Outcome struct {
	Best   []Found
	Report Report
}

// round is how many children are made before any of them is scored. It is part of what a
// seed means, so that the outcome is the same for any number of workers.
const round = 16

// Search looks for programs that score well. Equal options give equal outcomes.
func Search(ctx context.Context, o Options) (*Outcome, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Workers == 0 {
		o.Workers = cpu.Workers()
	}
	if o.hash == nil {
		o.hash = (*Graph).Hash
	}
	s := &searching{o: o, known: map[[16]byte][]known{}}
	g, err := NewGraph(o.Start)
	if err != nil {
		return nil, err
	}
	start := Found{Program: o.Start, Graph: g}
	if err := s.score(ctx, []*Found{&start}); err != nil {
		return nil, err
	}
	s.rep, start.At = Report{Collisions: s.rep.Collisions}, 0
	s.keep(start)
	for k := range o.Restarts {
		from := start
		if k%2 == 1 {
			from = s.best[0]
		}
		if err := s.populate(ctx, from, k); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(s.best, func(b Found) bool { return b.Graph.text == start.Graph.text }) {
		s.best = append(s.best, start)
	}
	for i := range s.best { // the funnel goes on with what is not dead
		s.best[i].Program = s.best[i].Graph.Program()
	}
	return &Outcome{s.best, s.rep}, nil
}

type searching struct {
	o     Options
	known map[[16]byte][]known
	best  []Found
	rep   Report
}

// known is a scored graph. Its text is compared, so that equal hashes are not enough.
type known struct {
	text  string
	score Score
}

// populate lives through one population, with its share of the evaluations.
func (s *searching) populate(ctx context.Context, from Found, k int) error {
	r := rng.ForImage(s.o.Seed, uint64(k), rng.Order)
	m := Mutator{MaxLength: s.o.MaxLength, Numbers: s.o.Way == Tune}
	pop := make([]Found, s.o.Population)
	for i := range pop {
		pop[i] = from
	}
	until := s.o.Evaluations * (k + 1) / s.o.Restarts
	most := s.rep.Candidates + 50*(until-s.rep.Evaluated) // where nearly all is known, it ends all the same
	for s.rep.Evaluated < until && s.rep.Candidates < most {
		n := min(round, until-s.rep.Evaluated)
		children := make([]*Found, n)
		for i := range children {
			parent := from
			times := 1
			if s.o.Way == Random {
				times = 1 + r.Intn(8)
			} else {
				parent = pop[r.Intn(len(pop))]
				for range s.o.Tournament - 1 {
					if c := pop[r.Intn(len(pop))]; c.better(&parent) {
						parent = c
					}
				}
			}
			c := Found{Program: parent.Program, Graph: parent.Graph}
			for range times {
				c.Program, c.Graph = m.Mutate(r, c.Program, c.Graph, &s.rep.Moves)
			}
			children[i] = &c
		}
		s.rep.Candidates += n
		if err := s.score(ctx, children); err != nil {
			return err
		}
		for _, c := range children {
			s.keep(*c)
			pop = append(pop[1:], *c)
		}
		if s.o.Progress != nil {
			s.o.Progress(s.rep.Evaluated, s.o.Evaluations, s.best[0].Score.Fitness())
		}
	}
	return nil
}

// score gives each its score: known ones their own, the others by training, several at once.
func (s *searching) score(ctx context.Context, list []*Found) error {
	var todo []*Found
	for _, f := range list {
		if c := s.find(f.Graph); c != nil {
			f.Score = c.score
			s.rep.Known++
			continue
		}
		if slices.ContainsFunc(todo, func(t *Found) bool { return t.Graph.text == f.Graph.text }) {
			s.rep.Known++ // scored below, with its twin
			continue
		}
		todo = append(todo, f)
	}
	errs := make([]error, len(todo))
	var wg sync.WaitGroup
	slots := make(chan struct{}, s.o.Workers)
	for i, f := range todo {
		if v, ok := s.o.Journal.get(f.Graph.text); ok {
			f.Score = v
			continue
		}
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			if f.Score, errs[i] = s.o.Score(ctx, f.Graph); errs[i] == nil {
				errs[i] = s.o.Journal.put(f.Graph.text, f.Score)
			}
		}()
	}
	wg.Wait()
	for i, f := range todo {
		if errs[i] != nil {
			return errs[i]
		}
		s.rep.Evaluated++
		f.At = s.rep.Evaluated
		if f.Score.Broken {
			s.rep.Broken++
		}
		h := s.o.hash(f.Graph)
		s.rep.Collisions += min(1, len(s.known[h]))
		s.known[h] = append(s.known[h], known{f.Graph.text, f.Score})
	}
	for _, f := range list {
		if c := s.find(f.Graph); c != nil {
			f.Score = c.score
			if f.At == 0 {
				f.At = s.rep.Evaluated
			}
		}
	}
	return nil
}

func (s *searching) find(g *Graph) *known {
	list := s.known[s.o.hash(g)]
	for i := range list {
		if list[i].text == g.text {
			return &list[i]
		}
	}
	return nil
}

// keep puts a program among the best where it belongs.
func (s *searching) keep(f Found) {
	for n := s.o.Evaluations; len(s.rep.Curve) < 100 && len(s.best) > 0 && s.rep.Evaluated*100 >= (len(s.rep.Curve)+1)*n; {
		s.rep.Curve = append(s.rep.Curve, s.best[0].Score.Fitness())
	}
	if slices.ContainsFunc(s.best, func(b Found) bool { return b.Graph.text == f.Graph.text }) {
		return
	}
	i := len(s.best)
	for i > 0 && f.better(&s.best[i-1]) {
		i--
	}
	if s.best = slices.Insert(s.best, i, f); len(s.best) > s.o.Keep {
		s.best = s.best[:s.o.Keep]
	}
}
