package nn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

type vars = []*nn.Var

// away keeps values from kinks, by more than a step of differences.
func away(v float64) float64 {
	if math.Abs(v) < 0.01 {
		return 0.5
	}
	return v
}

func positive(v float64) float64 { return 0.2 + math.Abs(v) }

// each is f of every element.
func each(f func(v float64) float64) func(x [][]float64) []float64 {
	return func(x [][]float64) []float64 {
		y := make([]float64, len(x[0]))
		for i, v := range x[0] {
			y[i] = f(v)
		}
		return y
	}
}

func TestElementwise(t *testing.T) {
	for name, c := range elementwise() {
		t.Run(name, c.check)
	}
}

func elementwise() map[string]opCase {
	cases := map[string]opCase{
		"relu":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].ReLU() }, want: each(func(v float64) float64 { return math.Max(v, 0) }), start: away},
		"leaky":    {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Map(ops.LeakyReLU(0.2)) }, want: each(func(v float64) float64 { return math.Max(v, 0.2*v) }), start: away},
		"silu":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].SiLU() }, want: each(func(v float64) float64 { return v / (1 + math.Exp(-v)) })},
		"gelu":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].GELU() }, want: each(func(v float64) float64 { return v * (1 + math.Erf(v/math.Sqrt2)) / 2 })},
		"gelutanh": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].GELUTanh() }, want: each(func(v float64) float64 { return v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) })},
		"sigmoid":  {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sigmoid() }, want: each(func(v float64) float64 { return 1 / (1 + math.Exp(-v)) })},
		"tanh":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Tanh() }, want: each(math.Tanh)},
		"softplus": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Softplus() }, want: each(func(v float64) float64 { return math.Log1p(math.Exp(v)) })},
		"exp":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Exp() }, want: each(math.Exp)},
		"log":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Log() }, want: each(math.Log), start: positive},
		"sqrt":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sqrt() }, want: each(math.Sqrt), start: positive},
		"square":   {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Square() }, want: each(func(v float64) float64 { return v * v })},
		"abs":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Abs() }, want: each(math.Abs), start: away},
		"inverse":  {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Map(ops.Inverse) }, want: each(func(v float64) float64 { return 1 / v }), start: positive},
		"sin":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Map(ops.Sin) }, want: each(math.Sin)},
		"cos":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Map(ops.Cos) }, want: each(math.Cos)},
		"erf":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Map(ops.Erf) }, want: each(math.Erf)},
		"clip":     {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Clip(-0.7, 0.6) }, want: each(func(v float64) float64 { return math.Min(math.Max(v, -0.7), 0.6) })},
		"affine":   {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Affine(-3, 0.5) }, want: each(func(v float64) float64 { return 0.5 - 3*v })},
		// A function after a result is done in place in the walk back; so is one of a result that is used twice not.
		"chain": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Tanh().SiLU().Neg() }},
		"twice": {f: func(_ *nn.Tape, x vars) *nn.Var { h := x[0].Tanh(); return h.SiLU().Mul(h).Add(h.Exp()) }},
	}
	for name, c := range cases {
		c.shapes = [][]int{{3, 19}}
		cases[name] = c
	}
	return cases
}

// repeated is f of two operands laid over shape out, as numpy repeats them.
func repeated(out, a, b []int, f func(x, y float64) float64) func(x [][]float64) []float64 {
	at := func(i int, s []int) int {
		place, step := 0, 1
		for k := len(out) - 1; k >= 0; k-- {
			c := i % out[k]
			i /= out[k]
			if j := k - (len(out) - len(s)); j >= 0 {
				if s[j] > 1 {
					place += c * step
				}
				step *= s[j]
			}
		}
		return place
	}
	return func(x [][]float64) []float64 {
		y := make([]float64, size(out))
		for i := range y {
			y[i] = f(x[0][at(i, a)], x[1][at(i, b)])
		}
		return y
	}
}

func TestPairs(t *testing.T) {
	for name, c := range pairs() {
		t.Run(name, c.check)
	}
}

