package classifier_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/classifier"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

func lenet() classifier.Config {
	return classifier.Config{Kind: classifier.LeNet, Channels: 1, Height: 12, Width: 12, Classes: 5, Widths: []int{3, 4, 10, 8}}
}

func resnet() classifier.Config {
	return classifier.Config{Kind: classifier.ResNet, Channels: 2, Height: 6, Width: 6, Classes: 5, Widths: []int{8, 12}, Blocks: 2, Timed: true}
}

// Features, logits and all gradients against torch.
func TestGoldenClassifiers(t *testing.T) {
	ran := 0
	for name, c := range map[string]classifier.Config{"lenet": lenet(), "resnet": resnet()} {
		for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
			t.Run(fmt.Sprint(name, dt), func(t *testing.T) {
				eps := 1e-10
				if dt == gpu.Float32 {
					eps = 1e-4
				}
				golden(t, name, c, dt, eps)
				ran++
			})
		}
	}
	if ran != 4 {
		t.Errorf("%d cases, want 4", ran)
	}
}

func golden(t *testing.T, name string, c classifier.Config, dt gpu.DType, eps float64) {
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "classifier", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(name string) *gpu.Tensor {
		a, err := f.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if dt == gpu.Float64 {
			return gpu.CPU().From64(a.F64(), a.Shape...)
		}
		return gpu.CPU().From(a.F32(), a.Shape...)
	}
	same := func(what string, got *gpu.Tensor, name string) {
		t.Helper()
		a, err := f.Read(name)
		if err != nil || fmt.Sprint(a.Shape) != fmt.Sprint(got.Shape()) {
			t.Fatalf("%s has shape %v: %v, %v", what, got.Shape(), a, err)
		}
		want, v := a.F64(), make([]float64, got.Len())
		if err := got.Read64(v); err != nil {
			t.Fatal(err)
		}
		var far, size float64
		for i, w := range want {
			far, size = math.Max(far, math.Abs(v[i]-w)), math.Max(size, math.Abs(w))
		}
		if !(far <= eps*size) || size == 0 {
			t.Errorf("%s is off by %.2g of %.3g", what, far, size)
		}
	}
	net := nn.NewParams(gpu.CPU(), dt)
	n := classifier.New(net.At(""), c)
	net.Init(1)
	if _, err := nn.LoadFrom(f, nn.LoadOptions{Extra: true, Rename: func(s string) string {
		if short, ok := strings.CutPrefix(s, "w."); ok {
			return short
		}
		return ""
	}}, nn.Part{Of: net}); err != nil {
		t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), dt)
	tape.Arena().Poison(true)
	tape.Run(func() {
		x := tape.Leaf(read("x"))
		var time *nn.Var
		if c.Timed {
			time = tape.Input(read("time"))
		}
		features, logits := n.Both(x, time)
		same("features", features.Value(), "features")
		same("logits", logits.Value(), "logits")
		tape.Backward(nn.CrossEntropy(logits, gpu.CPU().FromInt32([]int32{3, 0, 1}, 3), 0).Mean())
		same("the gradient by pictures", x.Grad(), "gx")
	})
	for _, p := range net.All() {
		same("the gradient by "+p.Name, p.Grad(), "g."+p.Name)
	}
}

// A classifier learns: stripes this way or that, which no single pixel tells apart.
func TestLearns(t *testing.T) {
	for name, c := range map[string]classifier.Config{
		"lenet":  {Kind: classifier.LeNet, Channels: 1, Height: 8, Width: 8, Classes: 2, Dropout: 0.1},
		"resnet": {Kind: classifier.ResNet, Channels: 1, Height: 8, Width: 8, Classes: 2, Widths: []int{8, 8}},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		n := classifier.New(net.At(""), c)
		net.Init(3)
		tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
		right := func(seed uint64, train bool) (share float64) {
			const count = 32
			x, labels := oracle.Normal(seed, count*64), make([]int32, count)
			for i := range x {
				k := i / 64
				labels[k] = int32(k % 2)
				at := i % 8
				if labels[k] == 1 {
					at = i / 8 % 8
				}
				x[i] = 0.5*x[i] + float32(math.Cos(math.Pi*float64(at)+math.Pi*float64(k/2%2)))
			}
			if train {
				n.Mask = ops.Mask{Seed: 5, From: seed << 20}
			} else {
				n.Mask = ops.Mask{}
			}
			tape.Run(func() {
				y := n.Forward(tape.Input(gpu.CPU().From(x, count, 1, 8, 8)), nil)
				for i, l := range labels {
					if y.Value().F32()[2*i+int(l)] > y.Value().F32()[2*i+1-int(l)] {
						share += 1.0 / count
					}
				}
				if train {
					tape.Backward(nn.CrossEntropy(y, gpu.CPU().FromInt32(labels, count), 0).Mean())
				}
			})
			if train {
				opt.Step(2e-3)
			}
			return share
		}
		for step := range uint64(60) {
			right(100+step, true)
		}
		if share := right(1, false); share < 0.95 {
			t.Errorf("%s tells %.2f of new pictures", name, share)
		}
	}
}

