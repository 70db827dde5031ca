package nn_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// places is x's elements in the order in which f asks for them: by picture, channel, row and
// column of pictures [n, c, h, w].
func places(c, h, w int, f func(at func(n, c, y, x int))) func(x [][]float64) []float64 {
	return func(x [][]float64) (out []float64) {
		f(func(n, k, i, j int) { out = append(out, x[0][((n*c+k)*h+i)*w+j]) })
		return out
	}
}

func TestPatches(t *testing.T) {
	const n, c, h, w, p = 2, 3, 4, 6, 2
	first := places(c, h, w, func(at func(n, c, y, x int)) {
		for i := range n * (h / p) * (w / p) * c * p * p { // picture, patch, channel, row, column
			cell, e := i/(c*p*p), i%(c*p*p)
			at(cell/6, e/4, cell%6/3*p+e%4/2, cell%3*p+e%2)
		}
	})
	last := places(c, h, w, func(at func(n, c, y, x int)) {
		for i := range n * (h / p) * (w / p) * c * p * p {
			cell, e := i/(c*p*p), i%(c*p*p)
			at(cell/6, e%3, cell%6/3*p+e/6, cell%3*p+e/3%2)
		}
	})
	for name, cs := range map[string]opCase{
		"channels first": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Patchify(p, nn.ChannelsFirst) }, want: first},
		"channels last":  {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Patchify(p, nn.ChannelsLast) }, want: last},
		"there and back": {f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].Patchify(p, nn.ChannelsFirst).Unpatchify(p, h, w, nn.ChannelsFirst).Patchify(p, nn.ChannelsLast).Unpatchify(p, h, w, nn.ChannelsLast)
		}, want: each(func(v float64) float64 { return v })},
		"unshuffle": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].PixelUnshuffle(p) }, want: places(c, h, w, func(at func(n, c, y, x int)) {
			for i := range n * c * h * w { // picture, channel, row and column in a square, row, column
				at(i/72, i%72/24, i%6/3*2+i%24/12, i%3*2+i%12/6)
			}
		})},
		"shuffled back": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].PixelUnshuffle(p).PixelShuffle(p) }, want: each(func(v float64) float64 { return v })},
	} {
		cs.shapes = [][]int{{n, c, h, w}}
		t.Run(name, cs.check)
	}
}

// A patch embedding is a convolution with strides of its kernels' size.
func TestPatchEmbedIsAConvolution(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		net := nn.NewParams(gpu.CPU(), dt)
		l := nn.NewPatchEmbed(net.At("proj"), 3, 8, 2)
		l.B.Start = nn.Normal(1)
		conv := nn.NewConv2D(net.At("conv"), 3, 8, 2)
		conv.Config = ops.ConvConfig{Stride: 2}
		net.Init(3)
		conv.W.Value.Copy(l.W.Value)
		conv.B.Value.Copy(l.B.Value)
		c := opCase{shapes: [][]int{{2, 3, 4, 6}}}
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Run(func() {
			x := tape.Input(c.leaves(dt)[0])
			got, want := l.Forward(x), conv.Forward(x).Reshape(2, 8, 6).Permute(0, 2, 1)
			if !slices.Equal(got.Shape(), want.Shape()) {
				t.Fatalf("shape %v, want %v", got.Shape(), want.Shape())
			}
			for i, v := range floats(want.Value()) {
				if math.Abs(v-floats(got.Value())[i]) > 1e-5 {
					t.Fatalf("%v: element %d is %v, the convolution gives %v", dt, i, floats(got.Value())[i], v)
				}
			}
		})
	}
	checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
		l := nn.NewPatchEmbed(s, 3, 5, 2)
		return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
	}, 2, 3, 2, 4)
}

