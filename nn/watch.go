package nn

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/fidlab/fidlab/gpu"
)

// Made is a tensor that an operation made while somebody watched.
type Made struct {
	// Op is the functions of this package that led to it, the outermost first: "Linear.Forward",
	// "PseudoHuber > Var.Sqrt > Var.Map".
	Op string
	// At is where the outermost was called: "unet.(*Block).Forward, block.go:84".
	At string
	// Gradient tells that Value is the gradient by one of the operation's operands, made by
	// the walk back; with contributions of operations walked over before.
	Gradient bool
	// Param is a parameter among the operands, or the one that a gradient is by; "" where there is none.
	Param string
	// Operands are those of a result that Input, Leaf or Use put on the tape: what no operation made.
	Operands []*gpu.Tensor
	Value    *gpu.Tensor
}

// String says what was made, and where.
func (m Made) String() string {
	what := "the result of " + m.Op
	if m.Gradient {
		what = "the gradient that goes back from " + m.Op
	}
	if m.Param != "" {
		what += ", parameter " + m.Param
	}
	return fmt.Sprintf("%s, %v, called in %s", what, m.Value.Shape(), m.At)
}

// Watch calls f with every result of an operation and every gradient of one, in the order in
// which they are made, until it is called with nil. It is for finding faults: a watched step
// is slow. f does not keep the tensors.
func (t *Tape) Watch(f func(Made)) {
	t.watch, t.made = f, nil
	if f != nil {
		t.made = map[*node]Made{}
	}
}

// tell shows the watcher a result; n is its node, nil where no gradient is wanted.
func (t *Tape) tell(n *node, val *gpu.Tensor, operands ...*Var) {
	m := Made{Value: val}
	m.Op, m.At = caller()
	for _, x := range operands {
		if x == nil || x.node != nil {
			continue
		}
		m.Operands = append(m.Operands, x.val)
		if x.param != nil && m.Param == "" {
			m.Param = x.param.Name
		}
	}
	if n != nil {
		t.made[n] = m
	}
	t.watch(m)
}

// tellBack shows the watcher the gradients that n's walk back left with its operands.
func (t *Tape) tellBack(n *node) {
	m, known := t.made[n]
	if !known { // recorded before somebody watched
		m.Op = "an operation of " + n.name()
	}
	m.Gradient, m.Operands = true, nil
	show := func(x *Var) {
		if x == nil {
			return
		}
		m.Param = ""
		switch {
		case x.param != nil && x.hook == nil && !t.partial:
			if !t.wants(x) {
				return
			}
			m.Param, m.Value = x.param.Name, x.param.Grad()
		case *t.place(x) != nil:
			m.Value = *t.place(x)
			if x.param != nil {
				m.Param = x.param.Name
			}
		default:
			return
		}
		t.watch(m)
	}
	for _, x := range n.in {
		show(x)
	}
	for _, x := range n.more {
		show(x)
	}
}

// caller is the functions of this package on the way to result, and where the outermost was called.
func caller() (op, at string) {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	own := ""
	var names []string
	for {
		f, more := frames.Next()
		name := f.Function
		pkg := name[:strings.LastIndexByte(name, '/')+1]
		rest := name[len(pkg):]
		pkg += rest[:strings.IndexByte(rest, '.')]
		if own == "" {
			own = pkg
		}
		if pkg != own {
			if len(names) > 0 {
				at = fmt.Sprintf("%s, %s:%d", rest, f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
			}
			break
		}
		if s := short(name); exported(s) && !strings.Contains(s, ".func") && s != "Tape.Checkpoint" {
			names = append(names, s)
		}
		if !more {
			break
		}
	}
	for i := len(names) - 1; i >= 0; i-- {
		if op != "" {
			op += " > "
		}
		op += names[i]
	}
	return op, at
}

// short is a function's name without its package: "Linear.Forward", "MSE", "mapBack".
func short(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name = name[strings.IndexByte(name, '.')+1:]
	return strings.NewReplacer("(*", "", ")", "").Replace(name)
}

func exported(s string) bool {
	s = s[strings.LastIndexByte(s, '.')+1:]
	return s != "" && s[0] >= 'A' && s[0] <= 'Z'
}
