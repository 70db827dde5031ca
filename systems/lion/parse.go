package lion

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/text"
)

// maxText bounds what is read as a program, in bytes.
const maxText = 1 << 20

var (
	wordForm = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	callForm = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)\s*\((.*)\)$`)
	pairForm = regexp.MustCompile(`^(\S+)\s+([-+*/])\s+(\S+)$`)
)

// Parse reads a program and checks it. A line is one of
//
//	tensor NAME          state that is kept from step to step
//	scalar NAME
//	NAME = FUNCTION(OPERAND, …)
//	NAME = OPERAND + OPERAND      also -, * and /, with spaces around
//	NAME = OPERAND
//	# remark
//
// Operands are names and numbers, pi and e among them. The error is an *Error.
func Parse(src string) (*Program, error) {
	if len(src) > maxText {
		return nil, &Error{0, fmt.Sprintf("%d bytes, want at most %d", len(src), maxText)}
	}
	p := &Program{}
	var lines []int
	for i, line := range strings.Split(src, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		to, expr, assigns := strings.Cut(line, "=")
		if !assigns {
			v, err := parseState(line)
			if err != nil {
				return nil, &Error{i + 1, err.Error()}
			}
			if len(p.Body) > 0 {
				return nil, &Error{i + 1, "state is declared after the first assignment; want it before"}
			}
			p.State = append(p.State, v)
			continue
		}
		s, err := parseStatement(strings.TrimSpace(to), strings.TrimSpace(expr))
		if err != nil {
			return nil, &Error{i + 1, err.Error()}
		}
		p.Body, lines = append(p.Body, s), append(lines, i+1)
	}
	if err := p.Check(); err != nil {
		if e := err.(*Error); e.Line > 0 {
			return nil, &Error{lines[e.Line-1], e.Detail}
		}
		return nil, err
	}
	return p, nil
}

func parseState(line string) (Variable, error) {
	kind, name, ok := strings.Cut(line, " ")
	name = strings.TrimSpace(name)
	if !ok || kind != Scalar.String() && kind != Tensor.String() {
		return Variable{}, fmt.Errorf("%q, want NAME = FUNCTION(OPERAND, ...), NAME = OPERAND + OPERAND, or tensor NAME or scalar NAME for state", line)
	}
	v := Variable{Name: name}
	if kind == Tensor.String() {
		v.Kind = Tensor
	}
	return v, checkName(name)
}

func checkName(name string) error {
	if !wordForm.MatchString(name) {
		return fmt.Errorf("the name %q, want letters, digits and _, a letter first", name)
	}
	if _, err := parseArg(name); err == nil && isNumber(name) {
		return fmt.Errorf("the name %s is a number's", name)
	}
	return nil
}

func isNumber(word string) bool {
	a, err := parseArg(word)
	return err == nil && a.Name == ""
}

func parseStatement(to, expr string) (Statement, error) {
	if err := checkName(to); err != nil {
		return Statement{}, err
	}
	s := Statement{To: to}
	var words []string
	if m := callForm.FindStringSubmatch(expr); m != nil {
		s.Func = m[1]
		words = strings.Split(m[2], ",")
		if strings.TrimSpace(m[2]) == "" {
			words = nil
		}
	} else if m := pairForm.FindStringSubmatch(expr); m != nil {
		s.Func, words = byInfix[m[2]].name, []string{m[1], m[3]}
	} else if !strings.ContainsAny(expr, " \t(),") {
		words = []string{expr}
	} else {
		return s, fmt.Errorf("%q, want FUNCTION(OPERAND, ...), an operand, or OPERAND + OPERAND with spaces around the sign", expr)
	}
	for _, w := range words {
		a, err := parseArg(strings.TrimSpace(w))
		if err != nil {
			return s, err
		}
		s.Args = append(s.Args, a)
	}
	return s, nil
}

func parseArg(word string) (Arg, error) {
	switch word {
	case "pi":
		return Num(math.Pi), nil
	case "e":
		return Num(math.E), nil
	}
	if v, err := strconv.ParseFloat(word, 64); err == nil {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Arg{}, fmt.Errorf("the number %s, want a finite one", word)
		}
		return Num(v), nil
	}
	if !wordForm.MatchString(word) {
		return Arg{}, fmt.Errorf("the operand %q, want a name or a number", word)
	}
	return Var(word), nil
}

// unknownFunction says which one may have been meant.
func unknownFunction(name string) string {
	var known []string
	for _, f := range functions {
		known = append(known, f.name)
	}
	slices.Sort(known)
	hint := ""
	if best := text.Nearest(name, known); best != "" {
		hint = fmt.Sprintf("did you mean %s? ", best)
	}
	return fmt.Sprintf("unknown function %s; %sthere are %s", name, hint, strings.Join(known, " "))
}
