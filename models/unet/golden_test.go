package unet_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

// peer is a golden file.
type peer struct {
	t *testing.T
	f *tensor.Safetensors
}

func open(t *testing.T, name string) *peer {
	t.Helper()
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "unet", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &peer{t, f}
}

func (p *peer) read(name string) ([]float64, []int) {
	p.t.Helper()
	a, err := p.f.Read(name)
	if err != nil {
		p.t.Fatal(err)
	}
	v := a.F64()
	return v, a.Shape
}

func (p *peer) tensor(name string, dt gpu.DType) *gpu.Tensor {
	v, s := p.read(name)
	if dt == gpu.Float64 {
		return gpu.CPU().From64(v, s...)
	}
	v32 := make([]float32, len(v))
	for i, x := range v {
		v32[i] = float32(x)
	}
	return gpu.CPU().From(v32, s...)
}

func (p *peer) ids(name string) *gpu.Tensor {
	v, s := p.read(name)
	ids := make([]int32, len(v))
	for i, x := range v {
		ids[i] = int32(x)
	}
	return gpu.CPU().FromInt32(ids, s...)
}

// close compares by the greatest difference over the greatest value.
func (p *peer) close(what string, got *gpu.Tensor, name string, eps float64) {
	p.t.Helper()
	want, shape := p.read(name)
	if !slices.Equal(shape, got.Shape()) {
		p.t.Errorf("%s has shape %v, want %v", what, got.Shape(), shape)
		return
	}
	v := make([]float64, got.Len())
	if err := got.Read64(v); err != nil {
		p.t.Fatal(err)
	}
	var far, size float64
	for i, w := range want {
		far, size = math.Max(far, math.Abs(v[i]-w)), math.Max(size, math.Abs(w))
	}
	if !(far <= eps*size) || size == 0 {
		p.t.Errorf("%s is off by %.2g of %.3g, want a share of %g", what, far, size, eps)
	}
}

// goldenCase is a network of a golden file.
type goldenCase struct {
	name   string
	config unet.Config
	hints  *unet.ControlConfig // a control branch
	own    bool                // its names are ours
	edm    bool                // they are EDM's
	leaves []string
	eps64  float64
}

func (c *goldenCase) rename(name string) string {
	name = strings.TrimPrefix(name, "w.")
	switch {
	case c.own:
		return name
	case c.edm:
		return unet.FromEDM(c.config, 8)(name)
	case c.hints != nil:
		return unet.FromDiffusersControl(c.config, *c.hints)(name)
	}
	return unet.FromDiffusers(c.config)(name)
}

func goldenCases() []goldenCase {
	condition := unet.Config{
		Channels: 4, Base: 8, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, Heads: 2, Groups: 4, Depth: []int{1, 2},
		Contexts: []unet.Context{{Name: "text", Width: 6}}, Vectors: []unet.Vector{{Name: "size", Width: 5}},
	}
	branch := condition
	branch.Depth = nil
	// diffusers makes the waves of times in float32.
	return []goldenCase{
		{name: "ddpm", leaves: []string{"x"}, eps64: 3e-6, config: unet.Config{
			Channels: 3, Base: 8, Mult: []int{1, 2}, Blocks: 2, AttnAt: []int{2}, Attn: unet.Separate, Groups: 4, Eps: 1e-6, PadEnd: true,
			Waves: ops.WaveConfig{Width: 8, Shift: 1},
		}},
		{name: "resample", leaves: []string{"x"}, eps64: 3e-6, config: unet.Config{
			Channels: 2, Out: 4, Base: 8, Mult: []int{1, 1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 4, Attn: unet.Separate, Groups: 4,
			ScaleShift: true, ResampleBlocks: true, Classes: 3,
		}},
		{name: "fourier", leaves: []string{"x"}, eps64: 1e-10, config: unet.Config{
			Channels: 1, Base: 8, Mult: []int{1, 1}, Blocks: 1, NoMidAttn: true, Groups: 2, Fourier: 16, Waves: ops.WaveConfig{Width: 16},
		}},
		{name: "condition", leaves: []string{"x", "text", "vector", "skip0", "skip2", "middle"}, eps64: 3e-6, config: condition},
		{name: "control", leaves: []string{"x", "text", "hint"}, eps64: 3e-6, config: branch, hints: &unet.ControlConfig{Channels: 3, Widths: []int{4, 6}, Halvings: 1}},
		{name: "adm", leaves: []string{"x"}, eps64: 1e-10, own: true, config: unet.Config{
			Channels: 3, Out: 6, Base: 8, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 8, Groups: 4, ScaleShift: true, ResampleBlocks: true, Classes: 4,
		}},
		{name: "edm-adm", leaves: []string{"x"}, eps64: 1e-10, edm: true, config: unet.Config{
			Channels: 3, Base: 8, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 8, Attn: unet.PackedByChannel, ScaleShift: true, ResampleBlocks: true,
			Classes: 3, Labels: unet.Columns,
		}},
		{name: "edm-ddpmpp", leaves: []string{"x"}, eps64: 1e-10, edm: true, config: unet.Config{
			Channels: 3, Base: 8, First: 8, Mult: []int{2, 1}, Blocks: 2, AttnAt: []int{2}, UpLast: true, Attn: unet.PackedByChannel, Eps: 1e-6, ResampleBlocks: true, ResampleSkip: true,
			ResidualScale: math.Sqrt(0.5), Classes: 3, Labels: unet.ColumnsFirst, Waves: ops.WaveConfig{Width: 8, Shift: 1},
		}},
	}
}

// Results and gradients of tiny networks against diffusers' and twins of ADM's and EDM's in
// torch.
func TestGoldenNetworks(t *testing.T) {
	ran := 0
	for _, c := range goldenCases() {
		for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
			t.Run(fmt.Sprint(c.name, dt), func(t *testing.T) {
				eps := 1e-4
				if dt == gpu.Float64 {
					eps = c.eps64
				}
				c.check(&peer{t, open(t, c.name).f}, dt, eps)
				ran++
			})
		}
	}
	if ran != 16 {
		t.Errorf("%d cases, want 16", ran)
	}
}

