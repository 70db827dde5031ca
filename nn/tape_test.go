package nn_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// pairOfNets is two linear layers in networks of their own, y = b(a(x)), with one weight
// each: dy/da = b·x, dy/db = a·x, dy/dx = a·b.
func pairOfNets(t *testing.T) (a, b *nn.Params, la, lb *nn.Linear) {
	t.Helper()
	a, b = nn.NewParams(gpu.CPU(), gpu.Float64), nn.NewParams(gpu.CPU(), gpu.Float64)
	la, lb = nn.NewLinearNoBias(a.At("a"), 1, 1), nn.NewLinearNoBias(b.At("b"), 1, 1)
	la.W.Start, lb.W.Start = nn.Fill(3), nn.Fill(5)
	a.Init(0)
	b.Init(0)
	return a, b, la, lb
}

func number(v float64) *gpu.Tensor { return gpu.CPU().From64([]float64{v}, 1, 1) }

func TestGradientScopes(t *testing.T) {
	a, b, la, lb := pairOfNets(t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Arena().Poison(true)
	wa, wb := func() float64 { return la.W.Grad().F64()[0] }, func() float64 { return lb.W.Grad().F64()[0] }
	for _, c := range []struct {
		name        string
		y           func(x *nn.Var) *nn.Var
		da, db, dx  float64
		noX         bool
		before      func()
		after       func()
		wantNoNodes bool
	}{
		{name: "all", y: func(x *nn.Var) *nn.Var { return lb.Forward(la.Forward(x)) }, da: 10, db: 6, dx: 15},
		{name: "frozen in a scope", y: func(x *nn.Var) (y *nn.Var) {
			h := la.Forward(x)
			tape.Frozen(func() { y = lb.Forward(h) }, b)
			return y
		}, da: 10, dx: 15},
		{name: "frozen network", y: func(x *nn.Var) *nn.Var { return lb.Forward(la.Forward(x)) }, db: 6, dx: 15,
			before: func() { a.Freeze(true) }, after: func() { a.Freeze(false) }},
		{name: "frozen parameter", y: func(x *nn.Var) *nn.Var { return lb.Forward(la.Forward(x)) }, da: 10, dx: 15,
			before: func() { lb.W.Frozen = true }, after: func() { lb.W.Frozen = false }},
		{name: "stopped", y: func(x *nn.Var) *nn.Var { return lb.Forward(la.Forward(x).StopGrad()) }, db: 6, noX: true},
		{name: "without gradient", y: func(x *nn.Var) *nn.Var {
			var h *nn.Var
			tape.NoGrad(func() { h = la.Forward(x) })
			if h.NeedsGrad() {
				t.Error("a result of NoGrad wants a gradient")
			}
			return lb.Forward(h)
		}, db: 6, noX: true},
		{name: "one network frozen and not in one step", y: func(x *nn.Var) (y *nn.Var) {
			tape.Frozen(func() { y = lb.Forward(x) }, b) // 5x
			return y.Add(lb.Forward(x))                  // + 5x
		}, db: 2, dx: 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
				defer c.after()
			}
			a.ZeroGrad()
			b.ZeroGrad()
			tape.Run(func() {
				x := tape.Leaf(number(2))
				tape.Backward(c.y(x))
				if g := x.Grad(); c.noX != (g == nil) || g != nil && g.F64()[0] != c.dx {
					t.Errorf("gradient by the input is %v, want %v", g, c.dx)
				}
			})
			if wa() != c.da || wb() != c.db {
				t.Errorf("gradients by the weights are %v and %v, want %v and %v", wa(), wb(), c.da, c.db)
			}
		})
	}
}

