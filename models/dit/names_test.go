package dit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Trained parameters of the published sizes, counted in PyTorch (counts in
// scripts/golden/dit.py). The tables of places, which papers count for DiT, are no parameters here.
func TestCounts(t *testing.T) {
	for name, want := range map[string]int{
		"DiT-S/2": 32865056, "DiT-S/4": 32920448, "DiT-S/8": 33142016,
		"DiT-B/2": 130315808, "DiT-B/4": 130426496, "DiT-B/8": 130869248,
		"DiT-L/2": 457840672, "DiT-L/4": 457988224, "DiT-L/8": 458578432,
		"DiT-XL/2": 674834720, "DiT-XL/4": 675000704, "DiT-XL/8": 675664640,
		"SiT-XL/2": 674834720, "LightningDiT-XL/1": 674961824,
		"U-ViT-M/4": 130941060, "U-ViT-L/2": 286763172, "U-ViT-L/4": 286861524, "U-ViT-H/2": 500832164, "U-ViT-H/4": 500942804,
		"U-ViT-S/2": 44768352 - 1001*512 - 512, // the script's knows 1,000 classes
	} {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		New(net.At(""), c)
		if got := net.Count(); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
		if p := net.All()[0]; p.Value != nil {
			t.Errorf("%s: %s is laid out", name, p.Name)
		}
	}
}

// names are all tensors of a network with their shapes.
func names(t *testing.T, preset string) map[string]string {
	t.Helper()
	c, err := Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	n := New(net.At(""), c)
	all := map[string]string{}
	for _, p := range net.All() {
		all[p.Name] = fmt.Sprint(p.Shape())
	}
	if n.place != nil {
		all["pos_embed"] = fmt.Sprint(n.place.Shape())
	}
	return all
}

// Names and shapes of the checkpoints, a block for all of them.
func TestNames(t *testing.T) {
	for preset, want := range map[string]string{
		"DiT-XL/2": `x_embedder.proj.weight [1152 4 2 2], x_embedder.proj.bias [1152], pos_embed [1 256 1152],
t_embedder.mlp.0.weight [1152 256], t_embedder.mlp.0.bias [1152], t_embedder.mlp.2.weight [1152 1152], t_embedder.mlp.2.bias [1152],
y_embedder.embedding_table.weight [1001 1152],
28 blocks.N.attn.qkv.weight [3456 1152], 28 blocks.N.attn.qkv.bias [3456], 28 blocks.N.attn.proj.weight [1152 1152], 28 blocks.N.attn.proj.bias [1152],
28 blocks.N.mlp.fc1.weight [4608 1152], 28 blocks.N.mlp.fc1.bias [4608], 28 blocks.N.mlp.fc2.weight [1152 4608], 28 blocks.N.mlp.fc2.bias [1152],
28 blocks.N.adaLN_modulation.1.weight [6912 1152], 28 blocks.N.adaLN_modulation.1.bias [6912],
final_layer.linear.weight [32 1152], final_layer.linear.bias [32], final_layer.adaLN_modulation.1.weight [2304 1152], final_layer.adaLN_modulation.1.bias [2304]`,
		"LightningDiT-XL/1": `x_embedder.proj.weight [1152 32 1 1], x_embedder.proj.bias [1152], pos_embed [1 256 1152],
t_embedder.mlp.0.weight [1152 256], t_embedder.mlp.0.bias [1152], t_embedder.mlp.2.weight [1152 1152], t_embedder.mlp.2.bias [1152],
y_embedder.embedding_table.weight [1001 1152],
28 blocks.N.norm1.weight [1152], 28 blocks.N.attn.qkv.weight [3456 1152], 28 blocks.N.attn.qkv.bias [3456], 28 blocks.N.attn.proj.weight [1152 1152],
28 blocks.N.attn.proj.bias [1152], 28 blocks.N.norm2.weight [1152], 28 blocks.N.mlp.w12.weight [6144 1152], 28 blocks.N.mlp.w12.bias [6144],
28 blocks.N.mlp.w3.weight [1152 3072], 28 blocks.N.mlp.w3.bias [1152], 28 blocks.N.adaLN_modulation.1.weight [6912 1152], 28 blocks.N.adaLN_modulation.1.bias [6912],
final_layer.norm_final.weight [1152], final_layer.linear.weight [32 1152], final_layer.linear.bias [32],
final_layer.adaLN_modulation.1.weight [2304 1152], final_layer.adaLN_modulation.1.bias [2304]`,
		"U-ViT-H/2": `patch_embed.proj.weight [1152 4 2 2], patch_embed.proj.bias [1152], label_emb.weight [1001 1152], pos_embed [1 258 1152],
norm.weight [1152], norm.bias [1152], decoder_pred.weight [16 1152], decoder_pred.bias [16], final_layer.weight [4 4 3 3], final_layer.bias [4],` +
			uvitBlock("14 in_blocks.N.") + uvitBlock("mid_block.") + uvitBlock("14 out_blocks.N.") +
			`14 out_blocks.N.skip_linear.weight [1152 2304], 14 out_blocks.N.skip_linear.bias [1152]`,
	} {
		have := names(t, preset)
		count := 0
		for _, entry := range strings.Split(strings.ReplaceAll(want, "\n", " "), ",") {
			name, shape, _ := strings.Cut(strings.TrimSpace(entry), " [")
			shape = "[" + shape
			times := 1
			if strings.Contains(name, ".N.") {
				if _, err := fmt.Sscan(name, &times, &name); err != nil {
					t.Fatal(err)
				}
			}
			for i := range times {
				count++
				if n := strings.Replace(name, ".N.", fmt.Sprintf(".%d.", i), 1); have[n] != shape {
					t.Errorf("%s: %s is %q, want %s", preset, n, have[n], shape)
				}
			}
		}
		if count != len(have) {
			t.Errorf("%s has %d tensors, want %d", preset, len(have), count)
		}
	}
	for name, want := range map[string]string{
		"module.blocks.0.norm1.weight": "blocks.0.norm1.weight", "_orig_mod.pos_embed": "pos_embed", "feat_rope.freqs_cos": "", "module.feat_rope.freqs_sin": "",
		"final_layer.linear.bias": "final_layer.linear.bias",
	} {
		if got := FileName(name); got != want {
			t.Errorf("FileName(%q) is %q, want %q", name, got, want)
		}
	}
}

func uvitBlock(prefix string) string {
	var b strings.Builder
	for _, p := range []string{
		"norm1.weight [1152]", "norm1.bias [1152]", "attn.qkv.weight [3456 1152]", "attn.proj.weight [1152 1152]", "attn.proj.bias [1152]", "norm2.weight [1152]", "norm2.bias [1152]",
		"mlp.fc1.weight [4608 1152]", "mlp.fc1.bias [4608]", "mlp.fc2.weight [1152 4608]", "mlp.fc2.bias [1152]",
	} {
		b.WriteString(prefix + p + ",\n")
	}
	return b.String()
}

func TestPresets(t *testing.T) {
	all := Presets()
	if len(all) != 3+4*3*2+4*2+6 || !slices.IsSorted(all) {
		t.Errorf("%d presets: %v", len(all), all)
	}
	for _, name := range all {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string][2]int{"mnist-dit": {500_000, 2_000_000}, "digits-dit": {250_000, 500_000}, "shapes-dit": {1_000_000, 4_000_000}} {
		c, _ := Preset(name)
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		New(net.At(""), c)
		if n := net.Count(); n < want[0] || n > want[1] {
			t.Errorf("%s has %d parameters, want %d to %d", name, n, want[0], want[1])
		}
	}
	if _, err := Preset("DiT-XXL/2"); err == nil || !strings.Contains(err.Error(), `no preset "DiT-XXL/2", want one of DiT-B/2`) {
		t.Error(err)
	}
	a, _ := Preset("shapes-dit")
	a.Tokens["text"] = 1
	if b, _ := Preset("shapes-dit"); b.Tokens["text"] == 1 {
		t.Error("a preset's map is shared")
	}
}
