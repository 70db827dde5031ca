package cli

import (
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems/arflow"
	"github.com/fidlab/fidlab/tensor"
)

func init() { makers["arweights"] = makeARWeights }

// makeARWeights writes random weights of a network of arflow, of the averages that the authors' code keeps: arweights FILE ARCH.
func makeARWeights(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("want arweights FILE ARCH")
	}
	c, err := arflow.Preset(args[1])
	ts.Check(err)
	p := nn.NewParams(gpu.CPU(), gpu.Float32)
	arflow.New(p.At(""), c)
	for _, q := range p.All() {
		q.Start = nn.Normal(0.1)
	}
	p.Init(1)
	var list []tensor.SafetensorsEntry
	for _, n := range p.State() {
		v, err := n.Tensor.Floats()
		ts.Check(err)
		list = append(list, tensor.SafetensorsEntry{Name: "ema." + n.Name, Array: tensor.FromF32(v, n.Tensor.Shape()...)})
	}
	ts.Check(tensor.WriteSafetensors(ts.MkAbs(args[0]), list, nil))
}
