package unet

import (
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

var _ models.Layered = (*UNet)(nil)

// Layers implements models.Layered: the blocks that are Optional.
func (u *UNet) Layers() []string {
	var names []string
	for _, b := range u.blocks {
		if b.Optional {
			names = append(names, b.Name)
		}
	}
	return names
}

// Without implements models.Layered.
func (u *UNet) Without(skip []int) models.Net {
	n := &without{u, make([]bool, len(u.blocks))}
	var ids []int
	for _, b := range u.blocks {
		if b.Optional {
			ids = append(ids, b.ID)
		}
	}
	for _, s := range skip {
		n.out[ids[s]] = true
	}
	return n
}

// without is a U-Net that leaves out blocks.
type without struct {
	*UNet
	out []bool // by ID
}

func (n *without) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	before := n.Out
	n.Out = n.out
	defer func() { n.Out = before }()
	return n.UNet.Forward(x, time, in)
}
