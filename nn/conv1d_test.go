package nn_test

import (
	"fmt"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// correlation1D is the definition, with the bias.
func correlation1D(n, c, l, o, k int, cfg nn.Conv1DConfig, weight, bias, x []float64) []float64 {
	s, d := max(1, cfg.Stride), max(1, cfg.Dilation)
	ol := (l+cfg.Pad[0]+cfg.Pad[1]-d*(k-1)-1)/s + 1
	var y []float64
	for i := range n * o * ol {
		b, ch, q := i/(o*ol), i/ol%o, i%ol*s-cfg.Pad[0]
		v := bias[ch]
		for j := range c * k {
			if p := q + d*(j%k); p >= 0 && p < l {
				v += weight[ch*c*k+j] * x[(b*c+j/k)*l+p]
			}
		}
		y = append(y, v)
	}
	return y
}

func TestConv1D(t *testing.T) {
	for _, s := range []struct {
		k   int
		cfg nn.Conv1DConfig
	}{
		{3, nn.Same1D(3, 1)}, {3, nn.Same1D(3, 9)}, {3, nn.Same1D(3, 3)}, {1, nn.Same1D(1, 1)}, {4, nn.Conv1DConfig{Stride: 2, Pad: [2]int{1, 1}}},
		{3, nn.Conv1DConfig{Stride: 2, Dilation: 2, Pad: [2]int{4, 0}}}, {5, nn.Conv1DConfig{}},
	} {
		t.Run(fmt.Sprint(s.k, s.cfg), func(t *testing.T) {
			build := func(sc nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var {
				l := nn.NewConv1D(sc, 2, 3, s.k)
				l.Config = s.cfg
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
			}
			checkParams(t, build, 9, 2, 11)
			net := nn.NewParams(gpu.CPU(), gpu.Float64)
			f := build(net.At("layer"))
			net.Init(2)
			c := opCase{shapes: [][]int{{2, 2, 11}}, f: func(tape *nn.Tape, x vars) *nn.Var { return f(tape, x[0]) }}
			y, _ := c.run(t, gpu.Float64)
			want := correlation1D(2, 2, 11, 3, s.k, s.cfg, net.All()[0].Value.F64(), net.All()[1].Value.F64(), c.leaves(gpu.Float64)[0].F64())
			if y.Len() != len(want) {
				t.Fatalf("shape %v, want %d elements", y.Shape(), len(want))
			}
			oracle.Close64(t, y.F64(), oracle.Tol{Abs: 1e-13}, func(i int) float64 { return want[i] })
		})
	}
	up := opCase{shapes: [][]int{{2, 2, 3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Upsample1D(2) }, want: func(x [][]float64) []float64 {
		var y []float64
		for i := range 2 * 2 * 6 {
			y = append(y, x[0][i/2])
		}
		return y
	}}
	t.Run("up", up.check)
}

func TestConv1DRefuses(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	l := nn.NewConv1D(net.At("c"), 3, 4, 5)
	l.Config = nn.Conv1DConfig{Dilation: 2}
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"nn: Conv1D: c.weight: sequences [1 2 9] and kernels [4 3 5]": func() { l.Forward(tape.Const(0, 1, 2, 9)) },
		"[1 3 1 8] are smaller than kernels [4 3 1 5]":                func() { l.Forward(tape.Const(0, 1, 3, 8)) },
		"nn: Upsample1D: shape [2 3]":                                 func() { tape.Const(0, 2, 3).Upsample1D(2) },
		"nn: ST: shapes [2] and [3]":                                  func() { nn.ST(tape.Const(0, 2), tape.Const(0, 3)) },
		"nn: GumbelSoftmax: temperature 0":                            func() { tape.Const(0, 2, 3).GumbelSoftmax(nn.Gumbel{}) },
		"nn: GumbelSigmoid: axis 0 of shape []":                       func() { tape.Const(0).GumbelSigmoid(nn.Gumbel{Tau: 1}) },
	})
	tape.Run(func() {
		if s := l.Forward(tape.Const(0, 1, 3, 9)).Shape(); s[2] != 1 {
			t.Errorf("shape %v, want one place left", s)
		}
	})
}
