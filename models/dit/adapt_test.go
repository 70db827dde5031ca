package dit

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/adapt"
)

// A whole network with every adapter on it, untrained, gives the bits that it gave.
func TestUntrainedAdaptersChangeNoBit(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		for _, name := range []string{"dit", "lightning", "cross", "uvit", "sparse"} {
			c := variants()[name]
			n := build(c, dt, false)
			b := inputsOf(&c, dt, 2)
			was := run(n, b, Options{})
			same := func(what string) {
				t.Helper()
				for i, v := range run(n, b, Options{}) {
					if math.Float64bits(v) != math.Float64bits(was[i]) {
						t.Fatalf("%s in %v: %s: element %d is %v, was %v", name, dt, what, i, v, was[i])
					}
				}
			}
			lora, err := adapt.Attach(n.Params(), adapt.LoRAOptions{Rank: 2, Alpha: 4})
			if err != nil {
				t.Fatal(err)
			}
			same("low-rank changes")
			net := nn.NewParams(gpu.CPU(), dt)
			extra := adapt.ExtendPatch(net.At("extra"), n.Patch, 3)
			prompts := 0
			if n.Blocks[0].Text != nil {
				var layers []*nn.CrossAttention
				for _, b := range n.Blocks {
					layers = append(layers, b.Text)
				}
				p := adapt.NewImagePrompt(net.At("image"), 5, layers...)
				p.Set(nil, nil, 1)
				prompts = len(layers)
			}
			if n.Time.Second != nil {
				adapt.NewScalarEmbedding(net.At("scalars"), 2, n.Time.Second)
			}
			net.Init(1)
			same("inputs that nobody gives")
			extra.Drop()
			if name == "cross" && prompts != c.Depth {
				t.Errorf("%d layers of cross-attention, want %d", prompts, c.Depth)
			}
			// Merged, what was trained does the same as beside.
			for i, p := range lora.Params().All() {
				v := oracle.Normal(uint64(i), p.Value.Len())
				for j := range v {
					v[j] *= 0.1
				}
				p.Value.Copy(gpu.CPU().FromAs(dt, v, p.Shape()...))
			}
			beside := run(n, b, Options{})
			if err := lora.Merge(); err != nil {
				t.Fatal(err)
			}
			tol := 1e-11
			if dt == gpu.Float32 {
				tol = 1e-4
			}
			for i, v := range run(n, b, Options{}) {
				if math.Abs(v-beside[i]) > tol*(1+math.Abs(v)) {
					t.Fatalf("%s in %v: merged, element %d is %v, beside %v", name, dt, i, v, beside[i])
				}
			}
			lora.Unmerge()
			lora.Drop()
			same("dropped")
		}
	}
}
