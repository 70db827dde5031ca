package tower_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// encoders are bodies with one cell and with four, of a square and of an oblong picture.
func encoders() map[string]tower.EncoderConfig {
	return map[string]tower.EncoderConfig{
		"whole": {Channels: 3, Height: 8, Width: 8, Widths: []int{4, 8}, Steps: []int{2, 1}, Groups: 2, Dim: 5, Outputs: 7},
		"cells": {Channels: 1, Height: 4, Width: 8, Widths: []int{8, 8}, Steps: []int{1, 2}, Cells: 2, Dim: 6, Outputs: 3},
	}
}

func madeEncoder(t testing.TB, c tower.EncoderConfig, dt gpu.DType) (*nn.Params, *tower.Encoder) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	m := tower.NewEncoder(net.At("enc"), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0.4)
	}
	net.Init(5)
	return net, m
}

func encoderInput(c tower.EncoderConfig, dt gpu.DType, n int) *gpu.Tensor {
	return gpu.CPU().FromAs(dt, oracle.Normal(12, n*c.Channels*c.Height*c.Width), n, c.Channels, c.Height, c.Width)
}

// Features and answers are those of the formulas, computed here by loops over single elements.
func TestEncoderFormula(t *testing.T) {
	for name, c := range encoders() {
		for dt, tol := range tolerances {
			net, m := madeEncoder(t, c, dt)
			tape := nn.NewTape(gpu.CPU(), dt)
			x := encoderInput(c, dt, 3)
			features := m.Forward(tape.Input(x))
			f, z := floats(features.Value()), floats(m.Heads(features).Value())
			for b := range 3 {
				size := c.Channels * c.Height * c.Width
				wantF, wantZ := slowEncoder(net, c, floats(x)[b*size:][:size])
				for i, v := range wantF {
					if got := f[b*c.Dim+i]; !(math.Abs(got-v) <= tol*(1+math.Abs(v))) {
						t.Fatalf("%s, %v: feature %d of picture %d is %v; the formula gives %v", name, dt, i, b, got, v)
					}
				}
				for i, v := range wantZ {
					if got := z[b*c.Outputs+i]; !(math.Abs(got-v) <= tol*(1+math.Abs(v))) {
						t.Fatalf("%s, %v: output %d of picture %d is %v; the formula gives %v", name, dt, i, b, got, v)
					}
				}
			}
		}
	}
}

// slowEncoder is an encoder of one picture [C, H, W] in float64.
func slowEncoder(net *nn.Params, c tower.EncoderConfig, x []float64) (features, outputs []float64) {
	at := func(name string) []float64 { return floats(net.Get("enc." + name).Value) }
	groups, h, w, ch := c.Groups, c.Height, c.Width, c.Channels
	if groups == 0 {
		groups = 8
	}
	for l, out := range c.Widths {
		s := c.Steps[l]
		kernel, bias := at(fmt.Sprintf("conv%d.weight", l+1)), at(fmt.Sprintf("conv%d.bias", l+1))
		oh, ow := h/s, w/s
		y := make([]float64, out*oh*ow)
		for o := range out {
			for p := range oh * ow {
				v := bias[o]
				for i := range ch {
					for k := range 9 {
						if r, q := p/ow*s+k/3-1, p%ow*s+k%3-1; r >= 0 && r < h && q >= 0 && q < w {
							v += kernel[(o*ch+i)*9+k] * x[(i*h+r)*w+q]
						}
					}
				}
				y[o*oh*ow+p] = v
			}
		}
		scale, shift := at(fmt.Sprintf("norm%d.weight", l+1)), at(fmt.Sprintf("norm%d.bias", l+1))
		n := out / groups * oh * ow
		for g := range groups {
			part := y[g*n : (g+1)*n]
			var mean, variance float64
			for _, v := range part {
				mean += v / float64(n)
			}
			for _, v := range part {
				variance += (v - mean) * (v - mean) / float64(n)
			}
			for i, v := range part {
				o := (g*n + i) / (oh * ow)
				u := (v-mean)/math.Sqrt(variance+1e-5)*scale[o] + shift[o]
				part[i] = u / (1 + math.Exp(-u))
			}
		}
		x, h, w, ch = y, oh, ow, out
	}
	cells := max(1, c.Cells)
	means, tops := make([]float64, cells*cells*ch), make([]float64, cells*cells*ch)
	for i := range tops {
		tops[i] = math.Inf(-1)
	}
	for o := range ch {
		for p := range h * w {
			k := (p/w/(h/cells)*cells+p%w/(w/cells))*ch + o
			v := x[o*h*w+p]
			means[k] += v / float64(h*w/(cells*cells))
			tops[k] = max(tops[k], v)
		}
	}
	linear := func(name string, x []float64) (y []float64) {
		weight := at(name + ".weight")
		for o, v := range at(name + ".bias") {
			for i, e := range x {
				v += weight[o*len(x)+i] * e
			}
			y = append(y, v)
		}
		return y
	}
	features = linear("features", slices.Concat(means, tops))
	return features, linear("heads", features)
}

// Gradients are those of differences; a step allocates nothing; the features pass a tap, and are
// the same alone as among others.
func TestEncoderSteps(t *testing.T) {
	for name, c := range encoders() {
		t.Run(name, func(t *testing.T) {
			net, m := madeEncoder(t, c, gpu.Float64)
			x := encoderInput(c, gpu.Float64, 3)
			network.Directions(t, net, 4, 1e-6, func(tape *nn.Tape) *nn.Var {
				return m.Heads(m.Forward(tape.Input(x))).Square().Mean()
			})
			net32, m32 := madeEncoder(t, c, gpu.Float32)
			x32 := encoderInput(c, gpu.Float32, 3)
			network.StepsAllocateNothing(t, net32, gpu.Float32, func(tape *nn.Tape) *nn.Var {
				return m32.Heads(m32.Forward(tape.Input(x32))).Square().Mean()
			})
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			seen := 0
			tape.OnTap(m.Taps()[0], func(x *nn.Var) *nn.Var { seen++; return x })
			all := floats(m.Forward(tape.Input(x)).Value())
			one := floats(m.Forward(tape.Input(x.Rows(1, 2))).Value())
			for i, v := range one {
				if math.Abs(v-all[c.Dim+i]) > 1e-12 {
					t.Errorf("feature %d is %v alone, %v among others", i, v, all[c.Dim+i])
				}
			}
			if seen != 2 {
				t.Errorf("the features passed their tap %d times, want 2", seen)
			}
		})
	}
}

func TestEncoderConfigs(t *testing.T) {
	good := encoders()["whole"]
	for want, change := range map[string]func(c *tower.EncoderConfig){
		"Channels is 0":  func(c *tower.EncoderConfig) { c.Channels = 0 },
		"Dim is 0":       func(c *tower.EncoderConfig) { c.Dim = 0 },
		"Outputs is -1":  func(c *tower.EncoderConfig) { c.Outputs = -1 },
		"Widths[1] is 9": func(c *tower.EncoderConfig) { c.Widths = []int{4, 9} },
		"Steps[0] is 3":  func(c *tower.EncoderConfig) { c.Steps = []int{3, 1} },
		"one of each":    func(c *tower.EncoderConfig) { c.Steps = []int{2} },
		"last map, 4×4":  func(c *tower.EncoderConfig) { c.Cells = 3 },
		"Groups is -1":   func(c *tower.EncoderConfig) { c.Groups = -1 },
		"Widths[0] is 4, want a multiple of the 8": func(c *tower.EncoderConfig) { c.Groups = 0 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want one with %q", c, err, want)
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}
