package ddo

import (
	"context"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/train"
)

func tinyFlow(classes int) *flow.Net {
	params := nn.NewParams(gpu.CPU(), gpu.Float64)
	m := flow.New(params.At(""), flow.Config{PictureHeight: 4, PictureWidth: 4, Channels: 1, Patch: 2, Width: 8, Heads: 2, Blocks: 2, Layers: 1, Classes: classes})
	params.Init(1)
	for i, v := range params.Value().F64() {
		params.Value().F64()[i] = v + 0.05*math.Sin(float64(i))
	}
	return m
}

// What a flow draws is mapped back to the latents that it was drawn from, whose normal density and determinant its likelihood is; a draw
// does not depend on how many are drawn.
func TestFlowDrawsWhatItSays(t *testing.T) {
	m := tinyFlow(3)
	n := Flow(m)
	few, err := n.Draw(context.Background(), 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Draw(context.Background(), 7, 5)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range few.X {
		if math.Abs(float64(v-e.X[i])) > 1e-6 {
			t.Fatalf("value %d is %g among two draws and %g among five", i, v, e.X[i])
		}
	}
	if len(e.Labels) != 5 || e.Labels[4] != 1 {
		t.Errorf("the classes are %v", e.Labels)
	}
	p, err := n.LogP(5)
	if err != nil {
		t.Fatal(err)
	}
	x := gpu.CPU().FromAs(gpu.Float64, e.X, 5, 1, 4, 4)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		got := p(&train.Batch{Tape: tape, Size: 5}, x, e.Labels).Value().F64()
		classes := gpu.CPU().New(gpu.Int32, 5)
		copy(classes.I32(), e.Labels)
		z, logdet := m.Forward(tape.Input(x), classes)
		for i := range got {
			want := logdet.Value().F64()[i] - 8*math.Log(2*math.Pi)
			for _, v := range z.Value().F64()[16*i : 16*(i+1)] {
				want -= v * v / 2
			}
			if math.Abs(got[i]-want) > 1e-9 {
				t.Errorf("picture %d: log p is %g, by its latent %g", i, got[i], want)
			}
		}
	})
}
