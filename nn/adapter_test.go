package nn_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// plus is an adapter that adds a layer's result for x, or puts f's in the place of y.
type plus struct {
	layer *nn.Linear
	f     func(x, y *nn.Var) *nn.Var
}

func (p *plus) Adapt(x, y *nn.Var) *nn.Var {
	if p.f != nil {
		return p.f(x, y)
	}
	return y.Add(p.layer.Forward(x))
}

func TestAdapters(t *testing.T) {
	for name, layer := range map[string]func(s nn.Scope) (w *nn.Param, f func(x *nn.Var) *nn.Var){
		"linear": func(s nn.Scope) (*nn.Param, func(x *nn.Var) *nn.Var) {
			l := nn.NewLinear(s, 6, 40).Then(ops.GELUTanh)
			return l.W, func(x *nn.Var) *nn.Var { return l.Forward(x.Reshape(-1, 6)) }
		},
		"point": func(s nn.Scope) (*nn.Param, func(x *nn.Var) *nn.Var) {
			l := nn.NewPointLinear(s, 6, 5, 2, true)
			return l.W, func(x *nn.Var) *nn.Var { return l.Forward(x.Reshape(-1, 6)) }
		},
		"conv": func(s nn.Scope) (*nn.Param, func(x *nn.Var) *nn.Var) {
			l := nn.NewConv2D(s, 2, 3, 3)
			return l.W, l.Forward
		},
		"patch": func(s nn.Scope) (*nn.Param, func(x *nn.Var) *nn.Var) {
			l := nn.NewPatchEmbed(s, 2, 3, 2)
			return l.W, l.Forward
		},
	} {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			net := nn.NewParams(gpu.CPU(), dt)
			w, f := layer(net.At("l"))
			net.Init(1)
			c := opCase{shapes: [][]int{{3, 2, 6, 6}}}
			tape := nn.NewTape(gpu.CPU(), dt)
			x := tape.Input(c.leaves(dt)[0])
			was := floats(f(x).Value())
			nothing := &plus{f: func(_, y *nn.Var) *nn.Var { return y.Add(tape.Const(0, 1)) }}
			w.Attach(nothing)
			if got := floats(f(x).Value()); !slices.Equal(got, was) {
				t.Errorf("%s in %v: adding nothing changes the result", name, dt)
			}
			var want []float64 // the adapter is before the function that follows a linear layer
			double := &plus{f: func(_, y *nn.Var) *nn.Var {
				y = y.Scale(2)
				want = floats(y.Value())
				if name == "linear" {
					want = floats(y.GELUTanh().Value())
				}
				return y
			}}
			w.Attach(double)
			w.Detach(nothing)
			if got := floats(f(x).Value()); !slices.Equal(got, want) || slices.Equal(got, was) {
				t.Errorf("%s in %v: the result is not what the adapter makes of it", name, dt)
			}
			w.Detach(double)
			if got := floats(f(x).Value()); !slices.Equal(got, was) {
				t.Errorf("%s in %v: what was detached still changes the result", name, dt)
			}
			oracle.RefusesOne(t, "the adapter is not attached to l.weight", func() { w.Detach(double) })
			w.Attach(&plus{f: func(_, _ *nn.Var) *nn.Var { return tape.Const(0, 1) }})
			oracle.RefusesOne(t, "nn: an adapter of l.weight gives shape [1], want [", func() { f(x) })
		}
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	table := nn.NewEmbedding(net.At("table"), 3, 4)
	if table.W.Layer() != nn.OtherLayer {
		t.Errorf("a table is of layer kind %d", table.W.Layer())
	}
	oracle.RefusesOne(t, "table.weight is no weight of a linear layer", func() { table.W.Attach(&plus{}) })
}

// Gradients go through an adapter to its parameters, to the layer's and to the input.
func TestGradientsThroughAdapters(t *testing.T) {
	checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
		l, more := nn.NewLinear(s.At("base"), 6, 5).Then(ops.SiLU), nn.NewLinear(s.At("more"), 6, 5)
		l.W.Attach(&plus{layer: more})
		return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
	}, 3, 6)
}

// A prompt is one more context that callers do not pass.
func TestPrompts(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	a := nn.NewCrossAttention(net.At("a"), 8, 6, nn.AttnOptions{Heads: 2, QKNorm: nn.QKRMS})
	both := nn.NewCrossAttention(net.At("both"), 8, 6, nn.AttnOptions{Heads: 2, QKNorm: nn.QKRMS}).Add(net.At("both.more"), 4)
	net.Init(1)
	own := nn.NewParams(gpu.CPU(), gpu.Float64)
	prompt := a.NewPrompt(own.At("p"), 4)
	own.Init(2)
	for _, p := range net.All() { // both is a with the prompt's keys and values as a second context
		if rest, is := strings.CutPrefix(p.Name, "both.more."); is {
			p.Value.Copy(own.Get("p." + rest).Value)
		} else if rest, is := strings.CutPrefix(p.Name, "both."); is {
			p.Value.Copy(net.Get("a." + rest).Value)
		}
	}
	c := opCase{shapes: [][]int{{2, 3, 8}, {2, 4, 6}, {2, 5, 4}}}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	var v []*nn.Var
	for _, x := range c.leaves(gpu.Float64) {
		v = append(v, tape.Input(x))
	}
	text, image := nn.Context{States: v[1]}, nn.Context{States: v[2], Factor: 0.5}
	without := floats(a.Forward(v[0], text).Value())
	prompt.Context = image
	if got, want := floats(a.Forward(v[0], text).Value()), floats(both.Forward(v[0], text, image).Value()); !slices.Equal(got, want) {
		t.Errorf("with a prompt %v, with a second context %v", got[:4], want[:4])
	}
	a.DropPrompt(prompt)
	if got := floats(a.Forward(v[0], text).Value()); !slices.Equal(got, without) {
		t.Error("a prompt that was dropped is seen")
	}
	oracle.RefusesOne(t, "the prompt is not one of the layer's", func() { a.DropPrompt(prompt) })
}
