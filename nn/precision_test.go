package nn_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// bf16s is v with every element rounded to the nearest bfloat16.
func bf16s(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(gpu.BF16ToFloat(gpu.FloatToBF16(float32(x))))
	}
	return out
}

func values(t *testing.T, x *gpu.Tensor) []float64 {
	t.Helper()
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// layerOf is a layer of n parameters, and y = layer(x) on a tape.
type layerOf struct {
	name  string
	shape []int
	make  func(s nn.Scope) (forward func(x *nn.Var) *nn.Var)
}

// precisionLayers are all kinds of layers that multiply in the tape's precision.
func precisionLayers() []layerOf {
	conv := func(in, out, k, groups int, last bool) func(s nn.Scope) func(x *nn.Var) *nn.Var {
		return func(s nn.Scope) func(x *nn.Var) *nn.Var {
			l := nn.NewGroupConv2D(s, in, out, k, groups)
			l.Config.Last = last
			return l.Forward
		}
	}
	return []layerOf{
		{name: "linear", shape: []int{9, 7, 40}, make: func(s nn.Scope) func(x *nn.Var) *nn.Var { return nn.NewLinear(s, 40, 33).Forward }},
		{name: "point", shape: []int{9, 7, 40}, make: func(s nn.Scope) func(x *nn.Var) *nn.Var { return nn.NewPointLinear(s, 40, 33, 2, true).Forward }},
		{name: "convolution", shape: []int{3, 8, 9, 7}, make: conv(8, 12, 3, 1, false)},
		{name: "convolution, channels last", shape: []int{3, 9, 7, 8}, make: conv(8, 12, 3, 1, true)},
		{name: "convolution of points, channels last", shape: []int{3, 9, 7, 8}, make: conv(8, 12, 1, 1, true)},
		{name: "groups", shape: []int{3, 8, 9, 7}, make: conv(8, 12, 3, 4, false)},
		{name: "depthwise", shape: []int{3, 8, 9, 7}, make: conv(8, 8, 3, 8, false)},
	}
}

// pass is y = layer(x) and the gradients by x and the parameters for the gradient g by y, on a tape of dt in a precision; x, g and the
// weight are rounded first where round is set, each for the products that it is in.
func (l layerOf) pass(t *testing.T, dev *gpu.Device, dt gpu.DType, p nn.Precision, round bool) (y, dx, dw, db []float64) {
	t.Helper()
	net := nn.NewParams(dev, dt)
	forward := l.make(net.At("l"))
	net.Init(7)
	n := 1
	for _, d := range l.shape {
		n *= d
	}
	tensor := func(v []float64, shape ...int) *gpu.Tensor {
		f := make([]float32, len(v))
		for i := range v {
			f[i] = float32(v[i])
		}
		return dev.FromAs(dt, f, shape...)
	}
	xv := make([]float64, n)
	for i, v := range oracle.Normal(11, n) {
		xv[i] = float64(v)
	}
	w, b := net.All()[0], net.All()[1]
	if round {
		xv = bf16s(xv)
		w.Value.Copy(tensor(bf16s(values(t, w.Value)), w.Value.Shape()...))
	}
	tape := nn.NewTape(dev, dt)
	tape.SetPrecision(p)
	var x *nn.Var
	run := func(rounded bool) {
		tape.Run(func() {
			x = tape.Leaf(tensor(xv, l.shape...))
			out := forward(x)
			gv := make([]float64, out.Value().Len())
			for i, v := range oracle.Normal(12, len(gv)) {
				gv[i] = float64(v)
			}
			if rounded {
				gv = bf16s(gv)
			}
			tape.BackwardFrom(out, tensor(gv, out.Shape()...))
			y, dx = values(t, out.Value()), values(t, x.Grad())
		})
	}
	run(round)
	dw, db = values(t, w.Grad()), values(t, b.Grad())
	if round { // sums are float32: of the gradient that is not rounded
		net.ZeroGrad()
		keepY, keepDX := y, dx
		run(false)
		y, dx, db = keepY, keepDX, values(t, b.Grad())
	}
	return y, dx, dw, db
}

// A layer in BF16 against the same in float64 whose operands, and the gradient by its result, are rounded to bfloat16: within the
// rounding of float32 sums. The gradient by the bias is a sum of what is not rounded.
func TestPrecisionIsRoundingOfOperands(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, l := range precisionLayers() {
			if dev.CUDA() && (l.name == "groups" || l.name == "depthwise") && testing.Short() {
				continue
			}
			y, dx, dw, db := l.pass(t, dev, gpu.Float32, nn.BF16, false)
			wy, wdx, wdw, wdb := l.pass(t, gpu.CPU(), gpu.Float64, nn.Full, true)
			fy, _, _, _ := l.pass(t, dev, gpu.Float32, nn.Full, false)
			for what, pair := range map[string][2][]float64{"the result": {y, wy}, "the gradient by x": {dx, wdx}, "the gradient by the weight": {dw, wdw}, "the gradient by the bias": {db, wdb}} {
				got, want := pair[0], pair[1]
				size := 0.0
				for _, v := range want {
					size = max(size, math.Abs(v))
				}
				for i := range want {
					if !(math.Abs(got[i]-want[i]) <= 0x1p-20*size) || size == 0 {
						t.Fatalf("%s: %s: element %d is %v, want %v", l.name, what, i, got[i], want[i])
					}
				}
			}
			apart := 0.0
			for i := range y {
				apart = max(apart, math.Abs(y[i]-fy[i]))
			}
			if apart < 1e-4 || apart > 0.1 {
				t.Errorf("%s: the result is %v from that of float32, want a rounding of bfloat16", l.name, apart)
			}
		}
	})
}

