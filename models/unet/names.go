package unet

import (
	"fmt"
	"strings"
)

// FromDiffusers is the rename of nn.LoadOptions for weights of diffusers' UNet2DModel and
// UNet2DConditionModel whose architecture is c: their names to those here, and "" for a
// name of no such part. Their attention is Separate; a down block with attention has its up
// block with attention. Vectors that theirs project, as class or as added embedding, are the
// first of c.Vectors. Those with Fourier take the logarithm of the time themselves and divide
// what comes out by the time, which is the caller's here.
func FromDiffusers(c Config) func(name string) string {
	to := map[string]string{
		"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
		"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "time_proj": "time_proj",
		"class_embedding": "label_emb",
	}
	if len(c.Vectors) > 0 {
		to["add_embedding.linear_1"], to["add_embedding.linear_2"] = "vector_embed."+c.Vectors[0].Name+".0", "vector_embed."+c.Vectors[0].Name+".2"
		to["class_embedding.linear_1"], to["class_embedding.linear_2"] = to["add_embedding.linear_1"], to["add_embedding.linear_2"]
	}
	side := func(stages []stage, from string, level func(stage int) int) {
		var count [3]map[int]int // residual blocks, attentions, resamplers of a level so far
		for i := range count {
			count[i] = map[int]int{}
		}
		for n, s := range stages {
			at := level(n)
			for _, l := range s.layers {
				part, k := theirs(l.kind)
				if part == "" {
					continue
				}
				theirName := fmt.Sprintf("%s.%d.%s.%d", from, at, part, count[k][at])
				if from == "mid_block" {
					theirName = fmt.Sprintf("%s.%s.%d", from, part, count[k][at])
				}
				count[k][at]++
				to[theirName] = l.name
				if l.kind == down { // theirs is called conv, ours op
					to[theirName+".conv"] = l.name + ".op"
				}
			}
		}
	}
	p := c.plan()
	side(p.input, "down_blocks", func(n int) int { return (n - 1) / (c.Blocks + 1) })
	side(p.output, "up_blocks", func(n int) int { return n / (c.Blocks + 1) })
	side([]stage{p.middle}, "mid_block", func(int) int { return 0 })
	inside := strings.NewReplacer(
		".norm1.", ".in_layers.0.", ".conv1.", ".in_layers.2.", ".time_emb_proj.", ".emb_layers.1.",
		".norm2.", ".out_layers.0.", ".conv2.", ".out_layers.3.", ".conv_shortcut.", ".skip_connection.", ".group_norm.", ".norm.",
	)
	return func(name string) string {
		// The longest known beginning decides.
		for cut := len(name); cut > 0; cut = strings.LastIndexByte(name[:cut], '.') {
			ours, ok := to[name[:cut]]
			if !ok {
				continue
			}
			rest := name[cut:]
			if !strings.HasPrefix(rest, ".transformer_blocks.") {
				rest = inside.Replace(rest)
			}
			return ours + rest
		}
		return ""
	}
}

// theirs is diffusers' name of a kind of layer, and which of its lists it is counted in.
func theirs(k kind) (part string, list int) {
	switch k {
	case res:
		return "resnets", 0
	case attn, transform:
		return "attentions", 1
	case down, resDown:
		return "downsamplers", 2
	case up, resUp:
		return "upsamplers", 2
	}
	return "", 0
}

// FromDiffusersControl is FromDiffusers for a ControlNetModel and a branch of c and h.
func FromDiffusersControl(c Config, h ControlConfig) func(name string) string {
	inner := FromDiffusers(c)
	last := 2*len(h.widths()) - 1 // of the convolutions that hints pass
	if len(h.widths()) == 1 {
		last++
	}
	return func(name string) string {
		var i int
		rest := name[strings.LastIndexByte(name, '.')+1:]
		switch head := strings.TrimSuffix(name, "."+rest); {
		case head == "controlnet_cond_embedding.conv_in":
			return "input_hint_block.0." + rest
		case head == "controlnet_cond_embedding.conv_out":
			return fmt.Sprintf("input_hint_block.%d.%s", 2*last, rest)
		case head == "controlnet_mid_block":
			return "middle_block_out.0." + rest
		case scan(head, "controlnet_cond_embedding.blocks.%d", &i):
			return fmt.Sprintf("input_hint_block.%d.%s", 2*i+2, rest)
		case scan(head, "controlnet_down_blocks.%d", &i):
			return fmt.Sprintf("zero_convs.%d.0.%s", i, rest)
		}
		return inner(name)
	}
}

// scan tells whether s is format with a number in it, which it sets.
func scan(s, format string, number *int) bool {
	n, err := fmt.Sscanf(s, format, number)
	return err == nil && n == 1 && fmt.Sprintf(format, *number) == s
}
