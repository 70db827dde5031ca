package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// linearAttention is the operation of leaves q, k, v, and then the decay and the state where there are such.
func linearAttention(decay, state bool, chunk, result int) func(t *nn.Tape, x vars) *nn.Var {
	return func(t *nn.Tape, x vars) *nn.Var {
		m, at := nn.LinearMemory{Chunk: chunk}, 3
		if decay {
			m.Decay = x[at].Square().Scale(-0.3) // decays
			at++
		}
		if state {
			m.State = x[at]
		}
		out, end := nn.LinearAttention(x[0], x[1], x[2], m)
		switch result {
		case 0:
			return out
		case 1: // to which the queries do not matter
			return end.Add(x[0].Sum())
		}
		return end.Sum().Add(out)
	}
}

// linearWant is the recurrence, for the results that are out.
func linearWant(b, n, h, d, e int, perColumn, decay, state bool) func(x [][]float64) []float64 {
	return func(x [][]float64) []float64 {
		out := make([]float64, b*n*h*e)
		for g := range b * h {
			s := make([]float64, d*e)
			if state {
				copy(s, x[len(x)-1][g*d*e:])
			}
			for t := range n {
				row := (g/h*n+t)*h + g%h
				for c := range d {
					left := 1.0
					if decay && perColumn {
						left = math.Exp(-0.3 * x[3][row*d+c] * x[3][row*d+c])
					} else if decay {
						left = math.Exp(-0.3 * x[3][row] * x[3][row])
					}
					for y := range e {
						s[c*e+y] = left*s[c*e+y] + x[1][row*d+c]*x[2][row*e+y]
						out[row*e+y] += s[c*e+y] * x[0][row*d+c]
					}
				}
			}
		}
		return out
	}
}

func linearAttentionCases() map[string]opCase {
	const b, n, h, d, e = 2, 7, 2, 3, 4
	q, v, state := []int{b, n, h, d}, []int{b, n, h, e}, []int{b, h, d, e}
	return map[string]opCase{
		"linear attention": {shapes: [][]int{q, q, v}, f: linearAttention(false, false, 3, 0), want: linearWant(b, n, h, d, e, false, false, false)},
		"linear attention, decay of heads": {shapes: [][]int{q, q, v, q[:3], state}, f: linearAttention(true, true, 3, 0),
			want: linearWant(b, n, h, d, e, false, true, true)},
		"linear attention, decay of columns": {shapes: [][]int{q, q, v, q, state}, f: linearAttention(true, true, 4, 0),
			want: linearWant(b, n, h, d, e, true, true, true)},
		"linear attention, its state":                 {shapes: [][]int{q, q, v, q, state}, f: linearAttention(true, true, 3, 1)},
		"linear attention, its state, decay of heads": {shapes: [][]int{q, q, v, q[:3]}, f: linearAttention(true, false, 3, 1)},
		"linear attention, both":                      {shapes: [][]int{q, q, v, q, state}, f: linearAttention(true, true, 0, 2)},
		"linear attention without an order": {shapes: [][]int{q, q, v}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.LinearAttentionFull(x[0], x[1], x[2]) },
			want: func(x [][]float64) []float64 {
				out := make([]float64, b*n*h*e)
				for i := range out {
					y, r := i%e, i/e
					for t := range n {
						key := ((r/(n*h))*n+t)*h + r%h
						for c := range d {
							out[i] += x[0][r*d+c] * x[1][key*d+c] * x[2][key*e+y]
						}
					}
				}
				return out
			}},
	}
}

func TestLinearAttention(t *testing.T) {
	for name, c := range linearAttentionCases() {
		t.Run(name, c.check)
	}
}

func TestLinearAttentionAllocatesNothing(t *testing.T) {
	dev := gpu.CPU()
	q, k, v := dev.From(oracle.Normal(1, 160), 2, 5, 2, 8), dev.From(oracle.Normal(2, 160), 2, 5, 2, 8), dev.From(oracle.Normal(3, 160), 2, 5, 2, 8)
	decay := dev.Zeros(gpu.Float32, 2, 5, 2)
	tape := nn.NewTape(dev, gpu.Float32)
	body := func() {
		out, end := nn.LinearAttention(tape.Leaf(q), tape.Leaf(k), tape.Leaf(v), nn.LinearMemory{Decay: tape.Leaf(decay)})
		tape.Backward(out.Sum().Add(end.Sum()))
	}
	step := func() { tape.Run(body) }
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestLinearAttentionRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	e := func(shape ...int) *nn.Var { return tape.Leaf(gpu.CPU().Zeros(gpu.Float32, shape...)) }
	oracle.Refuses(t, map[string]func(){
		"nn: LinearAttention: shapes [2 3 4]":     func() { nn.LinearAttention(e(2, 3, 4), e(2, 3, 4, 5), e(2, 3, 4, 5), nn.LinearMemory{}) },
		"nn: LinearAttentionFull: shapes [2 3 4]": func() { nn.LinearAttentionFull(e(2, 3, 4), e(2, 3, 4, 5), e(2, 3, 4, 5)) },
		"K has shape [2 3 4 6]":                   func() { nn.LinearAttention(e(2, 3, 4, 5), e(2, 3, 4, 6), e(2, 3, 4, 5), nn.LinearMemory{}) },
	})
}
