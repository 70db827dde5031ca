package codec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The names of CompVis' latent diffusion and VQGAN, for each half: of blocks within levels,
// and of single layers.
var (
	compVisBlock = regexp.MustCompile(`^(encoder|decoder)\.(down|up)\.(\d+)\.(block|attn)\.(\d+)\.(.+)$`)
	compVisStep  = regexp.MustCompile(`^(encoder|decoder)\.(down|up)\.(\d+)\.(downsample|upsample)\.conv\.(.+)$`)
	compVisMid   = regexp.MustCompile(`^(encoder|decoder)\.mid\.(block_1|block_2|attn_1)\.(.+)$`)
	compVisParts = map[string]string{
		"block_1": "resnets.0", "block_2": "resnets.1", "attn_1": "attentions.0", "block": "resnets", "attn": "attentions",
		"downsample": "downsamplers.0.conv", "upsample": "upsamplers.0.conv",
	}
	compVisLayers = map[string]string{"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "nin_shortcut": "conv_shortcut"}
)

// CompVisNames is a LoadOptions.Rename: from the names of CompVis' autoencoders of that many
// levels to those of KL and VQ. What belongs to their losses is left out. Their attention has
// 1×1 convolutions: set Config.PointAttention.
func CompVisNames(levels int) func(name string) string {
	side := func(half, at string) string {
		i, _ := strconv.Atoi(at)
		if half == "encoder" {
			return fmt.Sprintf("encoder.down_blocks.%d.", i)
		}
		return fmt.Sprintf("decoder.up_blocks.%d.", levels-1-i) // counted from the finest there
	}
	layer := func(rest string) string {
		name, tail, _ := strings.Cut(rest, ".")
		if to, ok := compVisLayers[name]; ok {
			name = to
		}
		return name + "." + tail
	}
	return func(name string) string {
		name = strings.TrimPrefix(name, "first_stage_model.")
		if strings.HasPrefix(name, "loss.") || name == "model_ema.decay" || name == "model_ema.num_updates" {
			return ""
		}
		if m := compVisBlock.FindStringSubmatch(name); m != nil {
			return side(m[1], m[3]) + compVisParts[m[4]] + "." + m[5] + "." + layer(m[6])
		}
		if m := compVisStep.FindStringSubmatch(name); m != nil {
			return side(m[1], m[3]) + compVisParts[m[4]] + "." + m[5]
		}
		if m := compVisMid.FindStringSubmatch(name); m != nil {
			return m[1] + ".mid_block." + compVisParts[m[2]] + "." + layer(m[3])
		}
		return strings.Replace(name, ".norm_out.", ".conv_norm_out.", 1)
	}
}
