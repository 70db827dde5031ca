package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// grouped is a layer of groups whose parameters are leaves.
func grouped(offsets *gpu.Tensor, f ops.Func, there bool) func(t *nn.Tape, x vars) *nn.Var {
	return func(t *nn.Tape, x vars) *nn.Var {
		at := offsets
		if there {
			at = offsets.To(t.Device())
		}
		return x[0].GroupedLinear(x[1], x[2], at, f)
	}
}

// groupedCases have empty groups, and rows that are in none.
func groupedCases() map[string]opCase {
	offsets := gpu.CPU().FromInt32([]int32{0, 0, 4, 7, 7}, 5)
	shapes := [][]int{{9, 3}, {4, 5, 3}, {4, 5}}
	want := func(f func(float64) float64) func(x [][]float64) []float64 {
		return func(x [][]float64) []float64 { // a loop of layers
			y := make([]float64, 9*5)
			for g := range 4 {
				for r := int(offsets.I32()[g]); r < int(offsets.I32()[g+1]); r++ {
					for j := range 5 {
						s := x[2][g*5+j]
						for k := range 3 {
							s += x[0][r*3+k] * x[1][(g*5+j)*3+k]
						}
						y[r*5+j] = f(s)
					}
				}
			}
			return y
		}
	}
	return map[string]opCase{
		"grouped":           {shapes: shapes, f: grouped(offsets, ops.Identity, true), want: want(func(v float64) float64 { return v })},
		"grouped, function": {shapes: shapes, f: grouped(offsets, ops.Tanh, false), want: want(math.Tanh)},
		"grouped, no bias": {shapes: shapes[:2], f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].GroupedLinear(x[1], nil, offsets, ops.SiLU)
		}},
	}
}

func TestGroupedLinear(t *testing.T) {
	for name, c := range groupedCases() {
		t.Run(name, c.check)
	}
}

// A mixture of experts of tokens sorted by expert is what linear layers make of each token, in
// results and gradients.
func TestGroupedLinearIsALoopOfLayers(t *testing.T) {
	const experts, tokens, in, out = 3, 40, 6, 5
	expert := make([]int32, tokens)
	counts := make([]int32, experts+1)
	for i := range expert {
		expert[i] = int32(i * i % 7 % experts)
		counts[expert[i]+1]++
	}
	for e := range experts {
		counts[e+1] += counts[e]
	}
	order, next := make([]int32, tokens), append([]int32(nil), counts...)
	for i, e := range expert { // by counting
		order[next[e]] = int32(i)
		next[e]++
	}
	dt := gpu.Float64
	net := nn.NewParams(gpu.CPU(), dt)
	many := nn.NewGroupedLinear(net.At("many"), experts, in, out).Then(ops.GELU)
	net.Init(5)
	x := gpu.CPU().FromAs(dt, oracle.Normal(1, tokens*in), tokens, in)
	tape := nn.NewTape(gpu.CPU(), dt)
	sorted, offsets := gpu.CPU().FromInt32(order, tokens), gpu.CPU().FromInt32(counts, experts+1)
	var got, gotX []float64
	tape.Run(func() {
		leaf := tape.Leaf(x)
		y := many.Forward(leaf.Rows(sorted), offsets)
		got = floats(y.Value())
		tape.Backward(y.Square().Sum())
		gotX = floats(leaf.Grad())
	})
	gotW, gotB := floats(many.W.Grad()), floats(many.B.Grad())

	wantX, wantW, wantB := make([]float64, tokens*in), make([]float64, len(gotW)), make([]float64, len(gotB))
	for e := range experts {
		one := nn.NewParams(gpu.CPU(), dt)
		layer := nn.NewLinear(one.At("one"), in, out).Then(ops.GELU)
		one.Init(1)
		copy(layer.W.Value.F64(), many.W.Value.F64()[e*out*in:])
		copy(layer.B.Value.F64(), many.B.Value.F64()[e*out:])
		for r := counts[e]; r < counts[e+1]; r++ {
			token := int(order[r])
			tape.Run(func() {
				leaf := tape.Leaf(x.Rows(token, token+1))
				y := layer.Forward(leaf)
				for j, v := range floats(y.Value()) {
					if math.Abs(v-got[int(r)*out+j]) > 1e-14 {
						t.Errorf("token %d: %v, its layer gives %v", token, got[int(r)*out+j], v)
					}
				}
				tape.Backward(y.Square().Sum())
				copy(wantX[token*in:], floats(leaf.Grad()))
			})
		}
		copy(wantW[e*out*in:], floats(layer.W.Grad()))
		copy(wantB[e*out:], floats(layer.B.Grad()))
	}
	for _, p := range []struct{ got, want []float64 }{{gotX, wantX}, {gotW, wantW}, {gotB, wantB}} {
		oracle.Close64(t, p.got, oracle.Tol{Abs: 1e-13}, func(i int) float64 { return p.want[i] })
	}
}

func TestGroupedLinearAllocatesNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	l := nn.NewGroupedLinear(net.At(""), 3, 8, 6).Then(ops.SiLU)
	net.Init(1)
	x, offsets := gpu.CPU().From(oracle.Normal(1, 80), 10, 8), gpu.CPU().FromInt32([]int32{0, 4, 4, 9}, 4)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	body := func() { tape.Backward(l.Forward(tape.Leaf(x), offsets).Sum()) }
	step := func() { tape.Run(body) }
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestGroupedLinearRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	e := func(shape ...int) *nn.Var { return tape.Leaf(gpu.CPU().Zeros(gpu.Float32, shape...)) }
	at := gpu.CPU().FromInt32([]int32{0, 2, 9}, 3)
	oracle.Refuses(t, map[string]func(){
		"x has shape [4 3], the weights [2 5 4]": func() { e(4, 3).GroupedLinear(e(2, 5, 4), nil, at, ops.Identity) },
		"offset 2 is 9, and there are 4 rows":    func() { e(4, 4).GroupedLinear(e(2, 5, 4), nil, at, ops.Identity) },
		"0 groups, want one or more":             func() { nn.NewGroupedLinear(nn.NewParams(gpu.CPU(), gpu.Float32).At("moe"), 0, 3, 4) },
	})
}
