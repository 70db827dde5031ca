package unet

import (
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// Embedding is what a network's blocks are told of time and conditions.
func Embedding(u *UNet, time *nn.Var, in models.Inputs) *nn.Var {
	var p pass
	u.begin(&p, time, in)
	return p.emb
}
