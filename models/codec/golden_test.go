package codec_test

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// golden is a file of scripts/golden/codec.py: weights, inputs, results and gradients, of which
// each parameter has two sums.
type golden struct {
	t    *testing.T
	f    *tensor.Safetensors
	dt   gpu.DType
	net  *nn.Params
	tape *nn.Tape

	leaves map[string]*nn.Var
	loss   *nn.Var
	cases  int
}

func openGolden(t *testing.T, dt gpu.DType, name string) *golden {
	t.Helper()
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "codec", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &golden{t: t, f: f, dt: dt, net: nn.NewParams(gpu.CPU(), dt), tape: nn.NewTape(gpu.CPU(), dt), leaves: map[string]*nn.Var{}}
}

func (g *golden) read(name string) ([]float64, []int) {
	g.t.Helper()
	a, err := g.f.Read(name)
	if err != nil {
		g.t.Fatal(err)
	}
	_, shape, _ := g.f.Shape(name)
	return a.F64(), shape
}

// load gives the network the file's weights, under the peer's names.
func (g *golden) load() {
	g.t.Helper()
	g.net.Init(1)
	_, err := nn.LoadFrom(g.f, nn.LoadOptions{Rename: func(n string) string {
		if !strings.HasPrefix(n, "w.") {
			return ""
		}
		return strings.TrimPrefix(n, "w.")
	}}, nn.Part{Of: g.net})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *golden) tensor(name string) *gpu.Tensor {
	g.t.Helper()
	v, shape := g.read(name)
	if g.dt == gpu.Float64 {
		return gpu.CPU().From64(v, shape...)
	}
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	return gpu.CPU().From(f, shape...)
}

func (g *golden) input(name string) *nn.Var {
	g.t.Helper()
	v := g.tape.Leaf(g.tensor("in." + name))
	g.leaves[name] = v
	return v
}

// near compares with relative error of the whole: 1e-10 in float64, 1e-4 in float32.
func (g *golden) near(what string, got *gpu.Tensor, want []float64) {
	g.t.Helper()
	tol, size := 1e-4, 0.0
	if g.dt == gpu.Float64 {
		tol = 1e-10
	}
	for _, v := range want {
		size = max(size, math.Abs(v))
	}
	v := make([]float64, got.Len())
	if err := got.Read64(v); err != nil || len(v) != len(want) {
		g.t.Fatalf("%s: shape %v, the peer has %d elements (%v)", what, got.Shape(), len(want), err)
	}
	for i := range v {
		if !(math.Abs(v[i]-want[i]) <= tol*size) {
			g.t.Fatalf("%v, %s: element %d is %v, the peer has %v", g.dt, what, i, v[i], want[i])
		}
	}
	g.cases++
}

// result compares a result and adds its share to the loss.
func (g *golden) result(name string, v *nn.Var) {
	g.t.Helper()
	want, _ := g.read("out." + name)
	g.near(name, v.Value(), want)
	c := v.Mul(g.tape.Input(g.tensor("cot." + name)).Reshape(v.Shape()...)).Sum()
	if g.loss == nil {
		g.loss = c
	} else {
		g.loss = g.loss.Add(c)
	}
}

func (g *golden) indices(name string, got *gpu.Tensor) {
	g.t.Helper()
	want, _ := g.read("index." + name)
	for i, k := range got.I32() {
		if float64(k) != want[i] {
			g.t.Fatalf("%s: index %d is %d, the peer has %v", name, i, k, want[i])
		}
	}
	g.cases++
}

