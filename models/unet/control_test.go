package unet_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

var hints = unet.ControlConfig{Channels: 3, Widths: []int{4, 6}, Halvings: 1}

// branch is a control branch in a network of its own.
func branch(c unet.Config, dt gpu.DType) (*unet.Control, *nn.Params) {
	net := nn.NewParams(gpu.CPU(), dt)
	b := unet.NewControl(net.At("control"), c, hints)
	net.Init(2)
	return b, net
}

func hint(tape *nn.Tape, x *nn.Var) *nn.Var {
	s := x.Shape()
	return tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(77, s[0]*3*4*s[2]*s[3]), s[0], 3, 2*s[2], 2*s[3]))
}

// A new branch changes nothing; its copy of the encoder is the network's; and the residuals
// of two branches add up.
func TestControlStart(t *testing.T) {
	u := built(everything(), gpu.Float64)
	b, net := branch(everything(), gpu.Float64)
	b.CopyFrom(u)
	copied := 0
	for _, p := range net.All() {
		if q := u.Params().Get("net" + strings.TrimPrefix(p.Name, "control")); q != nil {
			copied++
			if fmt.Sprint(p.Value.F64()) != fmt.Sprint(q.Value.F64()) {
				t.Fatalf("%s is not the network's", p.Name)
			}
		}
	}
	if copied < 60 {
		t.Errorf("%d parameters were compared, want the encoder's", copied)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), 2, 10)
		plain := u.Forward(x, time, in).Value().F64()
		var r models.Residuals
		b.Forward(&r, x, time, hint(tape, x), in)
		if len(r.Skips) != len(u.Takes().Skips) {
			t.Fatalf("%d residuals, want %d", len(r.Skips), len(u.Takes().Skips))
		}
		with := in
		with.Control = &r
		for i, v := range u.Forward(x, time, with).Value().F64() {
			if v != plain[i] {
				t.Fatalf("a new branch changes %v to %v at %d", plain[i], v, i)
			}
		}
		// Of other residuals every one makes a difference, and ones of zeros none.
		zero, bent := models.Residuals{Middle: r.Middle}, models.Residuals{}
		for _, s := range r.Skips {
			zero.Skips = append(zero.Skips, tape.Const(0, s.Shape()...))
		}
		bent.Add(&zero)
		bent.Middle = tape.Const(0.5, r.Middle.Shape()...)
		with.Control = &bent
		if y := u.Forward(x, time, with).Value().F64(); math.Abs(y[0]-plain[0]) < 1e-6 {
			t.Error("the middle's residual makes no difference")
		}
		for i := range zero.Skips {
			one := models.Residuals{Skips: append([]*nn.Var(nil), zero.Skips...), Middle: zero.Middle}
			one.Skips[i] = tape.Const(0.5, one.Skips[i].Shape()...)
			with.Control = &one
			if y := u.Forward(x, time, with).Value().F64(); math.Abs(y[0]-plain[0]) < 1e-9 {
				t.Errorf("residual %d makes no difference", i)
			}
		}
	})
}

func TestResidualsAddAndScale(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	r := models.Residuals{Skips: []*nn.Var{tape.Const(1, 2), tape.Const(2, 2)}, Middle: tape.Const(3, 2)}
	var sum models.Residuals
	sum.Add(&r)
	sum.Add(&r)
	sum.Scale(func(depth, of int) float64 { return float64(10*depth + of) })
	got := fmt.Sprint(sum.Skips[0].Value().F64()[0], sum.Skips[1].Value().F64()[0], sum.Middle.Value().F64()[0], r.Skips[0].Value().F64()[0])
	if want := fmt.Sprint(2*3.0, 4*13.0, 6*23.0, 1.0); got != want {
		t.Errorf("sums and scales %s, want %s", got, want)
	}
	defer func() {
		if v := fmt.Sprint(recover()); !strings.Contains(v, "1 skips, want 2") {
			t.Errorf("recovered %v", v)
		}
	}()
	sum.Add(&models.Residuals{Skips: r.Skips[:1], Middle: r.Middle})
}

