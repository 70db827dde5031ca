package nn_test

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// picturesOnDevices are layers of pictures in both orders of axes, and attention.
func picturesOnDevices() map[string]opCase {
	lens := gpu.CPU().FromInt32([]int32{3, 5}, 2)
	cases := map[string]opCase{
		"up":            {shapes: [][]int{{2, 3, 2, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Upsample(3) }},
		"up last":       {shapes: [][]int{{2, 2, 5, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].UpsampleLast(2) }},
		"mean of tiles": {shapes: [][]int{{2, 3, 4, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].AvgPool(2).Add(x[0].Slice(2, 0, 2).Slice(3, 0, 3)) }},
		"most of tiles": {shapes: [][]int{{2, 3, 4, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaxPool(2) }},
		"most last":     {shapes: [][]int{{2, 4, 6, 3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaxPoolLast(2) }},
		"attention": {shapes: [][]int{{2, 5, 4, 8}, {2, 6, 2, 8}, {2, 6, 2, 8}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{})
		}},
		"attention, masks": {shapes: [][]int{{2, 5, 2, 12}, {2, 5, 2, 12}, {2, 5, 2, 12}, {1, 2, 5, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return nn.Attention(x[0], x[1], x[2], 0.4, nn.AttnMask{Causal: true, Window: 4, KeyLens: lens, Bias: x[3]})
		}},
		"hard choice": {shapes: [][]int{{4, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].GumbelSoftmax(nn.Gumbel{Tau: 0.7, Hard: true, Noise: ops.Noise{Seed: 2}})
		}},
		"group norm": {shapes: [][]int{{2, 6, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return (&nn.GroupNorm{Groups: 3, Eps: 1e-3}).Forward(x[0]) }},
		"group norm last, silu": {shapes: [][]int{{2, 3, 5, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return (&nn.GroupNorm{Groups: 3, Eps: 1e-3, Last: true}).Then(ops.SiLU).Forward(x[0])
		}},
	}
	for name, cfg := range map[string]ops.ConvConfig{
		"convolution": ops.Same(3), "convolution last": {Pad: [4]int{1, 1, 1, 1}, Last: true}, "convolution in groups": {Stride: 2, Pad: [4]int{0, 1, 2, 0}, Groups: 2},
	} {
		shape := []int{2, 4, 6, 5}
		if cfg.Last {
			shape = []int{2, 6, 5, 4}
		}
		cases[name] = opCase{shapes: [][]int{shape}, f: func(t *nn.Tape, x vars) *nn.Var {
			net := nn.NewParams(t.Device(), t.DType())
			l := nn.NewGroupConv2D(net.At(""), 4, 6, 3, max(1, cfg.Groups))
			l.Config = cfg
			net.Init(1)
			return l.Forward(x[0])
		}}
	}
	return cases
}
