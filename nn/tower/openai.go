package tower

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/tensor"
)

// Rename is the name here of a tensor in a file of Hugging Face's CLIPModel: they are the same,
// but for the numbers of places, which older files have and nobody needs ("").
func Rename(name string) string {
	if strings.HasSuffix(name, ".position_ids") {
		return ""
	}
	return name
}

// openAI are the names that stand alone in files of OpenAI's CLIP, without a block's number.
var openAI = map[string]string{
	"visual.class_embedding":      "vision_model.embeddings.class_embedding",
	"visual.conv1.weight":         "vision_model.embeddings.patch_embedding.weight",
	"visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
	"visual.ln_pre.weight":        "vision_model.pre_layrnorm.weight",
	"visual.ln_pre.bias":          "vision_model.pre_layrnorm.bias",
	"visual.ln_post.weight":       "vision_model.post_layernorm.weight",
	"visual.ln_post.bias":         "vision_model.post_layernorm.bias",
	"visual.proj":                 "visual_projection.weight",
	"token_embedding.weight":      "text_model.embeddings.token_embedding.weight",
	"positional_embedding":        "text_model.embeddings.position_embedding.weight",
	"ln_final.weight":             "text_model.final_layer_norm.weight",
	"ln_final.bias":               "text_model.final_layer_norm.bias",
	"text_projection":             "text_projection.weight",
	"logit_scale":                 "logit_scale",
}

// openAIBlock are the names within a block.
var openAIBlock = strings.NewReplacer("ln_1.", "layer_norm1.", "ln_2.", "layer_norm2.",
	"mlp.c_fc.", "mlp.fc1.", "mlp.c_proj.", "mlp.fc2.", "attn.out_proj.", "self_attn.out_proj.")

// FromOpenAI is the tensors of a file of OpenAI's CLIP with a vision transformer under the names
// and in the layouts here: queries, keys and values of the blocks each by itself, projections
// turned. The whole file is read into memory.
func FromOpenAI(f *tensor.Safetensors) (*tensor.Safetensors, error) {
	var out []tensor.SafetensorsEntry
	for _, name := range f.Names() {
		switch name {
		case "input_resolution", "context_length", "vocab_size": // numbers, not weights
			continue
		}
		a, err := f.Read(name)
		if err != nil {
			return nil, err
		}
		list, err := fromOpenAI(name, a)
		if err != nil {
			return nil, fmt.Errorf("tower: %s: %w", f.Path(), err)
		}
		out = append(out, list...)
	}
	var b bytes.Buffer
	if err := tensor.EncodeSafetensors(&b, out, nil); err != nil {
		return nil, err
	}
	return tensor.NewSafetensors(f.Path(), bytes.NewReader(b.Bytes()), int64(b.Len()))
}

func fromOpenAI(name string, a *tensor.Array) ([]tensor.SafetensorsEntry, error) {
	one := func(name string) []tensor.SafetensorsEntry { return []tensor.SafetensorsEntry{{Name: name, Array: a}} }
	if to, ok := openAI[name]; ok {
		if name == "visual.proj" || name == "text_projection" {
			if len(a.Shape) != 2 {
				return nil, fmt.Errorf("%s has shape %v, want two axes", name, a.Shape)
			}
			a = turned(a)
		}
		return one(to), nil
	}
	tower := "text_model"
	rest, vision := strings.CutPrefix(name, "visual.")
	if vision {
		tower = "vision_model"
	}
	rest, ok := strings.CutPrefix(rest, "transformer.resblocks.")
	number, part, found := strings.Cut(rest, ".")
	if !ok || !found {
		return nil, fmt.Errorf("a tensor %q, which CLIP with a vision transformer does not have", name)
	}
	at := tower + ".encoder.layers." + number + "."
	kind, packed := strings.CutPrefix(part, "attn.in_proj_")
	if !packed {
		to := openAIBlock.Replace(part)
		if to == part {
			return nil, fmt.Errorf("a tensor %q, which a block of CLIP does not have", name)
		}
		return one(at + to), nil
	}
	if len(a.Shape) == 0 || a.Shape[0]%3 != 0 {
		return nil, fmt.Errorf("%s has shape %v, want [3·width, ...]", name, a.Shape)
	}
	var out []tensor.SafetensorsEntry
	size := len(a.Data) / 3
	for i, n := range []string{"q", "k", "v"} {
		shape := append([]int{a.Shape[0] / 3}, a.Shape[1:]...)
		out = append(out, tensor.SafetensorsEntry{
			Name:  at + "self_attn." + n + "_proj." + kind,
			Array: &tensor.Array{DType: a.DType, Shape: shape, Data: a.Data[i*size:][:size]},
		})
	}
	return out, nil
}

// turned is a matrix with rows and columns exchanged.
func turned(a *tensor.Array) *tensor.Array {
	m, n, size := a.Shape[0], a.Shape[1], a.DType.Size()
	b := &tensor.Array{DType: a.DType, Shape: []int{n, m}, Data: make([]byte, len(a.Data))}
	for i := range m {
		for j := range n {
			copy(b.Data[(j*m+i)*size:][:size], a.Data[(i*n+j)*size:])
		}
	}
	return b
}

// FromOpenAIName is where Hugging Face's CLIPModel has what OpenAI's has under this name: in
// one tensor, or in three one after the other; turned: with rows and columns exchanged.
func FromOpenAIName(name string) (to []string, turned bool) {
	if to, ok := openAI[name]; ok {
		return []string{to}, name == "visual.proj" || name == "text_projection"
	}
	tower, rest := "text_model", name
	if r, ok := strings.CutPrefix(name, "visual."); ok {
		tower, rest = "vision_model", r
	}
	number, part, _ := strings.Cut(strings.TrimPrefix(rest, "transformer.resblocks."), ".")
	at := tower + ".encoder.layers." + number + "."
	if kind, ok := strings.CutPrefix(part, "attn.in_proj_"); ok {
		for _, n := range []string{"q", "k", "v"} {
			to = append(to, at+"self_attn."+n+"_proj."+kind)
		}
		return to, false
	}
	return []string{at + openAIBlock.Replace(part)}, false
}
