package nn_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

// trained makes some steps and returns what goes on with them.
type training struct {
	net  *nn.Params
	opt  *nn.Adam
	ema  *nn.EMA
	tape *nn.Tape
	mlp  *nn.MLP
}

func newTraining(dt gpu.DType, seed uint64) *training {
	tr := &training{net: nn.NewParams(gpu.CPU(), dt), tape: nn.NewTape(gpu.CPU(), dt)}
	tr.mlp = nn.NewMLP(tr.net.At("mlp"), ops.SiLU, 3, 8, 2)
	tr.net.At("mlp").Buffer("mean", gpu.CPU().FromAs(dt, []float32{1, 2}, 2))
	tr.net.Init(seed)
	tr.opt, tr.ema = nn.NewAdam(tr.net, nn.AdamOptions{Decay: 0.1}), nn.NewEMA(tr.net, 0.9)
	return tr
}

func (tr *training) steps(from, to int) {
	for s := from; s < to; s++ {
		tr.tape.Run(func() {
			x := tr.tape.Input(gpu.CPU().FromAs(tr.tape.DType(), oracle.Normal(uint64(s), 12), 4, 3))
			tr.tape.Backward(tr.mlp.Forward(x).Square().Mean())
		})
		tr.opt.Step(0.01)
		tr.ema.Update()
	}
}

func (tr *training) parts() []nn.Part {
	return []nn.Part{{Of: tr.net}, {Prefix: "opt.", Of: tr.opt}, {Prefix: "ema.", Of: tr.ema}}
}

