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

var smallMotion = tower.MotionConfig{Channels: 5, Hidden: 6, Dim: 4, Outputs: 3, Vocab: 9, Word: 4, Embed: 7}

func madeMotion(t testing.TB, dt gpu.DType) (*nn.Params, *tower.Motion) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	m := tower.NewMotion(net.At(""), smallMotion)
	for _, p := range net.All() {
		if p != m.LogScale {
			p.Start = nn.Normal(0.4)
		}
	}
	net.Init(5)
	m.Mean.Set(oracle.Normal(20, 5))
	m.Inverse.Set([]float32{1, 0.5, 2, 1.5, 0.25})
	return net, m
}

func captions() *gpu.Tensor {
	return gpu.CPU().FromInt32([]int32{1, 5, 2, 0, 0, 1, 7, 7, 3, 2, 1, 2, 0, 0, 0}, 3, 5)
}

// Features are those of the formulas, computed by loops over single elements, of clips as long as
// the tensor and of padded ones, whose padding does not count.
func TestMotionFormula(t *testing.T) {
	for dt, tol := range tolerances {
		net, m := madeMotion(t, dt)
		const rows = 12
		x := gpu.CPU().FromAs(dt, oracle.Normal(21, 3*rows*5), 3, rows, 5)
		lens := gpu.CPU().FromInt32([]int32{4, 12, 8}, 3)
		tape := nn.NewTape(gpu.CPU(), dt)
		padded := m.Forward(tape.Input(x), lens)
		got, heads := floats(padded.Value()), floats(m.Heads(padded).Value())
		if !slices.Equal(lens.I32(), []int32{4, 12, 8}) {
			t.Fatalf("the lengths are now %v", lens.I32())
		}
		for b, n := range []int{4, 12, 8} {
			clip := floats(x)[b*rows*5:][:n*5]
			want, answers := slowMotion(net, m, clip)
			alone := floats(m.Forward(tape.Input(gpu.CPU().FromAs(dt, single(clip), 1, n, 5)), nil).Value())
			for i, v := range want {
				if g := got[b*4+i]; !(math.Abs(g-v) <= tol*(1+math.Abs(v))) {
					t.Fatalf("%v: feature %d of clip %d is %v; the formula gives %v", dt, i, b, g, v)
				}
				if !(math.Abs(alone[i]-v) <= max(tol, 1e-6)*(1+math.Abs(v))) { // the clip went through float32
					t.Fatalf("%v: feature %d of clip %d alone is %v; the formula gives %v", dt, i, b, alone[i], v)
				}
			}
			for i, v := range answers {
				if g := heads[b*3+i]; !(math.Abs(g-v) <= tol*(1+math.Abs(v))) {
					t.Fatalf("%v: output %d of clip %d is %v; the formula gives %v", dt, i, b, g, v)
				}
			}
		}
	}
}

