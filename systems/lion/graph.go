package lion

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// Graph is what a program computes: the results that the update needs, at this step or
// through the state at a later one, each once. Two programs with equal graphs compute
// the same, whatever their names, their order and their dead statements are.
type Graph struct {
	nodes  []node // operands before what needs them
	update int
	states []stateNode // those that the update needs, in the order of their first use
	text   string
}

// node is an input, a number, a state as the step before left it, or a function's result.
type node struct {
	leaf  string // "w", "g", "lr", "number", "state", or "" for a result
	f     *function
	args  []int
	kind  Kind
	value float64
	state int
}

// stateNode is a state: the node that reads it and the one that it is set to.
type stateNode struct {
	name       string
	kind       Kind
	leaf, next int
}

// NewGraph carries p out without data. The error is an *Error; see Check.
func NewGraph(p *Program) (*Graph, error) {
	b := &builder{known: map[string]int{}, env: map[string]int{}}
	for _, in := range []node{{leaf: inputW, kind: Tensor}, {leaf: inputG, kind: Tensor}, {leaf: inputLR}} {
		b.env[in.leaf] = b.add(in, in.leaf)
	}
	for i, v := range p.State {
		if _, ok := b.env[v.Name]; ok || v.Name == resultVar || v.Name == "" {
			return nil, &Error{0, fmt.Sprintf("state %q is declared twice, or is the name of an input or of the result", v.Name)}
		}
		b.env[v.Name] = b.add(node{leaf: "state", kind: v.Kind, state: i}, "state "+strconv.Itoa(i))
		b.leaves = append(b.leaves, b.env[v.Name])
	}
	for i, s := range p.Body {
		if err := b.statement(s); err != "" {
			return nil, &Error{i + 1, err}
		}
	}
	u, ok := b.env[resultVar]
	switch {
	case !ok:
		return nil, &Error{0, "update is never assigned; want a tensor in it, which is subtracted from the parameters"}
	case b.nodes[u].kind != Tensor:
		return nil, &Error{0, "update is a scalar in the end, want a tensor"}
	}
	for _, v := range p.State {
		if got := b.nodes[b.env[v.Name]].kind; got != v.Kind {
			return nil, &Error{0, fmt.Sprintf("state %s is a %v in the end, want a %v as it was declared", v.Name, got, v.Kind)}
		}
	}
	return b.prune(p, u), nil
}

// builder makes nodes, equal ones once.
type builder struct {
	nodes  []node
	known  map[string]int
	env    map[string]int // the node that a name stands for now
	leaves []int          // of the states
}

func (b *builder) add(n node, key string) int {
	if i, ok := b.known[key]; ok {
		return i
	}
	b.nodes = append(b.nodes, n)
	b.known[key] = len(b.nodes) - 1
	return len(b.nodes) - 1
}

// statement carries one out; it returns what is wrong with it.
func (b *builder) statement(s Statement) string {
	var args []int
	var kinds []Kind
	key := s.Func
	for _, a := range s.Args {
		i, ok := b.env[a.Name]
		if a.Name == "" {
			i = b.add(node{leaf: "number", value: a.Value}, "number "+strconv.FormatFloat(a.Value, 'g', -1, 64))
		} else if !ok {
			return fmt.Sprintf("%s is not assigned before; want w, g, lr, state that is declared, or a result from above", a.Name)
		}
		args, kinds = append(args, i), append(kinds, b.nodes[i].kind)
		key += " " + strconv.Itoa(i)
	}
	if s.Func == "" && len(args) == 1 {
		b.env[s.To] = args[0]
		return ""
	}
	f := byName[s.Func]
	if f == nil {
		return unknownFunction(s.Func)
	}
	if len(s.Args) != f.arity {
		return fmt.Sprintf("%s has %d operands, want %d", s.Func, len(s.Args), f.arity)
	}
	n := node{f: f, args: args}
	var wrong string
	if n.kind, wrong = f.result(kinds); wrong != "" {
		return s.Func + ": " + wrong
	}
	b.env[s.To] = b.add(n, key)
	return ""
}

// prune keeps what update needs, numbered by first use from there, and writes it down.
func (b *builder) prune(p *Program, update int) *Graph {
	g := &Graph{}
	at := map[int]int{}
	var out strings.Builder
	var visit func(i int) int
	visit = func(i int) int {
		if k, ok := at[i]; ok {
			return k
		}
		n := b.nodes[i]
		var args []int
		for _, a := range n.args {
			args = append(args, visit(a))
		}
		n.args = args
		k := len(g.nodes)
		switch {
		case n.leaf == "state":
			v := p.State[n.state]
			g.states = append(g.states, stateNode{name: v.Name, kind: v.Kind, leaf: k, next: b.env[v.Name]})
			n.state = len(g.states) - 1
			fmt.Fprintf(&out, "%d=%v state %d\n", k, n.kind, n.state)
		case n.leaf == "number":
			fmt.Fprintf(&out, "%d=%s\n", k, strconv.FormatFloat(n.value, 'g', -1, 64))
		case n.leaf != "":
			fmt.Fprintf(&out, "%d=%s\n", k, n.leaf)
		default:
			fmt.Fprintf(&out, "%d=%s%v\n", k, n.f.name, n.args)
		}
		g.nodes = append(g.nodes, n)
		at[i] = k
		return k
	}
	g.update = visit(update)
	fmt.Fprintf(&out, "update=%d\n", g.update)
	for i := 0; i < len(g.states); i++ { // visiting one may find more
		g.states[i].next = visit(g.states[i].next)
		fmt.Fprintf(&out, "next %d=%d\n", i, g.states[i].next)
	}
	g.text = out.String()
	return g
}

// Text writes the graph down: equal texts are equal graphs.
func (g *Graph) Text() string { return g.text }

// Hash is of the text. Who acts on equal hashes compares texts as well.
func (g *Graph) Hash() [16]byte {
	sum := sha256.Sum256([]byte(g.text))
	return [16]byte(sum[:16])
}

// Size is how many functions are computed at every step.
func (g *Graph) Size() int {
	n := 0
	for i := range g.nodes {
		if g.nodes[i].f != nil {
			n++
		}
	}
	return n
}

// States is how many tensors are kept from step to step: what an optimiser's memory is
// counted in.
func (g *Graph) States() int {
	n := 0
	for _, s := range g.states {
		if s.kind == Tensor {
			n++
		}
	}
	return n
}

// Uses tells whether a function is computed.
func (g *Graph) Uses(name string) bool {
	for i := range g.nodes {
		if g.nodes[i].f != nil && g.nodes[i].f.name == name {
			return true
		}
	}
	return false
}

// Learns tells whether the update depends on the gradient.
func (g *Graph) Learns() bool {
	for i := range g.nodes {
		if g.nodes[i].leaf == inputG {
			return true
		}
	}
	return false
}
