package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

func TestBatchNorm(t *testing.T) {
	checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
		b := nn.NewBatchNorm(s, 3)
		return func(_ *nn.Tape, x *nn.Var) *nn.Var { return b.Forward(x, true) }
	}, 4, 3, 2, 2)
	checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
		b := nn.NewBatchNorm(s, 3)
		return func(_ *nn.Tape, x *nn.Var) *nn.Var { return b.Forward(x, false) }
	}, 4, 3)

	// The running averages and what is made of them, by the definition.
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	b := nn.NewBatchNorm(net.At("bn"), 2)
	net.Init(1)
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 3*2*4), 3, 2, 4)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	mean, variance := []float64{0, 0}, []float64{1, 1}
	for range 3 {
		tape.Run(func() { b.Forward(tape.Input(x), true) })
		for c := range 2 {
			var s, q float64
			for i, v := range x.F64() {
				if i/4%2 == c {
					s += v
					q += v * v
				}
			}
			mean[c] = 0.9*mean[c] + 0.1*s/12
			variance[c] = 0.9*variance[c] + 0.1*(q-s*s/12)/11
		}
	}
	tape.Run(func() {
		y := b.Forward(tape.Input(x), false).Value().F64()
		for i, v := range x.F64() {
			c := i / 4 % 2
			if want := (v - mean[c]) / math.Sqrt(variance[c]+1e-5); math.Abs(y[i]-want) > 1e-13 {
				t.Fatalf("element %d is %v, want %v", i, y[i], want)
			}
		}
	})
	oracle.Refuses(t, map[string]func(){
		"nn: BatchNorm: bn.weight: shape [3 4], want [N, 2": func() { b.Forward(tape.Const(0, 3, 4), true) },
		"1 element a channel of shape [1 2]":                func() { b.Forward(tape.Const(0, 1, 2), true) },
		"nn: SmoothL1: beta 0":                              func() { nn.SmoothL1(tape.Const(0, 1), tape.Const(0, 1), 0) },
	})
}

func TestCriticLosses(t *testing.T) {
	mean := func(x []float64, f func(v float64) float64) (s float64) {
		for _, v := range x {
			s += f(v) / float64(len(x))
		}
		return s
	}
	relu := func(v float64) float64 { return math.Max(v, 0) }
	plus := func(v float64) float64 { return math.Log1p(math.Exp(v)) }
	for name, c := range map[string]opCase{
		"hinge": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.HingeCritic(x[0], x[1]) }, want: func(x [][]float64) []float64 {
			return []float64{(mean(x[0], func(v float64) float64 { return relu(1 - v) }) + mean(x[1], func(v float64) float64 { return relu(1 + v) })) / 2}
		}},
		"hinge of the generator": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.HingeGenerator(x[0]).Add(x[1].Sum().Scale(0)) }, want: func(x [][]float64) []float64 {
			return []float64{mean(x[0], func(v float64) float64 { return -v })}
		}},
		"softplus": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.SoftplusCritic(x[0], x[1]) }, want: func(x [][]float64) []float64 {
			return []float64{(mean(x[0], func(v float64) float64 { return plus(-v) }) + mean(x[1], plus)) / 2}
		}},
		"softplus of the generator": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.SoftplusGenerator(x[0]).Add(x[1].Sum().Scale(0)) }, want: func(x [][]float64) []float64 {
			return []float64{mean(x[0], func(v float64) float64 { return plus(-v) })}
		}},
		"smooth L1": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.SmoothL1(x[0], x[1], 0.8).Mean() }, want: func(x [][]float64) []float64 {
			var s float64
			for i, v := range x[0] {
				d := math.Abs(v - x[1][i])
				if d < 0.8 {
					d = d * d / 1.6
				} else {
					d -= 0.4
				}
				s += d / float64(len(x[0]))
			}
			return []float64{s}
		}},
		"L1": {f: func(_ *nn.Tape, x vars) *nn.Var { return nn.L1(x[0], x[1]).Mean() }, want: func(x [][]float64) []float64 {
			var s float64
			for i, v := range x[0] {
				s += math.Abs(v-x[1][i]) / float64(len(x[0]))
			}
			return []float64{s}
		}},
	} {
		c.shapes = [][]int{{4, 5}, {4, 5}}
		t.Run(name, c.check)
	}
}
