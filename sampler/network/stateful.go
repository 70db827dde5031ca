package network

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// memory is what a models.Stateful keeps of the samples of a run, a row each. It takes the room of two states, however many steps there
// are.
type memory struct {
	net  models.Stateful
	rows int  // samples; 0 before the first evaluation
	open bool // Reset was called: somebody looks after the state
	seen bool // an evaluation waits to be taken in

	now, next []*gpu.Tensor // [rows, ...] of each layer: what is kept, and what would be after the last evaluation
	in        []*gpu.Tensor // of the pictures that are computed at a time
	past      []*nn.Var
}

func newMemory(net models.Stateful, batch int) *memory {
	m := &memory{net: net}
	v := net.Params().Value()
	for _, shape := range net.State() {
		m.in = append(m.in, v.Device().New(v.DType(), append([]int{batch}, shape...)...))
	}
	return m
}

// Remembers implements sampler.StatefulNet.
func (n *Network) Remembers() bool { return n.memory != nil }

// Reset implements sampler.StatefulNet.
func (n *Network) Reset() {
	if m := n.memory; m != nil {
		m.rows, m.open, m.seen = 0, true, false
	}
}

// Commit implements sampler.StatefulNet.
func (n *Network) Commit() error {
	m := n.memory
	switch {
	case m == nil:
		return nil
	case !m.seen:
		return fmt.Errorf("network: a state goes on without an evaluation; want one before each Commit")
	}
	m.now, m.next, m.seen = m.next, m.now, false
	return nil
}

// ask prepares for an evaluation of so many samples.
func (m *memory) ask(rows int) error {
	switch {
	case !m.open:
		return fmt.Errorf("network: this network remembers what it was shown, and nobody has reset it; sampler.Run does, and wrappers of denoisers that hide its state do not serve it")
	case m.rows == 0:
		if len(m.now) == 0 || m.now[0].Shape()[0] != rows {
			m.now, m.next = m.room(rows), m.room(rows)
		}
		for _, t := range m.now {
			ops.Fill(t, 0)
		}
		m.rows = rows
	case m.rows != rows:
		return fmt.Errorf("network: %d samples asked for, the state is that of %d; guidance and levels that concern some of the steps or samples alone have no state", rows, m.rows)
	}
	m.seen = true
	return nil
}

func (m *memory) room(rows int) []*gpu.Tensor {
	v := m.net.Params().Value()
	var out []*gpu.Tensor
	for _, shape := range m.net.State() {
		out = append(out, v.Device().New(v.DType(), append([]int{rows}, shape...)...))
	}
	return out
}

// predict asks the network about what is in n.x, samples lo to hi of those of the evaluation, filled up.
func (n *Network) predict(in models.Inputs, lo, hi int) *nn.Var {
	x, times, m := n.tape.Input(n.x), n.tape.Input(n.times), n.memory
	if m == nil {
		return n.net.Forward(x, times, in)
	}
	m.past = m.past[:0]
	for i, t := range m.in {
		t.Rows(0, hi-lo).Copy(m.now[i].Rows(lo, hi))
		for k := hi - lo; k < n.batch; k++ {
			t.Rows(k, k+1).Copy(t.Rows(hi-lo-1, hi-lo))
		}
		m.past = append(m.past, n.tape.Input(t))
	}
	y, next := m.net.Step(x, times, in, m.past)
	for i, v := range next {
		m.next[i].Rows(lo, hi).Copy(v.Value().Rows(0, hi-lo))
	}
	return y
}
