package token

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// LogP is the logarithm of the probability of each sequence ids [B, L], Int32 on the CPU, in nats, [B]: the sum over its tokens, of a
// causal network with tokens in front, which the first one is predicted from.
func (m *Net) LogP(t *nn.Tape, ids *gpu.Tensor, in Inputs) *nn.Var {
	if !m.Config.Causal || m.InFront(in) == 0 {
		panic(fmt.Sprintf("token: the probability of sequences by a network that is causal: %t, with %d tokens in front; want a causal one with one at least", m.Config.Causal, m.InFront(in)))
	}
	b, n := ids.Shape()[0], ids.Shape()[1]
	fed := t.Ids(b*(n-1)).View(b, n-1) // nothing follows the last
	for i := range b {
		copy(fed.I32()[i*(n-1):(i+1)*(n-1)], ids.I32()[i*n:])
	}
	logits := m.Forward(t, fed, in)
	if p := logits.Shape()[1]; p != n {
		logits = logits.Slice(1, p-n, n) // nor are tokens in front predicted
	}
	return nn.CrossEntropy(logits, ids, 0).Sum(1).Reshape(b).Neg()
}
