package dit

import (
	"fmt"

	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

var _ models.Layered = (*Net)(nil)

// layers are the numbers of the blocks that keep how many tokens there are.
func (n *Net) layers() []int {
	var at []int
	for i, b := range n.Blocks {
		if b.Kind != Merge && b.Kind != Recover {
			at = append(at, i)
		}
	}
	return at
}

// Layers implements models.Layered: all blocks but those of the kinds Merge and Recover.
func (n *Net) Layers() []string {
	var names []string
	for _, i := range n.layers() {
		names = append(names, fmt.Sprint("blocks.", i))
	}
	return names
}

// Without implements models.Layered.
func (n *Net) Without(skip []int) models.Net {
	w := &without{n, make([]bool, len(n.Blocks))}
	at := n.layers()
	for _, s := range skip {
		w.out[at[s]] = true
	}
	return w
}

// without is a transformer that leaves out blocks.
type without struct {
	*Net
	out []bool
}

func (n *without) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	return n.ForwardWith(x, time, in, Options{Skip: n.out})
}
