package lion

import (
	"fmt"
	"math"
	"slices"
)

// Float is what parameters are made of.
type Float interface{ float32 | float64 }

// Machine carries a graph out over vectors of one length. Scalars are float64; the
// elements of tensors are rounded to T after every function, so that a float32 program is
// what a network in float32 would see. Sums run in order of the elements. A step allocates
// nothing.
type Machine[T Float] struct {
	graph   *Graph
	code    []instruction
	scalars []float64
	tensors [][]T
	places  []int    // where each state is
	update  int      // the tensor that is subtracted
	aside   []commit // before the parameters change
	commits []commit
}

// instruction is a function with its operands' places among scalars or tensors.
type instruction struct {
	f        *function
	to       int
	args     [3]int
	kinds    [3]Kind
	toTensor bool
}

// commit sets a state to its next value at the end of a step.
type commit struct {
	kind     Kind
	to, from int
}

// The first tensors and scalars are the inputs.
const (
	slotW = iota
	slotG
	inputTensors
)

// NewMachine makes a machine for n parameters, with the state at zero.
func NewMachine[T Float](g *Graph, n int) *Machine[T] {
	m := &Machine[T]{graph: g, scalars: make([]float64, 1), tensors: make([][]T, inputTensors)}
	place := make([]int, len(g.nodes))
	buffer := func() int {
		m.tensors = append(m.tensors, make([]T, n))
		return len(m.tensors) - 1
	}
	last := g.lastUses()
	var free []int
	for i := range g.nodes {
		nd := &g.nodes[i]
		switch {
		case nd.leaf == inputW:
			place[i] = slotW
		case nd.leaf == inputG:
			place[i] = slotG
		case nd.leaf == inputLR:
			place[i] = 0
		case nd.kind == Scalar:
			place[i] = len(m.scalars)
			m.scalars = append(m.scalars, nd.value)
		case nd.leaf == "state":
			place[i] = buffer()
		case len(free) > 0:
			place[i] = free[len(free)-1]
			free = free[:len(free)-1]
		default:
			place[i] = buffer()
		}
		if nd.f == nil {
			continue
		}
		in := instruction{f: nd.f, to: place[i], toTensor: nd.kind == Tensor}
		for k, a := range nd.args {
			in.args[k], in.kinds[k] = place[a], g.nodes[a].kind
			if g.nodes[a].f != nil && g.nodes[a].kind == Tensor && last[a] == i && !slices.Contains(free, place[a]) {
				free = append(free, place[a]) // from the next function on
			}
		}
		m.code = append(m.code, in)
	}
	for _, s := range g.states {
		m.places = append(m.places, place[s.leaf])
		if s.next != s.leaf {
			m.commits = append(m.commits, commit{s.kind, place[s.leaf], place[s.next]})
		}
	}
	m.update = place[g.update]
	m.keepAside(buffer)
	return m
}

// lastUses is, for each node, the last one that reads it; what lives to the end of the
// step has one beyond all.
func (g *Graph) lastUses() []int {
	last := make([]int, len(g.nodes))
	for i := range g.nodes {
		for _, a := range g.nodes[i].args {
			last[a] = i
		}
	}
	last[g.update] = len(g.nodes)
	for _, s := range g.states {
		last[s.next] = len(g.nodes)
	}
	return last
}

// keepAside copies what a commit reads and another one, or the new parameters, overwrite.
func (m *Machine[T]) keepAside(buffer func() int) {
	for i, c := range m.commits {
		lost := c.kind == Tensor && c.from == slotW ||
			slices.ContainsFunc(m.commits, func(o commit) bool { return o.kind == c.kind && o.to == c.from })
		if !lost {
			continue
		}
		var t int
		if c.kind == Tensor {
			t = buffer()
		} else {
			t = len(m.scalars)
			m.scalars = append(m.scalars, 0)
		}
		m.aside = append(m.aside, commit{c.kind, t, c.from})
		m.commits[i].from = t
	}
}

