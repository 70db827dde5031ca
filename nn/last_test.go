package nn_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// lastLayers are layers of pictures in both layouts, [2, 6, 6, 5] or [2, 6, 5, 6].
func lastLayers() map[string]func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
	layers := map[string]func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var{
		"up": func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
			return func(x *nn.Var) *nn.Var {
				if last {
					return x.UpsampleLast(3)
				}
				return x.Upsample(3)
			}
		},
		"pool": func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
			return func(x *nn.Var) *nn.Var {
				if last {
					return x.UpsampleLast(3).AvgPoolLast(3)
				}
				return x.Upsample(3).AvgPool(3)
			}
		},
	}
	for _, cfg := range []ops.ConvConfig{
		{Pad: [4]int{1, 1, 1, 1}}, {Stride: 2, Pad: [4]int{0, 1, 0, 1}}, {Pad: [4]int{4, 0, 1, 3}}, {Stride: 2, Pad: [4]int{3, 0, 2, 4}, Dilation: 2},
	} {
		for _, bias := range []bool{true, false} {
			layers[fmt.Sprint("convolution ", cfg, bias)] = func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
				l := nn.NewConv2D(s, 6, 5, 3)
				l.Config = cfg
				l.Config.Last = last
				if !bias {
					l.B = nil
				}
				return l.Forward
			}
		}
	}
	layers["points"] = func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
		l := nn.NewConv2D(s, 6, 9, 1)
		l.Config.Last = last
		return l.Forward
	}
	layers["points in steps"] = func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
		l := nn.NewConv2D(s, 6, 9, 1)
		l.Config = ops.ConvConfig{Stride: 2, Last: last}
		return l.Forward
	}
	for _, f := range []ops.Func{ops.Identity, ops.SiLU, ops.Tanh} {
		for _, how := range []string{"plain", "affine", "modulated"} {
			layers[fmt.Sprint("norm ", how, f)] = func(s nn.Scope, last bool) func(x *nn.Var) *nn.Var {
				l := nn.NewGroupNorm(s, 3, 6).Then(f)
				l.Last, l.Eps = last, 1e-3
				if how == "plain" {
					l.W, l.B = nil, nil
				}
				if how != "modulated" {
					return l.Forward
				}
				scale, shift := s.Param("scale", nn.Zeros, 2, 6), s.Param("shift", nn.Zeros, 2, 6)
				return func(x *nn.Var) *nn.Var { return l.Modulate(x, x.Tape().Use(scale), x.Tape().Use(shift)) }
			}
		}
	}
	return layers
}

// Channels last give the same as channels first of the same pictures, whose layers have
// oracles of their own, and so do gradients.
func TestChannelsLast(t *testing.T) {
	for name, make := range lastLayers() {
		t.Run(name, func(t *testing.T) {
			// [result, gradient by the pictures, gradients by the parameters]
			run := func(dt gpu.DType, last bool) (out [3]*gpu.Tensor) {
				net := nn.NewParams(gpu.CPU(), dt)
				f := make(net.At("layer"), last)
				for _, p := range net.All() {
					p.Start = nn.Normal(0.5)
				}
				out[2] = gpu.CPU().Zeros(dt, 1)
				if len(net.All()) > 0 {
					net.Init(1)
					out[2] = net.Grad()
				}
				tape := nn.NewTape(gpu.CPU(), dt)
				tape.Arena().Poison(true)
				tape.Run(func() {
					x := tape.Leaf(gpu.CPU().FromAs(dt, oracle.Normal(1, 360), 2, 6, 5, 6)) // channels last
					var y *nn.Var
					if last {
						y = f(x)
					} else {
						y = f(x.Permute(0, 3, 1, 2)).Permute(0, 2, 3, 1)
					}
					w := gpu.CPU().FromAs(dt, oracle.Normal(2, y.Value().Len()), y.Shape()...)
					tape.BackwardFrom(y, w)
					tape.BackwardFrom(y, w) // adds to the first
					for i, v := range []*gpu.Tensor{y.Value(), x.Grad()} {
						out[i] = v.Like()
						out[i].Copy(v)
					}
				})
				return out
			}
			want := run(gpu.Float64, false)
			got, got32 := run(gpu.Float64, true), run(gpu.Float32, true)
			for i := range want {
				scale := 0.1
				for _, v := range want[i].F64() {
					scale = max(scale, v, -v)
				}
				oracle.Close64(t, got[i].F64(), oracle.Tol{Abs: 1e-12 * scale}, func(j int) float64 { return want[i].F64()[j] })
				oracle.Close(t, got32[i].F32(), oracle.Tol{Eps: 64, Scale: func(int) float64 { return scale }}, func(j int) float64 { return want[i].F64()[j] })
			}
			if name == "up" || name == "pool" || strings.HasPrefix(name, "norm plain") { // no parameters
				c := opCase{shapes: [][]int{{2, 6, 5, 6}}, f: func(tape *nn.Tape, x vars) *nn.Var {
					return make(nn.NewParams(gpu.CPU(), tape.DType()).At(""), true)(x[0])
				}}
				c.check(t)
				return
			}
			checkParams(t, func(s nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var {
				f := make(s, true)
				return func(_ *nn.Tape, x *nn.Var) *nn.Var { return f(x) }
			}, 2, 6, 5, 6)
		})
	}
}

func TestChannelsLastRefuses(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Const(0, 2, 6, 5, 7)
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	conv, norm := nn.NewConv2D(net.At("conv"), 6, 5, 3), nn.NewGroupNorm(net.At("norm"), 3, 6)
	conv.Config.Last, norm.Last = true, true
	net.Init(1)
	oracle.Refuses(t, map[string]func(){
		"want [N, H, W, C]":                 func() { conv.Forward(x) },
		"GroupNormLast: 3 groups of 7 chan": func() { norm.Forward(x) },
		"factor 0":                          func() { x.UpsampleLast(0) },
		"squares of 4 do not fill pictures": func() { x.AvgPoolLast(4) },
	})
}
