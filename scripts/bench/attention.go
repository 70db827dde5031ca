package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// attentionRows are attention in float32 of one sequence with 8 heads of 64.
func attentionRows(job func(name string, threads int) func(*peers) (runner, error)) []row {
	var out []row
	for _, n := range []int{1024, 4096} {
		for _, pass := range []string{"forward", "forward and backward"} {
			backward := pass != "forward"
			out = append(out, row{
				name: fmt.Sprintf("attention %s fp32, 8 heads of 64, n %d", pass, n), peer: "torch SDPA", target: 1,
				tolerance: 1e-4, rounds: 5, repeat: 8192 / n,
				ours:   func(*peers) (runner, error) { return attention(n, backward) },
				theirs: job(fmt.Sprintf("attention:%d:%t", n, backward), threads()),
			})
		}
	}
	return out
}

const attentionHeads, attentionDim = 8, 64

// spread is n values of [-2, 2) that peer.py makes too.
func spread(n int, seed uint32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32((uint32(i)+seed<<24)*2654435761>>8)/(1<<22) - 2
	}
	return x
}

func attention(n int, backward bool) (runner, error) {
	dev := gpu.CPU()
	make4 := func(seed uint32) *gpu.Tensor {
		return dev.From(spread(n*attentionHeads*attentionDim, seed), 1, n, attentionHeads, attentionDim)
	}
	in := ops.AttentionInput{Q: make4(1), K: make4(2), V: make4(3)}
	dout, out, lse := make4(4), in.Q.Like(), dev.Empty(1, attentionHeads, n)
	dq, dk, dv := in.Q.Like(), in.K.Like(), in.V.Like()
	o := own{work: func() (answer, error) {
		ops.Attention(out, lse, in, ops.AttentionConfig{})
		value := corners(out)
		if backward {
			ops.AttentionBackward(dq, dk, dv, nil, dout, out, lse, in, ops.AttentionConfig{})
			value += corners(dq) + corners(dk) + corners(dv)
		}
		return answer{Value: value}, nil
	}}
	_, err := o.work() // warm
	return o, err
}

// corners stands for a result: a sum over all of it would take time of its own.
func corners(t *gpu.Tensor) float64 {
	x := t.F32()
	mean := 0.0
	for i := range attentionDim { // the last head of the last query, as [1, n, heads, d] and [1, heads, n, d] alike
		mean += max(float64(x[len(x)-1-i]), -float64(x[len(x)-1-i]))
	}
	return mean / attentionDim
}