// Step subtracts the program's update from w, for the gradient g and the learning rate lr.
// g is not changed. It panics when the lengths are not the machine's.
func (m *Machine[T]) Step(w, g []T, lr float64) {
	for _, t := range m.tensors[inputTensors:] {
		if len(w) != len(t) || len(g) != len(t) {
			panic(fmt.Sprintf("lion: Machine.Step: %d parameters and %d gradients, want %d of each", len(w), len(g), len(t)))
		}
	}
	if len(w) != len(g) {
		panic(fmt.Sprintf("lion: Machine.Step: %d parameters and %d gradients", len(w), len(g)))
	}
	m.tensors[slotW], m.tensors[slotG], m.scalars[0] = w, g, lr
	for i := range m.code {
		if c := &m.code[i]; c.toTensor {
			m.tensor(c)
		} else {
			m.scalars[c.to] = m.scalar(c)
		}
	}
	m.commit(m.aside)
	u := m.tensors[m.update]
	for i := range w {
		w[i] -= u[i]
	}
	m.commit(m.commits)
	m.tensors[slotW], m.tensors[slotG] = nil, nil
}

func (m *Machine[T]) commit(list []commit) {
	for _, c := range list {
		if c.kind == Tensor {
			copy(m.tensors[c.to], m.tensors[c.from])
		} else {
			m.scalars[c.to] = m.scalars[c.from]
		}
	}
}

// scalar computes a function whose result is a scalar.
func (m *Machine[T]) scalar(c *instruction) float64 {
	var x [3]float64
	if c.f.rule != reduce {
		for k := range c.f.arity {
			x[k] = m.scalars[c.args[k]]
		}
	}
	switch {
	case c.f.one != nil:
		return c.f.one(x[0])
	case c.f.two != nil:
		return c.f.two(x[0], x[1])
	case c.f.rule == mix:
		return float64((1-x[2])*x[0]) + float64(x[2]*x[1])
	}
	a := m.tensors[c.args[0]]
	switch c.f.name {
	case "global_norm":
		return norm(a)
	case "dot":
		return dot(a, m.tensors[c.args[1]])
	case "cosine_sim":
		b := m.tensors[c.args[1]]
		return dot(a, b) / (norm(a) * norm(b))
	}
	panic("lion: " + c.f.name + " has no arithmetic") // the test of all functions finds it
}

func dot[T Float](a, b []T) float64 {
	var s float64
	for i, x := range a {
		s += float64(float64(x) * float64(b[i]))
	}
	return s
}

func norm[T Float](a []T) float64 { return math.Sqrt(dot(a, a)) }

// tensor computes a function whose result is a tensor.
func (m *Machine[T]) tensor(c *instruction) {
	to := m.tensors[c.to]
	switch {
	case c.f.one != nil:
		mapOne(to, m.tensors[c.args[0]], c.f)
	case c.f.rule == limited:
		k, a := 1.0, m.tensors[c.args[0]]
		if most, n := m.scalars[c.args[1]], norm(a); n > most || math.IsNaN(n) || math.IsNaN(most) {
			k = most / n
		}
		for i, x := range a {
			to[i] = T(k) * x
		}
	case c.f.rule == mix:
		a := m.scalars[c.args[2]]
		x, xs := m.operand(c, 0)
		y, ys := m.operand(c, 1)
		interpolate(to, x, y, T(xs), T(ys), T(1)-T(a), T(a))
	default:
		x, xs := m.operand(c, 0)
		y, ys := m.operand(c, 1)
		mapTwo(to, x, y, xs, ys, c.f)
	}
}

// operand is a tensor, or nil and a scalar.
func (m *Machine[T]) operand(c *instruction, k int) ([]T, float64) {
	if c.kinds[k] == Tensor {
		return m.tensors[c.args[k]], 0
	}
	return nil, m.scalars[c.args[k]]
}
