package lion

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Program is an optimiser: assignments that are carried out in order at every step.
//
// They see the parameters w and the gradient g, tensors, the scalar lr, which is the
// learning rate of the step, and the state as the step before left it, zeros at first.
// What update holds in the end is subtracted from the parameters. Assignments to w, g
// and lr change them for the rest of the step alone.
type Program struct {
	State []Variable
	Body  []Statement
}

// Variable is a name that keeps its value from step to step.
type Variable struct {
	Name string
	Kind Kind
}

// Statement assigns a function's result, or the only operand itself where Func is "".
type Statement struct {
	To   string
	Func string
	Args []Arg
}

// Arg is an operand: a variable, or a number where Name is "".
type Arg struct {
	Name  string
	Value float64
}

// Var is an operand that is a variable.
func Var(name string) Arg { return Arg{Name: name} }

// Num is an operand that is a number.
func Num(v float64) Arg { return Arg{Value: v} }

// What a program is given, and what it must give.
const (
	inputW    = "w"
	inputG    = "g"
	inputLR   = "lr"
	resultVar = "update"
)

// Clone is a copy that shares nothing with p.
func (p *Program) Clone() *Program {
	q := &Program{State: slices.Clone(p.State), Body: make([]Statement, len(p.Body))}
	for i, s := range p.Body {
		q.Body[i] = Statement{s.To, s.Func, slices.Clone(s.Args)}
	}
	return q
}

// String is the program's text, which Parse reads back to the same program, to the bit.
func (p *Program) String() string {
	var b strings.Builder
	for _, v := range p.State {
		fmt.Fprintf(&b, "%s %s\n", v.Kind, v.Name)
	}
	for _, s := range p.Body {
		b.WriteString(s.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String is a line of the program's text.
func (s Statement) String() string {
	var args []string
	for _, a := range s.Args {
		args = append(args, a.String())
	}
	if s.Func == "" && len(args) == 1 {
		return s.To + " = " + args[0]
	}
	if f := byName[s.Func]; f != nil && f.infix != "" && len(args) == 2 {
		return fmt.Sprintf("%s = %s %s %s", s.To, args[0], f.infix, args[1])
	}
	return fmt.Sprintf("%s = %s(%s)", s.To, s.Func, strings.Join(args, ", "))
}

func (a Arg) String() string {
	switch {
	case a.Name != "":
		return a.Name
	case a.Value == math.Pi:
		return "pi"
	case a.Value == math.E:
		return "e"
	}
	return strconv.FormatFloat(a.Value, 'g', -1, 64)
}

// Error is what is wrong with a program: where, what was found, what is wanted.
type Error struct {
	Line   int // of the text from 1, or of the body from 1 where there is no text; 0: the whole
	Detail string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return "lion: program: " + e.Detail
	}
	return fmt.Sprintf("lion: program, line %d: %s", e.Line, e.Detail)
}

// Check carries the program out without data: every operand must be known by then and
// every function take the kinds that it is given, the state must stay of its kind, and
// update must become a tensor. The error is an *Error.
func (p *Program) Check() error {
	_, err := NewGraph(p)
	return err
}

// AdamW is Adam with decoupled weight decay (Kingma and Ba 2015, arXiv 1412.6980;
// Loshchilov and Hutter 2019, arXiv 1711.05101): where searches start. c and d are 1 -
// β1^t and 1 - β2^t, which correct the moments for their start at zero. rate multiplies
// the learning rate.
func AdamW(rate, beta1, beta2, eps, decay float64) *Program {
	return must(fmt.Sprintf(`
tensor m
tensor v
scalar c
scalar d
m = interpolate(g, m, %[2]v)
g2 = square(g)
v = interpolate(g2, v, %[3]v)
c = interpolate(1, c, %[2]v)
d = interpolate(1, d, %[3]v)
mhat = m / c
vhat = v / d
root = sqrt(vhat)
root = root + %[4]v
update = mhat / root
wd = w * %[5]v
update = update + wd
lr = lr * %[1]v
update = update * lr
`, rate, beta1, beta2, eps, decay))
}

// Lion is what the paper found and simplified. The update sees the momentum as the step
// before left it: to change the order would make one moving mean of the two.
func Lion(rate, beta1, beta2, decay float64) *Program {
	return must(fmt.Sprintf(`
tensor m
c = interpolate(g, m, %[2]v)
update = sign(c)
m = interpolate(g, m, %[3]v)
wd = w * %[4]v
update = update + wd
lr = lr * %[1]v
update = update * lr
`, rate, beta1, beta2, decay))
}

func must(text string) *Program {
	p, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return p
}
