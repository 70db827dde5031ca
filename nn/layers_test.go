package nn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// normed is the definition of the normalisations, with Eps 1e-3.
func normed(rms bool, x []float64, n int, w, b func(i int) float64, scale, shift func(row, i int) float64) []float64 {
	y := make([]float64, len(x))
	for r := range len(x) / n {
		row := x[r*n:][:n]
		var m, s float64
		if !rms {
			for _, v := range row {
				m += v / float64(n)
			}
		}
		for _, v := range row {
			s += (v - m) * (v - m) / float64(n)
		}
		for i, v := range row {
			y[r*n+i] = ((v-m)/math.Sqrt(s+1e-3)*w(i)+b(i))*(1+scale(r, i)) + shift(r, i)
		}
	}
	return y
}

func one(int) float64           { return 1 }
func zero(int) float64          { return 0 }
func noChange(int, int) float64 { return 0 }

func TestNormLayers(t *testing.T) {
	const d = 18
	for _, rms := range []bool{false, true} {
		plain := &nn.Norm{RMS: rms, Eps: 1e-3}
		c := opCase{
			shapes: [][]int{{2, 3, d}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return plain.Forward(x[0]) },
			want:   func(x [][]float64) []float64 { return normed(rms, x[0], d, one, zero, noChange, noChange) },
		}
		t.Run(fmt.Sprint("plain", rms), c.check)
		part := func(x []float64) func(r, i int) float64 { return func(r, i int) float64 { return x[r/3*d+i] } }
		c = opCase{
			shapes: [][]int{{2, 3, d}, {2, d}, {2, d}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return plain.Modulate(x[0], x[1], x[2]) },
			want: func(x [][]float64) []float64 {
				return normed(rms, x[0], d, one, zero, part(x[1]), part(x[2]))
			},
		}
		t.Run(fmt.Sprint("modulated", rms), c.check)
		c = opCase{
			shapes: [][]int{{2, 3, d}, {2, d}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return plain.Modulate(x[0], x[1], nil) },
			want:   func(x [][]float64) []float64 { return normed(rms, x[0], d, one, zero, part(x[1]), noChange) },
		}
		t.Run(fmt.Sprint("scaled", rms), c.check)
	}
}

func TestGroupNormLayer(t *testing.T) {
	// [2, 6, 3, 3] in 3 groups; groups are rows of 18 of the memory.
	plain := &nn.GroupNorm{Groups: 3, Eps: 1e-3}
	c := opCase{
		shapes: [][]int{{2, 6, 3, 3}},
		f:      func(_ *nn.Tape, x vars) *nn.Var { return plain.Forward(x[0]) },
		want:   func(x [][]float64) []float64 { return normed(false, x[0], 18, one, zero, noChange, noChange) },
	}
	t.Run("plain", c.check)
	at := func(x []float64) func(r, i int) float64 {
		return func(r, i int) float64 { return x[r/3*6+r%3*2+i/9] }
	}
	c = opCase{
		shapes: [][]int{{2, 6, 3, 3}, {2, 6}, {2, 6}},
		f:      func(_ *nn.Tape, x vars) *nn.Var { return plain.Modulate(x[0], x[1], x[2]) },
		want: func(x [][]float64) []float64 {
			return normed(false, x[0], 18, one, zero, at(x[1]), at(x[2]))
		},
	}
	t.Run("modulated", c.check)
}

// checkParams compares the gradients by a layer's input and parameters with differences.
func checkParams(t *testing.T, build func(s nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var, shape ...int) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	forward := build(net.At("layer"))
	for _, p := range net.All() { // ones and zeros would hide mistakes
		p.Start = nn.Normal(0.5)
	}
	net.Init(1)
	net32 := nn.NewParams(gpu.CPU(), gpu.Float32)
	forward32 := build(net32.At("layer"))
	for _, p := range net32.All() {
		p.Start = nn.Normal(0.5)
	}
	net32.Init(1)
	c := opCase{shapes: [][]int{shape}, f: func(tape *nn.Tape, x vars) *nn.Var {
		if tape.DType() == gpu.Float32 {
			return forward32(tape, x[0])
		}
		return forward(tape, x[0])
	}}
	t.Run("input", c.check)
	net.ZeroGrad()
	net32.ZeroGrad()
	x := c.leaves(gpu.Float64)[0]
	loss := func(dt gpu.DType, back bool) (v float64) {
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Arena().Poison(true)
		in := x
		if dt == gpu.Float32 {
			in = c.leaves(gpu.Float32)[0]
		}
		tape.Run(func() {
			l := c.f(tape, vars{tape.Input(in)}).Tanh().Sum()
			if back {
				tape.Backward(l)
			}
			v = l.Item()
		})
		return v
	}
	loss(gpu.Float64, true)
	loss(gpu.Float32, true)
	for k, p := range net.All() {
		v := p.Value.F64()
		for i := range v {
			old := v[i]
			v[i] = old + 1e-5
			up := loss(gpu.Float64, false)
			v[i] = old - 1e-5
			want := (up - loss(gpu.Float64, false)) / 2e-5
			v[i] = old
			if got := p.Grad().F64()[i]; math.Abs(got-want) > 1e-7*(1+math.Abs(want)) {
				t.Fatalf("%s: gradient %d is %v, differences give %v", p.Name, i, got, want)
			}
			if got := float64(net32.All()[k].Grad().F32()[i]); math.Abs(got-want) > 2e-5*(1+math.Abs(want)) {
				t.Fatalf("%s in float32: gradient %d is %v, differences give %v", p.Name, i, got, want)
			}
		}
	}
}

