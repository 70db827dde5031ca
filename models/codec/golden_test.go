package codec_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// The golden files are those of scripts/golden/codec.py.
var dtypes = []gpu.DType{gpu.Float64, gpu.Float32}

func TestGoldenKL(t *testing.T) {
	for name, c := range map[string]codec.Config{
		"kl":      {Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4},
		"kl_attn": {Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4, AttendAt: []int{1}, NoMiddle: true, NoQuantConv: true},
	} {
		for _, dt := range dtypes {
			g := network.StartRun(t, dt, "codec", name+".safetensors")
			k := codec.NewKL(g.Net.At(""), c)
			g.Load()
			g.Tape.Run(func() {
				d := k.Encode(g.Input("x"))
				z := d.Mean.AddMul(d.LogVar.Scale(0.5).Exp(), g.Input("eps"))
				g.Result("mean", d.Mean)
				g.Result("logvar", d.LogVar)
				g.Result("kl", d.KL())
				g.Result("y", k.Decode(z))
				g.Gradients()
			})
			g.Done(4 + 2 + len(g.Net.All()))
		}
	}
}

func TestGoldenVQ(t *testing.T) {
	for _, dt := range dtypes {
		g := network.StartRun(t, dt, "codec", "vq"+".safetensors")
		q := codec.NewVQ(g.Net.At(""), codec.VQConfig{
			Config: codec.Config{Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4},
			Book:   vq.Config{Codes: 11, Width: 4, Commit: 1, Pull: 0.25}, // the peer's weights are the other way round than the paper's
		})
		g.Load()
		g.Tape.Run(func() {
			x := g.Input("x")
			z, made := q.Encode(x, true)
			g.Result("h", q.Features(x))
			g.Result("loss", made.Loss)
			g.Result("y", q.Decode(z))
			g.Indices("codes", made.Index)
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 12)
			want, _ := g.Values("out.y")
			g.Equal("decoded indices", q.DecodeIndices(g.Tape, idx, 4, 3).Value(), want)
			g.Gradients()
		})
		g.Done(5 + 1 + len(g.Net.All()))
	}
}

func TestGoldenViT(t *testing.T) {
	for _, dt := range dtypes {
		c := codec.ViTConfig{Channels: 2, Size: 8, Patch: 2, Width: 16, Heads: 2, Hidden: 24, Depth: 2, Latent: 4, Codes: &vq.Config{Codes: 9, Width: 4, Normalize: true}}
		g := network.StartRun(t, dt, "codec", "vit"+".safetensors")
		v := codec.NewViT(g.Net.At(""), c)
		g.Load()
		g.Tape.Run(func() {
			z, made := v.Encode(g.Input("x"), codec.Text{}, true)
			g.Result("loss", made.Loss)
			g.Result("y", v.Decode(z))
			g.Indices("codes", made.Index)
			want, _ := g.Values("out.y")
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 16)
			g.Equal("decoded indices", v.DecodeIndices(g.Tape, idx, codec.Text{}).Value(), want)
			g.Gradients()
		})
		g.Done(4 + 1 + len(g.Net.All()))

		c.Tokens, c.Text, c.Codes = 3, 6, nil
		g = network.StartRun(t, dt, "codec", "vit_tokens"+".safetensors")
		v = codec.NewViT(g.Net.At(""), c)
		g.Load()
		g.Tape.Run(func() {
			text := codec.Text{States: g.Input("text"), Lens: gpu.CPU().FromInt32([]int32{5, 2}, 2)}
			z, _ := v.Encode(g.Input("x"), text, true)
			g.Result("z", z)
			g.Result("y", v.DecodeText(z, text))
			g.Gradients()
		})
		g.Done(2 + 2 + len(g.Net.All()))
	}
}

func TestGoldenMotion(t *testing.T) {
	for _, dt := range dtypes {
		g := network.StartRun(t, dt, "codec", "motion"+".safetensors")
		m := codec.NewMotion(g.Net.At(""), codec.MotionConfig{Channels: 7, Width: 12, Codes: vq.ResidualConfig{
			Levels: 3, Book: vq.Config{Codes: 9, Width: 4, Commit: 0.02},
		}})
		g.Load()
		g.Tape.Run(func() {
			x := g.Input("x")
			z, made := m.Encode(x, true, 0)
			g.Result("h", m.Features(x).Permute(0, 2, 1))
			g.Result("loss", made.Loss)
			g.Result("y", m.Decode(z))
			g.Indices("codes", made.Index)
			idx := gpu.CPU().FromInt32(slices.Clone(made.Index.I32()), 2, 16, 3)
			want, _ := g.Values("out.y")
			g.Equal("decoded indices", m.DecodeIndices(g.Tape, idx, 3).Value(), want)
			g.Gradients()
		})
		g.Done(5 + 1 + len(g.Net.All()))
	}
}

// A file with the names and shapes of CompVis, whose attention has convolutions, loads and
// gives what diffusers gives.
func TestGoldenKLFromCompVisFile(t *testing.T) {
	g := network.StartRun(t, gpu.Float64, "codec", "kl.safetensors")
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
	for _, n := range g.Params() {
		if back[n] == "" {
			t.Fatalf("%s has no name there", n)
		}
		v, shape := g.Values("w." + n)
		if strings.Contains(n, "attentions") && len(shape) == 2 {
			shape = append(slices.Clone(shape), 1, 1)
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: "first_stage_model." + back[n], Array: tensor.FromF64(v, shape...)})
	}
	entries = append(entries, tensor.SafetensorsEntry{Name: "first_stage_model.loss.logvar", Array: tensor.FromF64([]float64{0}, 1)})
	path := filepath.Join(t.TempDir(), "compvis.safetensors")
	if err := tensor.WriteSafetensors(path, entries, nil); err != nil {
		t.Fatal(err)
	}
	c := codec.Config{Channels: 2, Latent: 3, Widths: []int{8, 12}, Groups: 4, PointAttention: true}
	k := codec.NewKL(g.Net.At(""), c)
	g.Net.Init(1)
	if _, err := nn.Load(path, nn.LoadOptions{Rename: rename}, nn.Part{Of: g.Net}); err != nil {
		t.Fatal(err)
	}
	g.Tape.Run(func() {
		g.Result("mean", k.Encode(g.Input("x")).Mean)
	})
	g.Done(1)
}
