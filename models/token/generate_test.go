package token_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
)

// A generator's logits are those of the whole sequence, with something in front and without.
func TestGeneratorsLogits(t *testing.T) {
	for _, kind := range []string{"class", "plain"} {
		_, m, in := made(t, kind, gpu.Float32, 2)
		tape, other := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
		ids := text(2, 5)
		if kind == "plain" {
			ids.I32()[0], ids.I32()[5] = 3, 3
		}
		whole, shape := logits(other, m, ids, in)
		g := m.Generator(tape, 2, 6, 3, in)
		for range 2 { // the second time in the same memory
			v, err := g.Begin()
			for k := 0; ; k++ {
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range v {
					if w := whole[(i/7*shape[1]+k)*7+i%7]; math.Abs(float64(e)-w) > 1e-5*(1+math.Abs(w)) {
						t.Fatalf("%s: token %d: logit %d is %v, the whole gives %v", kind, k, i, e, w)
					}
				}
				next := k
				if kind == "plain" {
					next++
				}
				if next == 5 {
					break
				}
				v, err = g.Step([]int32{ids.I32()[next], ids.I32()[5+next]})
			}
		}
		if _, err := g.Step([]int32{1}); err == nil || !strings.Contains(err.Error(), "1 ids for 2 sequences") {
			t.Errorf("the error is %v", err)
		}
	}
	_, m, in := made(t, "filled", gpu.Float32, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	f := m.Filler(tape, 2, in)
	got, err := f.Fill(text(2, 5).I32())
	whole, _ := logits(nn.NewTape(gpu.CPU(), gpu.Float32), m, text(2, 5), in)
	for i, w := range whole {
		if err != nil || float64(got[i]) != w {
			t.Fatalf("logit %d is %v, want %v (%v)", i, got[i], w, err)
		}
	}
	if _, err := f.Fill(make([]int32, 3)); err == nil || !strings.Contains(err.Error(), "3 ids for 2 sequences") {
		t.Errorf("the error is %v", err)
	}
}

// A decoder learns sequences by class, and says them by heart.
func TestDecoderLearns(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	m := token.New(net.At(""), token.Config{Vocab: 6, MaxLen: 9, Width: 16, Depth: 2, Heads: 2, Causal: true, Classes: 3, Places: token.Rotary})
	net.Init(1)
	opt := nn.NewAdam(net, nn.AdamOptions{})
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	want := [][]int32{{0, 1, 2, 3, 4, 5, 0, 1}, {5, 5, 0, 0, 5, 5, 0, 0}, {3, 1, 3, 1, 4, 1, 5, 1}}
	classes := gpu.CPU().FromInt32([]int32{0, 1, 2}, 3)
	ids := make([]int32, 0, 21)
	for _, w := range want {
		ids = append(ids, w[:7]...)
	}
	x, labels := gpu.CPU().FromInt32(ids, 3, 7), gpu.CPU().FromInt32(slices.Concat(want...), 3, 8)
	var first, last float64
	for step := range 120 {
		tape.Run(func() {
			loss := nn.CrossEntropy(m.Forward(tape, x, token.Inputs{Classes: classes}), labels, 0).Mean()
			tape.Backward(loss)
			last = loss.Item()
		})
		if step == 0 {
			first = last
		}
		opt.Step(1e-2)
	}
	if math.Abs(first-math.Log(6)) > 0.1 || last > 0.05 {
		t.Errorf("the loss went from %v to %v, want from log 6, 1.79, to under 0.05", first, last)
	}
	g := m.Generator(tape, 3, 9, 0, func(*nn.Tape) token.Inputs { return token.Inputs{Classes: classes} })
	v, err := g.Begin()
	said := make([][]int32, 3)
	for range 8 {
		if err != nil {
			t.Fatal(err)
		}
		next := make([]int32, 3)
		for i := range next {
			row := v[i*6:][:6]
			next[i] = int32(slices.Index(row, slices.Max(row)))
			said[i] = append(said[i], next[i])
		}
		v, err = g.Step(next)
	}
	if !slices.EqualFunc(said, want, slices.Equal) {
		t.Errorf("it says %v, want %v", said, want)
	}
}
