package dit

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// goldens are the small networks that scripts/golden/dit.py made in PyTorch and diffusers.
var goldens = map[string]Config{
	"dit":       {Height: 8, Width: 12, Channels: 2, Patch: 2, Dim: 32, Depth: 2, Heads: 2, Classes: 5, Sigma: LearnSigma},
	"diffusers": {Height: 8, Width: 8, Channels: 2, Patch: 2, Dim: 24, Depth: 2, Heads: 2, Classes: 5, Sigma: LearnSigma, TimeShift: 1},
	"lightning": {Height: 6, Width: 4, Channels: 3, Patch: 1, Dim: 32, Depth: 2, Heads: 2, Classes: 5, Norm: RMS, MLP: SwiGLU, Rotary: true, QKNorm: nn.QKRMS},
	"noshift": {
		Height: 4, Width: 4, Channels: 2, Patch: 1, Dim: 24, Depth: 2, Heads: 3, Classes: 5, Norm: RMS, MLP: SwiGLU, Rotary: true, Modulation: AdaLNNoShift,
	},
	"few": {
		Height: 8, Width: 12, Channels: 2, Patch: 2, Dim: 24, Depth: 5, Heads: 3, Classes: 5, Sigma: LearnSigma,
		Blocks: []BlockKind{Pool, Merge, Dense, Recover, Dense}, Grid: 3,
	},
	"told": {Height: 4, Width: 6, Channels: 2, Patch: 1, Dim: 24, Depth: 2, Heads: 3, Classes: 5, Tokens: map[string]int{"text": 7}},
	"joined": {
		Height: 4, Width: 6, Channels: 2, Patch: 1, Dim: 24, Depth: 3, Heads: 3, Norm: Layer, MLP: GELU, Modulation: NoModulation, Places: Learned, TimeToken: true,
		PlainTime: true, NoQKVBias: true, LongSkips: true, FinalConv: true, Tokens: map[string]int{"text": 7}, TokenUse: JoinTokens, JoinLength: 4,
	},
	"uvit": {
		Height: 8, Width: 12, Channels: 3, Patch: 2, Dim: 24, Depth: 5, Heads: 3, Classes: 5, Norm: Layer, MLP: GELU, Modulation: NoModulation,
		Places: Learned, TimeToken: true, ClassToken: true, PlainTime: true, NoQKVBias: true, LongSkips: true, FinalConv: true,
	},
}

func read(t *testing.T, f *tensor.Safetensors, name string) *tensor.Array {
	t.Helper()
	a, err := f.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// weighted is the gradient, or of a long one its two sums with weights cos(index).
func weighted(g *gpu.Tensor) []float64 {
	v := floats(g)
	if len(v) <= 600 {
		return v
	}
	rows := g.Shape()[0]
	cols := len(v) / rows
	out := make([]float64, rows+cols)
	for i, e := range v {
		out[i/cols] += e * math.Cos(float64(i%cols))
		out[rows+i%cols] += e * math.Cos(float64(i/cols))
	}
	return out
}

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

func TestGolden(t *testing.T) {
	compared := 0
	for name, c := range goldens {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			rel := 1e-4
			if dt == gpu.Float64 && name != "diffusers" { // whose waves are always float32
				rel = 1e-6
			}
			f, err := tensor.OpenSafetensors(oracle.Golden(t, "dit", name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			net := nn.NewParams(gpu.CPU(), dt)
			model := New(net.At(""), c)
			net.Init(1)
			// Everything that the peer has must be here and the reverse.
			own := func(n string) string {
				if rest, is := strings.CutPrefix(n, "net."); is {
					return rest
				}
				return ""
			}
			if _, err := nn.LoadFrom(f, nn.LoadOptions{Rename: own}, nn.Part{Of: net}); err != nil {
				t.Fatal(name, err)
			}
			in := func(n string) *gpu.Tensor {
				a := read(t, f, "in."+n)
				return gpu.CPU().FromAs(dt, a.F32(), a.Shape...)
			}
			whole := func(n string) *gpu.Tensor {
				var v []int32
				for _, e := range read(t, f, n).F32() {
					v = append(v, int32(e))
				}
				return gpu.CPU().FromInt32(v, len(v))
			}
			same := func(what string, got []float64) {
				t.Helper()
				want := read(t, f, what).F64()
				if len(got) != len(want) {
					t.Fatalf("%s: %s has %d elements, want %d", name, what, len(got), len(want))
				}
				var biggest float64
				scale := want
				if rest, is := strings.CutSuffix(what, "k.bias"); is { // whose gradient is 0: a constant added to all scores changes nothing
					scale = read(t, f, rest+"k.weight").F64()
				}
				for _, v := range scale {
					biggest = math.Max(biggest, math.Abs(v))
				}
				for i, v := range want {
					if d := math.Abs(got[i] - v); !(d <= rel*biggest) {
						t.Errorf("%s in %v: %s[%d] is %v, the peer has %v, off by %.1e of the largest", name, dt, what, i, got[i], v, d/biggest)
						return
					}
				}
				compared++
			}
			tape := nn.NewTape(gpu.CPU(), dt)
			tape.Run(func() {
				x, time := tape.Leaf(in("x")), tape.Leaf(in("t"))
				told := models.Inputs{Tokens: map[string]models.Tokens{}}
				if c.Classes > 0 {
					told.Classes = whole("in.y")
				}
				for n := range c.Tokens {
					tokens := models.Tokens{States: tape.Leaf(in(n))}
					if f.Has("in.lens") {
						tokens.Lens = whole("in.lens")
					}
					told.Tokens[n] = tokens
				}
				y := model.Forward(x, time, told)
				same("out", floats(y.Value()))
				tape.Backward(nn.MSE(y, tape.Input(in("goal")), nil))
				same("grad.in.x", floats(x.Grad()))
				for n := range c.Tokens {
					same("grad.in."+n, floats(told.Tokens[n].States.Grad()))
				}
				if name != "diffusers" { // whose times are whole numbers
					same("grad.in.t", floats(time.Grad()))
				}
			})
			for _, p := range net.All() {
				same("grad.net."+p.Name, weighted(p.Grad()))
			}
			f.Close()
		}
	}
	if want := 2 * (8*2 + 7 + 2 + 31 + 31 + 40 + 36 + 69 + 73 + 47 + 46); compared != want {
		t.Errorf("%d tensors compared, want %d", compared, want)
	}
}