// A run that is saved and goes on in another process has the bits of one that never stopped.
func TestCheckpointResumesBitForBit(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		path := filepath.Join(t.TempDir(), "c.safetensors")
		whole, half, rest := newTraining(dt, 1), newTraining(dt, 1), newTraining(dt, 2)
		whole.steps(0, 20)
		half.steps(0, 10)
		if err := nn.Save(path, map[string]string{"step": "10"}, half.parts()); err != nil {
			t.Fatal(err)
		}
		r, err := nn.Load(path, nn.LoadOptions{}, rest.parts()...)
		if err != nil || r.String() != "" || r.Loaded != 5+3+5 {
			t.Fatalf("%v, %v", r, err)
		}
		rest.steps(10, 20)
		for i, p := range whole.parts() {
			for k, n := range p.Of.State() {
				if got := floats(rest.parts()[i].Of.State()[k].Tensor); !slices.Equal(got, floats(n.Tensor)) {
					t.Errorf("%v: %s%s differs after the checkpoint", dt, p.Prefix, n.Name)
				}
			}
		}
		if err := nn.Save(path, nil, half.parts()); err == nil {
			t.Error("an existing file was overwritten")
		}
		if err := nn.Save(path, nil, half.parts(), tensor.Overwrite); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadIsStrict(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	write := func(name string, entries ...tensor.SafetensorsEntry) string {
		p := filepath.Join(dir, name)
		if err := tensor.WriteSafetensors(p, entries, nil); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := nn.Save(path, nil, []nn.Part{{Of: newTraining(gpu.Float32, 1).net}}); err != nil {
		t.Fatal(err)
	}
	net := func() *nn.Params {
		ps := nn.NewParams(gpu.CPU(), gpu.Float64)
		nn.NewMLP(ps.At("mlp"), ops.SiLU, 3, 9, 2)
		ps.At("head").Param("w", nn.Ones, 2)
		ps.Init(3)
		return ps
	}
	ps := net()
	before := slices.Clone(ps.Value().F64())
	_, err := nn.Load(path, nn.LoadOptions{Missing: true, Extra: true}, nn.Part{Of: ps})
	var bad *nn.LoadError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v, want a LoadError", err)
	}
	for _, want := range []string{
		"w.safetensors does not fit: 1 tensors missing, 1 unexpected, 3 of another shape", "missing     head.w", "unexpected  mlp.mean",
		"mismatched  mlp.0.weight: the file has [8 3], want [9 3]", "mismatched  mlp.1.weight: the file has [2 8], want [2 9]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if !slices.Equal(before, ps.Value().F64()) {
		t.Error("a file that does not fit changed parameters")
	}

	other := nn.NewParams(gpu.CPU(), gpu.Float64)
	nn.NewMLP(other.At("net.body"), ops.SiLU, 3, 8, 2)
	other.At("head").Param("w", nn.Ones, 2)
	other.Init(3)
	rename := func(name string) string {
		if name == "mlp.mean" {
			return ""
		}
		return "body" + strings.TrimPrefix(name, "mlp")
	}
	if _, err := nn.Load(path, nn.LoadOptions{Rename: rename}, nn.Part{Prefix: "", Of: other}); err == nil {
		t.Error("names without their prefix were accepted")
	}
	full := func(name string) string {
		if s := rename(name); s != "" {
			return "net." + s
		}
		return ""
	}
	r, err := nn.Load(path, nn.LoadOptions{Rename: full, Missing: true}, nn.Part{Of: other})
	if err != nil || r.Loaded != 4 || !slices.Equal(r.Missing, []string{"head.w"}) {
		t.Fatalf("%v, %v", r, err)
	}
	if got, want := floats(other.Get("net.body.0.weight").Value), floats(newTraining(gpu.Float32, 1).net.Get("mlp.0.weight").Value); !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	if _, err := nn.Load(path, nn.LoadOptions{Rename: func(string) string { return "one" }}, nn.Part{Of: other}); err == nil || !strings.Contains(err.Error(), "both become one") {
		t.Errorf("two tensors of one name: %v", err)
	}

	// Half-precision files are read; integers are refused; so is what is no such file.
	small := nn.NewParams(gpu.CPU(), gpu.Float32)
	small.At("").Param("w", nn.Ones, 2)
	small.Init(0)
	half := write("half.safetensors", tensor.SafetensorsEntry{Name: "w", Array: &tensor.Array{DType: tensor.BF16, Shape: []int{2}, Data: []byte{0x40, 0x40, 0x80, 0xbf}}})
	if _, err := nn.Load(half, nn.LoadOptions{}, nn.Part{Of: small}); err != nil || small.Value().F32()[0] != 3 || small.Value().F32()[1] != -1 {
		t.Errorf("%v %v, want 3 and -1", small.Value().F32()[:2], err)
	}
	ints := write("ints.safetensors", tensor.SafetensorsEntry{Name: "w", Array: tensor.FromI64([]int64{1, 2}, 2)})
	if _, err := nn.Load(ints, nn.LoadOptions{}, nn.Part{Of: small}); err == nil || !strings.Contains(err.Error(), "tensor w is int64, want a float dtype") {
		t.Errorf("integers: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "no"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{filepath.Join(dir, "no"), filepath.Join(dir, "absent")} {
		if _, err := nn.Load(p, nn.LoadOptions{}, nn.Part{Of: small}); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestCopyFrom(t *testing.T) {
	a, b := newTraining(gpu.Float32, 1), newTraining(gpu.Float32, 2)
	b.net.CopyFrom(a.net)
	a.steps(0, 1)
	if want := newTraining(gpu.Float32, 1).net; !slices.Equal(floats(b.net.Value()), floats(want.Value())) {
		t.Error("the copy is not the network as it was")
	}
	defer func() {
		if v, ok := recover().(string); !ok || !strings.Contains(v, "CopyFrom: 5 tensors, the source has 1") {
			t.Errorf("recovered %v", v)
		}
	}()
	other := nn.NewParams(gpu.CPU(), gpu.Float32)
	other.At("").Param("w", nn.Ones, 2)
	other.Init(0)
	b.net.CopyFrom(other)
}

// Starts depend on seed and name alone, and have the spread that they promise.
func TestStarts(t *testing.T) {
	draw := func(start nn.Init, seed uint64, name string, before ...string) []float64 {
		ps := nn.NewParams(gpu.CPU(), gpu.Float32)
		for _, n := range before {
			ps.At("").Param(n, nn.Normal(1), 5)
		}
		p := ps.At("").Param(name, start, 40, 50, 3)
		ps.Init(seed)
		return floats(p.Value)
	}
	x := draw(nn.Normal(2), 7, "w")
	if !slices.Equal(x, draw(nn.Normal(2), 7, "w", "other", "more")) {
		t.Error("another layer moved this one's start")
	}
	if slices.Equal(x, draw(nn.Normal(2), 8, "w")) || slices.Equal(x, draw(nn.Normal(2), 7, "v")) {
		t.Error("seed or name do not matter")
	}
	for name, c := range map[string]struct {
		start      nn.Init
		sd, within float64
	}{
		"normal": {nn.Normal(2), 2, 2 * 5}, "truncated": {nn.TruncNormal(2), 2 * 0.8796, 4}, // sd of a normal cut at ±2
		"uniform": {nn.Uniform(3), math.Sqrt(3), 3}, "fan in": {nn.FanIn, 1 / math.Sqrt(3*150), 1 / math.Sqrt(150)},
		"xavier": {nn.Xavier, math.Sqrt(2.0 / (150 + 120)), math.Sqrt(6.0 / (150 + 120))}, "zeros": {nn.Zeros, 0, 0},
	} {
		var mean, sq, top float64
		v := draw(c.start, 1, "w")
		for _, e := range v {
			mean += e / float64(len(v))
			sq += e * e / float64(len(v))
			top = math.Max(top, math.Abs(e))
		}
		// 6,000 values: the mean is off by 0.013 sd, the sd by 0.9 %; five of those are allowed.
		if math.Abs(mean) > 0.065*c.sd || math.Abs(math.Sqrt(sq)-c.sd) > 0.045*c.sd || top > c.within*(1+1e-6) {
			t.Errorf("%s: mean %.4g, sd %.4g, largest %.4g; want 0, %.4g, at most %.4g", name, mean, math.Sqrt(sq), top, c.sd, c.within)
		}
	}
	for i, v := range draw(nn.Fill(3), 1, "w") {
		if v != 3 {
			t.Fatalf("element %d is %v, want 3", i, v)
		}
	}
}