func single(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// slowMotion is the encoder of one clip [n, channels] in float64.
func slowMotion(net *nn.Params, m *tower.Motion, clip []float64) (features, outputs []float64) {
	at := func(name string) []float64 { return floats(net.Get(name).Value) }
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
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
	mean, inverse := floats(m.Mean), floats(m.Inverse)
	var x [][]float64 // by row
	for r := range len(clip) / 5 {
		row := make([]float64, 5)
		for c := range row {
			row[c] = (clip[r*5+c] - mean[c]) * inverse[c]
		}
		x = append(x, row)
	}
	for l := range 2 {
		kernel, bias := at(fmt.Sprintf("conv%d.weight", l+1)), at(fmt.Sprintf("conv%d.bias", l+1))
		var y [][]float64
		for p := range len(x) / 2 {
			row := slices.Clone(bias)
			for o := range row {
				for c := range x[0] {
					for k := range 4 {
						if r := 2*p - 1 + k; r >= 0 && r < len(x) {
							row[o] += kernel[(o*len(x[0])+c)*4+k] * x[r][c]
						}
					}
				}
				row[o] *= sigmoid(row[o])
			}
			y = append(y, row)
		}
		x = y
	}
	h, sum := make([]float64, 6), make([]float64, 6)
	wi, wh, bi, bh := at("rows.weight_ih_l0"), at("rows.weight_hh_l0"), at("rows.bias_ih_l0"), at("rows.bias_hh_l0")
	for _, row := range x {
		gate := func(k int) (a, b float64) {
			a, b = bi[k], bh[k]
			for i := range row {
				a += wi[k*6+i] * row[i]
				b += wh[k*6+i] * h[i]
			}
			return a, b
		}
		next := make([]float64, 6)
		for k := range next {
			a, b := gate(k)
			r := sigmoid(a + b)
			a, b = gate(6 + k)
			z := sigmoid(a + b)
			a, b = gate(12 + k)
			next[k] = (1-z)*math.Tanh(a+r*b) + z*h[k]
		}
		h = next
		for k, v := range h {
			sum[k] += v / float64(len(x))
		}
	}
	features = linear("features", slices.Concat(h, sum))
	return features, linear("heads", features)
}

// Gradients of heads and of the contrastive loss are those of differences, a step allocates nothing,
// and vectors have unit length and do not depend on what follows the end.
func TestMotionSteps(t *testing.T) {
	build := func(m *tower.Motion, x, lens, ids *gpu.Tensor) func(tape *nn.Tape) *nn.Var {
		return func(tape *nn.Tape) *nn.Var {
			f := m.Forward(tape.Input(x), lens)
			return m.Loss(m.MotionEmbedding(f), m.TextEmbedding(tape, ids)).Add(m.Heads(f).Square().Mean())
		}
	}
	lens := gpu.CPU().FromInt32([]int32{4, 8, 8}, 3)
	net, m := madeMotion(t, gpu.Float64)
	network.Directions(t, net, 4, 1e-6, build(m, gpu.CPU().FromAs(gpu.Float64, oracle.Normal(22, 3*8*5), 3, 8, 5), lens, captions()))
	net32, m32 := madeMotion(t, gpu.Float32)
	network.StepsAllocateNothing(t, net32, gpu.Float32, build(m32, gpu.CPU().From(oracle.Normal(22, 3*8*5), 3, 8, 5), lens, captions()))

	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	all := m.TextEmbedding(tape, captions())
	for i, v := range floats(all.Square().Sum(1).Value()) {
		if math.Abs(v-1) > 1e-9 {
			t.Errorf("the squared length of caption %d is %v", i, v)
		}
	}
	short := m.TextEmbedding(tape, gpu.CPU().FromInt32([]int32{1, 5, 2}, 1, 3))
	for i, v := range floats(short.Value()) {
		if w := floats(all.Value())[i]; math.Abs(v-w) > 1e-12 {
			t.Errorf("component %d of the caption is %v without its padding, %v with it", i, v, w)
		}
	}
}

func TestMotionRefuses(t *testing.T) {
	_, m := madeMotion(t, gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	clips := func(shape ...int) *nn.Var { return tape.Input(gpu.CPU().Zeros(gpu.Float32, shape...)) }
	oracle.Refuses(t, map[string]func(){
		"shape [1 6 5], want [B, a multiple of 4, 5]": func() { m.Forward(clips(1, 6, 5), nil) },
		"shape [1 8 4], want [B, a multiple of 4, 5]": func() { m.Forward(clips(1, 8, 4), nil) },
		"2 lengths":                 func() { m.Forward(clips(1, 8, 5), gpu.CPU().FromInt32([]int32{4, 4}, 2)) },
		"motion 0 has 12 rows of 8": func() { m.Forward(clips(1, 8, 5), gpu.CPU().FromInt32([]int32{12}, 1)) },
		"caption 0 is all padding":  func() { m.TextEmbedding(tape, gpu.CPU().FromInt32([]int32{0, 0}, 1, 2)) },
		"captions of shape [2]":     func() { m.TextEmbedding(tape, gpu.CPU().FromInt32([]int32{1, 2}, 2)) },
	})
	c := smallMotion
	c.Embed = 0
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "Embed is 0") {
		t.Errorf("error %v", err)
	}
}