// gradients walks back and compares the gradients by inputs and the sums of all parameters.
func (g *golden) gradients() {
	g.t.Helper()
	g.tape.Backward(g.loss)
	for name, v := range g.leaves {
		want, _ := g.read("grad." + name)
		g.near("gradient by "+name, v.Grad(), want)
	}
	sums, _ := g.read("sums")
	var names []string
	for _, n := range g.f.Names() {
		if strings.HasPrefix(n, "w.") {
			names = append(names, strings.TrimPrefix(n, "w."))
		}
	}
	slices.Sort(names)
	var size float64
	for i := range names {
		size = max(size, math.Abs(sums[2*i]), sums[2*i+1])
	}
	for i, n := range names {
		p := g.net.Get(n)
		if p == nil {
			g.t.Fatalf("there is no parameter %s", n)
		}
		var pg, gg float64
		v, d := make([]float64, p.Value.Len()), make([]float64, p.Value.Len())
		if p.Value.Read64(v) != nil || p.Grad().Read64(d) != nil {
			g.t.Fatal(n)
		}
		for j := range v {
			pg += v[j] * d[j]
			gg += d[j] * d[j]
		}
		tol := 1e-10
		if g.dt == gpu.Float32 {
			tol = 2e-4
		}
		// A bias before a norm has no gradient but rounding's: the floor is of the greatest sum.
		if math.Abs(gg-sums[2*i+1]) > tol*(sums[2*i+1]+1e-6*size) || math.Abs(pg-sums[2*i]) > tol*(math.Sqrt(sums[2*i+1])*norm(v)+1e-6*size) {
			g.t.Fatalf("%v, gradient by %s: p·g %v and g·g %v, the peer has %v and %v", g.dt, n, pg, gg, sums[2*i], sums[2*i+1])
		}
		g.cases++
	}
}

func norm(v []float64) (s float64) {
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s)
}

func (g *golden) done(cases int) {
	g.t.Helper()
	if g.cases != cases {
		g.t.Errorf("%d comparisons, want %d", g.cases, cases)
	}
}

var dtypes = []gpu.DType{gpu.Float64, gpu.Float32}

func TestGoldenKL(t *testing.T) {
	for name, c := range map[string]codec.Config{
		"kl":      {Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4},
		"kl_attn": {Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4, AttendAt: []int{1}, NoMiddle: true, NoQuantConv: true},
	} {
		for _, dt := range dtypes {
			g := openGolden(t, dt, name)
			k := codec.NewKL(g.net.At(""), c)
			g.load()
			g.tape.Run(func() {
				d := k.Encode(g.input("x"))
				z := d.Mean.AddMul(d.LogVar.Scale(0.5).Exp(), g.input("eps"))
				g.result("mean", d.Mean)
				g.result("logvar", d.LogVar)
				g.result("kl", d.KL())
				g.result("y", k.Decode(z))
				g.gradients()
			})
			g.done(4 + 2 + len(g.net.All()))
		}
	}
}

func TestGoldenVQ(t *testing.T) {
	for _, dt := range dtypes {
		g := openGolden(t, dt, "vq")
		q := codec.NewVQ(g.net.At(""), codec.VQConfig{
			Config: codec.Config{Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4},
			Book:   vq.Config{Codes: 11, Width: 4, Commit: 1, Pull: 0.25}, // the peer's weights are the other way round than the paper's
		})
		g.load()
		g.tape.Run(func() {
			x := g.input("x")
			z, made := q.Encode(x, true)
			g.result("h", q.Features(x))
			g.result("loss", made.Loss)
			g.result("y", q.Decode(z))
			g.indices("codes", made.Index)
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 12)
			want, _ := g.read("out.y")
			g.near("decoded indices", q.DecodeIndices(g.tape, idx, 4, 3).Value(), want)
			g.gradients()
		})
		g.done(5 + 1 + len(g.net.All()))
	}
}