// A step in BF16: the weights of a step are those of that step, the same bits twice, no allocation, and a NaN stays one.
func TestPrecisionInSteps(t *testing.T) {
	net, loss := pictureNet()
	x := gpu.CPU().From(oracle.Normal(1, 4*2*8*8), 4, 2, 8, 8)
	tape, other := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.SetPrecision(nn.BF16)
	other.SetPrecision(nn.BF16)
	var item float64
	body := func(tape *nn.Tape) func() {
		return func() {
			l := loss(tape, tape.Input(x))
			item = l.Item()
			tape.Backward(l)
		}
	}
	opt := nn.NewAdam(net, nn.AdamOptions{})
	one, two := body(tape), body(other)
	for step := range 5 { // on a tape that knows earlier weights, and on one that does not
		fresh := nn.NewTape(gpu.CPU(), gpu.Float32)
		fresh.SetPrecision(nn.BF16)
		fresh.Run(body(fresh))
		want, grad := item, slices.Clone(net.Grad().F32())
		net.ZeroGrad()
		tape.Run(one)
		if item != want || !slices.Equal(net.Grad().F32(), grad) {
			t.Fatalf("step %d: the loss is %v on a tape that made steps before, %v on a new one", step, item, want)
		}
		opt.Step(1e-2)
	}
	other.Run(two)
	net.ZeroGrad()
	if n := oracle.Allocations(10, func() { tape.Run(one); opt.Step(1e-3) }); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
	tape.SetPrecision(nn.Full)
	tape.Run(one)
	full := item
	tape.SetPrecision(nn.BF16)
	net.ZeroGrad()
	tape.Run(one)
	if d := math.Abs(item - full); d == 0 || d > 0.02*full {
		t.Errorf("the loss is %v in BF16, %v in float32", item, full)
	}
	net.ZeroGrad()
	x.F32()[5] = float32(math.NaN())
	tape.Run(one)
	if _, ok := nn.ClipNorm(1, net); ok || item == item {
		t.Errorf("a NaN among the pictures: the loss is %v, gradients finite: %v", item, ok)
	}
	oracle.Refuses(t, map[string]func(){
		"float64":         func() { nn.NewTape(gpu.CPU(), gpu.Float64).SetPrecision(nn.BF16) },
		"SetPrecision: 7": func() { tape.SetPrecision(7) },
	})
}

// Blocks that are computed again have the gradients of those that are kept.
func TestPrecisionOfCheckpoints(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	mlp := nn.NewMLP(net.At("mlp"), ops.GELU, 24, 50, 24)
	net.Init(3)
	x := gpu.CPU().From(oracle.Normal(2, 30*24), 30, 24)
	grads := func(block func(x *nn.Var) *nn.Var) []float32 {
		net.ZeroGrad()
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		tape.SetPrecision(nn.BF16)
		for range 2 {
			net.ZeroGrad()
			tape.Run(func() {
				y := block(block(tape.Leaf(x)))
				tape.Backward(nn.MSE(y, tape.Input(x), nil))
			})
		}
		return slices.Clone(net.Grad().F32())
	}
	kept := grads(mlp.Forward)
	again := grads(func(x *nn.Var) *nn.Var {
		return x.Tape().Checkpoint(func(xs []*nn.Var) *nn.Var { return mlp.Forward(xs[0]) }, x)
	})
	if !slices.Equal(kept, again) {
		t.Error("gradients differ")
	}
}
