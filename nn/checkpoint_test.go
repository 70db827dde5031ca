package nn_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// deep is six residual blocks, plain or computed again in the walk back.
func deep(net *nn.Params, again bool) func(tape *nn.Tape, x *nn.Var) *nn.Var {
	var blocks []func(xs []*nn.Var) *nn.Var
	for i := range 6 {
		s := net.At(fmt.Sprint("block.", i))
		norm := nn.NewLayerNorm(s.At("norm"), 16)
		up, down := nn.NewLinear(s.At("up"), 16, 96).Then(ops.GELU), nn.NewLinear(s.At("down"), 96, 16)
		blocks = append(blocks, func(xs []*nn.Var) *nn.Var {
			h := up.Forward(norm.Forward(xs[0])).Dropout(ops.Mask{Seed: 1, Stream: uint64(i), P: 0.1})
			return xs[0].Add(down.Forward(h.SiLU().Mul(h.Sigmoid()).Tanh()).Mul(xs[1]))
		})
	}
	net.Init(4)
	return func(tape *nn.Tape, x *nn.Var) *nn.Var {
		gate := tape.Const(0.5, 16)
		for _, b := range blocks {
			if again {
				x = tape.Checkpoint(b, x, gate)
			} else {
				x = b([]*nn.Var{x, gate})
			}
		}
		return x
	}
}

// What is computed again has the bits of what is kept, in every kind of walk, with a
// quarter of the memory; a step still allocates nothing.
func TestCheckpoint(t *testing.T) {
	type outcome struct {
		dx, grad, seen []float64
		asked          [2][]float64
		peak           int64
	}
	x := gpu.CPU().From(oracle.Normal(1, 64*16), 64, 16)
	run := func(again bool) (o outcome) {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		f := deep(net, again)
		net.Get("block.2.up.weight").OnGrad(func(g *gpu.Tensor) { o.seen = floats(g) })
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		tape.Arena().Poison(true)
		tape.Run(func() {
			in := tape.Leaf(x)
			loss := f(tape, in).Square().Mean()
			tape.Backward(loss)
			o.dx, o.grad = floats(in.Grad()), slices.Clone(floats(net.Grad()))
			for i, g := range tape.Grad(loss, in, tape.Use(net.Get("block.4.down.bias"))) {
				o.asked[i] = floats(g)
			}
			if !slices.Equal(o.grad, floats(net.Grad())) {
				t.Error("Grad changed gradients of Backward")
			}
		})
		tape = nn.NewTape(gpu.CPU(), gpu.Float32)
		body := func() { tape.Backward(f(tape, tape.Leaf(x)).Square().Mean()) }
		tape.Run(body)
		o.peak = tape.Arena().Stats().Peak
		return o
	}
	plain, again := run(false), run(true)
	for name, v := range map[string][2][]float64{
		"input": {plain.dx, again.dx}, "parameters": {plain.grad, again.grad}, "a parameter's function": {plain.seen, again.seen},
		"asked for input": {plain.asked[0], again.asked[0]}, "asked for parameter": {plain.asked[1], again.asked[1]},
	} {
		if len(v[0]) == 0 || !slices.Equal(v[0], v[1]) {
			t.Errorf("%s: gradients differ from those without Checkpoint", name)
		}
	}
	if 4*again.peak > plain.peak {
		t.Errorf("%d bytes at most, %d without Checkpoint; want a quarter", again.peak, plain.peak)
	}
	t.Logf("peak %d bytes, %d without", again.peak, plain.peak)

	// Frozen then is frozen in the walk back.
	net, other := nn.NewParams(gpu.CPU(), gpu.Float32), nn.NewParams(gpu.CPU(), gpu.Float32)
	a, b := nn.NewLinear(net.At("a"), 16, 16), nn.NewLinear(other.At("b"), 16, 16)
	net.Init(1)
	other.Init(2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.Run(func() {
		in := tape.Leaf(x)
		var y *nn.Var
		tape.Frozen(func() {
			y = tape.Checkpoint(func(xs []*nn.Var) *nn.Var { return b.Forward(a.Forward(xs[0])) }, in)
		}, other)
		tape.Backward(y.Mean())
	})
	if ops.SumSquares(other.Grad()) != 0 || ops.SumSquares(net.Grad()) == 0 {
		t.Error("a network that was frozen has a gradient, or the other has none")
	}
	defer func() {
		if v := fmt.Sprint(recover()); !strings.Contains(v, "f uses Vars from outside that need a gradient") {
			t.Errorf("recovered %.200s", v)
		}
	}()
	tape.Run(func() {
		in := tape.Leaf(x)
		tape.Checkpoint(func([]*nn.Var) *nn.Var { return in }, in)
	})
}