func TestControlRefuses(t *testing.T) {
	for want, h := range map[string]unet.ControlConfig{
		"Channels: 0":  {},
		"Widths: [0]":  {Channels: 1, Widths: []int{0}},
		"Halvings: 1,": {Channels: 1, Widths: []int{4}, Halvings: 1},
	} {
		if err := h.Check(); err == nil || !strings.Contains(err.Error(), "ControlConfig."+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b, _ := branch(everything(), gpu.Float64)
	other := configs()["plain"]
	u := built(other, gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	oracle.Refuses(t, map[string]func(){
		"same configuration": func() { b.CopyFrom(u) },
		"hints of shape [2 3 4 4] for pictures [2 2 4 2], want [2, 3, 8, 4]": func() {
			x, time, in := given(tape, built(everything(), gpu.Float64).Takes(), 2, 10)
			b.Forward(&models.Residuals{}, x, time, tape.Const(0, 2, 3, 4, 4), in)
		},
		"ControlConfig.Channels": func() {
			unet.NewControl(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), other, unet.ControlConfig{})
		},
	})
}

// Left out, a block is its skip path or the identity, by its tap's input.
func TestLeftOut(t *testing.T) {
	for name, c := range configs() {
		u := built(c, gpu.Float64)
		plain := result(u, 2)
		tried := map[string]bool{}
		var in []float64
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		for i, b := range u.Blocks() {
			if b.ID != i {
				t.Fatalf("%s: block %s has ID %d, want %d", name, b.Name, b.ID, i)
			}
			if !b.Optional {
				continue
			}
			u.Out = make([]bool, len(u.Blocks()))
			u.Out[b.ID] = true
			y := result(u, 2)
			far := 0.0
			for j, v := range y {
				far = math.Max(far, math.Abs(v-plain[j]))
			}
			if far < 1e-9 || math.IsNaN(far) {
				t.Errorf("%s: without %s the result is off by %v", name, b.Name, far)
			}
			if tried[b.Kind] || i == 0 || b.In != b.Out || b.Kind == "res-down" || b.Kind == "res-up" || strings.HasPrefix(b.Name, "net.output") || strings.HasPrefix(b.Name, "net.middle") {
				continue
			}
			tried[b.Kind] = true
			tape.OnTap(u.Blocks()[i-1].Name, func(x *nn.Var) *nn.Var { in = append(in[:0], x.Value().F64()...); return x })
			tape.OnTap(b.Name, func(x *nn.Var) *nn.Var {
				if fmt.Sprint(in) != fmt.Sprint(x.Value().F64()) {
					t.Errorf("%s: %s is left out and changes its input", name, b.Name)
				}
				return x
			})
			tape.Run(func() {
				x, time, in := given(tape, u.Takes(), 2, 10)
				u.Forward(x, time, in)
			})
			tape.OnTap(u.Blocks()[i-1].Name, nil)
			tape.OnTap(b.Name, nil)
		}
		u.Out = nil
		if fmt.Sprint(result(u, 2)) != fmt.Sprint(plain) {
			t.Errorf("%s: the result is another after blocks were left out", name)
		}
		if len(tried) == 0 && name != "resample" {
			t.Errorf("%s: no block was compared with its input", name)
		}
	}
}

// All blocks and the middle have taps, and what is put there is used.
func TestTaps(t *testing.T) {
	u := built(everything(), gpu.Float64)
	plain := result(u, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	names := []string{"net.mid"}
	for _, b := range u.Blocks() {
		names = append(names, b.Name)
	}
	for _, name := range names {
		tape.OnTap(name, func(x *nn.Var) *nn.Var { return x.Scale(1.5) })
		far := 0.0
		tape.Run(func() {
			x, time, in := given(tape, u.Takes(), 2, 10)
			for i, v := range u.Forward(x, time, in).Value().F64() {
				far = math.Max(far, math.Abs(v-plain[i]))
			}
		})
		if far < 1e-9 {
			t.Errorf("what is put at %s makes no difference", name)
		}
		tape.OnTap(name, nil)
	}
	maps := 0
	tape.OnTap("net.middle_block.1.transformer_blocks.0.attn2.maps", func(x *nn.Var) *nn.Var {
		maps++
		if got := fmt.Sprint(x.Shape()); got != "[2 2 2 3]" {
			t.Errorf("cross-attention's maps have shape %s", got)
		}
		return x
	})
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), 2, 10)
		u.Forward(x, time, in)
	})
	if maps != 1 {
		t.Errorf("the maps of the middle's text attention were seen %d times", maps)
	}
}

// Dropout is the mask's, the same at every call, other in every block, and off by default.
func TestDropout(t *testing.T) {
	u := built(everything(), gpu.Float64)
	plain := result(u, 2)
	u.Mask = ops.Mask{Seed: 3}
	first, again := result(u, 2), result(u, 2)
	if fmt.Sprint(first) != fmt.Sprint(again) {
		t.Error("the same mask gives two results")
	}
	u.Mask.From = 1 << 20
	if fmt.Sprint(first) == fmt.Sprint(plain) || fmt.Sprint(first) == fmt.Sprint(result(u, 2)) {
		t.Error("dropout makes no difference, or the place of the stream none")
	}
	u.Mask = ops.Mask{}
	if fmt.Sprint(result(u, 2)) != fmt.Sprint(plain) {
		t.Error("without a seed something is dropped")
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for name, c := range configs() {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		u := unet.New(net.At("net"), c)
		b := unet.NewControl(net.At("control"), c, hints)
		awake(net)
		net.Init(1)
		var k models.Takes = u.Takes()
		tape, data, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
		x, time, in := given(data, k, 3, 10)
		h := hint(data, x)
		u.Mask = ops.Mask{Seed: 3}
		tokens, vectors := map[string]models.Tokens{}, map[string]*nn.Var{}
		var r models.Residuals
		body := func() {
			put := func(v *nn.Var) *nn.Var { return tape.Input(v.Value()) }
			now := models.Inputs{Classes: in.Classes, Tokens: tokens, Vectors: vectors}
			for name, tok := range in.Tokens {
				tokens[name] = models.Tokens{States: put(tok.States), Lens: tok.Lens}
			}
			for name, v := range in.Vectors {
				vectors[name] = put(v)
			}
			if in.Extra != nil {
				now.Extra = put(in.Extra)
			}
			b.Forward(&r, put(x), put(time), put(h), now)
			now.Control = &r
			tape.Backward(u.Forward(put(x), put(time), now).Square().Mean())
		}
		step := func() {
			tape.Run(body)
			opt.Step(1e-3)
			u.Mask.From++
		}
		step()
		step()
		if n := oracle.Allocations(5, step); n >= 1 {
			t.Errorf("%s: %v allocations a step", name, n)
		}
	}
}
