package nn_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Attention in float32 is compared with the definition by parts in float64, which is
// compared with differences.
func TestAttention(t *testing.T) {
	lens := gpu.CPU().FromInt32([]int32{5, 0}, 2)
	for name, m := range map[string]nn.AttnMask{"full": {}, "causal": {Causal: true}, "window": {Causal: true, Window: 2}, "padding": {KeyLens: lens}} {
		for _, s := range [][2]int{{4, 4}, {3, 6}} {
			c := opCase{
				shapes: [][]int{{2, s[0], 2, 8}, {2, s[1], 2, 8}, {2, s[1], 2, 8}},
				f:      func(_ *nn.Tape, x vars) *nn.Var { return nn.Attention(x[0], x[1], x[2], 0.3, m) },
			}
			t.Run(fmt.Sprint(name, s), c.check)
		}
	}
	for _, bias := range [][]int{{2, 2, 3, 5}, {1, 1, 3, 5}} {
		c := opCase{
			shapes: [][]int{{2, 3, 2, 8}, {2, 5, 2, 8}, {2, 5, 2, 8}, bias},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{Bias: x[3]}) },
		}
		t.Run(fmt.Sprint("bias", bias), c.check)
	}
	self := opCase{shapes: [][]int{{1, 5, 2, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.Attention(x[0], x[0], x[0], 0, nn.AttnMask{}) }}
	t.Run("of one operand", self.check)
	defer func() {
		if v := fmt.Sprint(recover()); !strings.Contains(v, "want [B, L, heads, D]") {
			t.Errorf("recovered %v", v)
		}
	}()
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Leaf(gpu.CPU().Empty(2, 3, 4))
	nn.Attention(x, x, x, 0, nn.AttnMask{})
}
