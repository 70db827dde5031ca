package extract

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/tensor"
)

// The recipe of scripts/golden/weightrecipe.py.

func uniformOf(text string, n int, low, high float64) []float32 {
	key, v := fnv1a(text), make([]float32, n)
	for i := range v {
		u := float64(splitMix64(key+uint64(i+1)*0x9E3779B97F4A7C15)>>40) * 0x1p-24
		if low == -high {
			v[i] = float32((2*u - 1) * high)
		} else {
			v[i] = float32(low + (high-low)*u)
		}
	}
	return v
}

func recipeTensor(salt, name string, shape []int) *tensor.Array {
	n, fan := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			fan *= d
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	place := slices.ContainsFunc([]string{"token", "pos_embed", "position_embedding", "positional_embedding", "class_embedding"},
		func(s string) bool { return strings.Contains(name, s) })
	low, high := 0.0, 0.0
	switch {
	case last == "gamma" || strings.HasPrefix(last, "lambda"):
		low, high = 0.1, 0.5
	case len(shape) == 1 && last == "weight":
		low, high = 0.75, 1.25
	case len(shape) <= 1 && !strings.Contains(last, "embedding"):
		low, high = -0.1, 0.1
	case place:
		low, high = -0.5, 0.5
	default:
		if last == "proj" || last == "text_projection" {
			fan = shape[0]
		}
		high = math.Sqrt(3 / float64(fan))
		low = -high
	}
	return tensor.FromF32(uniformOf(salt+name, n, low, high), shape...)
}

// goldenNet is a case of testdata/golden/extract: a small network of published code.
type goldenNet struct {
	From                                   string
	Width, Depth, Heads, Hidden, Registers int
	Swiglu                                 bool
	Patch, Grid, Size                      int
	Embed, Vocab, Context                  int // of CLIP
	Salt                                   string
	Params                                 [][2]any
	Features                               [][]float64
	IDs                                    [][]int32
	Texts                                  [][]float64
	Widths                                 []int // of VGG, and its fully connected layers
	Classes                                int
	File, Preset, Norm                     string // of a way from a picture to the network
	Taps                                   map[string][][]float64
}

func goldenNets(t *testing.T, file string) []goldenNet {
	var g struct{ Cases []goldenNet }
	oracle.GoldenJSON(t, &g, "extract", file)
	return g.Cases
}

// tensors are the weights under the names of the case's files.
func (g *goldenNet) tensors() (entries []tensor.SafetensorsEntry) {
	for _, p := range g.Params {
		name, shape := p[0].(string), []int{}
		for _, d := range p[1].([]any) {
			shape = append(shape, int(d.(float64)))
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: name, Array: recipeTensor(g.Salt, name, shape)})
	}
	return entries
}

