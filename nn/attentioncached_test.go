package nn_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// Keys and values that were made before give the layer's result, with norms and lengths.
func TestKeysOfAContextOnce(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	one := nn.NewCrossAttention(net.At("one"), 8, 6, nn.AttnOptions{Heads: 2, QKNorm: nn.QKRMS})
	two := nn.NewCrossAttention(net.At("two"), 8, 6, nn.AttnOptions{Heads: 2}).Add(net.At("more"), 6)
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Input(gpu.CPU().From(oracle.Normal(1, 2*3*8), 2, 3, 8))
	c := nn.Context{States: tape.Input(gpu.CPU().From(oracle.Normal(2, 2*5*6), 2, 5, 6)), Lens: gpu.CPU().FromInt32([]int32{5, 2}, 2)}
	k, v := one.ProjectKV(c.States)
	want, got := one.Forward(x, c).Value().F32(), one.ForwardKV(x, k, v, c.Lens).Value().F32()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
		}
	}
	oracle.Refuses(t, map[string]func(){
		"ProjectKV: a layer of 2 contexts":     func() { two.ProjectKV(c.States) },
		"ForwardKV: a layer of 2 contexts":     func() { two.ForwardKV(x, k, v, nil) },
		"ProjectKV: states of shape [2 3 2 4]": func() { one.ProjectKV(x.Reshape(2, 3, 2, 4)) },
	})
}
