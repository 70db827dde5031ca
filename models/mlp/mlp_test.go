package mlp_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/nn"
)

func small() mlp.Config {
	return mlp.Config{Channels: 2, Height: 3, Width: 2, Hidden: 8, Blocks: 2, Classes: 3, TimeFactor: 100}
}

// stirred is a network whose layers that begin at zero do not.
func stirred(dt gpu.DType) *mlp.Net {
	p := nn.NewParams(gpu.CPU(), dt)
	n := mlp.New(p.At(""), small())
	for _, q := range p.All() {
		q.Start = nn.Normal(0.3)
	}
	p.Init(1)
	return n
}

func inputs(tape *nn.Tape, n int) (x, time *nn.Var, in models.Inputs) {
	classes := make([]int32, n)
	times := make([]float32, n)
	for i := range n {
		classes[i], times[i] = int32(i%4), 0.13*float32(i)
	}
	return tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(2, 12*n), n, 2, 3, 2)), tape.Input(gpu.CPU().FromAs(tape.DType(), times, n)), models.Inputs{Classes: gpu.CPU().FromInt32(classes, n)}
}

func TestStartsAtZero(t *testing.T) {
	p := nn.NewParams(gpu.CPU(), gpu.Float32)
	n := mlp.New(p.At(""), small())
	p.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, time, in := inputs(tape, 5)
	y := n.Forward(x, time, in)
	for _, v := range y.Value().F32() {
		if v != 0 {
			t.Fatal("a network that was not trained predicts something")
		}
	}
	if s := y.Shape(); s[0] != 5 || s[1] != 2 || s[2] != 3 || s[3] != 2 {
		t.Errorf("shape %v", s)
	}
	// 12·8+8, 256·8+8+8·8+8, 4·8, two of (8·24+24 + 8·16+16 + 16·8+8), 8·12+12
	if want := 104 + 2128 + 32 + 2*(216+144+136) + 108; p.Count() != want {
		t.Errorf("%d parameters, want %d", p.Count(), want)
	}
}

// Each sample is its own: time, class and place in the batch.
func TestSamplesAreIndependent(t *testing.T) {
	n := stirred(gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x, time, in := inputs(tape, 6)
	all := n.Forward(x, time, in).Value().F64()
	for i := range 6 {
		one := n.Forward(tape.Input(x.Value().Rows(i, i+1)), tape.Input(time.Value().Rows(i, i+1)), models.Inputs{Classes: in.Classes.Rows(i, i+1)})
		for j, v := range one.Value().F64() {
			if math.Abs(v-all[12*i+j]) > 1e-13 {
				t.Fatalf("sample %d alone: %v, in the batch %v", i, v, all[12*i+j])
			}
		}
	}
	for name, change := range map[string]func(){
		"time":  func() { time.Value().F64()[3] += 0.01 },
		"class": func() { in.Classes.I32()[3] = 0 },
	} {
		change()
		if v := n.Forward(x, time, in).Value().F64()[36]; v == all[36] {
			t.Errorf("another %s changes nothing", name)
		}
	}
}

// The gradient along random directions of all parameters and of the input, by finite differences.
func TestGradient(t *testing.T) {
	n := stirred(gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x, time, in := inputs(tape, 4)
	leaf := tape.Leaf(x.Value())
	value := func() float64 {
		var v float64
		tape.NoGrad(func() { v = n.Forward(tape.Input(x.Value()), time, in).Square().Mean().Item() })
		return v
	}
	tape.Backward(n.Forward(leaf, time, in).Square().Mean())
	const h = 1e-6
	for name, of := range map[string]struct{ v, g []float64 }{
		"parameters": {n.Params().Value().F64(), n.Params().Grad().F64()}, "input": {x.Value().F64(), leaf.Grad().F64()},
	} {
		for seed := range uint64(3) {
			d := oracle.Normal(50+seed, len(of.v))
			var want float64
			for i, g := range of.g {
				want += g * float64(d[i])
			}
			move := func(s float64) {
				for i := range of.v {
					of.v[i] += s * float64(d[i])
				}
			}
			move(h)
			up := value()
			move(-2 * h)
			down := value()
			move(h)
			if got := (up - down) / (2 * h); math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
				t.Errorf("%s: %v by differences, %v by the walk back", name, got, want)
			}
		}
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	n := stirred(gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, time, in := inputs(tape, 8)
	xs, ts := x.Value(), time.Value()
	body := func() { tape.Backward(n.Forward(tape.Input(xs), tape.Input(ts), in).Square().Mean()) }
	step := func() { tape.Run(body) }
	step()
	step()
	if got := oracle.Allocations(20, step); got >= 1 {
		t.Errorf("%v allocations a step", got)
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(c *mlp.Config){
		"Channels 0": func(c *mlp.Config) { c.Channels = 0 }, "Height -1": func(c *mlp.Config) { c.Height = -1 }, "Width 0": func(c *mlp.Config) { c.Width = 0 },
		"Hidden 0": func(c *mlp.Config) { c.Hidden = 0 }, "Blocks 0": func(c *mlp.Config) { c.Blocks = 0 }, "Classes -1": func(c *mlp.Config) { c.Classes = -1 },
		"TimeFactor NaN": func(c *mlp.Config) { c.TimeFactor = math.NaN() },
	} {
		c := small()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	n := stirred(gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "pictures of 2×3, want 3×2") {
			t.Errorf("panic %q", s)
		}
	}()
	n.Forward(tape.Const(0, 1, 2, 2, 3), tape.Const(0, 1), models.Inputs{})
}