func TestLayersWithParameters(t *testing.T) {
	for name, build := range map[string]func(s nn.Scope) func(tape *nn.Tape, x *nn.Var) *nn.Var{
		"linear": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewLinear(s, 6, 5)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"linear without bias": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewLinearNoBias(s, 6, 5)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"linear with a function": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewLinear(s, 6, 17).Then(ops.SiLU)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"used twice": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewLinear(s, 6, 6).Then(ops.Tanh)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(l.Forward(x)) }
		},
		"mlp": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewMLP(s, ops.GELU, 6, 8, 3)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"layer norm": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewLayerNorm(s, 6)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"rms norm": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l := nn.NewRMSNorm(s, 6)
			return func(_ *nn.Tape, x *nn.Var) *nn.Var { return l.Forward(x) }
		},
		"modulated layer norm": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l, m := nn.NewLayerNorm(s, 6), s.Param("scale", nn.Zeros, 2, 6)
			return func(tape *nn.Tape, x *nn.Var) *nn.Var { return l.Modulate(x, tape.Use(m), nil) }
		},
		"group norm": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			l, m := nn.NewGroupNorm(s, 2, 6), s.Param("scale", nn.Zeros, 2, 6)
			return func(tape *nn.Tape, x *nn.Var) *nn.Var {
				return l.Modulate(x.Permute(0, 2, 1), tape.Use(m), tape.Use(m))
			}
		},
		"embedding": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			e := nn.NewEmbedding(s, 5, 6)
			ids := gpu.CPU().FromInt32([]int32{4, 0, 4, 1, 2, 4, 1, 1}, 2, 4)
			return func(tape *nn.Tape, x *nn.Var) *nn.Var { return x.Mul(e.Forward(tape, ids)) }
		},
		"bare parameter": func(s nn.Scope) func(*nn.Tape, *nn.Var) *nn.Var {
			p := s.Param("p", nn.Zeros, 4, 6)
			return func(tape *nn.Tape, x *nn.Var) *nn.Var { return x.Add(tape.Use(p)).Mul(tape.Use(p)) }
		},
	} {
		t.Run(name, func(t *testing.T) { checkParams(t, build, 2, 4, 6) })
	}
}

func TestLosses(t *testing.T) {
	labels := gpu.CPU().FromInt32([]int32{2, 0, -1, 4}, 4)
	logp := func(row []float64, l int) float64 {
		var s float64
		for _, v := range row {
			s += math.Exp(v)
		}
		return row[l] - math.Log(s)
	}
	for name, c := range map[string]opCase{
		"mse": {shapes: [][]int{{3, 4}, {3, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.MSE(x[0], x[1], nil) }, want: func(x [][]float64) []float64 {
			var s float64
			for i := range x[0] {
				s += math.Pow(x[0][i]-x[1][i], 2) / 12
			}
			return []float64{s}
		}},
		"weighted mse": {shapes: [][]int{{3, 4}, {3, 4}, {3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.MSE(x[0], x[1], x[2]) }, want: func(x [][]float64) []float64 {
			var s float64
			for i := range x[0] {
				s += x[2][i/4] * math.Pow(x[0][i]-x[1][i], 2) / 12
			}
			return []float64{s}
		}},
		"long samples": {shapes: [][]int{{2, 1300}, {2, 1300}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.SquaredError(x[0], x[1]) }},
		"huber": {shapes: [][]int{{3, 4}, {3, 4}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.PseudoHuber(x[0], x[1], 0.3) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 3)
			for i := range x[0] {
				y[i/4] += math.Pow(x[0][i]-x[1][i], 2)
			}
			for i := range y {
				y[i] = math.Sqrt(y[i]+0.09) - 0.3
			}
			return y
		}},
		"cross entropy": {shapes: [][]int{{4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CrossEntropy(x[0], labels, 0) }, want: func(x [][]float64) []float64 {
			return []float64{-logp(x[0][:5], 2), -logp(x[0][5:10], 0), 0, -logp(x[0][15:], 4)}
		}},
		"smoothed": {shapes: [][]int{{4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CrossEntropy(x[0], labels, 0.1) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 4)
			for r, l := range labels.I32() {
				if l < 0 {
					continue
				}
				for k := range 5 {
					q := 0.02
					if k == int(l) {
						q += 0.9
					}
					y[r] -= q * logp(x[0][5*r:][:5], k)
				}
			}
			return y
		}},
		"bce": {shapes: [][]int{{7}, {7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.BCEWithLogits(x[0], x[1]) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 7)
			for i, v := range x[0] {
				s := 1 / (1 + math.Exp(-v))
				y[i] = -x[1][i]*math.Log(s) - (1-x[1][i])*math.Log(1-s)
			}
			return y
		}},
		"kl": {shapes: [][]int{{7}, {7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.KLNormal(x[0], x[1]) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 7)
			for i, m := range x[0] {
				v := math.Exp(x[1][i])
				y[i] = (m*m + v - 1 - math.Log(v)) / 2
			}
			return y
		}},
		"cosine": {shapes: [][]int{{2, 5}, {2, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CosineSimilarity(x[0], x[1], 0) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 2)
			for r := range y {
				var ab, aa, bb float64
				for i := range 5 {
					a, b := x[0][5*r+i], x[1][5*r+i]
					ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
				}
				y[r] = ab / math.Sqrt(aa*bb)
			}
			return y
		}},
	} {
		t.Run(name, c.check)
	}
}