func (c *goldenCase) check(p *peer, dt gpu.DType, eps float64) {
	net := nn.NewParams(gpu.CPU(), dt)
	var u *unet.UNet
	var b *unet.Control
	if c.hints == nil {
		u = unet.New(net.At(""), c.config)
	} else {
		b = unet.NewControl(net.At(""), c.config, *c.hints)
	}
	net.Init(1)
	if r, err := nn.LoadFrom(p.f, nn.LoadOptions{Extra: true, Rename: func(name string) string {
		if !strings.HasPrefix(name, "w.") {
			return ""
		}
		return c.rename(name)
	}}, nn.Part{Of: net}); err != nil || r.Loaded != len(net.All()) {
		p.t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), dt)
	tape.Arena().Poison(true)
	tape.Run(func() {
		leaves := map[string]*nn.Var{}
		leaf := func(name string) *nn.Var {
			if !p.f.Has("in." + name) {
				return nil
			}
			v := tape.Leaf(p.tensor("in."+name, dt))
			leaves[name] = v
			return v
		}
		x, time := leaf("x"), tape.Input(p.tensor("in.time", dt))
		if c.config.Fourier > 0 { // the peer takes the logarithm itself
			time = time.Log()
		}
		var in models.Inputs
		if p.f.Has("in.classes") {
			in.Classes = p.ids("in.classes")
		}
		if text := leaf("text"); text != nil {
			in.Tokens = map[string]models.Tokens{"text": {States: text, Lens: p.ids("in.lens")}}
			if b != nil { // the peer's branch saw no padding
				in.Tokens["text"] = models.Tokens{States: text}
			}
			in.Vectors = map[string]*nn.Var{"size": leaf("vector")}
		}
		if m := leaf("middle"); m != nil {
			in.Control = &models.Residuals{Middle: m.Permute(0, 2, 3, 1)}
			for i := range 4 {
				in.Control.Skips = append(in.Control.Skips, leaf(fmt.Sprint("skip", i)).Permute(0, 2, 3, 1))
			}
		}
		outs := map[string]*nn.Var{}
		if u != nil {
			outs["y"] = u.Forward(x, time, in)
		} else {
			var r models.Residuals
			b.Forward(&r, x, time, leaf("hint"), in)
			for i, s := range r.Skips {
				outs[fmt.Sprint("skip", i)] = s.Permute(0, 3, 1, 2)
			}
			outs["middle"] = r.Middle.Permute(0, 3, 1, 2)
		}
		var loss *nn.Var
		for _, name := range slices.Sorted(maps.Keys(outs)) {
			p.close(name, outs[name].Value(), "out."+name, eps)
			part := outs[name].Mul(tape.Input(p.tensor("cot."+name, dt))).Sum()
			if loss == nil {
				loss = part
			} else {
				loss = loss.Add(part)
			}
		}
		tape.Backward(loss)
		for _, name := range c.leaves {
			p.close("the gradient by "+name, leaves[name].Grad(), "grad."+name, eps)
		}
	})
	c.checkParams(p, net, eps)
}