func TestGated(t *testing.T) {
	silu := func(v float64) float64 { return v / (1 + math.Exp(-v)) }
	gelu := func(v float64) float64 { return v * (1 + math.Erf(v/math.Sqrt2)) / 2 }
	for name, c := range map[string]opCase{
		"first": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Gated(ops.SiLU, false) }, want: func(x [][]float64) (y []float64) {
			for i := range 6 * 17 {
				r := x[0][i/17*34:]
				y = append(y, silu(r[i%17])*r[17+i%17])
			}
			return y
		}},
		"second": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Gated(ops.GELU, true) }, want: func(x [][]float64) (y []float64) {
			for i := range 6 * 17 {
				r := x[0][i/17*34:]
				y = append(y, r[i%17]*gelu(r[17+i%17]))
			}
			return y
		}},
		"used twice": {f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Gated(ops.SiLU, false).Mul(x[0].Gated(ops.Tanh, true)) }},
	} {
		c.shapes = [][]int{{2, 3, 34}}
		t.Run(name, c.check)
	}
	// Many rows, which are cut into pieces, against the formulas.
	const rows, d = 70, 250
	c := opCase{shapes: [][]int{{rows, 2 * d}}}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := tape.Leaf(c.leaves(gpu.Float64)[0])
	y := x.Gated(ops.SiLU, false)
	tape.Backward(y.Sum())
	v, got, dx := x.Value().F64(), y.Value().F64(), x.Grad().F64()
	for i := range rows * d {
		k := i/d*2*d + i%d
		a, b := v[k], v[k+d]
		s := 1 / (1 + math.Exp(-a))
		if math.Abs(got[i]-a*s*b) > 1e-14 || math.Abs(dx[k]-b*s*(1+a*(1-s))) > 1e-13 || math.Abs(dx[k+d]-a*s) > 1e-14 {
			t.Fatalf("element %d of many rows is %v with gradients %v and %v", i, got[i], dx[k], dx[k+d])
		}
	}
	for name, build := range map[string]func(s nn.Scope) *nn.GatedMLP{
		"w12.weight": func(s nn.Scope) *nn.GatedMLP { return nn.NewSwiGLU(s, 6, 5) }, "net.0.proj.weight": func(s nn.Scope) *nn.GatedMLP { return nn.NewGEGLU(s, 6, 5) },
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		build(net.At("mlp"))
		if p := net.Get("mlp." + name); p == nil || !slices.Equal(p.Shape(), []int{10, 6}) {
			t.Errorf("no parameter %s of shape [10 6]", name)
		}
		t.Run(name, func(t *testing.T) {
			checkParams(t, func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
				m := build(s)
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return m.Forward(x) }
			}, 3, 6)
		})
	}
}

func TestMisuseOfPatches(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	embed := nn.NewPatchEmbed(net.At("proj"), 2, 4, 2)
	net.Init(1)
	x := tape.Const(1, 1, 3, 4, 6)
	for want, f := range map[string]func(){
		"Patchify: squares of 4 do not fill pictures of 4×6":              func() { x.Patchify(4, nn.ChannelsFirst) },
		"Patchify: shape [3] and factor 2":                                func() { tape.Const(1, 3).Patchify(2, nn.ChannelsFirst) },
		"Unpatchify: tokens of shape [1 3 24] as squares":                 func() { x.Reshape(1, 3, -1).Unpatchify(2, 4, 6, nn.ChannelsLast) },
		"PixelShuffle: 3 channels, want a multiple of 2·2":                func() { x.PixelShuffle(2) },
		"PixelUnshuffle: squares of 4 do not fill pictures":               func() { x.PixelUnshuffle(4) },
		"PatchEmbed: pictures of shape [1 3 4 6] for kernels of shape [4": func() { embed.Forward(x) },
		"Gated: shape [3], want [..., an even number]":                    func() { tape.Const(1, 3).Gated(ops.SiLU, false) },
		"ops: Gated: a result of shape [2 2] of x of shape [2 2]":         func() { ops.Gated(gpu.CPU().Empty(2, 2), gpu.CPU().Empty(2, 2), ops.SiLU, false) },
	} {
		oracle.RefusesOne(t, want, f)
	}
}
