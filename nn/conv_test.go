package nn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// correlation is the definition, with the bias.
func correlation(n, c, h, w, o, k int, cfg ops.ConvConfig, weight, bias []float64) func(x [][]float64) []float64 {
	return func(x [][]float64) []float64 {
		s, d := max(1, cfg.Stride), max(1, cfg.Dilation)
		oh, ow := (h+cfg.Pad[0]+cfg.Pad[1]-d*(k-1)-1)/s+1, (w+cfg.Pad[2]+cfg.Pad[3]-d*(k-1)-1)/s+1
		var y []float64
		for i := range n * o * oh * ow {
			b, ch, r, q := i/(o*oh*ow), i/(oh*ow)%o, i/ow%oh*s-cfg.Pad[0], i%ow*s-cfg.Pad[2]
			v := bias[ch]
			for j := range c * k * k {
				f, yy, xx := j/(k*k), r+d*(j/k%k), q+d*(j%k)
				if yy >= 0 && yy < h && xx >= 0 && xx < w {
					v += weight[ch*c*k*k+j] * x[0][((b*c+f)*h+yy)*w+xx]
				}
			}
			y = append(y, v)
		}
		return y
	}
}

func TestConv2D(t *testing.T) {
	for _, s := range []struct {
		k   int
		cfg ops.ConvConfig
	}{
		{3, ops.Same(3)}, {1, ops.ConvConfig{}}, {1, ops.ConvConfig{Stride: 2}}, {3, ops.ConvConfig{Stride: 2, Pad: [4]int{0, 1, 0, 1}}},
		{4, ops.ConvConfig{Stride: 2, Pad: [4]int{1, 1, 1, 1}}}, {5, ops.ConvConfig{Pad: [4]int{4, 0, 1, 3}}}, {3, ops.ConvConfig{Stride: 3}},
		{3, ops.ConvConfig{Pad: [4]int{2, 2, 2, 2}, Dilation: 2}}, {3, ops.ConvConfig{Stride: 2, Pad: [4]int{3, 0, 2, 4}, Dilation: 3}},
	} {
		t.Run(fmt.Sprint(s.k, s.cfg), func(t *testing.T) {
			build := func(sc nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var {
				l := nn.NewConv2D(sc, 2, 3, s.k)
				l.Config = s.cfg
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
			}
			checkParams(t, build, 9, 2, 6, 5) // nine pictures: more than there are sums of weights
			net := nn.NewParams(gpu.CPU(), gpu.Float64)
			f := build(net.At("layer"))
			net.Init(2)
			c := opCase{
				shapes: [][]int{{2, 2, 6, 5}}, f: func(tape *nn.Tape, x vars) *nn.Var { return f(tape, x[0]) },
				want: correlation(2, 2, 6, 5, 3, s.k, s.cfg, net.All()[0].Value.F64(), net.All()[1].Value.F64()),
			}
			y, _ := c.run(t, gpu.Float64)
			want := c.want([][]float64{c.leaves(gpu.Float64)[0].F64()})
			oracle.Close64(t, y.F64(), oracle.Tol{Abs: 1e-13}, func(i int) float64 { return want[i] })
		})
	}
}

func TestUpAndDown(t *testing.T) {
	up := opCase{shapes: [][]int{{2, 2, 2, 3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Upsample(2) }, want: func(x [][]float64) []float64 {
		var y []float64
		for i := range 2 * 2 * 4 * 6 {
			y = append(y, x[0][i/24*6+i/6%4/2*3+i%6/2])
		}
		return y
	}}
	t.Run("up", up.check)
	down := opCase{shapes: [][]int{{2, 2, 4, 6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].AvgPool(2) }, want: func(x [][]float64) []float64 {
		y := make([]float64, 2*2*2*3)
		for i, v := range x[0] {
			y[i/24*6+i/6%4/2*3+i%6/2] += v / 4
		}
		return y
	}}
	t.Run("down", down.check)
}

func TestDropout(t *testing.T) {
	m := ops.Mask{Seed: 3, Stream: 5, From: 7, P: 0.3}
	c := opCase{shapes: [][]int{{5, 70}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Dropout(m) }}
	c.check(t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	const n = 100000
	tape.Run(func() {
		y := tape.Const(1, n).Dropout(m).Value().F64()
		again := tape.Const(1, n).Dropout(m).Value().F64()
		shifted := tape.Const(1, n).Dropout(ops.Mask{Seed: 3, Stream: 5, From: 8, P: 0.3}).Value().F64()
		gone, other := 0, 0
		for i, v := range y {
			if v == 0 {
				gone++
			} else if math.Abs(v-1/0.7) > 1e-15 {
				t.Fatalf("element %d is %v, want 0 or 1/0.7", i, v)
			}
			if v != again[i] || i > 0 && shifted[i-1] != v {
				t.Fatalf("element %d is not a function of the mask", i)
			}
			if i > 0 && v != y[i-1] {
				other++
			}
		}
		// Binomial: standard deviations 145 and, of changes between neighbours, at most 160.
		if math.Abs(float64(gone)-0.3*n) > 5*145 || math.Abs(float64(other)-0.42*n) > 5*160 {
			t.Errorf("%d of %d are left out and %d differ from their neighbour, want 30000 and 42000", gone, n, other)
		}
	})
}

func TestTurn(t *testing.T) {
	for _, halves := range []bool{false, true} {
		angles := map[gpu.DType]*gpu.Tensor{}
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			angles[dt] = gpu.CPU().FromAs(dt, oracle.Normal(9, 3*4), 3, 4)
		}
		c := opCase{shapes: [][]int{{2, 3, 2, 8}}, f: func(tape *nn.Tape, x vars) *nn.Var { return x[0].Turn(angles[tape.DType()], halves) }, want: func(x [][]float64) []float64 {
			y := make([]float64, len(x[0]))
			for i, v := range x[0] {
				pair, second := i%8/2, i%2 == 1
				mate := i ^ 1
				if halves {
					pair, second = i%4, i%8 >= 4
					mate = i ^ 4
				}
				a := angles[gpu.Float64].F64()[i/16%3*4+pair]
				if second {
					y[i] = x[0][mate]*math.Sin(a) + v*math.Cos(a)
				} else {
					y[i] = v*math.Cos(a) - x[0][mate]*math.Sin(a)
				}
			}
			return y
		}}
		t.Run(fmt.Sprint("halves ", halves), c.check)
	}
}