func pairs() map[string]opCase {
	cases := map[string]opCase{}
	shapes := []struct{ a, b, out []int }{
		{[]int{2, 5, 18}, []int{2, 5, 18}, []int{2, 5, 18}}, {[]int{4, 18}, []int{18}, []int{4, 18}}, {[]int{18}, []int{3, 18}, []int{3, 18}},
		{[]int{2, 3, 17}, []int{2, 1, 17}, []int{2, 3, 17}}, {[]int{3, 7}, []int{3, 1}, []int{3, 7}}, {[]int{3, 7}, []int{1}, []int{3, 7}},
		{[]int{2, 3, 4}, []int{3, 1}, []int{2, 3, 4}}, {[]int{2, 1, 5}, []int{3, 1}, []int{2, 3, 5}}, {[]int{2, 4, 3, 5}, []int{4, 1, 5}, []int{2, 4, 3, 5}},
		{[]int{3, 1, 4, 1}, []int{2, 1, 5}, []int{3, 2, 4, 5}}, {[]int{}, []int{4}, []int{4}}, {[]int{1, 1}, []int{1}, []int{1, 1}},
	}
	for name, op := range map[string]struct {
		f    func(x, y *nn.Var) *nn.Var
		want func(x, y float64) float64
	}{
		"add": {(*nn.Var).Add, func(x, y float64) float64 { return x + y }},
		"sub": {(*nn.Var).Sub, func(x, y float64) float64 { return x - y }},
		"mul": {(*nn.Var).Mul, func(x, y float64) float64 { return x * y }},
		"div": {(*nn.Var).Div, func(x, y float64) float64 { return x / y }},
		"min": {(*nn.Var).Minimum, math.Min},
		"max": {(*nn.Var).Maximum, math.Max},
	} {
		for _, s := range shapes {
			c := opCase{shapes: [][]int{s.a, s.b}, f: func(_ *nn.Tape, x vars) *nn.Var { return op.f(x[0], x[1]) }, want: repeated(s.out, s.a, s.b, op.want)}
			if name == "div" {
				c.start = positive
			}
			cases[fmt.Sprint(name, s.a, s.b)] = c
		}
	}
	cases["gate"] = opCase{shapes: [][]int{{2, 3, 5}, {2, 1, 5}, {2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].AddMul(x[1], x[2]) }}
	cases["one operand twice"] = opCase{shapes: [][]int{{2, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Add(x[0]).Mul(x[0]).Sub(x[0]) },
		want: each(func(v float64) float64 { return 2*v*v - v })}
	return cases
}

// Of equal operands the first has the whole gradient.
func TestEqualOperandsOfMinimum(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for _, f := range []func(x, y *nn.Var) *nn.Var{(*nn.Var).Minimum, (*nn.Var).Maximum} {
		tape.Run(func() {
			x, y := tape.Leaf(gpu.CPU().From64([]float64{2}, 1)), tape.Leaf(gpu.CPU().From64([]float64{2}, 1))
			tape.Backward(f(x, y))
			if x.Grad().F64()[0] != 1 || y.Grad().F64()[0] != 0 {
				t.Errorf("gradients %v and %v, want 1 and 0", x.Grad().F64(), y.Grad().F64())
			}
		})
	}
}

// product is the batch of op(a)·op(b) by three loops; strides 0 repeat an operand.
func product(batch, m, n, k int, ta, tb bool, strideA, strideB int) func(x [][]float64) []float64 {
	return func(x [][]float64) []float64 {
		y := make([]float64, batch*m*n)
		for g := range batch {
			a, b := x[0][g*strideA:], x[1][g*strideB:]
			for i := range m {
				for j := range n {
					for l := range k {
						u, v := a[i*k+l:], b[l*n+j:]
						if ta {
							u = a[l*m+i:]
						}
						if tb {
							v = b[j*k+l:]
						}
						y[(g*m+i)*n+j] += u[0] * v[0]
					}
				}
			}
		}
		return y
	}
}

func TestMatMul(t *testing.T) {
	const m, n, k = 3, 5, 4
	for _, op := range []struct {
		name   string
		f      func(x, y *nn.Var) *nn.Var
		a, b   []int
		ta, tb bool
	}{
		{"NN", (*nn.Var).MatMul, []int{m, k}, []int{k, n}, false, false},
		{"NT", (*nn.Var).MatMulNT, []int{m, k}, []int{n, k}, false, true},
		{"TN", (*nn.Var).MatMulTN, []int{k, m}, []int{k, n}, true, false},
	} {
		for _, lead := range [][2][]int{{nil, nil}, {{2}, {2}}, {{2, 3}, {2, 3}}, {{6}, nil}, {nil, {6}}} {
			batch, sa, sb := max(size(lead[0]), size(lead[1])), m*k, k*n
			if lead[0] == nil {
				sa = 0
			}
			if lead[1] == nil {
				sb = 0
			}
			c := opCase{
				shapes: [][]int{append(append([]int{}, lead[0]...), op.a...), append(append([]int{}, lead[1]...), op.b...)},
				f:      func(_ *nn.Tape, x vars) *nn.Var { return op.f(x[0], x[1]) },
				want:   product(batch, m, n, k, op.ta, op.tb, sa, sb),
			}
			t.Run(fmt.Sprint(op.name, lead), c.check)
		}
	}
}

func TestReductions(t *testing.T) {
	for name, c := range map[string]opCase{
		"sum":          {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum() }},
		"mean":         {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Mean() }},
		"sum first":    {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum(0) }},
		"sum middle":   {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum(1) }},
		"mean last":    {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Mean(3) }},
		"mean of two":  {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Mean(0, 2) }},
		"sum of three": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum(0, 2, 3) }},
		"max":          {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaxLast() }},
		"logsumexp":    {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].LogSumExp() }},
		"softmax":      {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Softmax() }},
	} {
		shape := []int{2, 3, 4, 18}
		c.shapes = [][]int{shape}
		// The definition, one element of the result after the other.
		axes := map[string][]int{"sum": {0, 1, 2, 3}, "mean": {0, 1, 2, 3}, "sum first": {0}, "sum middle": {1}, "mean last": {3}, "mean of two": {0, 2}, "sum of three": {0, 2, 3}}
		c.want = func(x [][]float64) []float64 {
			if over, ok := axes[name]; ok {
				keep, count := append([]int{}, shape...), 1
				for _, a := range over {
					count *= keep[a]
					keep[a] = 1
				}
				y := make([]float64, size(keep))
				for i, v := range x[0] {
					at := 0
					for k, r := 3, i; k >= 0; k-- {
						if keep[k] > 1 {
							step := 1
							for _, d := range keep[k+1:] {
								step *= d
							}
							at += r % shape[k] * step
						}
						r /= shape[k]
					}
					y[at] += v
				}
				if name[:3] == "mea" {
					for i := range y {
						y[i] /= float64(count)
					}
				}
				return y
			}
			var y []float64
			for r := 0; r < len(x[0]); r += 18 {
				row := x[0][r:][:18]
				top, s := row[0], 0.0
				for _, v := range row {
					top, s = math.Max(top, v), s+math.Exp(v)
				}
				switch name {
				case "max":
					y = append(y, top)
				case "logsumexp":
					y = append(y, math.Log(s))
				default:
					for _, v := range row {
						y = append(y, math.Exp(v)/s)
					}
				}
			}
			return y
		}
		t.Run(name, c.check)
	}
	long := opCase{shapes: [][]int{{4100}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum() }, want: func(x [][]float64) []float64 {
		var s float64
		for _, v := range x[0] {
			s += v
		}
		return []float64{s}
	}}
	t.Run("long", long.check)
}

