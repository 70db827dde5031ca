package train

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// FaultError is a loss or a gradient that is not finite.
type FaultError struct {
	Job     string
	Step    int    // the step that could not be made, from 0
	Phase   string // "" where there is one
	Loss    float64
	Norm    float64 // of the gradient
	What    string  // the first tensor that is not finite, found in a second run of the step
	Skipped int     // steps that were left out before, as the Settings allow
}

func (e *FaultError) Error() string {
	phase := ""
	if e.Phase != "" {
		phase = " of " + e.Phase
	}
	s := fmt.Sprintf("train: %s: step %d%s: the loss is %g, the norm of its gradient %g; the first that is not finite is %s", e.Job, e.Step, phase, e.Loss, e.Norm, e.What)
	if e.Skipped > 0 {
		s += fmt.Sprintf("; %d steps were left out before", e.Skipped)
	}
	return s + "; take a smaller rate or clip gradients (or allow some steps to be left out)"
}

// fault deals with an update whose numbers are not finite: it is left out while the Settings allow that, else found out.
func (r *run) fault(p *phase, turn int) error {
	e := &FaultError{Job: r.job.Name, Step: r.step, Phase: p.Name, Loss: p.loss, Norm: p.norm, Skipped: r.faults}
	for _, n := range p.params {
		n.ZeroGrad()
	}
	if r.faults < r.c.Skip {
		r.note("step %d: the loss is %g, the norm of its gradient %g: left out, %d of %d", r.step, p.loss, p.norm, r.faults+1, r.c.Skip)
		return nil
	}
	e.What = "nothing in a second run of the step: its numbers are not the same each time"
	found := false
	r.tape.Watch(func(m nn.Made) {
		if found {
			return
		}
		if at, ok := ops.Finite(m.Value); !ok {
			found = true
			e.What = fmt.Sprintf("%v, element %d", m, at)
			for _, x := range m.Operands {
				if at, ok := ops.Finite(x); !ok {
					what := "an operand that no operation made, an input"
					if m.Param != "" {
						what += " or parameter " + m.Param
					}
					e.What += fmt.Sprintf(" (%s, is not finite either: %v, element %d)", what, x.Shape(), at)
				}
			}
		}
	})
	r.again = true
	again := r.gradient(p, turn)
	r.again = false
	r.tape.Watch(nil)
	if !found && !again {
		e.What = "the norm of the gradient: its elements are finite, the sum of their squares is not"
	}
	for _, n := range p.params {
		n.ZeroGrad()
	}
	return e
}
