package unet

import (
	"fmt"
	"strings"
)

// FromEDM is the rename of nn.LoadOptions for weights of EDM's networks (Karras et al. 2022,
// arXiv 2206.00364), DhariwalUNet and SongUNet with standard encoders, whose architecture is
// c: their names to those here, and "" for a name of no such part, as filters are. Theirs
// name the pictures' size, so size is the height that they were made for. Their attention is
// PackedByChannel, their labels Columns and ColumnsFirst.
func FromEDM(c Config, size int) func(name string) string {
	to := map[string]string{
		"map_layer0": "time_embed.0", "map_layer1": "time_embed.2", "map_label": "label_emb", "map_noise": "time_proj",
		"out_norm": "out.0", "out_conv": "out.2",
	}
	first := fmt.Sprintf("%dx%d", size, size)
	to["dec."+first+"_aux_norm"], to["dec."+first+"_aux_conv"] = "out.0", "out.2"
	// A block of theirs is a residual block and the attention after it.
	parts := map[string]string{
		"norm0": ".in_layers.0", "conv0": ".in_layers.2", "affine": ".emb_layers.1", "norm1": ".out_layers.0", "conv1": ".out_layers.3", "skip": ".skip_connection",
	}
	block := func(theirs string, layers []layer) {
		for part, ours := range parts {
			to[theirs+"."+part] = layers[0].name + ours
		}
		if len(layers) > 1 && layers[1].kind == attn {
			at := layers[1].name
			to[theirs+".norm2"], to[theirs+".qkv"], to[theirs+".proj"] = at+".norm", at+".qkv", at+".proj_out"
		}
	}
	p := c.plan()
	at := func(side string, level int, what string) string {
		return fmt.Sprintf("%s.%dx%d_%s", side, size>>level, size>>level, what)
	}
	for i, s := range p.input {
		switch l := s.layers[0]; {
		case l.kind == convIn:
			to[at("enc", 0, "conv")] = l.name
		case l.kind == res:
			block(at("enc", l.level, fmt.Sprint("block", (i-1)%(c.Blocks+1))), s.layers)
		default: // theirs belongs to the level below
			block(at("enc", l.level+1, "down"), s.layers)
		}
	}
	last := c.levels() - 1
	mid := p.middle.layers
	block(at("dec", last, "in0"), mid[:len(mid)-1])
	block(at("dec", last, "in1"), mid[len(mid)-1:])
	for i, s := range p.output {
		level := s.layers[0].level
		block(at("dec", level, fmt.Sprint("block", i%(c.Blocks+1))), s.layers)
		if l := s.layers[len(s.layers)-1]; l.kind == resUp {
			block(at("dec", level-1, "up"), s.layers[len(s.layers)-1:])
		}
	}
	return func(name string) string {
		name = strings.TrimPrefix(name, "model.")
		cut := strings.LastIndexByte(name, '.')
		if cut < 0 || to[name[:cut]] == "" || name[cut:] != ".weight" && name[cut:] != ".bias" {
			return ""
		}
		return to[name[:cut]] + name[cut:]
	}
}