func TestTapsAndDropout(t *testing.T) {
	for _, c := range []classifier.Config{lenet(), resnet()} {
		c.Dropout = 0.5
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		n := classifier.New(net.At("judge"), c)
		net.Init(1)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		x := gpu.CPU().From(oracle.Normal(1, 2*c.Channels*c.Height*c.Width), 2, c.Channels, c.Height, c.Width)
		run := func() (f, y []float32) {
			tape.Run(func() {
				var time *nn.Var
				if c.Timed {
					time = tape.Const(3, 2)
				}
				a, b := n.Both(tape.Input(x), time)
				f, y = append(f, a.Value().F32()...), append(y, b.Value().F32()...)
			})
			return f, y
		}
		f0, y0 := run()
		if len(f0) != 2*n.FeatureWidth() {
			t.Errorf("%d features of two pictures, want %d each", len(f0), n.FeatureWidth())
		}
		n.Mask = ops.Mask{Seed: 1}
		if f1, y1 := run(); fmt.Sprint(f1) != fmt.Sprint(f0) || fmt.Sprint(y1) == fmt.Sprint(y0) {
			t.Error("dropout changes the features, or not the logits")
		}
		n.Mask = ops.Mask{}
		names := []string{"judge.conv1", "judge.features", "judge.logits"}
		if c.Kind == classifier.LeNet {
			names = append(names, "judge.conv2", "judge.fc1", "judge.fc2")
		} else {
			names = append(names, "judge.layer1.0", "judge.layer2.1")
		}
		for _, name := range names {
			tape.OnTap(name, func(v *nn.Var) *nn.Var { return v.Scale(1.5) })
			if _, y := run(); fmt.Sprint(y) == fmt.Sprint(y0) {
				t.Errorf("what is put at %s makes no difference", name)
			}
			tape.OnTap(name, nil)
		}
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for _, c := range []classifier.Config{lenet(), resnet()} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		n := classifier.New(net.At(""), c)
		net.Init(1)
		x := gpu.CPU().From(oracle.Normal(1, 9*c.Channels*c.Height*c.Width), 9, c.Channels, c.Height, c.Width)
		labels := gpu.CPU().FromInt32([]int32{0, 1, 2, 3, 4, 0, 1, 2, 3}, 9)
		network.StepsAllocateNothing(t, net, gpu.Float32, func(tape *nn.Tape) *nn.Var {
			var time *nn.Var
			if c.Timed {
				time = tape.Const(3, 9)
			}
			return nn.CrossEntropy(n.Forward(tape.Input(x), time), labels, 0.1).Mean()
		})
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(c *classifier.Config){
		"Channels: 0":       func(c *classifier.Config) { c.Channels = 0 },
		"Classes: 1":        func(c *classifier.Config) { c.Classes = 1 },
		"Blocks: -1":        func(c *classifier.Config) { c.Blocks = -1 },
		"Widths: [8 0]":     func(c *classifier.Config) { c.Widths = []int{8, 0} },
		"Widths: [8 6]":     func(c *classifier.Config) { c.Widths = []int{8, 6} },
		"Widths: [8 12], w": func(c *classifier.Config) { c.Kind = classifier.LeNet },
		"Timed: true":       func(c *classifier.Config) { c.Kind, c.Widths = classifier.LeNet, nil },
		"Height: 7×6":       func(c *classifier.Config) { c.Height = 7 },
		"Kind: 5":           func(c *classifier.Config) { c.Kind = 5 },
		"Dropout: 1":        func(c *classifier.Config) { c.Dropout = 1 },
	} {
		c := resnet()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for name, c := range classifier.Presets() {
		if err := c.Check(); err != nil {
			t.Error(name, err)
		}
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	timed, plain := classifier.New(net.At("a"), resnet()), classifier.New(net.At("b"), lenet())
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"[2 1 12 11], want [n, 1, 12, 12]": func() { plain.Forward(tape.Const(0, 2, 1, 12, 11), nil) },
		"which the network is told":        func() { timed.Forward(tape.Const(0, 2, 2, 6, 6), nil) },
		"which the network is not told":    func() { plain.Forward(tape.Const(0, 2, 1, 12, 12), tape.Const(0, 2)) },
		"Config.Kind": func() {
			classifier.New(net.At("c"), classifier.Config{Kind: 3, Channels: 1, Height: 4, Width: 4, Classes: 2})
		},
	})
}