func TestShapes(t *testing.T) {
	for name, c := range map[string]opCase{
		"reshape": {shapes: [][]int{{2, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Reshape(3, -1).Tanh() }},
		"permute": {shapes: [][]int{{2, 3, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Permute(2, 0, 1) }, want: func(x [][]float64) []float64 {
			var y []float64
			for k := range 4 {
				for i := range 2 {
					for j := range 3 {
						y = append(y, x[0][(i*3+j)*4+k])
					}
				}
			}
			return y
		}},
		"permute twice": {shapes: [][]int{{2, 3, 4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Permute(0, 2, 1, 3).Permute(0, 2, 1, 3) }, want: each(func(v float64) float64 { return v })},
		"slice": {shapes: [][]int{{3, 7, 2}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Slice(1, 2, 3) }, want: func(x [][]float64) []float64 {
			var y []float64
			for i := range 3 {
				y = append(y, x[0][i*14+4:i*14+10]...)
			}
			return y
		}},
		"slices": {shapes: [][]int{{3, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Slice(1, 0, 3).Mul(x[0].Slice(1, 2, 3)) }},
		"concat": {shapes: [][]int{{2, 3}, {2, 1}, {2, 2}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.Concat(1, x[0], x[1], x[2]) }, want: func(x [][]float64) []float64 {
			var y []float64
			for i := range 2 {
				y = append(append(append(y, x[0][3*i:3*i+3]...), x[1][i]), x[2][2*i:2*i+2]...)
			}
			return y
		}},
		"concat of one": {shapes: [][]int{{2, 3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.Concat(0, x[0], x[0].Tanh(), x[0]) }},
		"rows": {shapes: [][]int{{4, 3}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].Rows(gpu.CPU().FromInt32([]int32{2, 0, 2, 3, 2, 1}, 2, 3))
		}, want: func(x [][]float64) []float64 {
			var y []float64
			for _, k := range []int{2, 0, 2, 3, 2, 1} {
				y = append(y, x[0][3*k:3*k+3]...)
			}
			return y
		}},
	} {
		t.Run(name, c.check)
	}
}
