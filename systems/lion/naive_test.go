package lion

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/rng"
)

// naive carries a program out statement by statement as it is written, dead ones too, in
// float64: the oracle of graphs and machines.
type naive struct {
	p     *Program
	n     int
	state map[string][]float64
	wild  bool // a result was no number or very large: rounding decides from there on
}

func newNaive(p *Program, n int) *naive {
	s := &naive{p: p, n: n, state: map[string][]float64{}}
	for _, v := range p.State {
		s.state[v.Name] = []float64{0}
		if v.Kind == Tensor {
			s.state[v.Name] = make([]float64, n)
		}
	}
	return s
}

func (s *naive) step(w, g []float64, lr float64) {
	env := map[string][]float64{"w": append([]float64(nil), w...), "g": g, "lr": {lr}}
	for k, v := range s.state {
		env[k] = v
	}
	for _, st := range s.p.Body {
		var args [][]float64
		for _, a := range st.Args {
			if a.Name == "" {
				args = append(args, []float64{a.Value})
			} else {
				args = append(args, env[a.Name])
			}
		}
		if st.Func == "" {
			env[st.To] = args[0]
			continue
		}
		out := apply(st.Func, args, s.n)
		for _, v := range out {
			s.wild = s.wild || !(math.Abs(v) < 1e4) || v != 0 && math.Abs(v) < 1e-4
		}
		env[st.To] = out
	}
	for k := range s.state {
		s.state[k] = append([]float64(nil), env[k]...)
	}
	for i, u := range env["update"] {
		w[i] -= u
	}
}

// apply is a function of tensors of n elements and scalars of one; tests take n > 1.
func apply(name string, args [][]float64, n int) []float64 {
	l2 := func(x []float64) float64 {
		s := 0.0
		for _, v := range x {
			s += v * v
		}
		return math.Sqrt(s)
	}
	inner := func(x, y []float64) float64 {
		s := 0.0
		for i, v := range x {
			s += v * y[i]
		}
		return s
	}
	switch name {
	case "global_norm":
		return []float64{l2(args[0])}
	case "dot":
		return []float64{inner(args[0], args[1])}
	case "cosine_sim":
		return []float64{inner(args[0], args[1]) / l2(args[0]) / l2(args[1])}
	case "clip_by_global_norm":
		k := 1.0
		if l := l2(args[0]); l > args[1][0] {
			k = args[1][0] / l
		}
		return apply("multiply", [][]float64{args[0], {k}}, n)
	}
	size := 1
	for _, a := range args {
		size = max(size, len(a))
	}
	out := make([]float64, size)
	for i := range out {
		var x [3]float64
		for k, a := range args {
			x[k] = a[0]
			if len(a) > 1 {
				x[k] = a[i]
			}
		}
		out[i] = formula(name, x[0], x[1], x[2])
	}
	return out
}

// formula is written from the definitions, by other ways than the package's where there
// are any.
func formula(name string, x, y, a float64) float64 {
	switch name {
	case "abs":
		return math.Max(x, -x)
	case "cos":
		return math.Cos(x)
	case "sin":
		return math.Sin(x)
	case "tan":
		return math.Sin(x) / math.Cos(x)
	case "arccos":
		return math.Pi/2 - math.Asin(x)
	case "arcsin":
		return math.Pi/2 - math.Acos(x)
	case "arctan":
		return math.Atan2(x, 1)
	case "cosh":
		return (math.Exp(x) + math.Exp(-x)) / 2
	case "sinh":
		return (math.Exp(x) - math.Exp(-x)) / 2
	case "tanh":
		return math.Sinh(x) / math.Cosh(x)
	case "arccosh":
		return math.Log(x + math.Sqrt(x*x-1))
	case "arcsinh":
		return math.Log(x + math.Sqrt(x*x+1))
	case "arctanh":
		return math.Log((1+x)/(1-x)) / 2
	case "exp":
		return math.Pow(math.E, x)
	case "exp2":
		return math.Pow(2, x)
	case "exp10":
		return math.Exp(x * math.Ln10)
	case "expm1":
		return math.Exp(x) - 1
	case "log":
		return math.Log(math.Abs(x))
	case "log10":
		return math.Log(math.Abs(x)) / math.Ln10
	case "log2":
		return math.Log(math.Abs(x)) / math.Ln2
	case "log1p":
		return math.Log(1 + math.Abs(x))
	case "square":
		return math.Pow(x, 2)
	case "sqrt":
		return math.Pow(math.Abs(x), 0.5)
	case "cube":
		return math.Pow(x, 3)
	case "cbrt":
		return math.Copysign(math.Pow(math.Abs(x), 1./3), x)
	case "sign":
		if x == 0 {
			return 0
		}
		return x / math.Abs(x)
	case "reciprocal":
		return 1 / x
	case "negative":
		return 0 - x
	case "add":
		return x + y
	case "subtract":
		return x - y
	case "multiply":
		return x * y
	case "divide":
		return x / y
	case "power":
		return math.Pow(x, y)
	case "interpolate":
		return x + a*(y-x)
	}
	panic(name)
}

// chance makes a program of random statements that passes Check, with copies, dead
// statements and state that is read late.
func chance(r *rng.Stream, length int) *Program {
	p := &Program{State: []Variable{{"a", Tensor}, {"b", Tensor}, {"c", Scalar}}}
	kinds := map[string]Kind{"w": Tensor, "g": Tensor, "lr": Scalar, "a": Tensor, "b": Tensor, "c": Scalar}
	names := []string{"w", "g", "lr", "a", "b", "c"}
	for len(p.Body) < length {
		s := Statement{To: fmt.Sprintf("v%d", r.Intn(5)), Func: functions[r.Intn(len(functions))].name}
		arity := 1
		if r.Intn(8) == 0 {
			s.Func = ""
		} else {
			arity = byName[s.Func].arity
		}
		switch r.Intn(4) {
		case 0:
			s.To = []string{"a", "b", "c", "g", "lr"}[r.Intn(5)]
		case 1:
			s.To = resultVar
		}
		var args []Kind
		for range arity {
			a := Num(math.Round(200*r.Normal()) / 100)
			if r.Intn(4) > 0 {
				a = Var(names[r.Intn(len(names))])
			}
			s.Args, args = append(s.Args, a), append(args, kinds[a.Name])
			if a.Name == "" {
				args[len(args)-1] = Scalar
			}
		}
		got := args[0]
		if s.Func != "" {
			var wrong string
			if got, wrong = byName[s.Func].result(args); wrong != "" {
				continue
			}
		}
		if k, ok := kinds[s.To]; ok && k != got || s.To == resultVar && got != Tensor {
			continue
		}
		if _, ok := kinds[s.To]; !ok {
			names = append(names, s.To)
		}
		kinds[s.To] = got
		p.Body = append(p.Body, s)
	}
	return p
}
