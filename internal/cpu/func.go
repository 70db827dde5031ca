package cpu

import "math"

// Func is a function of one variable that networks use. Some have parameters a
// and b.
type Func uint8

// The functions. Φ is the normal distribution's integral, σ the logistic function.
const (
	FuncIdentity Func = iota
	FuncReLU          // max(x, 0)
	FuncLeaky         // x, a·x below 0
	FuncSiLU          // x·σ(x)
	FuncGELU          // x·Φ(x)
	FuncGELUTanh      // x·σ(2√(2/π)·(x + 0.044715·x³)), the tanh form
	FuncSigmoid       // σ(x)
	FuncTanh
	FuncSoftplus // log(1 + eˣ)
	FuncExp
	FuncLog
	FuncSquare
	FuncAbs     // slope 0 at 0
	FuncClip    // x within [a, b]; slope 1 there, ends included, else 0
	FuncInverse // 1/x
	funcVectors // those before are in func.c
)

// The functions that are rare enough for plain Go.
const (
	FuncSqrt Func = funcVectors + iota
	FuncSign      // slope 0
	FuncSin
	FuncCos
	FuncErf
	funcs
)

var funcNames = [funcs]string{
	"identity", "relu", "leaky", "silu", "gelu", "gelu-tanh", "sigmoid", "tanh", "softplus", "exp", "log",
	"square", "abs", "clip", "inverse", "sqrt", "sign", "sin", "cos", "erf",
}

func (f Func) String() string {
	if f < funcs {
		return funcNames[f]
	}
	return "?"
}

// Func32 sets out to f(x) where it is called, on one thread. Relative errors are
// a few units of 2^-24, of GELU's left tail and of log near 1 absolute ones. out
// may be x. It panics unless the lengths agree.
func Func32(f Func, a, b float64, out, x []float32) {
	sameLen("Func32", len(out), len(x))
	if len(x) == 0 {
		return
	}
	if f < funcVectors && f != FuncIdentity && nativeFunc32(f, a, b, out, x) {
		return
	}
	goFunc(f, a, b, out, x)
}

// Func64 is Func32 for float64.
func Func64(f Func, a, b float64, out, x []float64) {
	sameLen("Func64", len(out), len(x))
	goFunc(f, a, b, out, x)
}

// FuncBack32 sets dx to dy·f'(x), or adds that to dx. dx may be dy.
func FuncBack32(f Func, a, b float64, dx, x, dy []float32, acc bool) {
	sameLen("FuncBack32", len(dx), len(x), len(dy))
	if len(x) == 0 {
		return
	}
	if f < funcVectors && f != FuncIdentity && nativeFuncBack32(f, a, b, dx, x, dy, acc) {
		return
	}
	goFuncBack(f, a, b, dx, x, dy, acc)
}

// FuncBack64 is FuncBack32 for float64.
func FuncBack64(f Func, a, b float64, dx, x, dy []float64, acc bool) {
	sameLen("FuncBack64", len(dx), len(x), len(dy))
	goFuncBack(f, a, b, dx, x, dy, acc)
}

func goFunc[T float32 | float64](f Func, a, b float64, out, x []T) {
	switch f {
	case FuncIdentity:
		copy(out, x)
	case FuncReLU:
		for i, v := range x {
			if v < 0 {
				v = 0
			}
			out[i] = v
		}
	default:
		for i, v := range x {
			out[i] = T(funcValue(f, float64(v), a, b))
		}
	}
}

func goFuncBack[T float32 | float64](f Func, a, b float64, dx, x, dy []T, acc bool) {
	for i, v := range x {
		g := T(float64(dy[i]) * funcSlope(f, float64(v), a, b))
		if acc {
			g += dx[i]
		}
		dx[i] = g
	}
}

const (
	invSqrt2   = 0.70710678118654752440
	invSqrt2Pi = 0.39894228040143267794
	gelu2k     = 1.59576912160573071176 // 2·√(2/π)
)

func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}

// funcValue is f(x) in float64.
func funcValue(f Func, x, a, b float64) float64 {
	switch f {
	case FuncReLU:
		if x < 0 {
			return 0
		}
	case FuncLeaky:
		if x < 0 {
			return a * x
		}
	case FuncSiLU:
		return x * sigmoid(x)
	case FuncGELU:
		return x * 0.5 * math.Erfc(-x*invSqrt2)
	case FuncGELUTanh:
		return x * sigmoid(gelu2k*(x+0.044715*x*x*x))
	case FuncSigmoid:
		return sigmoid(x)
	case FuncTanh:
		return math.Tanh(x)
	case FuncSoftplus:
		return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
	case FuncExp:
		return math.Exp(x)
	case FuncLog:
		return math.Log(x)
	case FuncSquare:
		return x * x
	case FuncAbs:
		return math.Abs(x)
	case FuncClip:
		if x < a {
			return a
		}
		if x > b {
			return b
		}
	case FuncInverse:
		return 1 / x
	case FuncSqrt:
		return math.Sqrt(x)
	case FuncSign:
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
	case FuncSin:
		return math.Sin(x)
	case FuncCos:
		return math.Cos(x)
	case FuncErf:
		return math.Erf(x)
	}
	return x
}

// funcSlope is f'(x) in float64.
func funcSlope(f Func, x, a, b float64) float64 {
	switch f {
	case FuncReLU:
		return slopes(x, 0, 0, 1)
	case FuncLeaky:
		return slopes(x, a, a, 1)
	case FuncSiLU:
		s := sigmoid(x)
		return s * (1 + x*(1-s))
	case FuncGELU:
		return 0.5*math.Erfc(-x*invSqrt2) + x*invSqrt2Pi*math.Exp(-0.5*x*x)
	case FuncGELUTanh:
		s := sigmoid(gelu2k * (x + 0.044715*x*x*x))
		return s + x*s*(1-s)*gelu2k*(1+0.134145*x*x)
	case FuncSigmoid:
		s := sigmoid(x)
		return s * (1 - s)
	case FuncTanh:
		t := math.Tanh(x)
		return 1 - t*t
	case FuncSoftplus:
		return sigmoid(x)
	case FuncExp:
		return math.Exp(x)
	case FuncLog:
		return 1 / x
	case FuncSquare:
		return 2 * x
	case FuncAbs:
		return slopes(x, -1, 0, 1)
	case FuncClip:
		if x < a || x > b {
			return 0
		}
	case FuncInverse:
		return -1 / (x * x)
	case FuncSqrt:
		return 0.5 / math.Sqrt(x)
	case FuncSign:
		return 0
	case FuncSin:
		return math.Cos(x)
	case FuncCos:
		return -math.Sin(x)
	case FuncErf:
		return 2 / math.SqrtPi * math.Exp(-x*x)
	}
	return 1
}

// slopes is below, at or above, by the sign of x.
func slopes(x, below, at, above float64) float64 {
	switch {
	case x < 0:
		return below
	case x > 0:
		return above
	}
	return at
}
