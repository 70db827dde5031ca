package dit_test

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/nn"
)

// Which word a patch looks at: the maps of a block's cross-attention pass the tap blocks.N.cross_attn.maps, and what the tap
// returns is what the network goes on with.
func Example_attentionMaps() {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	model := dit.New(net.At(""), dit.Config{Height: 32, Width: 32, Channels: 3, Patch: 4, Dim: 32, Depth: 2, Heads: 2, Tokens: map[string]int{"text": 8}})
	net.Init(1) // systems.FindTask("shapes-base") and its Open give a trained one, Trained.Prompt the states of captions

	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.OnTap("blocks.1.cross_attn.maps", func(maps *nn.Var) *nn.Var {
		fmt.Println("picture, head, patch, token:", maps.Shape())
		sums := maps.Sum(3).Value().F32()
		fmt.Printf("a patch's weights add up to %.3f\n", sums[0])
		return maps
	})
	tape.NoGrad(func() {
		states := tape.Const(0.1, 1, 16, 8)
		model.Forward(tape.Const(0, 1, 3, 32, 32), tape.Const(500, 1), models.Inputs{Tokens: map[string]models.Tokens{"text": {States: states}}})
	})
	// Output:
	// picture, head, patch, token: [1 2 64 16]
	// a patch's weights add up to 1.000
}
