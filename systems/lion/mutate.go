package lion

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/rng"
)

// Mutator changes programs at random.
type Mutator struct {
	// MaxLength is the number of statements beyond which none is inserted.
	MaxLength int
	// Numbers changes numbers alone, as one tunes a program's settings: weights of moving
	// means stay below one and those that are one setting stay equal, and ones are left.
	Numbers bool
}

// Moves counts the mutations tried and what became of them.
type Moves struct {
	Tried     int `json:"tried"`
	Invalid   int `json:"invalid"`   // refused without data
	Redundant int `json:"redundant"` // of the same graph as before
}

// mostTries bounds the mutations of one program that compute nothing new.
const mostTries = 1000

// Mutate is a mutation of p that is valid, depends on the gradient, and computes something
// else than p; p itself where none was found in a thousand.
func (m Mutator) Mutate(r *rng.Stream, p *Program, before *Graph, count *Moves) (*Program, *Graph) {
	for range mostTries {
		q := p.Clone()
		count.Tried++
		if !m.once(r, q) {
			count.Invalid++
			continue
		}
		g, err := NewGraph(q)
		switch {
		case err != nil || !g.Learns():
			count.Invalid++
		case g.text == before.text:
			count.Redundant++
		default:
			return q, g
		}
	}
	return p, before
}

// once changes q in one way; it returns false where that way is closed.
func (m Mutator) once(r *rng.Stream, q *Program) bool {
	if m.Numbers {
		return tune(r, q)
	}
	way := r.Intn(3)
	if len(q.Body) >= m.MaxLength {
		way = 1 + r.Intn(2) // no room to insert
	}
	switch way {
	case 0:
		insert(r, q)
		return true
	case 1:
		if len(q.Body) == 0 {
			return false
		}
		i := r.Intn(len(q.Body))
		q.Body = append(q.Body[:i], q.Body[i+1:]...)
		return true
	}
	if r.Intn(2) == 0 {
		return changeNumber(r, q)
	}
	return modify(r, q)
}

// scope is the variables that a statement may read, with their kinds.
func (p *Program) scope(before int) (names []string, kinds map[string]Kind) {
	names, kinds = []string{inputW, inputG, inputLR}, map[string]Kind{inputW: Tensor, inputG: Tensor, inputLR: Scalar}
	for _, v := range p.State {
		names, kinds[v.Name] = append(names, v.Name), v.Kind
	}
	for _, s := range p.Body[:before] {
		f := byName[s.Func]
		var args []Kind
		for _, a := range s.Args {
			args = append(args, kinds[a.Name]) // a number's is that of no variable: scalar
		}
		k := args[0]
		if f != nil {
			k, _ = f.result(args)
		}
		if _, ok := kinds[s.To]; !ok {
			names = append(names, s.To)
		}
		kinds[s.To] = k
	}
	return names, kinds
}

// operand draws what statement i may read: a variable, or now and then a number.
func operand(r *rng.Stream, names []string) Arg {
	if r.Intn(4) == 0 {
		return Num(number(r))
	}
	return Var(names[r.Intn(len(names))])
}

// number draws a constant: the usual ones, a normal one, or one of any size below.
func number(r *rng.Stream) float64 {
	switch r.Intn(8) {
	case 0:
		return math.Pi
	case 1:
		return math.E
	case 2:
		return 1e-8
	case 3, 4:
		return short(r.Normal())
	}
	return short(math.Pow(10, -6*r.Float64()))
}

// short rounds to four digits: what is beyond them says nothing.
func short(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	if math.IsInf(scale, 0) || scale == 0 {
		return v
	}
	return math.Round(v*scale) / scale
}

// insert puts a random statement at a random place.
func insert(r *rng.Stream, q *Program) {
	at := r.Intn(len(q.Body) + 1)
	names, _ := q.scope(at)
	f := functions[r.Intn(len(functions))]
	s := Statement{Func: f.name}
	for range f.arity {
		s.Args = append(s.Args, operand(r, names))
	}
	switch r.Intn(4) {
	case 0:
		s.To = resultVar
	case 1:
		s.To = fresh(q)
	default:
		s.To = names[r.Intn(len(names))]
	}
	q.Body = append(q.Body, Statement{})
	copy(q.Body[at+1:], q.Body[at:])
	q.Body[at] = s
}

// fresh is a name that the program does not have.
func fresh(q *Program) string {
	taken := map[string]bool{}
	for _, s := range q.Body {
		taken[s.To] = true
	}
	for _, v := range q.State {
		taken[v.Name] = true
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("x%d", i); !taken[name] {
			return name
		}
	}
}

// modify gives a statement another operand, or another function of as many.
func modify(r *rng.Stream, q *Program) bool {
	if len(q.Body) == 0 {
		return false
	}
	i := r.Intn(len(q.Body))
	s := &q.Body[i]
	f := byName[s.Func]
	if f != nil && r.Intn(4) == 0 {
		for {
			if o := functions[r.Intn(len(functions))]; o.arity == f.arity {
				s.Func = o.name
				return true
			}
		}
	}
	names, _ := q.scope(i)
	s.Args[r.Intn(len(s.Args))] = operand(r, names)
	return true
}

// tune changes one setting: a number, or a weight of moving means wherever it is the same,
// as that of a moment and of its correction. Free numbers would make a rival that breaks
// down as soon as it runs for longer than it was tuned for.
func tune(r *rng.Stream, q *Program) bool {
	type place struct {
		a      *Arg
		weight bool
	}
	var at []place
	for i := range q.Body {
		for k := range q.Body[i].Args {
			if a := &q.Body[i].Args[k]; a.Name == "" && a.Value != 1 {
				at = append(at, place{a, q.Body[i].Func == "interpolate" && k == 2})
			}
		}
	}
	if len(at) == 0 {
		return false
	}
	p, by := at[r.Intn(len(at))], math.Exp2(r.Normal())
	if !p.weight {
		p.a.Value = short(p.a.Value * by)
		return !math.IsInf(p.a.Value, 0)
	}
	from, to := p.a.Value, 1-short((1-p.a.Value)*by)
	if to < 0 || to >= 1 {
		return false
	}
	for _, o := range at {
		if o.weight && o.a.Value == from {
			o.a.Value = to
		}
	}
	return true
}

// changeNumber multiplies one number by a power of two, 2^normal, or its distance from one
// where it is between a half and one, as the weights of moving means are.
func changeNumber(r *rng.Stream, q *Program) bool {
	var at []*Arg
	for i := range q.Body {
		for k := range q.Body[i].Args {
			if a := &q.Body[i].Args[k]; a.Name == "" {
				at = append(at, a)
			}
		}
	}
	if len(at) == 0 {
		return false
	}
	a, by := at[r.Intn(len(at))], math.Exp2(r.Normal())
	if a.Value >= 0.5 && a.Value < 1 && r.Intn(4) > 0 {
		a.Value = 1 - short((1-a.Value)*by)
	} else {
		a.Value = short(a.Value * by)
	}
	return !math.IsInf(a.Value, 0)
}
