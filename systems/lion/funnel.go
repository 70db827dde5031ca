package lion

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Stage is a step of the funnel: tasks that the search did not see, larger ones from stage
// to stage, and how many programs go on from it.
type Stage struct {
	Tasks []Scorer
	Keep  int
}

// Ranked is a program with its mean fitness over the tasks of the last stage that it saw.
type Ranked struct {
	Found
	Fitness float64
	Stage   int // from 1
}

// Funnel chooses, among the best of a search, the one that does best on other and larger
// tasks, not the one with the best score in the search, which so many programs were
// compared by that the best is partly lucky. The result is ordered, the chosen one first;
// those that dropped out earlier follow.
func Funnel(ctx context.Context, list []Found, stages []Stage) ([]Ranked, error) {
	if len(list) == 0 || len(stages) == 0 {
		return nil, fmt.Errorf("lion: a funnel of %d programs and %d stages; want at least 1 of each", len(list), len(stages))
	}
	in := make([]Ranked, len(list))
	for i, f := range list {
		in[i].Found = f
	}
	var out []Ranked
	for k, st := range stages {
		if err := rank(ctx, in, st.Tasks); err != nil {
			return nil, err
		}
		for i := range in {
			in[i].Stage = k + 1
		}
		slices.SortStableFunc(in, func(a, b Ranked) int {
			switch {
			case a.Fitness > b.Fitness:
				return -1
			case a.Fitness < b.Fitness:
				return 1
			}
			return a.Graph.Size() - b.Graph.Size()
		})
		n := min(st.Keep, len(in))
		if k == len(stages)-1 {
			n = len(in)
		}
		out = append(slices.Clone(in[n:]), out...)
		in = in[:n]
	}
	return append(slices.Clone(in), out...), nil
}

func rank(ctx context.Context, list []Ranked, tasks []Scorer) error {
	scores := make([]float64, len(list)*len(tasks))
	err := atOnce(len(scores), func(i int) error {
		s, err := tasks[i%len(tasks)](ctx, list[i/len(tasks)].Graph)
		scores[i] = s.Fitness()
		return err
	})
	for i := range list {
		list[i].Fitness = 0
		for k := range tasks {
			list[i].Fitness += scores[i*len(tasks)+k] / float64(len(tasks))
		}
	}
	return err
}

// atOnce calls f for 0 to n-1, one a CPU at a time, and returns the first error by index.
func atOnce(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, cpu.Workers())
	for i := range n {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			errs[i] = f(i)
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Simplify makes a program shorter without making it worse: it computes what is the same
// whenever it runs, lets statements hand an operand on instead of computing anything,
// rounds numbers, and keeps every change after which the fitness is not more than slack
// below that of the program as it was given. What has no effect is gone from the start.
func Simplify(ctx context.Context, p *Program, fitness func(context.Context, *Graph) (float64, error), slack float64) (*Program, error) {
	g, err := NewGraph(p)
	if err != nil {
		return nil, err
	}
	first, err := fitness(ctx, g)
	if err != nil {
		return nil, err
	}
	p = fold(g.Program())
	for {
		next, err := shorter(ctx, p, fitness, first-slack)
		if err != nil || next == nil {
			return p, err
		}
		p = next
	}
}

// shorter is p after the first change that is good enough, nil where none is.
func shorter(ctx context.Context, p *Program, fitness func(context.Context, *Graph) (float64, error), least float64) (*Program, error) {
	now, err := NewGraph(p)
	if err != nil {
		return nil, err
	}
	for _, q := range simpler(p) {
		g, err := NewGraph(q)
		if err != nil || !g.Learns() || g.text == now.text || g.cost() >= now.cost() {
			continue
		}
		f, err := fitness(ctx, g)
		if err != nil {
			return nil, err
		}
		if f >= least {
			return fold(g.Program()), nil
		}
	}
	return nil, nil
}

// cost orders programs by functions and then by the digits of their numbers.
func (g *Graph) cost() int {
	c := 0
	for i := range g.nodes {
		switch n := &g.nodes[i]; {
		case n.f != nil:
			c += 1000
		case n.leaf == "number":
			c += len(strconv.FormatFloat(n.value, 'e', -1, 64))
		case n.leaf == "state":
			c += 100
		}
	}
	return c
}

// simpler is what p could become: statements that hand an operand on, from the last to
// the first, then rounded numbers.
func simpler(p *Program) []*Program {
	var out []*Program
	for i := len(p.Body) - 1; i >= 0; i-- {
		for _, a := range p.Body[i].Args {
			if p.Body[i].Func != "" {
				q := p.Clone()
				q.Body[i].Func, q.Body[i].Args = "", []Arg{a}
				out = append(out, q)
			}
		}
	}
	for i := range p.Body {
		for k, a := range p.Body[i].Args {
			for digits := 1; a.Name == "" && digits <= 2; digits++ {
				q := p.Clone()
				q.Body[i].Args[k].Value, _ = strconv.ParseFloat(strconv.FormatFloat(a.Value, 'e', digits-1, 64), 64)
				out = append(out, q)
			}
		}
	}
	return out
}

// fold computes what depends on numbers alone.
func fold(p *Program) *Program {
	q := &Program{State: p.State}
	fixed := map[string]float64{}
	state := map[string]bool{}
	for _, v := range p.State {
		state[v.Name] = true
	}
	for _, s := range p.Clone().Body {
		all := true
		for k, a := range s.Args {
			if v, ok := fixed[a.Name]; ok && a.Name != "" {
				s.Args[k] = Num(v)
			}
			all = all && s.Args[k].Name == ""
		}
		delete(fixed, s.To)
		if v := constant(s); all && !state[s.To] && !math.IsNaN(v) && !math.IsInf(v, 0) {
			fixed[s.To] = v
			continue
		}
		q.Body = append(q.Body, s)
	}
	g, err := NewGraph(q)
	if err != nil { // the update is a number after all
		return p
	}
	return g.Program()
}

// constant is a statement of numbers; NaN where it is none.
func constant(s Statement) float64 {
	var x [3]float64
	for k, a := range s.Args {
		if a.Name != "" {
			return math.NaN()
		}
		x[k] = a.Value
	}
	if s.Func == "" {
		return x[0]
	}
	switch f := byName[s.Func]; {
	case f.one != nil:
		return f.one(x[0])
	case f.two != nil:
		return f.two(x[0], x[1])
	case f.rule == mix:
		return float64((1-x[2])*x[0]) + float64(x[2]*x[1])
	}
	return math.NaN()
}
