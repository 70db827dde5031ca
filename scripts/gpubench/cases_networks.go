package main

import (
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/ops/netplan"
)

// Inception-v3 as fid runs it, pictures already on the device: one graph. In a rehearsal its first layer.
func init() {
	const flops, parameters, picture = 11.42e9, 21.8e6, 3 * 299 * 299
	batch, products, floats := size(netplan.DefaultBatch, 1), "conv16_bf16", "conv_band_large_f32"
	if tiny {
		products, floats = "conv16_small_bf16", "conv_band_f32" // of one picture
	}
	for name, c := range map[string]struct {
		precision    plan.Precision
		kernel, peak string
		times        float64 // products for each of the network's
		bytes        float64 // of a parameter
		goal         float64
	}{
		"fp32":   {plan.F32, floats, "f32", 1, 4, 0.3},
		"bf16":   {plan.BF16, products, "bf16", 1, 2, 0.3},
		"bf16x3": {plan.SplitBF16, products, "bf16", 3, 6, 0.3},
	} {
		register(Case{
			Name: "inception." + name, Kernel: c.kernel, Shape: shape(batch, 3, 299, 299), Peak: c.peak, Goal: c.goal,
			Bytes: float64(batch)*4*(picture+2048) + c.bytes*parameters, Flops: float64(batch) * c.times * flops,
			Setup: func(dev *gpu.Device) (func(), error) {
				net := extract.RecipeNet("2048")
				if tiny {
					net.Nodes, net.Outputs = net.Nodes[:1], []string{net.Nodes[0].Name}
				}
				p, err := netplan.Compile(dev, net, plan.Options{Batch: batch, Precision: c.precision})
				if err != nil {
					return nil, err
				}
				run, _, err := p.Prepare(dev)
				return run, err
			},
		})
	}
}
