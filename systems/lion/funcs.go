package lion

import "math"

// Kind is what a variable holds.
type Kind uint8

// The kinds: one number, or as many as the network has parameters.
const (
	Scalar Kind = iota
	Tensor
)

func (k Kind) String() string { return [...]string{"scalar", "tensor"}[k] }

// rule is how the kinds of a function's operands give that of its result.
type rule uint8

const (
	each    rule = iota // element by element, a scalar serving all: a tensor where an operand is one
	mix                 // each for the first two operands; the third is a scalar
	reduce              // tensors to one scalar
	limited             // a tensor and a scalar to a tensor
)

// function is a function of the language.
type function struct {
	name  string
	arity int
	rule  rule
	infix string                  // how two operands are written, "" for name(…)
	one   func(x float64) float64 // of one operand
	two   func(x, y float64) float64
}

// functions are all there are; a program's hash covers their names, never their place here.
// Logarithms and roots are of |x|, as the paper has them, so that fewer programs end in NaN.
var functions = []function{
	{name: "abs", arity: 1, one: math.Abs},
	{name: "cos", arity: 1, one: math.Cos},
	{name: "sin", arity: 1, one: math.Sin},
	{name: "tan", arity: 1, one: math.Tan},
	{name: "arccos", arity: 1, one: math.Acos},
	{name: "arcsin", arity: 1, one: math.Asin},
	{name: "arctan", arity: 1, one: math.Atan},
	{name: "cosh", arity: 1, one: math.Cosh},
	{name: "sinh", arity: 1, one: math.Sinh},
	{name: "tanh", arity: 1, one: math.Tanh},
	{name: "arccosh", arity: 1, one: math.Acosh},
	{name: "arcsinh", arity: 1, one: math.Asinh},
	{name: "arctanh", arity: 1, one: math.Atanh},
	{name: "exp", arity: 1, one: math.Exp},
	{name: "exp2", arity: 1, one: math.Exp2},
	{name: "exp10", arity: 1, one: func(x float64) float64 { return math.Pow(10, x) }},
	{name: "expm1", arity: 1, one: math.Expm1},
	{name: "log", arity: 1, one: func(x float64) float64 { return math.Log(math.Abs(x)) }},
	{name: "log10", arity: 1, one: func(x float64) float64 { return math.Log10(math.Abs(x)) }},
	{name: "log2", arity: 1, one: func(x float64) float64 { return math.Log2(math.Abs(x)) }},
	{name: "log1p", arity: 1, one: func(x float64) float64 { return math.Log1p(math.Abs(x)) }},
	{name: "square", arity: 1, one: func(x float64) float64 { return x * x }},
	{name: "sqrt", arity: 1, one: func(x float64) float64 { return math.Sqrt(math.Abs(x)) }},
	{name: "cube", arity: 1, one: func(x float64) float64 { return x * x * x }},
	{name: "cbrt", arity: 1, one: math.Cbrt},
	{name: "sign", arity: 1, one: sign},
	{name: "reciprocal", arity: 1, one: func(x float64) float64 { return 1 / x }},
	{name: "negative", arity: 1, one: func(x float64) float64 { return -x }},
	{name: "add", arity: 2, infix: "+", two: func(x, y float64) float64 { return x + y }},
	{name: "subtract", arity: 2, infix: "-", two: func(x, y float64) float64 { return x - y }},
	{name: "multiply", arity: 2, infix: "*", two: func(x, y float64) float64 { return x * y }},
	{name: "divide", arity: 2, infix: "/", two: func(x, y float64) float64 { return x / y }},
	{name: "power", arity: 2, two: math.Pow},
	{name: "interpolate", arity: 3, rule: mix},
	{name: "global_norm", arity: 1, rule: reduce},
	{name: "dot", arity: 2, rule: reduce},
	{name: "cosine_sim", arity: 2, rule: reduce},
	{name: "clip_by_global_norm", arity: 2, rule: limited},
}

// sign is -1, 0 or 1; of NaN it is NaN, so that a broken program is seen to be broken.
func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	case x == 0:
		return 0
	}
	return x
}

var (
	byName  = map[string]*function{}
	byInfix = map[string]*function{}
)

func init() {
	for i := range functions {
		f := &functions[i]
		byName[f.name] = f
		if f.infix != "" {
			byInfix[f.infix] = f
		}
	}
}

// result is the kind of f's result, and what is wrong with the operands; "" where nothing is.
func (f *function) result(args []Kind) (Kind, string) {
	switch f.rule {
	case each:
		for _, k := range args {
			if k == Tensor {
				return Tensor, ""
			}
		}
		return Scalar, ""
	case mix:
		if args[2] != Scalar {
			return 0, "its third operand is a tensor, want a scalar"
		}
		return max(args[0], args[1]), ""
	case limited:
		if args[0] != Tensor || args[1] != Scalar {
			return 0, "its operands are a " + args[0].String() + " and a " + args[1].String() + ", want a tensor and a scalar"
		}
		return Tensor, ""
	}
	for _, k := range args {
		if k != Tensor {
			return 0, "an operand is a scalar, want tensors"
		}
	}
	return Scalar, ""
}
