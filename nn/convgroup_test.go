package nn_test

import (
	"fmt"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

func TestGroupConv2D(t *testing.T) {
	for _, s := range []struct {
		in, out, k, groups int
		cfg                ops.ConvConfig
	}{
		{4, 4, 3, 4, ops.Same(3)}, {2, 6, 3, 2, ops.ConvConfig{Stride: 2, Pad: [4]int{0, 1, 2, 0}}}, {4, 4, 3, 2, ops.Same(3)},
		{4, 2, 1, 2, ops.ConvConfig{}}, {3, 3, 1, 3, ops.ConvConfig{}}, {2, 2, 3, 2, ops.ConvConfig{Pad: [4]int{2, 2, 2, 2}, Dilation: 2}},
		{6, 3, 2, 3, ops.ConvConfig{Stride: 2}}, {2, 2, 7, 2, ops.Same(7)},
	} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			const h, w = 4, 5
			n := 2
			if s.groups == 4 { // more pictures than there are sums of weights
				n = 9
			}
			build := func(sc nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var {
				l := nn.NewGroupConv2D(sc, s.in, s.out, s.k, s.groups)
				l.Config = s.cfg
				l.Config.Groups = s.groups
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
			}
			checkParams(t, build, n, s.in, h, w)
			net := nn.NewParams(gpu.CPU(), gpu.Float64)
			f := build(net.At("layer"))
			net.Init(2)
			c := opCase{shapes: [][]int{{n, s.in, h, w}}, f: func(tape *nn.Tape, x vars) *nn.Var { return f(tape, x[0]) }}
			y, _ := c.run(t, gpu.Float64)
			// A grouped convolution is one of each group's channels beside the others.
			x, wt, bias := c.leaves(gpu.Float64)[0].F64(), net.All()[0].Value.F64(), net.All()[1].Value.F64()
			in, out := s.in/s.groups, s.out/s.groups
			area := y.Len() / (n * s.out)
			for g := range s.groups {
				var part []float64
				for b := range n {
					part = append(part, x[(b*s.in+g*in)*h*w:][:in*h*w]...)
				}
				k := out * in * s.k * s.k
				want := dilated(n, in, h, w, out, s.k, s.cfg, wt[g*k:][:k], bias[g*out:][:out], part)
				var got []float64
				for b := range n {
					got = append(got, y.F64()[(b*s.out+g*out)*area:][:out*area]...)
				}
				oracle.Close64(t, got, oracle.Tol{Abs: 1e-13}, func(i int) float64 { return want[i] })
			}
		})
	}
	oracle.Refuses(t, map[string]func(){
		"4 to 6 channels in 4 groups": func() { nn.NewGroupConv2D(nn.NewParams(gpu.CPU(), gpu.Float32).At("l"), 4, 6, 3, 4) },
		"[1 4 3 3] and kernels [4 4 1 1] in 2 groups": func() {
			tape := nn.NewTape(gpu.CPU(), gpu.Float32)
			ops.Conv2D(tape.Const(0, 1, 4, 3, 3).Value(), tape.Const(0, 1, 4, 3, 3).Value(), tape.Const(0, 4, 4, 1, 1).Value(), nil, ops.ConvConfig{Groups: 2})
		},
	})
}

// dilated is the definition of a convolution, dilation and all.
func dilated(n, c, h, w, o, k int, cfg ops.ConvConfig, weight, bias, x []float64) []float64 {
	s, d := max(1, cfg.Stride), max(1, cfg.Dilation)
	oh, ow := cfg.OutSize(h, w, k, k)
	y := make([]float64, n*o*oh*ow)
	for i := range y {
		b, ch, r, q := i/(o*oh*ow), i/(oh*ow)%o, i/ow%oh*s-cfg.Pad[0], i%ow*s-cfg.Pad[2]
		y[i] = bias[ch]
		for j := range c * k * k {
			f, yy, xx := j/(k*k), r+d*(j/k%k), q+d*(j%k)
			if yy >= 0 && yy < h && xx >= 0 && xx < w {
				y[i] += weight[ch*c*k*k+j] * x[((b*c+f)*h+yy)*w+xx]
			}
		}
	}
	return y
}

func TestGroupConvAllocatesNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	deep, wide := nn.NewGroupConv2D(net.At("deep"), 8, 8, 3, 8), nn.NewGroupConv2D(net.At("wide"), 8, 8, 3, 2)
	net.Init(1)
	x := gpu.CPU().From(oracle.Normal(1, 9*8*36), 9, 8, 6, 6)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	body := func() { tape.Backward(wide.Forward(deep.Forward(tape.Input(x)).SiLU()).Square().Mean()) }
	step := func() {
		tape.Run(body)
		opt.Step(1e-3)
	}
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}
