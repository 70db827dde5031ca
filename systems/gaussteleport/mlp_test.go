package gaussteleport

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// The hand-written gradient is that of Σ g·F by central differences, in every
// weight and bias of a small network.
func TestMLPGradient(t *testing.T) {
	const d, width, rows = 3, 5, 4
	n := NewMLP(d, width, 1)
	for l := range n.w { // the last layer starts at zero, where the others have no gradient
		for i, v := range oracle.Normal(uint64(l+9), len(n.w[l])) {
			n.w[l][i] = float64(v) / 2
		}
		for i, v := range oracle.Normal(uint64(l+19), len(n.b[l])) {
			n.b[l][i] = float64(v) / 2
		}
	}
	x, g, sigma := float64s(oracle.Normal(2, rows*d)), float64s(oracle.Normal(3, rows*d)), []float64{0.05, 0.5, 2, 40}
	p := n.newPass(rows)
	loss := func() (sum float64) {
		n.forward(p, x, sigma)
		for i, f := range p.out {
			sum += g[i] * f
		}
		return sum
	}
	loss()
	dw, db := n.gradient(p, slices.Clone(g))
	const h = 1e-6
	for l := range n.w {
		for i, pair := range [2][2][]float64{{n.w[l], dw[l]}, {n.b[l], db[l]}} {
			for j := range pair[0] {
				keep := pair[0][j]
				pair[0][j] = keep + h
				up := loss()
				pair[0][j] = keep - h
				down := loss()
				pair[0][j] = keep
				if want := (up - down) / (2 * h); math.Abs(pair[1][j]-want) > 1e-7*(1+math.Abs(want)) {
					t.Fatalf("layer %d, array %d, number %d: %g, want %g", l, i, j, pair[1][j], want)
				}
			}
		}
	}
}

// An untrained network is the denoiser of N(0, 0.25); training lowers the loss on
// a set of one point until it says little else than that point; two runs of a seed
// are equal bit for bit, and a vector's answer does not depend on the others.
func TestMLPTraining(t *testing.T) {
	const d = 3
	n := NewMLP(d, 16, 1)
	x := gpu.CPU().From64(float64s(oracle.Normal(4, 70*d)), 70, d)
	sigma := make([]float64, 70)
	for i := range sigma {
		sigma[i] = 0.1 + float64(i)/20
	}
	ask := func(n *MLP, lo, hi int) []float64 {
		t.Helper()
		out := x.Rows(lo, hi).Like()
		if err := n.Denoise(context.Background(), out, x.Rows(lo, hi), sigma[lo:hi], sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		return out.F64()
	}
	for i, v := range ask(n, 0, 70) {
		s := sigma[i/d]
		if want := 0.25 / (0.25 + s*s) * x.F64()[i]; math.Abs(v-want) > 1e-15 {
			t.Fatalf("untrained: value %d is %v, want %v", i, v, want)
		}
	}
	point := []float64{0.4, -0.2, 0.7}
	train := func() *MLP {
		n := NewMLP(d, 16, 1)
		if err := n.Train(context.Background(), point, TrainOptions{At: []int{1, 300}, Batch: 64, Rate: 3e-3, Seed: 5}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := train()
	off := func(n *MLP) (sum float64) {
		for i, v := range ask(n, 0, 70) {
			sum += (v - point[i%d]) * (v - point[i%d])
		}
		return sum
	}
	if before, after := off(n), off(a); !(after < before/10) {
		t.Errorf("squared distance to the only point: %g before, %g after training", before, after)
	}
	if !slices.Equal(ask(a, 0, 70), ask(train(), 0, 70)) {
		t.Error("two runs of a seed differ")
	}
	if !slices.Equal(ask(a, 0, 70)[3*d:9*d], ask(a, 3, 9)) {
		t.Error("a vector's answer depends on the others")
	}
	kept := a.Copy()
	before := ask(kept, 0, 5)
	if err := a.Train(context.Background(), point, TrainOptions{At: []int{310}, Batch: 64}); err != nil || !slices.Equal(ask(kept, 0, 5), before) {
		t.Errorf("a copy changes as training goes on (%v)", err)
	}
	out := gpu.CPU().Empty(2, d)
	for want, err := range map[string]error{
		"vectors of 3 up to":   a.Train(context.Background(), []float64{1}, TrainOptions{At: []int{1}}),
		"up to steps []":       a.Train(context.Background(), point, TrainOptions{}),
		"context canceled":     a.Train(canceled(), point, TrainOptions{At: []int{1000}}),
		"wanted float64 [n, 3": a.Denoise(context.Background(), out, out, []float64{1, 2}, sampler.Cond{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
