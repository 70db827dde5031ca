package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// maskedCases are layers with masks of numbers, of one row a sample and of several.
func maskedCases() map[string]opCase {
	const b, rows, in, out = 3, 4, 5, 2
	layer := func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaskedLinear(x[1], x[2], x[3], ops.Tanh) }
	want := func(rows int) func(x [][]float64) []float64 {
		return func(x [][]float64) []float64 {
			y := make([]float64, b*rows*out)
			for i := range y {
				r, j := i/out, i%out
				s := x[2][j]
				for k := range in {
					s += x[0][r*in+k] * x[1][j*in+k] * x[3][(r/rows*out+j)*in+k]
				}
				y[i] = math.Tanh(s)
			}
			return y
		}
	}
	return map[string]opCase{
		"masked":            {shapes: [][]int{{b, 2, 2, in}, {out, in}, {out}, {b, out, in}}, f: layer, want: want(rows)},
		"masked, single":    {shapes: [][]int{{b, in}, {out, in}, {out}, {b, out, in}}, f: layer, want: want(1)},
		"masked, no bias":   {shapes: [][]int{{b, rows, in}, {out, in}, {b, out, in}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaskedLinear(x[1], nil, x[2], ops.Identity) }},
		"masked, of logits": {shapes: [][]int{{b, rows, in}, {out, in}, {b, out, in}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaskedLinear(x[1], nil, x[2].Sigmoid(), ops.Identity) }},
	}
}

func TestMaskedLinear(t *testing.T) {
	for name, c := range maskedCases() {
		t.Run(name, c.check)
	}
}

// Masks of ones and zeros leave out weights of each sample, and a hard mask passes its gradient
// straight to the soft one.
func TestMaskedLinearOfBits(t *testing.T) {
	const b, in, out = 2, 3, 4
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	l := nn.NewMaskedLinear(net.At("l"), in, out)
	net.Init(3)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, b*in), b, in)
	soft := gpu.CPU().FromAs(gpu.Float64, oracle.Uniform(2, b*out*in, 0, 1), b, out, in)
	hard := soft.Like()
	for i, v := range soft.F64() {
		hard.F64()[i] = math.Round(v)
	}
	tape.Run(func() {
		leaf := tape.Leaf(soft)
		y := l.Forward(tape.Input(x), nn.ST(tape.Input(hard), leaf))
		tape.Backward(y.Sum())
		for i, got := range floats(y.Value()) {
			s, j := i/out, i%out
			want := l.B.Value.F64()[j]
			for k := range in {
				if hard.F64()[(s*out+j)*in+k] == 1 {
					want += x.F64()[s*in+k] * l.W.Value.F64()[j*in+k]
				}
			}
			if math.Abs(got-want) > 1e-14 {
				t.Errorf("sample %d, %d: %v, want %v", s, j, got, want)
			}
		}
		for i, got := range floats(leaf.Grad()) {
			s, at := i/(out*in), i%(out*in)
			if want := l.W.Value.F64()[at] * x.F64()[s*in+at%in]; math.Abs(got-want) > 1e-14 {
				t.Errorf("gradient by mask %d: %v, want %v", i, got, want)
			}
		}
		plain := l.Forward(tape.Input(x), nil)
		ones := l.Forward(tape.Input(x), tape.Const(1, b, out, in))
		for i, v := range floats(plain.Value()) {
			if math.Abs(v-floats(ones.Value())[i]) > 1e-14 {
				t.Errorf("without a mask %v, with one of ones %v", v, floats(ones.Value())[i])
			}
		}
	})
}

func TestMaskedLinearRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	e := func(shape ...int) *nn.Var { return tape.Leaf(gpu.CPU().Zeros(gpu.Float32, shape...)) }
	oracle.Refuses(t, map[string]func(){
		"x has shape [2 3], the weight [4 3], masks [3 4 3]": func() { e(2, 3).MaskedLinear(e(4, 3), nil, e(3, 4, 3), ops.Identity) },
		"masks [4 3], want":       func() { e(2, 3).MaskedLinear(e(4, 3), nil, e(4, 3), ops.Identity) },
		"x has shape [3], the we": func() { e(3).MaskedLinear(e(4, 3), nil, e(1, 4, 3), ops.Identity) },
	})
}
