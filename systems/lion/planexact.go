package lion

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
)

// exactness is whether Lion does what its formulas say, and what it keeps.
func (s *study) exactness() systems.Experiment {
	arm := func(name, text string, make func(*nn.Params) nn.Optimizer, prog *Program) systems.Arm {
		return systems.Arm{Name: name, Text: text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			return s.exactRun(ctx, d.Seed, make, prog)
		}}
	}
	return systems.Experiment{
		Name: "exactness", Question: "Is every step of one size, and is half of Adam's memory kept?",
		Size: systems.Size{N: s.exact, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "off", Text: "elements that moved by anything but one step, or none, beside their decay"},
			{Name: "bytes", Text: "bytes kept a parameter, as a checkpoint counts them"},
			{Name: "program", Text: "greatest difference to the same optimiser as a program, in float64"},
		},
		Arms: []systems.Arm{
			arm("lion", "Lion of package nn", func(n *nn.Params) nn.Optimizer { return nn.NewLion(n, nn.LionOptions{Decay: 0.7}) }, Lion(1, 0.9, 0.99, 0.7)),
			arm("adamw", "AdamW of package nn", func(n *nn.Params) nn.Optimizer { return nn.NewAdam(n, nn.AdamOptions{Decay: 0.7}) }, AdamW(1, 0.9, 0.999, 1e-8, 0.7)),
		},
		Criteria: []systems.Criterion{
			{Name: "one size", Claim: "no element is off", Measure: "off", Arm: "lion", Form: systems.Value, Bound: 0.5},
			{Name: "memory", Claim: "half of AdamW's state", Measure: "bytes", Arm: "lion", Against: []string{"adamw"}, Bound: 0.51},
			{Name: "program", Claim: "Lion as a program is the same", Measure: "program", Arm: "lion", Form: systems.Value, Bound: 1e-12},
			{Name: "start", Claim: "and so is AdamW, where searches start", Measure: "program", Arm: "adamw", Form: systems.Value, Bound: 1e-12},
		},
	}
}

// exactRun makes steps with random gradients, some of them zero, and looks at each.
func (s *study) exactRun(ctx context.Context, seed uint64, make func(*nn.Params) nn.Optimizer, prog *Program) (*systems.Outcome, error) {
	network := func(dt gpu.DType) *nn.Params {
		net := nn.NewParams(gpu.CPU(), dt)
		net.At("").Param("w", nn.Normal(1), 60, 17)
		net.Init(seed)
		return net
	}
	a, b := network(gpu.Float64), network(gpu.Float64)
	g, err := NewGraph(prog)
	if err != nil {
		return nil, err
	}
	opt, own := make(a), NewOptimizer(b, g)
	w := append([]float64(nil), a.Get("w").Value.F64()...)
	r := rng.New(seed, 1)
	off, apart := 0, 0.0
	for step := range s.exact {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		lr := 0.01 / float64(1+step%7)
		for i, v := range a.Get("w").Grad().F64() {
			if v = r.Normal(); r.Intn(10) == 0 {
				v = 0
			}
			a.Get("w").Grad().F64()[i], b.Get("w").Grad().F64()[i] = v, v
		}
		opt.Step(lr)
		own.Step(lr)
		for i, v := range a.Get("w").Value.F64() {
			if kept := (1 - lr*0.7) * w[i]; v != kept && v != kept-lr && v != kept+lr {
				off++
			}
			apart = math.Max(apart, math.Abs(v-b.Get("w").Value.F64()[i]))
			w[i] = v
		}
	}
	single := network(gpu.Float32)
	kept := 0
	for _, n := range make(single).State() {
		if n.Name != "steps" {
			kept += 4 * n.Tensor.Len()
		}
	}
	return &systems.Outcome{Values: map[string]float64{"off": float64(off), "bytes": float64(kept) / float64(single.Count()), "program": apart}}, nil
}
