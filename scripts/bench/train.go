package main

import (
	"fmt"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// trainRows are steps of training with AdamW and passes without gradients of two networks,
// against torch in the memory layout that is the faster one there, and steps in bf16 against those in float32. The value compared is the
// number of trained parameters.
func trainRows(job func(name string, threads int) func(*peers) (runner, error)) []row {
	var out []row
	for _, c := range []struct {
		name, title string
		gflop       float64 // of a forward pass, torch's count
		make        func() (*stepper, error)
	}{{"dit", "DiT of 2.0 M parameters, batch 64", 7.9, trainDiT}, {"unet", "U-Net of 0.5 M parameters, batch 128", 23.6, trainUNet}} {
		ours := func(train bool, p nn.Precision) func(*peers) (runner, error) {
			return func(*peers) (runner, error) {
				s, err := c.make()
				if err != nil {
					return nil, err
				}
				s.tape.SetPrecision(p)
				return s.runner(train), nil
			}
		}
		out = append(out, row{
			name: "training: step in bf16, " + c.title, peer: "ours in float32", target: 1.5, tolerance: 1e-9, rounds: 8, repeat: 1, limit: true,
			remark: "the target is for AMX; products of linear layers and convolutions take operands rounded to bf16, the rest is float32",
			skip:   slowBF16, ours: ours(true, nn.BF16), theirs: ours(true, nn.Full),
		})
		for _, layout := range []string{"first", "last"} {
			if c.name == "dit" && layout == "last" {
				continue // it has one convolution
			}
			for _, what := range []struct {
				name   string
				target float64
			}{{"step", 1.2}, {"forward", 1}} {
				out = append(out, row{
					name: fmt.Sprintf("training: %s, %s", what.name, c.title), peer: "torch, channels " + layout,
					target: what.target, tolerance: 1e-9, rounds: 8, repeat: 1,
					remark: fmt.Sprintf("%.1f GFLOP forward, three times that a step; the target holds against torch's faster layout", c.gflop),
					ours:   ours(what.name == "step", nn.Full),
					theirs: job(fmt.Sprintf("train:%s:%s:%s", c.name, what.name, layout), threads()),
				})
			}
		}
	}
	return out
}

func slowBF16() string {
	if cpu.HasBF16() {
		return ""
	}
	return "no bf16 instructions that are faster than float32's"
}

// stepper is a network with a batch.
type stepper struct {
	net     *nn.Params
	opt     *nn.Adam
	tape    *nn.Tape
	forward func() *nn.Var
	target  *gpu.Tensor
}

func (s *stepper) runner(train bool) runner {
	step := func() { s.tape.Backward(nn.MSE(s.forward(), s.tape.Input(s.target), nil)) }
	pass := func() { s.tape.NoGrad(func() { s.forward() }) }
	o := own{work: func() (answer, error) {
		if train {
			s.tape.Run(step)
			s.opt.Step(1e-4)
		} else {
			s.tape.Run(pass)
		}
		return answer{Value: float64(s.net.Count())}, nil
	}}
	for range 2 { // warm
		_, _ = o.work()
	}
	return o
}

// newStepper leaves forward to be set.
func newStepper(n int, shape ...int) *stepper {
	return &stepper{
		net: nn.NewParams(gpu.CPU(), gpu.Float32), tape: nn.NewTape(gpu.CPU(), gpu.Float32),
		target: gpu.CPU().From(spread(n*28*28, 3), append([]int{n}, shape...)...),
	}
}

// begin lays the parameters out, which start small: only the time that they take matters.
func (s *stepper) begin() {
	s.net.Init(1)
	s.opt = nn.NewAdam(s.net, nn.AdamOptions{Decay: 0.01})
}

func trainDiT() (*stepper, error) {
	const n = 64
	c := dit.Config{Height: 28, Width: 28, Channels: 1, Patch: 4, Dim: 128, Depth: 6, Heads: 4, Classes: 1000}
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := newStepper(n, 1, 28, 28)
	net := dit.New(s.net.At(""), c)
	s.begin()
	x, times := gpu.CPU().From(spread(n*28*28, 1), n, 1, 28, 28), gpu.CPU().From(spread(n, 2), n)
	classes := gpu.CPU().FromInt32(make([]int32, n), n)
	s.forward = func() *nn.Var {
		return net.Forward(s.tape.Input(x), s.tape.Input(times), models.Inputs{Classes: classes})
	}
	return s, nil
}

func trainUNet() (*stepper, error) {
	const n = 128
	s := newStepper(n, 28, 28, 1)
	net := newUNet(s.net, 32)
	s.begin()
	x, times := gpu.CPU().From(spread(n*28*28, 1), n, 28, 28, 1), gpu.CPU().From(spread(n, 2), n)
	s.forward = func() *nn.Var { return net.forward(s.tape.Input(x), s.tape.Input(times)) }
	return s, nil
}

// productSpeed is what the transformer's largest product alone does here and now, in GFLOP/s.
func productSpeed() float64 {
	const m, n, k, times = 64 * 49, 512, 128, 50
	x, w, y := gpu.CPU().From(spread(m*k, 1), m, k), gpu.CPU().From(spread(n*k, 2), n, k), gpu.CPU().Empty(m, n)
	best := 0.0
	nn.NewTape(gpu.CPU(), gpu.Float32).Run(func() {
		for range times {
			start := time.Now()
			ops.Linear(y, nil, x, w, nil, ops.Identity)
			best = max(best, 2*m*n*k/time.Since(start).Seconds()/1e9)
		}
	})
	return best
}
