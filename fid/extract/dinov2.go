package extract

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

// dinoConfig is a size of DINOv2 (Oquab et al. 2023, arXiv 2304.07193; with registers Darcet
// et al. 2023, arXiv 2309.16588).
type dinoConfig struct {
	width, depth, heads, hidden int
	swiglu                      bool
	registers                   int
	patch, grid                 int // places of the file: grid×grid
}

const (
	dinoPatch = 14
	dinoGrid  = 37 // of 518 pixels, at which the networks were trained last
	dinoSize  = 224
)

// dinoSizes are the published sizes by name; each is there with four registers too.
var dinoSizes = []struct {
	name string
	c    dinoConfig
}{
	{"vits14", dinoConfig{width: 384, depth: 12, heads: 6, hidden: 1536}},
	{"vitb14", dinoConfig{width: 768, depth: 12, heads: 12, hidden: 3072}},
	{"vitl14", dinoConfig{width: 1024, depth: 24, heads: 16, hidden: 4096}},
	{"vitg14", dinoConfig{width: 1536, depth: 40, heads: 24, hidden: 4096, swiglu: true}},
}

func init() {
	for _, s := range dinoSizes {
		for _, registers := range []int{0, 4} {
			c := s.c
			c.registers, c.patch, c.grid = registers, dinoPatch, dinoGrid
			name, file, what := "dinov2-"+s.name, "dinov2_"+s.name, ""
			if registers > 0 {
				name, file, what = name+"-reg", file+"_reg4", " with registers"
			}
			file += "_pretrain.pth"
			sp := c.spec(name)
			specs = append(specs, sp)
			Register(Entry{
				Name:    name,
				Summary: fmt.Sprintf("DINOv2 %s/14%s: the class token's %d features; NAME:SIZE takes pictures of other sizes than %d", strings.TrimSuffix(s.name, "14"), what, c.width, dinoSize),
				Source:  "Oquab et al. 2023, arXiv 2304.07193; FD-DINOv2: Stein et al. 2023, arXiv 2306.04675",
				Needs:   file,
				Presets: []string{waySquash.name, wayTF1.name, wayEDM2.name},
				CheckTap: func(tap string) error {
					_, err := dinoInput(tap)
					return err
				},
				Open: func(o Options) (fid.Extractor, error) { return openDINO(sp, c, file, o) },
			})
		}
	}
}

// dinoInput is the size of pictures that a tap asks for.
func dinoInput(tap string) (int, error) {
	if tap == "" {
		return dinoSize, nil
	}
	n, err := strconv.Atoi(tap)
	if err != nil || n < dinoPatch || n%dinoPatch != 0 || n > 4096 {
		return 0, fmt.Errorf("%q: want the size of pictures, a multiple of %d from %d to 4088", tap, dinoPatch, dinoPatch)
	}
	return n, nil
}

// spec lists the tensors by the names of facebookresearch/dinov2.
func (c dinoConfig) spec(name string) *spec {
	w := c.width
	s := &spec{name: name}
	add := func(name string, shape ...int) { s.params = append(s.params, param{name, shape}) }
	add("cls_token", 1, 1, w)
	add("pos_embed", 1, 1+c.grid*c.grid, w)
	if c.registers > 0 {
		add("register_tokens", 1, c.registers, w)
	}
	add("patch_embed.proj.weight", w, 3, c.patch, c.patch)
	add("patch_embed.proj.bias", w)
	for i := range c.depth {
		at := fmt.Sprintf("blocks.%d.", i)
		layer := func(name string, out, in int) {
			add(at+name+".weight", out, in)
			add(at+name+".bias", out)
		}
		norm := func(name string) {
			add(at+name+".weight", w)
			add(at+name+".bias", w)
		}
		norm("norm1")
		layer("attn.qkv", 3*w, w)
		layer("attn.proj", w, w)
		add(at+"ls1.gamma", w)
		norm("norm2")
		if c.swiglu {
			layer("mlp.w12", 2*c.hidden, w)
			layer("mlp.w3", w, c.hidden)
		} else {
			layer("mlp.fc1", c.hidden, w)
			layer("mlp.fc2", w, c.hidden)
		}
		add(at+"ls2.gamma", w)
	}
	add("norm.weight", w)
	add("norm.bias", w)
	s.namings = []naming{
		{what: "facebookresearch/dinov2", of: func(name string) origin { return origin{parts: []string{name}} },
			drop: func(name string) bool { return name == "mask_token" }},
		{what: "Hugging Face", of: dinoHF, drop: func(name string) bool { return name == "embeddings.mask_token" }},
	}
	return s
}

var dinoTopHF = map[string]string{
	"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings", "register_tokens": "embeddings.register_tokens",
	"patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight", "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
	"norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias",
}

var dinoBlockHF = strings.NewReplacer("attn.proj.", "attention.output.dense.", "ls1.gamma", "layer_scale1.lambda1", "ls2.gamma", "layer_scale2.lambda1",
	"mlp.w12.", "mlp.weights_in.", "mlp.w3.", "mlp.weights_out.")

// dinoHF is where transformers' Dinov2Model and Dinov2WithRegistersModel have a tensor.
func dinoHF(name string) origin {
	if to, ok := dinoTopHF[name]; ok {
		return origin{parts: []string{to}}
	}
	number, part, _ := strings.Cut(strings.TrimPrefix(name, "blocks."), ".")
	at := "encoder.layer." + number + "."
	if kind, ok := strings.CutPrefix(part, "attn.qkv."); ok {
		a := at + "attention.attention."
		return origin{parts: []string{a + "query." + kind, a + "key." + kind, a + "value." + kind}}
	}
	return origin{parts: []string{at + dinoBlockHF.Replace(part)}}
}

