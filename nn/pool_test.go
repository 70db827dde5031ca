package nn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
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
		c.f = func(tape *nn.Tape, x vars) *nn.Var {
			return x[0].Permute(0, 2, 3, 1).MaxPoolLast(k).Permute(0, 3, 1, 2)
		}
		t.Run(fmt.Sprint("last ", k), c.check)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"MaxPool: squares of 2 do not fill pictures of 5×4": func() { tape.Const(0, 1, 1, 5, 4).MaxPool(2) },
		"MaxPool: squares of 3 do not fill pictures of 6×4": func() { tape.Const(0, 1, 6, 4, 1).MaxPoolLast(3) },
	})
}
