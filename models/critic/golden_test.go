package critic_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/critic"
	"github.com/fidlab/fidlab/nn"
)

// The golden files are those of scripts/golden/codec.py.
var dtypes = []gpu.DType{gpu.Float64, gpu.Float32}

func TestGoldenPatchGAN(t *testing.T) {
	for name, kind := range map[string]critic.Norm{"batch": critic.Batch, "group": critic.Group, "none": critic.None} {
		for _, dt := range dtypes {
			g := network.StartRun(t, dt, "critic", "patch_"+name+".safetensors")
			p := critic.NewPatchGAN(g.Net.At(""), critic.PatchConfig{Channels: 2, Width: 4, Norm: kind, Groups: 2})
			g.Load()
			g.Tape.Run(func() {
				x := g.Input("real")
				real, fake := p.Forward(x, true), p.Forward(g.Input("fake"), true)
				g.Result("real", real)
				g.Result("fake", fake)
				g.Result("hinge", nn.HingeCritic(real, fake))
				g.Result("hinge_g", nn.HingeGenerator(fake))
				g.Result("softplus", nn.SoftplusCritic(real, fake))
				g.Result("softplus_g", nn.SoftplusGenerator(fake))
				extra := 0
				if kind == critic.Batch {
					extra = 3
					for _, s := range g.Net.State() {
						for _, part := range []string{"mean", "var"} {
							if s.Name == "main.3.running_"+part {
								g.Result(part, g.Tape.Input(s.Tensor)) // after both batches
							}
						}
					}
					g.Result("still", p.Forward(x, false))
				}
				g.Gradients()
				g.Done(6 + extra + 2 + len(g.Net.All()))
			})
		}
	}
}

func TestGoldenFeatureDistance(t *testing.T) {
	for _, dt := range dtypes {
		g := network.StartRun(t, dt, "critic", "features"+".safetensors")
		w := []*nn.Param{g.Net.At("lin").Param("0", nn.Ones, 1, 3, 1, 1), g.Net.At("lin").Param("1", nn.Ones, 1, 5, 1, 1)}
		g.Load()
		g.Tape.Run(func() {
			a := []*nn.Var{g.Input("a0"), g.Input("a1")}
			b := []*nn.Var{g.Input("b0"), g.Input("b1")}
			g.Result("d", critic.FeatureDistance(a, b, []*nn.Var{g.Tape.Use(w[0]), g.Tape.Use(w[1])}))
			g.Gradients()
		})
		g.Done(1 + 4 + 2)
	}
}
