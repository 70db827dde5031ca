package models

import "github.com/fidlab/fidlab/nn"

// Stateful is a network that remembers the pictures that it was shown before, such as those of the steps of a sampler. Forward is a picture
// that follows none.
type Stateful interface {
	Net
	// State is the shapes of what it keeps of one sample, a tensor of each layer that keeps something.
	State() [][]int
	// Step is Forward of pictures that follow those which past tells of, a tensor [B, State()[i]...] each; zeros, and a nil past, are for
	// pictures that follow none. next is the past of the pictures that come after these. It does not change past, so that who asks
	// twice for one step goes on with one of the two.
	Step(x, time *nn.Var, in Inputs, past []*nn.Var) (y *nn.Var, next []*nn.Var)
}