func TestGoldenViT(t *testing.T) {
	for _, dt := range dtypes {
		c := codec.ViTConfig{Channels: 2, Size: 8, Patch: 2, Width: 16, Heads: 2, Hidden: 24, Depth: 2, Latent: 4, Codes: &vq.Config{Codes: 9, Width: 4, Normalize: true}}
		g := openGolden(t, dt, "vit")
		v := codec.NewViT(g.net.At(""), c)
		g.load()
		g.tape.Run(func() {
			z, made := v.Encode(g.input("x"), codec.Text{}, true)
			g.result("loss", made.Loss)
			g.result("y", v.Decode(z))
			g.indices("codes", made.Index)
			want, _ := g.read("out.y")
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 16)
			g.near("decoded indices", v.DecodeIndices(g.tape, idx, codec.Text{}).Value(), want)
			g.gradients()
		})
		g.done(4 + 1 + len(g.net.All()))

		c.Tokens, c.Text, c.Codes = 3, 6, nil
		g = openGolden(t, dt, "vit_tokens")
		v = codec.NewViT(g.net.At(""), c)
		g.load()
		g.tape.Run(func() {
			text := codec.Text{States: g.input("text"), Lens: gpu.CPU().FromInt32([]int32{5, 2}, 2)}
			z, _ := v.Encode(g.input("x"), text, true)
			g.result("z", z)
			g.result("y", v.DecodeText(z, text))
			g.gradients()
		})
		g.done(2 + 2 + len(g.net.All()))
	}
}

func TestGoldenMotion(t *testing.T) {
	for _, dt := range dtypes {
		g := openGolden(t, dt, "motion")
		m := codec.NewMotion(g.net.At(""), codec.MotionConfig{Channels: 7, Width: 12, Codes: vq.ResidualConfig{
			Levels: 3, Book: vq.Config{Codes: 9, Width: 4, Commit: 0.02},
		}})
		g.load()
		g.tape.Run(func() {
			x := g.input("x")
			z, made := m.Encode(x, true, 0)
			g.result("h", m.Features(x).Permute(0, 2, 1))
			g.result("loss", made.Loss)
			g.result("y", m.Decode(z))
			g.indices("codes", made.Index)
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 16, 3)
			want, _ := g.read("out.y")
			g.near("decoded indices", m.DecodeIndices(g.tape, idx, 3).Value(), want)
			g.gradients()
		})
		g.done(5 + 1 + len(g.net.All()))
	}
}

// A file with the names and shapes of CompVis, whose attention has convolutions, loads and
// gives what diffusers gives.
func TestGoldenKLFromCompVisFile(t *testing.T) {
	g := openGolden(t, gpu.Float64, "kl")
	back := map[string]string{} // from the names here to theirs
	rename := codec.CompVisNames(2)
	for _, n := range compVis(2, 1, nil) {
		back[rename(n)] = n
	}
	for _, half := range []string{"encoder.down.1.block.0.", "decoder.up.0.block.0."} { // widths change there
		for _, part := range []string{"weight", "bias"} {
			n := half + "nin_shortcut." + part
			back[rename(n)] = n
		}
	}
	var entries []tensor.SafetensorsEntry
	for _, n := range g.f.Names() {
		n, ok := strings.CutPrefix(n, "w.")
		if !ok {
			continue
		}
		if back[n] == "" {
			t.Fatalf("%s has no name there", n)
		}
		a, err := g.f.Read("w." + n)
		if err != nil {
			t.Fatal(err)
		}
		_, shape, _ := g.f.Shape("w." + n)
		if strings.Contains(n, "attentions") && len(shape) == 2 {
			shape = append(slices.Clone(shape), 1, 1)
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: "first_stage_model." + back[n], Array: tensor.FromF64(a.F64(), shape...)})
	}
	entries = append(entries, tensor.SafetensorsEntry{Name: "first_stage_model.loss.logvar", Array: tensor.FromF64([]float64{0}, 1)})
	path := filepath.Join(t.TempDir(), "compvis.safetensors")
	if err := tensor.WriteSafetensors(path, entries, nil); err != nil {
		t.Fatal(err)
	}
	c := codec.Config{Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4, PointAttention: true}
	k := codec.NewKL(g.net.At(""), c)
	g.net.Init(1)
	if _, err := nn.Load(path, nn.LoadOptions{Rename: rename}, nn.Part{Of: g.net}); err != nil {
		t.Fatal(err)
	}
	g.tape.Run(func() {
		g.result("mean", k.Encode(g.input("x")).Mean)
	})
	g.done(1)
}
