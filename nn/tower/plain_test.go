package tower_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// plainByLoops is the tower by its definition, in float64: x [c, h, w] through the layers of a network's parameters.
func plainByLoops(net *nn.Params, c tower.PlainConfig, x []float64, ch, h, w int) (tokens, pooled []float64) {
	of := func(name string) []float64 { return floats(net.Get(name).Value) }
	for l, out := range c.Widths {
		at := "layers." + string(rune('0'+l))
		kernel, bias, weight, shift := of(at+".conv.weight"), of(at+".conv.bias"), of(at+".norm.weight"), of(at+".norm.bias")
		step := c.Steps[l]
		oh, ow := (h-1)/step+1, (w-1)/step+1
		y := make([]float64, out*oh*ow)
		for o := range out {
			for r := range oh {
				for col := range ow {
					sum := bias[o]
					for i := range ch {
						for ky := range 3 {
							for kx := range 3 {
								if sy, sx := r*step+ky-1, col*step+kx-1; sy >= 0 && sy < h && sx >= 0 && sx < w {
									sum += kernel[((o*ch+i)*3+ky)*3+kx] * x[(i*h+sy)*w+sx]
								}
							}
						}
					}
					y[(o*oh+r)*ow+col] = sum
				}
			}
		}
		per := out / c.Groups * oh * ow
		for g := range c.Groups {
			part := y[g*per : (g+1)*per]
			var mean, square float64
			for _, v := range part {
				mean += v / float64(per)
			}
			for _, v := range part {
				square += (v - mean) * (v - mean) / float64(per)
			}
			for k, v := range part {
				o := g*out/c.Groups + k/(oh*ow)
				u := (v-mean)/math.Sqrt(square+1e-5)*weight[o] + shift[o]
				part[k] = u / (1 + math.Exp(-u))
			}
		}
		x, ch, h, w = y, out, oh, ow
	}
	both := make([]float64, 2*ch)
	for i := range ch {
		both[ch+i] = math.Inf(-1)
		for p := range h * w {
			both[i] += x[i*h*w+p] / float64(h*w)
			both[ch+i] = max(both[ch+i], x[i*h*w+p])
		}
	}
	for p := range h * w {
		for i := range ch {
			tokens = append(tokens, x[i*h*w+p])
		}
	}
	weight, bias := of("pool.weight"), of("pool.bias")
	for o := range c.Out {
		sum := bias[o]
		for i, v := range both {
			sum += weight[o*len(both)+i] * v
		}
		pooled = append(pooled, sum)
	}
	return tokens, pooled
}

func TestPlainTower(t *testing.T) {
	c := tower.PlainConfig{Widths: []int{4, 6, 6}, Steps: []int{2, 2, 1}, Groups: 2, Out: 5}
	const n, h, w = 2, 9, 7 // odd, so that the steps end at the border
	for dt, tol := range map[gpu.DType]float64{gpu.Float64: 1e-12, gpu.Float32: 1e-4} {
		net := nn.NewParams(gpu.CPU(), dt)
		m := tower.NewPlain(net.At(""), c)
		for _, p := range net.All() {
			p.Start = nn.Normal(0.4)
		}
		net.Init(5)
		x := gpu.CPU().FromAs(dt, oracle.Normal(6, n*3*h*w), n, 3, h, w)
		tape := nn.NewTape(gpu.CPU(), dt)
		tokens, pooled := m.Forward(tape.Input(x))
		got, vector := floats(tokens.Value()), floats(pooled.Value())
		for i := range n {
			wantTokens, wantVector := plainByLoops(net, c, floats(x)[i*3*h*w:(i+1)*3*h*w], 3, h, w)
			for k, v := range wantTokens {
				if math.Abs(got[i*len(wantTokens)+k]-v) > tol {
					t.Fatalf("%v: value %d of the tokens of picture %d is %v, want %v", dt, k, i, got[i*len(wantTokens)+k], v)
				}
			}
			for k, v := range wantVector {
				if math.Abs(vector[i*c.Out+k]-v) > tol {
					t.Fatalf("%v: value %d of the vector of picture %d is %v, want %v", dt, k, i, vector[i*c.Out+k], v)
				}
			}
		}
	}
}

func TestPlainTowerRefuses(t *testing.T) {
	at := nn.NewParams(gpu.CPU(), gpu.Float32).At("")
	oracle.Refuses(t, map[string]func(){
		"Widths is empty":      func() { tower.NewPlain(at, tower.PlainConfig{}) },
		"Widths[0] is 12":      func() { tower.NewPlain(at, tower.PlainConfig{Widths: []int{12}}) },
		"1 Steps for 2 Widths": func() { tower.NewPlain(at, tower.PlainConfig{Widths: []int{8, 8}, Steps: []int{2}}) },
		"Steps[1] is 0":        func() { tower.NewPlain(at, tower.PlainConfig{Widths: []int{8, 8}, Steps: []int{2, 0}}) },
		"Out is -1":            func() { tower.NewPlain(at, tower.PlainConfig{Widths: []int{8}, Out: -1}) },
		"want one image tower": func() { c := plainPair(); c.Conv = convPair().Conv; tower.NewCLIP(at, c) },
		"pictures of shape [1 4 8 8]": func() {
			net := nn.NewParams(gpu.CPU(), gpu.Float32)
			m := tower.NewPlain(net.At(""), *plainPair().Plain)
			net.Init(1)
			m.Forward(nn.NewTape(gpu.CPU(), gpu.Float32).Const(0, 1, 4, 8, 8))
		},
	})
}