// A network frozen as a whole makes no products for its weights: the critic's share of a
// generator's step.
func TestGradientsAddUpAndGradTouchesNone(t *testing.T) {
	a, b, la, lb := pairOfNets(t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for range 2 { // sums over Backward calls and steps
		tape.Run(func() {
			x := tape.Leaf(number(2))
			h := la.Forward(x)
			y := lb.Forward(h).Keep()
			z := y.Square()
			tape.Backward(y)
			tape.Backward(z)
			if g := y.Grad().F64()[0]; g != 60 { // of the latest walk: 2y
				t.Errorf("kept gradient %v, want 60", g)
			}
			if got := x.Grad().F64()[0]; got != 15+900 {
				t.Errorf("gradient by the input %v, want 915", got)
			}
			before := slices.Clone(a.Grad().F64())
			g := tape.Grad(z, tape.Use(lb.W), h, x)
			if g[0].F64()[0] != 360 || g[1].F64()[0] != 300 || g[2].F64()[0] != 900 { // 2y·h, 2y·b, 2y·a·b
				t.Errorf("Grad gives %v %v %v, want 360, 300, 900", g[0].F64(), g[1].F64(), g[2].F64())
			}
			if !slices.Equal(before, a.Grad().F64()) || x.Grad().F64()[0] != 915 || y.Grad().F64()[0] != 60 {
				t.Error("Grad changed gradients of Backward")
			}
			other := la.Forward(tape.Input(number(1)))
			if g := tape.Grad(other, x); g[0] != nil {
				t.Errorf("gradient %v by what the result does not depend on, want nil", g[0])
			}
		})
	}
	if got := la.W.Grad().F64()[0]; got != 2*(10+600) {
		t.Errorf("gradients of two steps %v, want 1220", got)
	}
	if got := lb.W.Grad().F64()[0]; got != 2*(6+360) {
		t.Errorf("gradients of two steps %v, want 732", got)
	}
	b.ZeroGrad()
	if got := lb.W.Grad().F64()[0]; got != 0 {
		t.Errorf("after ZeroGrad %v", got)
	}
}

func TestHooks(t *testing.T) {
	_, _, la, lb := pairOfNets(t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	var seen []float64
	la.W.OnGrad(func(g *gpu.Tensor) {
		seen = append(seen, g.F64()[0])
		g.F64()[0] = 1 // clipped
	})
	tape.Run(func() {
		x := tape.Leaf(number(2))
		h := la.Forward(x)
		h.OnGrad(func(g *gpu.Tensor) { seen = append(seen, g.F64()[0]) })
		y := lb.Forward(h.Add(h))
		tape.Backward(y)
		tape.Backward(y)
		if g := tape.Grad(y, tape.Use(la.W)); g[0].F64()[0] != 20 {
			t.Errorf("Grad gives %v, want 20: no function of the parameter is called", g[0].F64())
		}
	})
	if want := []float64{10, 20, 10, 20, 10}; !slices.Equal(seen, want) { // by h complete, then by the weight
		t.Errorf("functions saw %v, want %v", seen, want)
	}
	if got := la.W.Grad().F64()[0]; got != 2 {
		t.Errorf("the weight's gradient is %v, want 2: what the function left, twice", got)
	}
	la.W.OnGrad(nil)
	tape.Run(func() { tape.Backward(lb.Forward(la.Forward(tape.Input(number(2))))) })
	if got := la.W.Grad().F64()[0]; got != 12 {
		t.Errorf("without the function %v, want 12", got)
	}
}

func TestTaps(t *testing.T) {
	_, _, la, lb := pairOfNets(t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	forward := func(x *nn.Var) *nn.Var { return lb.Forward(la.Forward(x).Tap("a.out")) }
	var kept *nn.Var
	tape.OnTap("a.out", func(v *nn.Var) *nn.Var {
		kept = v.Keep()
		return v
	})
	tape.Run(func() {
		tape.Backward(forward(tape.Input(number(2))))
		if kept.Item() != 6 || kept.Grad().F64()[0] != 5 {
			t.Errorf("tapped %v with gradient %v, want 6 and 5", kept.Item(), kept.Grad().F64())
		}
	})
	tape.OnTap("a.out", func(v *nn.Var) *nn.Var { return v.Tape().Const(7, 1, 1) })
	tape.Run(func() {
		if y := forward(tape.Input(number(2))); y.Item() != 35 {
			t.Errorf("with another value in its place %v, want 35", y.Item())
		}
	})
	tape.OnTap("a.out", nil)
	tape.Run(func() {
		if y := forward(tape.Input(number(2))); y.Item() != 30 {
			t.Errorf("after the tap %v, want 30", y.Item())
		}
	})
}

func TestTapeMisuse(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	l := nn.NewLinear(net.At("l"), 3, 2)
	conv := nn.NewConv2D(net.At("conv"), 3, 4, 3)
	net.Init(0)
	tape, other := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	late := nn.NewParams(gpu.CPU(), gpu.Float32)
	early := nn.NewLinear(late.At("l"), 3, 2)
	d := gpu.CPU()
	for want, f := range map[string]func(){
		"the tensor is float64, the tape float32":       func() { tape.Input(d.Empty64(3)) },
		"want one number":                               func() { tape.Backward(l.Forward(tape.Input(d.Empty(1, 3)))) },
		"nothing that the loss was made of wants":       func() { tape.Backward(tape.Input(d.Empty(1, 3)).Sum()) },
		"are all parameters frozen":                     func() { tape.Frozen(func() { tape.Backward(l.Forward(tape.Input(d.Empty(1, 3))).Sum()) }, net) },
		"Vars of two tapes":                             func() { tape.Leaf(d.Empty(3)).Add(other.Leaf(d.Empty(3))) },
		"of another tape":                               func() { tape.Backward(other.Leaf(d.Empty(1))) },
		"shapes [3] and [4] do not repeat":              func() { tape.Leaf(d.Empty(3)).Add(tape.Leaf(d.Empty(4))) },
		"Linear: x has shape [2 4]":                     func() { l.Forward(tape.Input(d.Empty(2, 4))) },
		"used before Init":                              func() { early.Forward(tape.Input(d.Empty(2, 3))) },
		"registered after Init":                         func() { nn.NewLinear(net.At("m"), 3, 2) },
		`the name "l.weight" is empty or taken`:         func() { nn.NewLinear(late.At("l"), 3, 2) },
		"want sizes >= 1":                               func() { nn.NewLinear(late.At("z"), 0, 2) },
		"a network is laid out once":                    func() { net.Init(1) },
		"the network has no parameters":                 func() { nn.NewParams(d, gpu.Float32).Init(1) },
		"want float32 or float64":                       func() { nn.NewTape(d, gpu.Float16) },
		"Reshape: shape [5 -1] for [2 3]":               func() { tape.Leaf(d.Empty(2, 3)).Reshape(5, -1) },
		"Permute: axis 2 of shape [2 3]":                func() { tape.Leaf(d.Empty(2, 3)).Permute(2, 0) },
		"Slice: a piece of shape [2 4]":                 func() { tape.Leaf(d.Empty(2, 3)).Slice(1, 0, 4) },
		"Sum: axis 2 of shape [2 3]":                    func() { tape.Leaf(d.Empty(2, 3)).Sum(2) },
		"asked for twice":                               func() { x := tape.Leaf(d.Empty(1)); tape.Grad(x.Exp(), x, x) },
		"one that no gradient flows to":                 func() { x := tape.Leaf(d.Empty(1)); tape.Grad(x.Exp(), tape.Input(d.Empty(1))) },
		"the gradient has shape [2], the result [1]":    func() { tape.BackwardFrom(tape.Leaf(d.Empty(1)), d.Empty(2)) },
		"label 7 of row 0, want 0 to 2, or -1 for none": func() { nn.CrossEntropy(tape.Leaf(d.Empty(1, 3)), d.FromInt32([]int32{7}, 1), 0) },
		"id -1 at 0, want 0 to 3":                       func() { tape.Leaf(d.Empty(4, 3)).Rows(d.FromInt32([]int32{-1}, 1)) },
		"learning rate is NaN":                          func() { nn.NewAdam(net, nn.AdamOptions{}).Step(math.NaN()) },
		"NewAdam: betas 1.5":                            func() { nn.NewAdam(net, nn.AdamOptions{Beta1: 1.5}) },
		"NewSGD: momentum 1":                            func() { nn.NewSGD(net, nn.SGDOptions{Momentum: 1}) },
		"NewLion: betas -1":                             func() { nn.NewLion(net, nn.LionOptions{Beta1: -1}) },
		"decay 1, want 0 <= decay < 1":                  func() { nn.NewEMA(net, 1) },
		"7 channels in 2 groups":                        func() { nn.NewGroupNorm(late.At("g"), 2, 7) },
		"put in place of here":                          func() { tape.OnTap("here", func(*nn.Var) *nn.Var { return nil }); tape.Leaf(d.Empty(2)).Tap("here") },
		"no result of an operation":                     func() { tape.Leaf(d.Empty(2)).OnGrad(func(*gpu.Tensor) {}) },
		"Conv2D: pictures [2 3] and kernels":            func() { conv.Forward(tape.Input(d.Empty(2, 3))) },
		"are smaller than kernels":                      func() { conv.Forward(tape.Input(d.Empty(2, 3, 1, 0))) },
		"pictures [2 2 4 4] and kernels":                func() { conv.Forward(tape.Input(d.Empty(2, 2, 4, 4))) },
		"squares of 3 do not fill":                      func() { tape.Leaf(d.Empty(1, 1, 4, 4)).AvgPool(3) },
		"Upsample: shape [4] and factor 2":              func() { tape.Leaf(d.Empty(4)).Upsample(2) },
		"Dropout: share 1 of elements":                  func() { tape.Leaf(d.Empty(4)).Dropout(ops.Mask{P: 1}) },
		"Turn: x has shape [1 2 3 4], the angles [2 3]": func() { tape.Leaf(d.Empty(1, 2, 3, 4)).Turn(d.Empty(2, 3), false) },
		"Concat of nothing":                             func() { nn.Concat(0) },
	} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, want) {
					t.Errorf("want a panic with %q, got: %.300s", want, v)
				}
				tape.Reset()
				other.Reset()
				tape.OnTap("here", nil)
			}()
			f()
		}()
	}
}
