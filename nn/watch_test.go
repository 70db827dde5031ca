package nn_test

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// The first tensor that is not finite is the fault's, forward and back.
func TestWatchFindsTheFirstFault(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	in, out := nn.NewLinearNoBias(net.At("in"), 2, 3), nn.NewLinear(net.At("out"), 3, 1)
	in.W.Start, out.W.Start = nn.Fill(1), nn.Ones
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	for name, c := range map[string]struct {
		x    []float32
		y    func(h *nn.Var) *nn.Var
		want string
		back bool
	}{
		"logarithm of a negative number": {[]float32{-1, -2}, func(h *nn.Var) *nn.Var { return h.Log().Exp().Square() },
			"the result of Var.Log > Var.Map, [1 3], called in nn_test.TestWatchFindsTheFirstFault", false},
		"quotient": {[]float32{1, -1}, func(h *nn.Var) *nn.Var { return h.Div(h) }, "the result of Var.Div, [1 3]", false},
		"a layer":  {[]float32{3e38, 3e38}, func(h *nn.Var) *nn.Var { return h.ReLU() }, "the result of Linear.Forward", false},
		"slope of a root at zero": {[]float32{1, -1}, func(h *nn.Var) *nn.Var { return h.Sqrt() },
			"the gradient that goes back from Var.Sqrt > Var.Map", true},
		"in a block computed twice": {[]float32{-1, -2}, func(h *nn.Var) *nn.Var {
			return tape.Checkpoint(func(xs []*nn.Var) *nn.Var { return xs[0].Log() }, h)
		}, "the result of Var.Log > Var.Map", false},
	} {
		var first *nn.Made
		said := ""
		tape.Watch(func(m nn.Made) {
			if _, ok := ops.Finite(m.Value); !ok && first == nil {
				first, said = &m, m.String()
			}
		})
		x := gpu.CPU().From(c.x, 1, 2)
		tape.Run(func() { tape.Backward(out.Forward(c.y(in.Forward(tape.Input(x)))).Sum()) })
		tape.Watch(nil)
		net.ZeroGrad()
		if first == nil {
			t.Errorf("%s: nothing found", name)
			continue
		}
		if !strings.HasPrefix(said, c.want) || first.Gradient != c.back || !strings.Contains(said, "watch_test.go:") {
			t.Errorf("%s: %s, want %s", name, said, c.want)
		}
	}
}

// A watcher sees each result and each gradient of a step, with the parameters by name, and
// changes no bit of it; afterwards it hears nothing.
func TestWatchSeesAll(t *testing.T) {
	net, loss := smallNet(gpu.Float32)
	x, ids := gpu.CPU().FromAs(gpu.Float32, make([]float32, 16*9*24), 16, 9, 24), gpu.CPU().FromInt32(make([]int32, 16), 16)
	for i := range x.F32() {
		x.F32()[i] = float32(i%13) - 6
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	step := func() []float32 {
		net.ZeroGrad()
		tape.Run(func() { tape.Backward(loss(tape, tape.Input(x), ids)) })
		return append([]float32{}, net.Grad().F32()...)
	}
	want := step()
	uses, grads, results := map[string]bool{}, map[string]bool{}, 0
	tape.Watch(func(m nn.Made) {
		switch {
		case m.Op == "" || m.At == "":
			t.Errorf("a tensor of nobody: %+v", m)
		case m.Gradient:
			grads[m.Param] = true
		default:
			results++
			uses[scope(m.Param)] = true
		}
	})
	got := step()
	tape.Watch(nil)
	for i, v := range got {
		if v != want[i] {
			t.Fatalf("watching changes gradient %d", i)
		}
	}
	for _, p := range net.All() {
		if !grads[p.Name] {
			t.Errorf("no gradient of %s was shown", p.Name)
		}
		if !uses[scope(p.Name)] {
			t.Errorf("no result of layer %s was shown", scope(p.Name))
		}
	}
	if results < 25 {
		t.Errorf("%d results were shown", results)
	}
	n := results
	step()
	if results != n {
		t.Error("a watcher that was ended still hears")
	}
}

// scope is the layer of a parameter.
func scope(name string) string { return name[:max(0, strings.LastIndexByte(name, '.'))] }