// openDINO makes the extractor of weights that are named or found.
func openDINO(s *spec, c dinoConfig, file string, o Options) (fid.Extractor, error) {
	size, err := dinoInput(o.Tap)
	if err != nil {
		return nil, err
	}
	way, err := pickWay(o.Preset, waySquash, wayTF1, wayEDM2)
	if err == nil {
		err = towerOnly(o)
	}
	if err != nil {
		return nil, err
	}
	l, err := s.find(o, file, "dinov2.", "dinov2_with_registers.")
	if err != nil {
		return nil, err
	}
	defer l.file.close()
	v := c.build(l, size)
	if l.err != nil {
		return nil, l.err
	}
	name := s.name
	if size != dinoSize {
		name += ":" + strconv.Itoa(size)
	}
	v.info = fid.ExtractorInfo{Name: name, SHA256: l.sha, Dim: c.width, Preset: way.name, Precision: plan.F32.String(), Note: l.note()}
	v.batch = vitBatch(o, v.tokens(), c.width)
	v.load = way.make(size, imagenetMean, imagenetStd)
	return v, v.place(o)
}

// build makes the network for pictures of size×size.
func (c dinoConfig) build(l *loaded, size int) *vit {
	w := c.width
	v := &vit{size: size, patch: c.patch, front: 1 + c.registers}
	v.embed = tower.Dense{In: 3 * c.patch * c.patch, Out: w, W: l.get("patch_embed.proj.weight")}
	cls, bias := l.get("cls_token"), l.get("patch_embed.proj.bias")
	pos := l.get("pos_embed")
	if l.err != nil {
		return nil
	}
	// Registers come in after the places are added, and have none.
	front := append([]float32(nil), cls...)
	for i, p := range pos[:w] {
		front[i] += p
	}
	if c.registers > 0 {
		front = append(front, l.get("register_tokens")...)
	}
	places := placesAt(pos[w:], c.grid, size/c.patch, w, c.registers > 0)
	for i := range places {
		places[i] += bias[i%w]
	}
	v.places = append(front, places...)
	act := tower.GELU
	if c.swiglu {
		act = tower.SwiGLU
	}
	var blocks []tower.FrozenBlock
	for i := range c.depth {
		if l.err != nil {
			return nil
		}
		blocks = append(blocks, c.block(l, fmt.Sprintf("blocks.%d.", i)))
	}
	after := tower.FrozenNorm{W: l.get("norm.weight"), B: l.get("norm.bias")}
	if l.err != nil {
		return nil
	}
	v.net = tower.NewFrozen(tower.FrozenConfig{Width: w, Heads: c.heads, Hidden: c.hidden, Act: act, Eps: 1e-6}, nil, blocks, after, nil)
	return v
}

func (c dinoConfig) block(l *loaded, at string) (b tower.FrozenBlock) {
	w := c.width
	b.Norm1, b.Norm2 = l.norm(at+"norm1"), l.norm(at+"norm2")
	b.Q, b.K, b.V = l.qkv(at+"attn.qkv.weight", at+"attn.qkv.bias", w)
	b.Proj = l.dense(at+"attn.proj", w, w)
	if c.swiglu {
		both, bias := l.get(at+"mlp.w12.weight"), l.get(at+"mlp.w12.bias")
		if l.err != nil {
			return b
		}
		k := w * c.hidden
		b.In = tower.Dense{In: w, Out: c.hidden, W: both[:k:k], B: bias[:c.hidden:c.hidden]}
		b.Value = tower.Dense{In: w, Out: c.hidden, W: both[k:], B: bias[c.hidden:]}
		b.Out = l.dense(at+"mlp.w3", c.hidden, w)
	} else {
		b.In, b.Out = l.dense(at+"mlp.fc1", w, c.hidden), l.dense(at+"mlp.fc2", c.hidden, w)
	}
	g1, g2 := l.get(at+"ls1.gamma"), l.get(at+"ls2.gamma")
	if l.err == nil {
		b.Proj.Scale(g1)
		b.Out.Scale(g2)
	}
	return b
}

func (l *loaded) norm(name string) tower.FrozenNorm {
	return tower.FrozenNorm{W: l.get(name + ".weight"), B: l.get(name + ".bias")}
}

func (l *loaded) dense(name string, in, out int) tower.Dense {
	return tower.Dense{In: in, Out: out, W: l.get(name + ".weight"), B: l.get(name + ".bias")}
}

// qkv are the layers of queries, keys and values that lie in one tensor.
func (l *loaded) qkv(weight, bias string, width int) (q, k, v tower.Dense) {
	ws, bs := l.get(weight), l.get(bias)
	if l.err != nil {
		return
	}
	for i, d := range []*tower.Dense{&q, &k, &v} {
		n := width * width
		*d = tower.Dense{In: width, Out: width, W: ws[i*n : (i+1)*n : (i+1)*n], B: bs[i*width : (i+1)*width : (i+1)*width]}
	}
	return
}

// note is the label of results with weights that are stored in less than float32.
func (l *loaded) note() string { return l.noteBut(tensor.F32) }

// noteBut is note for weights that were published in the given type.
func (l *loaded) noteBut(published tensor.DType) string {
	if l.half == 0 || l.half == published {
		return ""
	}
	return "weights of " + l.half.String()
}