func writeTensors(t *testing.T, entries []tensor.SafetensorsEntry) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := tensor.WriteSafetensors(path, entries, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// closeRows compares rows with float64 values of a peer: the largest difference of a row over its largest value.
func closeRows(t *testing.T, what string, got []float32, want [][]float64, tol float64) (worst float64) {
	t.Helper()
	if len(got) != len(want)*len(want[0]) {
		t.Fatalf("%s: %d values for %d rows of %d", what, len(got), len(want), len(want[0]))
	}
	for i, row := range want {
		top, off := 0.0, 0.0
		for j, v := range row {
			d := math.Abs(float64(got[i*len(row)+j]) - v)
			if !(d <= math.MaxFloat64) {
				t.Fatalf("%s: row %d, %d: %v", what, i, j, got[i*len(row)+j])
			}
			top, off = max(top, math.Abs(v)), max(off, d)
		}
		worst = max(worst, off/top)
	}
	if !(worst <= tol) {
		t.Errorf("%s: off by %.2g of the largest value, want at most %.2g", what, worst, tol)
	}
	return worst
}

func (g *goldenNet) dino() dinoConfig {
	return dinoConfig{width: g.Width, depth: g.Depth, heads: g.Heads, hidden: g.Hidden, swiglu: g.Swiglu, registers: g.Registers, patch: g.Patch, grid: g.Grid}
}

// runPictures runs the network on the recipe's inputs, on dev.
func (v *vit) runPictures(t *testing.T, dev *gpu.Device, salt string, n int) []float32 {
	t.Helper()
	v.batch, v.info.Dim = n, v.net.Dim()
	if err := v.place(Options{Device: dev, Batch: n}); err != nil {
		t.Fatal(err)
	}
	s, per := v.take(), 3*v.size*v.size
	all := uniformOf(salt+"pictures", n*per, -1, 1)
	for i := range all {
		all[i] *= 2
	}
	for i := range n {
		v.cut(s.patches[i*v.tokens()*v.embed.In:][:v.tokens()*v.embed.In], all[i*per:][:per])
	}
	out := make([]float32, n*v.info.Dim)
	var err error
	cpu.Do(func(w *cpu.Worker) { err = v.run(w, s, n, out) })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The peers are facebookresearch/dinov2, whose places are interpolated at two of three sizes,
// and transformers, through its files, in float64; float32 is off by rounding alone.
func TestDINOv2Golden(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases, worst := 0, 0.0
		for _, g := range goldenNets(t, "dinov2.json") {
			what := fmt.Sprintf("%s, swiglu %t, %d registers, %d pixels", g.From, g.Swiglu, g.Registers, g.Size)
			c := g.dino()
			l, err := c.spec("small").open(writeTensors(t, g.tensors()))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			v := c.build(l, g.Size)
			if l.err != nil {
				t.Fatal(l.err)
			}
			worst = max(worst, closeRows(t, what, v.runPictures(t, dev, g.Salt, len(g.Features)), g.Features, 1e-5))
			cases++
		}
		if cases != 16 {
			t.Errorf("%d cases, want 16", cases)
		}
		t.Logf("%d cases, off by %.2g at most", cases, worst)
	})
}

// The peers are OpenAI's code and transformers, through its files.
func TestCLIPGolden(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases, worst := 0, 0.0
		for _, g := range goldenNets(t, "clip.json") {
			one := clipTower{g.Width, g.Depth, g.Heads}
			c := clipConfig{image: one, text: one, patch: g.Patch, size: g.Size, embed: g.Embed, vocab: g.Vocab, context: g.Context}
			path := writeTensors(t, g.tensors())
			l, err := c.spec("small").open(path)
			if err != nil {
				t.Fatalf("%s: %v", g.From, err)
			}
			v := c.build(l)
			if l.err != nil {
				t.Fatal(l.err)
			}
			worst = max(worst, closeRows(t, g.From+", pictures", v.runPictures(t, dev, g.Salt, len(g.Features)), g.Features, 1e-5))
			text, err := c.openText("small", path)
			if err != nil {
				t.Fatal(err)
			}
			out := make([]float32, len(g.IDs)*c.embed)
			if err := text.Features(g.IDs, out); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, closeRows(t, g.From+", texts", out, g.Texts, 1e-5))
			for _, bad := range [][]int32{{}, make([]int32, 13), {1, 99}, {-1}} {
				if err := text.Features([][]int32{bad}, make([]float32, c.embed)); err == nil {
					t.Errorf("ids %v are taken", bad)
				}
			}
			cases++
		}
		if cases != 2 {
			t.Errorf("%d cases, want 2", cases)
		}
		t.Logf("%d cases, off by %.2g at most", cases, worst)
	})
}

// The peer is torchvision's VGG with few channels.
func TestVGGGolden(t *testing.T) {
	g := goldenNets(t, "vgg16.json")[0]
	c := vggConfig{widths: [5]int(g.Widths), hidden: g.Hidden, classes: g.Classes}
	l, err := c.spec("small").open(writeTensors(t, g.tensors()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.taps(), slices.Sorted(maps.Keys(g.Taps)); !slices.Equal(got, want) || len(want) != 8 {
		t.Fatalf("taps %v, want %v", got, want)
	}
	n := len(g.Taps["fc2"])
	in := uniformOf(g.Salt+"pictures", n*3*vggSize*vggSize, -1, 1)
	for i := range in {
		in[i] *= 2
	}
	for tap, want := range g.Taps {
		p, err := plan.Compile(c.net(l, tap), plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, n*p.OutLen(0))
		if err := p.Run(nil, in, out); err != nil {
			t.Fatal(err)
		}
		p.Close()
		t.Logf("%s: off by %.2g", tap, closeRows(t, tap, out, want, 1e-5))
	}
	if l.err != nil {
		t.Fatal(l.err)
	}
}
