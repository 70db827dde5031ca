package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

func TestStraightThrough(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		hard, soft := tape.Leaf(gpu.CPU().From64([]float64{1, 0}, 2)), tape.Leaf(gpu.CPU().From64([]float64{0.7, 0.4}, 2))
		y := nn.ST(hard, soft)
		tape.Backward(y.Mul(y).Sum())
		if v := y.Value().F64(); v[0] != 1 || v[1] != 0 {
			t.Errorf("value %v, want that of the hard one", v)
		}
		if g := soft.Grad().F64(); g[0] != 2 || g[1] != 0 || hard.Grad() != nil {
			t.Errorf("gradients %v and %v, want 2·value and none", g, hard.Grad())
		}
	})
}

func TestGumbelChoicesAreTheirFormulas(t *testing.T) {
	z := ops.Noise{Seed: 5, Stream: 7, From: 2}
	noise := func(row int, draw func(*rng.Stream) float64) []float64 {
		s := rng.New(5, 7+uint64(row))
		s.Seek(4)
		var v []float64
		for range 6 {
			v = append(v, draw(s))
		}
		return v
	}
	const tau = 0.7
	soft := func(x []float64, quiet bool) []float64 {
		var y []float64
		for r := range 3 {
			g := noise(r, (*rng.Stream).Gumbel)
			var sum float64
			row := make([]float64, 6)
			for i := range row {
				if quiet {
					g[i] = 0
				}
				row[i] = math.Exp((x[r*6+i] + g[i]) / tau)
				sum += row[i]
			}
			for _, v := range row {
				y = append(y, v/sum)
			}
		}
		return y
	}
	gate := func(x []float64, draw func(*rng.Stream) float64) []float64 {
		var y []float64
		for i, v := range x {
			y = append(y, 1/(1+math.Exp(-(v+noise(i/6, draw)[i%6])/tau)))
		}
		return y
	}
	for name, c := range map[string]opCase{
		"softmax": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].GumbelSoftmax(nn.Gumbel{Tau: tau, Noise: z}) },
			want: func(x [][]float64) []float64 { return soft(x[0], false) }},
		"quiet": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].GumbelSoftmax(nn.Gumbel{Tau: tau, Quiet: true}) },
			want: func(x [][]float64) []float64 { return soft(x[0], true) }},
		"sigmoid": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].GumbelSigmoid(nn.Gumbel{Tau: tau, Noise: z}) },
			want: func(x [][]float64) []float64 { return gate(x[0], (*rng.Stream).Logistic) }},
		"one-sided": {f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].GumbelSigmoid(nn.Gumbel{Tau: tau, OneSided: true, Noise: z})
		}, want: func(x [][]float64) []float64 { return gate(x[0], (*rng.Stream).Gumbel) }},
	} {
		c.shapes = [][]int{{3, 6}}
		t.Run(name, c.check)
	}
	// Hard choices: the place of the greatest, with the soft one's gradient.
	for name, choose := range map[string]func(x *nn.Var, g nn.Gumbel) *nn.Var{"softmax": (*nn.Var).GumbelSoftmax, "sigmoid": (*nn.Var).GumbelSigmoid} {
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		c := opCase{shapes: [][]int{{3, 6}, {3, 6}}}
		tape.Run(func() {
			x, w := tape.Leaf(c.leaves(gpu.Float64)[0]), tape.Input(c.leaves(gpu.Float64)[1])
			s, h := choose(x, nn.Gumbel{Tau: tau, Noise: z}), choose(x, nn.Gumbel{Tau: tau, Noise: z, Hard: true})
			var grads [2][]float64
			for i, y := range []*nn.Var{s, h} {
				grads[i] = append(grads[i], tape.Grad(y.Mul(w).Sum(), x)[0].F64()...)
			}
			for i, v := range h.Value().F64() {
				best := s.Value().F64()[i] > 0.5
				if name == "softmax" {
					best = true
					for _, u := range s.Value().F64()[i/6*6:][:6] {
						best = best && s.Value().F64()[i] >= u
					}
				}
				if (v == 1) != best || v != 0 && v != 1 || grads[0][i] != grads[1][i] {
					t.Errorf("%s: element %d is %v for %v, with gradients %v and %v", name, i, v, s.Value().F64()[i], grads[1][i], grads[0][i])
				}
			}
		})
	}
}

// The mean of hard choices is the softmax, or the sigmoid, to three standard errors and a bit for 8 of them.
func TestMeanOfHardChoices(t *testing.T) {
	const n = 40000
	logits := []float64{0.3, -1, 1.2, 0}
	x := make([]float64, 0, n*4)
	for range n {
		x = append(x, logits...)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.NoGrad(func() {
		v := tape.Input(gpu.CPU().From64(x, n, 4))
		g := nn.Gumbel{Tau: 0.5, Hard: true, Noise: ops.Noise{Seed: 1}}
		one, yes := v.GumbelSoftmax(g).Mean(0).Value().F64(), v.GumbelSigmoid(g).Mean(0).Value().F64()
		var sum float64
		for _, l := range logits {
			sum += math.Exp(l)
		}
		for i, l := range logits {
			p, q := math.Exp(l)/sum, 1/(1+math.Exp(-l))
			if d := math.Abs(one[i] - p); d > 3.5*math.Sqrt(p*(1-p)/n) {
				t.Errorf("place %d is chosen %v of the time, want %v", i, one[i], p)
			}
			if d := math.Abs(yes[i] - q); d > 3.5*math.Sqrt(q*(1-q)/n) {
				t.Errorf("gate %d is open %v of the time, want %v", i, yes[i], q)
			}
		}
	})
}

func TestGumbelStepsAllocateNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	in, out := nn.NewConv1D(net.At("in"), 2, 8, 3), nn.NewConv1D(net.At("out"), 8, 2, 3)
	in.Config = nn.Same1D(3, 3)
	net.Init(1)
	x := gpu.CPU().From(make([]float32, 4*2*16), 4, 2, 16)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	body := func() {
		v := tape.Input(x)
		h := in.Forward(v).GumbelSoftmax(nn.Gumbel{Tau: 1, Hard: true}).GumbelSigmoid(nn.Gumbel{Tau: 1, Hard: true})
		tape.Backward(nn.MSE(out.Forward(h.Upsample1D(2)).Slice(2, 0, 16), v, nil))
	}
	step := func() { tape.Run(body) }
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}
