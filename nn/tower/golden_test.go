package tower_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

var tolerances = map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-9}

// small is the configuration of the golden file.
func small() tower.CLIPConfig {
	return tower.CLIPConfig{
		Vision: tower.ViTConfig{Size: 8, Patch: 4, Width: 16, Depth: 2, Heads: 4, Act: tower.QuickGELU},
		Text:   tower.TextConfig{Vocab: 30, MaxLen: 8, Width: 12, Depth: 2, Heads: 2, Hidden: 40, Act: tower.QuickGELU, End: 29},
		Embed:  10,
	}
}

// The peer is CLIPModel of transformers; see scripts/golden/towers.py.
func TestGoldenCLIP(t *testing.T) {
	cases := 0
	for dt, tol := range tolerances {
		f := network.Open(t, "tower", "clip.safetensors")
		net := nn.NewParams(gpu.CPU(), dt)
		m := tower.NewCLIP(net.At(""), small())
		net.Init(1)
		f.Load(net)
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Run(func() {
			x, ids := tape.Leaf(f.Tensor(dt, "pictures")), f.Ints("ids")
			tokens, _ := m.Image.Forward(x)
			states, _ := m.Text.Forward(tape, ids)
			image, text := m.ImageEmbedding(x), m.TextEmbedding(tape, ids)
			f.Near("tokens", tokens.Value(), tol)
			f.Near("states", states.Value(), tol)
			f.Near("image", image.Value(), tol)
			f.Near("text", text.Value(), tol)
			f.Near("logits", image.MatMulNT(text).Mul(m.Scale(tape)).Value(), tol)
			loss := m.Loss(image, text)
			f.Near("loss", loss.Value(), tol)
			tape.Backward(loss)
			f.Near("g_pictures", x.Grad(), tol)
		})
		cases += f.Grads(net, tol)
	}
	if cases != 2*(7+2*16+4+2*16+3) {
		t.Errorf("%d gradients were compared", cases)
	}
}

// A file with OpenAI's names and layouts is the same network.
func TestGoldenOpenAINames(t *testing.T) {
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "tower", "clip-openai.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours, err := tower.FromOpenAI(f)
	if err != nil {
		t.Fatal(err)
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	tower.NewCLIP(net.At(""), small())
	net.Init(1)
	if _, err := nn.LoadFrom(ours, nn.LoadOptions{Rename: tower.Rename}, nn.Part{Of: net}); err != nil {
		t.Fatal(err)
	}
	g := network.Open(t, "tower", "clip.safetensors")
	for _, p := range net.All() {
		g.Near("w."+p.Name, p.Value, 0)
	}
	if n := len(net.All()); n != 78 {
		t.Errorf("%d tensors were compared", n)
	}
}

// The peer is torch's GRU, two layers in both directions, over sequences of several lengths.
func TestGoldenGRU(t *testing.T) {
	cases := 0
	for dt, tol := range tolerances {
		f := network.Open(t, "tower", "gru.safetensors")
		net := nn.NewParams(gpu.CPU(), dt)
		m := tower.NewGRU(net.At(""), 5, 6, 2, true)
		net.Init(1)
		f.Load(net)
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Run(func() {
			y, last := m.Forward(tape.Input(f.Tensor(dt, "x")), f.Ints("lens"))
			f.Near("y", y.Value(), tol)
			f.Near("last", last.Value(), tol)
			tape.Backward(y.Mul(tape.Input(f.Tensor(dt, "gy"))).Sum().Add(last.Mul(tape.Input(f.Tensor(dt, "gl"))).Sum()))
		})
		cases += f.Grads(net, tol)
	}
	if cases != 2*16 {
		t.Errorf("%d gradients were compared", cases)
	}
}
