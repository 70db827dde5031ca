package nn_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

func TestMaxPool(t *testing.T) {
	for _, k := range []int{1, 2, 3} {
		const h, w = 6, 12
		c := opCase{shapes: [][]int{{2, 3, h, w}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaxPool(k) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 6*(h/k)*(w/k))
			for i := range y {
				y[i] = math.Inf(-1)
			}
			for i, v := range x[0] {
				at := &y[(i/(h*w)*(h/k)+i/w%h/k)*(w/k)+i%w/k]
				*at = math.Max(*at, v)
			}
			return y
		}}
		t.Run(fmt.Sprint(k), c.check)
	}
	defer func() {
		if v := fmt.Sprint(recover()); !strings.Contains(v, "MaxPool: squares of 2 do not fill pictures of 5×4") {
			t.Errorf("recovered %v", v)
		}
	}()
	nn.NewTape(gpu.CPU(), gpu.Float32).Const(0, 1, 1, 5, 4).MaxPool(2)
}
