package dit

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// A network whose few tokens are all of them, with blocks taken from a dense one: attention of
// few to all is then attention of all to all.
func TestCopyFrom(t *testing.T) {
	dense := tiny()
	dense.Width, dense.QKNorm, dense.MLP = 4, nn.QKRMS, SwiGLU
	few := dense
	few.Depth, few.Blocks, few.Grid = 3, []BlockKind{Dense, Merge, Recover}, 4
	a, b := build(dense, gpu.Float64, false), build(few, gpu.Float64, false)
	for i, from := range []int{0, 1, 0} {
		if err := b.Blocks[i].CopyFrom(a.Blocks[from]); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range a.Params().All() {
		if !strings.HasPrefix(p.Name, "blocks.") {
			b.Params().Get(p.Name).Value.Copy(p.Value)
		}
	}
	// Recover as the identity: nothing of the few, all of what was before, no branches.
	r := b.Blocks[2]
	for _, p := range []*nn.Param{r.Up.W, r.Up.B, r.Keep.B, r.Mod.W, r.Mod.B} {
		clear(p.Value.F64())
	}
	one := make([]float32, 8*8)
	identity(nil, []int{8, 8}, one)
	r.Keep.W.Value.Set(one)
	in := inputsOf(&dense, gpu.Float64, 2)
	got, want := map[string][]float64{}, map[string][]float64{}
	for n, to := range map[*Net]map[string][]float64{a: want, b: got} {
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		for _, tap := range []string{"blocks.0", "blocks.1"} {
			tape.OnTap(tap, func(v *nn.Var) *nn.Var {
				to[tap] = floats(v.Value())
				return v
			})
		}
		x, time, ins, _ := in.on(tape, tape.Input)
		n.Forward(x, time, ins)
	}
	for tap, w := range want {
		for i, v := range w {
			if math.Abs(got[tap][i]-v) > 1e-11*(1+math.Abs(v)) {
				t.Fatalf("%s: element %d is %v, the dense network has %v", tap, i, got[tap][i], v)
			}
		}
	}
	pool := tiny()
	pool.Blocks = []BlockKind{Pool, Pool}
	p := build(pool, gpu.Float64, false)
	src := build(tiny(), gpu.Float64, false)
	if err := p.Blocks[0].CopyFrom(src.Blocks[1]); err != nil {
		t.Fatal(err)
	}
	if w := src.Blocks[1].Attn.QKV.W.Value.F64(); !slices.Equal(p.Blocks[0].Value.W.Value.F64(), w[2*64:]) {
		t.Error("the values of Pool are not the last third")
	}
	if err := src.Blocks[0].CopyFrom(p.Blocks[0]); err == nil || !strings.Contains(err.Error(), "the source is a block of kind 1") {
		t.Error(err)
	}
	wide := tiny()
	wide.Dim = 16
	before := slices.Clone(floats(p.Params().Value()))
	if err := p.Blocks[0].CopyFrom(build(wide, gpu.Float64, false).Blocks[0]); err == nil || !strings.Contains(err.Error(), "want a block of the same widths") {
		t.Error(err)
	}
	if !slices.Equal(floats(p.Params().Value()), before) {
		t.Error("a copy that was refused changed something")
	}
}

// A file of a network loads into one with fewer blocks, which then gives what the larger one
// gives without the others.
func TestRenumber(t *testing.T) {
	c := tiny()
	c.Depth = 4
	large := build(c, gpu.Float32, false)
	path := filepath.Join(t.TempDir(), "large.safetensors")
	if err := nn.Save(path, nil, []nn.Part{{Of: large.Params()}}); err != nil {
		t.Fatal(err)
	}
	c.Depth = 2
	small := build(c, gpu.Float32, true)
	if _, err := nn.Load(path, nn.LoadOptions{Rename: Renumber([]int{1, 3})}, nn.Part{Of: small.Params()}); err != nil {
		t.Fatal(err)
	}
	b := inputsOf(&c, gpu.Float32, 2)
	if !slices.Equal(run(small, b, Options{}), run(large, b, Options{Skip: []bool{true, false, true, false}})) {
		t.Error("the smaller network is not the larger one without two blocks")
	}
	if _, err := nn.Load(path, nn.LoadOptions{Rename: Renumber([]int{1})}, nn.Part{Of: small.Params()}); err == nil || !strings.Contains(err.Error(), "missing     blocks.1.") {
		t.Error(err)
	}
}

// Places that are given stand in for those of a network.
func TestPlacesOfOptions(t *testing.T) {
	c := tiny()
	fixed := build(c, gpu.Float64, false)
	c.Places = NoPlaces
	free := build(c, gpu.Float64, false)
	b := inputsOf(&c, gpu.Float64, 2)
	with := func(rows int, scale float64) []float64 {
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		x, time, in, _ := b.on(tape, tape.Input)
		p := tape.Input(nn.SinCos2D(gpu.CPU(), gpu.Float64, 4, 6, 8, 1)).Scale(scale).Reshape(1, 24, 8)
		if rows == 2 {
			p = nn.Concat(0, p, tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(3, 24*8), 1, 24, 8)))
		}
		return floats(free.ForwardWith(x, time, in, Options{Places: p}).Value())
	}
	want := run(fixed, b, Options{})
	if !slices.Equal(with(1, 1), want) {
		t.Error("the fixed places, given, are not the fixed places")
	}
	two := with(2, 1)
	if half := len(two) / 2; !slices.Equal(two[:half], want[:half]) || slices.Equal(two[half:], want[half:]) {
		t.Error("places are not those of each sample")
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x, time, in, _ := b.on(tape, tape.Input)
	mustPanic(t, "places of shape [1 3 8], want [2 or 1, 24, 8]", func() { free.ForwardWith(x, time, in, Options{Places: tape.Const(0, 1, 3, 8)}) })
}
