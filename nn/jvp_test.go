package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// The derivative of a whole network by its input and a parameter, against differences.
func TestJVPOfNetwork(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	up := nn.NewLinear(net.At("up"), 6, 16)
	norm := nn.NewLayerNorm(net.At("norm"), 16)
	down := nn.NewLinear(net.At("down"), 16, 3)
	net.Init(3)
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 24), 4, 6)
	dx := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(2, 24), 4, 6)
	dw := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(4, 48), 3, 16)
	f := func(x *nn.Var) *nn.Var { return down.Forward(norm.Forward(up.Forward(x).SiLU()).Tanh()).Softmax() }
	value := func(eps float64) []float64 {
		moved, weight := x.Like(), down.W.Value
		start := append([]float64(nil), weight.F64()...)
		defer copy(weight.F64(), start)
		ops.Affine(moved, 1, x, eps, dx, 0, false)
		ops.Affine(weight, 1, weight, eps, dw, 0, false)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		return floats(f(tape.Input(moved)).Value())
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	in := tape.Leaf(x)
	y := f(in)
	got := tape.JVP(y, []*nn.Var{in, tape.Use(down.W)}, []*gpu.Tensor{dx, dw})
	if got.NeedsGrad() {
		t.Error("the derivative wants a gradient")
	}
	hi, lo := value(1e-5), value(-1e-5)
	oracle.Close64(t, got.Value().F64(), oracle.Tol{Abs: 1e-9}, func(i int) float64 { return (hi[i] - lo[i]) / 2e-5 })

	// What does not depend on x stands still, and gradients are as without.
	free := tape.Leaf(x)
	if d := tape.JVP(f(free), []*nn.Var{in}, []*gpu.Tensor{dx}); math.Abs(floats(d.Value())[0]) != 0 {
		t.Error("moved by a Var that it does not depend on")
	}
	// A result moves by itself, whatever it was made of.
	h := up.Forward(in)
	d := tape.JVP(h.Scale(2), []*nn.Var{h, in}, []*gpu.Tensor{h.Value(), dx})
	oracle.Close64(t, d.Value().F64(), oracle.Tol{Eps: 1}, func(i int) float64 { return 2 * h.Value().F64()[i] })
}

func TestJVPRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := gpu.CPU().Zeros(gpu.Float32, 2, 3)
	leaf, input := tape.Leaf(x), tape.Input(x)
	other := nn.NewTape(gpu.CPU(), gpu.Float32).Leaf(x)
	y := leaf.Exp()
	again := tape.Checkpoint(func(xs []*nn.Var) *nn.Var { return xs[0].Exp() }, leaf)
	oracle.Refuses(t, map[string]func(){
		"1 Vars and 0 directions":             func() { tape.JVP(y, []*nn.Var{leaf}, nil) },
		"direction of shape [3 2] for [2 3]":  func() { tape.JVP(y, []*nn.Var{leaf}, []*gpu.Tensor{x.View(3, 2)}) },
		"an Input, a frozen":                  func() { tape.JVP(y, []*nn.Var{input}, []*gpu.Tensor{x}) },
		"of another tape":                     func() { tape.JVP(y, []*nn.Var{other}, []*gpu.Tensor{x}) },
		"moved twice":                         func() { tape.JVP(y, []*nn.Var{leaf, leaf}, []*gpu.Tensor{x, x}) },
		"derivative of Checkpoint in a direc": func() { tape.JVP(again, []*nn.Var{leaf}, []*gpu.Tensor{x}) },
		"the tensor is float64":               func() { tape.JVP(y, []*nn.Var{leaf}, []*gpu.Tensor{gpu.CPU().Zeros(gpu.Float64, 2, 3)}) },
	})
}