// checkParams compares sums over each parameter's gradient, and some gradients as a whole.
// That by the
// bias of keys is zero but for rounding, a share of the greatest.
func (c *goldenCase) checkParams(p *peer, net *nn.Params, eps float64) {
	var names []string
	if err := json.Unmarshal([]byte(p.f.Meta["names"]), &names); err != nil || len(names) != len(net.All()) {
		p.t.Fatalf("%d names, the network has %d parameters: %v", len(names), len(net.All()), err)
	}
	sums, _ := p.read("sums")
	floor := 0.0
	for i := range names {
		floor = math.Max(floor, eps/100*math.Sqrt(sums[2*i+1]))
	}
	for i, name := range names {
		q := net.Get(c.rename(name))
		v, g := make([]float64, q.Value.Len()), make([]float64, q.Value.Len())
		if err := q.Value.Read64(v); err != nil {
			p.t.Fatal(err)
		}
		if err := q.Grad().Read64(g); err != nil {
			p.t.Fatal(err)
		}
		var pg, gg, pp float64
		for j := range v {
			pg, gg, pp = pg+v[j]*g[j], gg+g[j]*g[j], pp+v[j]*v[j]
		}
		size := math.Sqrt(sums[2*i+1])
		if math.Abs(math.Sqrt(gg)-size) > 2*eps*size+floor || math.Abs(pg-sums[2*i]) > 2*eps*(size*math.Sqrt(pp))+floor {
			p.t.Errorf("%s: |g| %.9g and p·g %.9g, want %.9g and %.9g", q.Name, math.Sqrt(gg), pg, size, sums[2*i])
		}
		if p.f.Has("gradp." + name) {
			p.close("the gradient by "+name, q.Grad(), "gradp."+name, 2*eps)
		}
	}
}

// Multiplications and additions as torch counts them.
func TestGoldenCosts(t *testing.T) {
	ran := 0
	for _, c := range goldenCases() {
		if c.hints != nil {
			continue
		}
		u := unet.New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), c.config)
		u.Params().Init(1)
		blocks, sum := u.Costs(8, 8, 3)
		for _, v := range blocks {
			sum += v
		}
		if c.edm { // theirs multiply labels as vectors
			sum += float64(u.Params().Get("label_emb.weight").Value.Len())
		}
		p := open(t, c.name)
		_, shape := p.read("in.x")
		if got, want := fmt.Sprintf("%.0f", 2*sum*float64(shape[0])), p.f.Meta["flops"]; got != want {
			t.Errorf("%s: %s operations for %d samples, torch counts %s", c.name, got, shape[0], want)
		}
		ran++
	}
	if ran != 7 {
		t.Errorf("%d cases, want 7", ran)
	}
}

// Every parameter of published networks has a place here, of its shape, and all have one.
func TestGoldenNames(t *testing.T) {
	var all map[string]map[string][]int
	oracle.GoldenJSON(t, &all, "unet", "names.json")
	// The papers say 35.7 M, 860 M, 296 M, 554 M and 56 M.
	for name, count := range map[string]int{"ddpm-cifar10": 35_746_307, "stable-diffusion-1": 859_520_964, "adm-imagenet64": 295_904_454, "adm-imagenet256": 553_838_086, "edm-cifar10": 55_734_147} {
		c, err := unet.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		unet.New(net.At(""), c)
		if net.Count() != count {
			t.Errorf("%s has %d parameters, want %d", name, net.Count(), count)
		}
		rename, seen := unet.FromDiffusers(c), map[string]bool{}
		switch name[:3] {
		case "adm":
			rename = func(name string) string { return name }
		case "edm":
			rename = unet.FromEDM(c, 32)
		}
		for theirs, shape := range all[name] {
			ours := rename(theirs)
			p := net.Get(ours)
			if p == nil || !slices.Equal(p.Shape(), shape) || seen[ours] {
				t.Fatalf("%s: %s %v is %q here, which has %v", name, theirs, shape, ours, p)
			}
			seen[ours] = true
		}
		if len(seen) != len(net.All()) || len(seen) < 200 {
			t.Errorf("%s: %d names, the network has %d", name, len(seen), len(net.All()))
		}
		for _, rename := range []func(string) string{unet.FromDiffusers(c), unet.FromEDM(c, 32)} {
			for _, unknown := range []string{"nobody.weight", "weight", "", "enc.32x32_block0.conv0.resample_filter"} {
				if got := rename(unknown); got != "" {
					t.Errorf("an unknown name becomes %q, want none", got)
				}
			}
		}
	}
}
