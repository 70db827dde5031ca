package token_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
)

// The probabilities of all sequences add up to 1 for every class, and each is the product of those that a step of the generator gives its
// tokens.
func TestLogPIsADistribution(t *testing.T) {
	const vocab, length, classes = 3, 4, 2
	params := nn.NewParams(gpu.CPU(), gpu.Float64)
	m := token.New(params.At(""), token.Config{Vocab: vocab, MaxLen: length, Width: 8, Depth: 2, Heads: 2, Causal: true, Classes: classes})
	params.Init(3)
	n := int(math.Pow(vocab, length))
	ids, told := gpu.CPU().New(gpu.Int32, n, length), gpu.CPU().New(gpu.Int32, n)
	for i := range n {
		for k, v := 0, i; k < length; k, v = k+1, v/vocab {
			ids.I32()[i*length+k] = int32(v % vocab)
		}
	}
	for class := range int32(classes + 1) { // the last is none
		for i := range told.I32() {
			told.I32()[i] = class
		}
		in := token.Inputs{Classes: told}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		var logp []float64
		tape.Run(func() { logp = append(logp, m.LogP(tape, ids, in).Value().F64()...) })
		var sum float64
		for _, v := range logp {
			sum += math.Exp(v)
		}
		if math.Abs(sum-1) > 1e-12 {
			t.Errorf("class %d: the probabilities add up to %.15g", class, sum)
		}

		g := m.Generator(tape, n, length, 0, func(*nn.Tape) token.Inputs { return in })
		step, err := g.Begin()
		want := make([]float64, n)
		for k := range length {
			if err != nil {
				t.Fatal(err)
			}
			next := make([]int32, n)
			for i := range n {
				row, all := step[i*vocab:][:vocab], 0.
				for _, v := range row {
					all += math.Exp(float64(v))
				}
				next[i] = ids.I32()[i*length+k]
				want[i] += float64(row[next[i]]) - math.Log(all)
			}
			if k+1 < length {
				step, err = g.Step(next)
			}
		}
		for i := range want {
			if math.Abs(logp[i]-want[i]) > 1e-5 { // the generator's logits are float32
				t.Fatalf("class %d, sequence %d: %g, by steps %g", class, i, logp[i], want[i])
			}
		}
	}
}
