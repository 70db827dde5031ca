package lion

import (
	"slices"
	"strconv"
)

// Program writes the graph as a program: a statement for each function, no dead ones. The
// state keeps its names; the rest is called t0, t1 and so on.
func (g *Graph) Program() *Program {
	w := &writer{Graph: g, names: make([]string, len(g.nodes)), p: &Program{}}
	for _, s := range g.states {
		w.p.State = append(w.p.State, Variable{s.name, s.kind})
		w.names[s.leaf] = s.name
	}
	for i := range g.nodes {
		switch n := &g.nodes[i]; {
		case n.leaf == inputW, n.leaf == inputG, n.leaf == inputLR:
			w.names[i] = n.leaf
		case n.f != nil:
			w.names[i] = w.name(i)
		}
	}
	for i := range g.nodes {
		n := &g.nodes[i]
		if n.f == nil {
			continue
		}
		s := Statement{To: w.names[i], Func: n.f.name}
		for _, a := range n.args {
			s.Args = append(s.Args, w.arg(a))
		}
		w.p.Body = append(w.p.Body, s)
	}
	w.copies()
	return w.p
}

type writer struct {
	*Graph
	p     *Program
	names []string // of the nodes; "" of numbers
	temps int
}

// name is that of a result: the state's that it becomes, where nothing reads the old
// value later, or one of its own.
func (w *writer) name(i int) string {
	if i == w.update {
		return resultVar
	}
	for k, s := range w.states {
		if s.next == i && w.direct(k) {
			return s.name
		}
	}
	for {
		t := "t" + strconv.Itoa(w.temps)
		w.temps++
		if !slices.ContainsFunc(w.states, func(s stateNode) bool { return s.name == t }) {
			return t
		}
	}
}

// direct tells whether state k can be assigned where its next value arises.
func (w *writer) direct(k int) bool {
	s := w.states[k]
	if s.leaf == w.update {
		return false
	}
	for j, o := range w.states {
		if j != k && (o.next == s.leaf || o.next == s.next && j < k) {
			return false
		}
	}
	for i := s.next + 1; i < len(w.nodes); i++ {
		if slices.Contains(w.nodes[i].args, s.leaf) {
			return false
		}
	}
	return true
}

func (w *writer) arg(i int) Arg {
	if w.nodes[i].leaf == "number" {
		return Num(w.nodes[i].value)
	}
	return Var(w.names[i])
}

// copies assigns what is no result that could be named so at once: a state that becomes
// another's old value is kept aside before that one changes.
func (w *writer) copies() {
	set := func(to string, from Arg) { w.p.Body = append(w.p.Body, Statement{To: to, Args: []Arg{from}}) }
	if w.nodes[w.update].f == nil {
		set(resultVar, w.arg(w.update))
	}
	later := map[int]Arg{}
	for k, s := range w.states {
		from := w.arg(s.next)
		if w.nodes[s.next].leaf == "state" && s.next != s.leaf {
			aside := w.name(-1)
			set(aside, from)
			from = Var(aside)
		}
		later[k] = from
	}
	for k, s := range w.states {
		if s.next != s.leaf && w.names[s.next] != s.name {
			set(s.name, later[k])
		}
	}
}
