package extract

import (
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

// clipTower is one of the two transformers of CLIP.
type clipTower struct{ width, depth, heads int }

// clipConfig is a size of OpenAI's CLIP with a vision transformer (Radford et al. 2021, arXiv 2103.00020).
type clipConfig struct {
	image, text    clipTower
	patch, size    int
	embed          int
	vocab, context int
}

var clipSizes = []struct {
	name, file, hf string
	c              clipConfig
}{
	{"clip-vit-b32", "ViT-B-32.pt", "clip-vit-base-patch32", clipConfig{image: clipTower{768, 12, 12}, text: clipTower{512, 12, 8}, patch: 32, size: 224, embed: 512}},
	{"clip-vit-b16", "ViT-B-16.pt", "clip-vit-base-patch16", clipConfig{image: clipTower{768, 12, 12}, text: clipTower{512, 12, 8}, patch: 16, size: 224, embed: 512}},
	{"clip-vit-l14", "ViT-L-14.pt", "clip-vit-large-patch14", clipConfig{image: clipTower{1024, 24, 16}, text: clipTower{768, 12, 12}, patch: 14, size: 224, embed: 768}},
	{"clip-vit-l14-336", "ViT-L-14-336px.pt", "clip-vit-large-patch14-336", clipConfig{image: clipTower{1024, 24, 16}, text: clipTower{768, 12, 12}, patch: 14, size: 336, embed: 768}},
}

// The vocabulary and the longest text of all published sizes.
const (
	clipVocab   = 49408
	clipContext = 77
)

func init() {
	for _, s := range clipSizes {
		c := s.c
		c.vocab, c.context = clipVocab, clipContext
		sp := c.spec(s.name)
		specs = append(specs, sp)
		file, ways := s.file, []pictureWay{wayShorter, waySquare, waySquash, wayTF1}
		what := "CLIP-FID of clean-fid"
		switch s.name {
		case "clip-vit-l14-336":
			ways[0], ways[1] = ways[1], ways[0]
			what = "CMMD: Jayasumana et al. 2024, arXiv 2401.09603"
		case "clip-vit-b16", "clip-vit-l14":
			what = ""
		}
		var names []string
		for _, w := range ways {
			names = append(names, w.name)
		}
		source := "Radford et al. 2021, arXiv 2103.00020"
		if what != "" {
			source += "; " + what
		}
		Register(Entry{
			Name:     s.name,
			Summary:  fmt.Sprintf("CLIP's image tower at %d pixels: %d features after the projection, not scaled; its text tower is for fidlab score", c.size, c.embed),
			Source:   source,
			Needs:    file,
			Presets:  names,
			CheckTap: noTap,
			Open:     func(o Options) (fid.Extractor, error) { return openCLIP(sp, c, file, ways, o) },
		})
	}
}

func noTap(tap string) error { return fmt.Errorf("%q: this network has no taps", tap) }

// imageParams are the tensors of the image tower by OpenAI's names, textParams those of the text tower.
func (c clipConfig) imageParams() (all []param) {
	w, side := c.image.width, c.size/c.patch
	all = append(all, param{"visual.class_embedding", []int{w}}, param{"visual.positional_embedding", []int{1 + side*side, w}},
		param{"visual.conv1.weight", []int{w, 3, c.patch, c.patch}})
	all = append(all, normParams("visual.ln_pre", w)...)
	all = append(all, c.image.params("visual.transformer.resblocks.")...)
	all = append(all, normParams("visual.ln_post", w)...)
	return append(all, param{"visual.proj", []int{w, c.embed}})
}

func (c clipConfig) textParams() (all []param) {
	w := c.text.width
	all = append(all, param{"token_embedding.weight", []int{c.vocab, w}}, param{"positional_embedding", []int{c.context, w}})
	all = append(all, c.text.params("transformer.resblocks.")...)
	all = append(all, normParams("ln_final", w)...)
	return append(all, param{"text_projection", []int{w, c.embed}})
}

func normParams(name string, width int) []param {
	return []param{{name + ".weight", []int{width}}, {name + ".bias", []int{width}}}
}

func (t clipTower) params(at string) (all []param) {
	w := t.width
	for i := range t.depth {
		b := fmt.Sprintf("%s%d.", at, i)
		all = append(all, normParams(b+"ln_1", w)...)
		all = append(all, param{b + "attn.in_proj_weight", []int{3 * w, w}}, param{b + "attn.in_proj_bias", []int{3 * w}})
		all = append(all, param{b + "attn.out_proj.weight", []int{w, w}}, param{b + "attn.out_proj.bias", []int{w}})
		all = append(all, normParams(b+"ln_2", w)...)
		all = append(all, param{b + "mlp.c_fc.weight", []int{4 * w, w}}, param{b + "mlp.c_fc.bias", []int{4 * w}})
		all = append(all, param{b + "mlp.c_proj.weight", []int{w, 4 * w}}, param{b + "mlp.c_proj.bias", []int{w}})
	}
	return all
}

// spec is the image tower's; files with the text tower beside it are its files too.
func (c clipConfig) spec(name string) *spec {
	s := &spec{name: name, params: c.imageParams(), others: c.textParams()}
	s.namings = clipNamings
	return s
}

func (c clipConfig) textSpec(name string) *spec {
	return &spec{name: name + "'s text tower", params: c.textParams(), others: c.imageParams(), namings: clipNamings}
}

var clipNamings = []naming{
	{what: "OpenAI", of: func(name string) origin { return origin{parts: []string{name}} }, drop: func(name string) bool {
		switch name {
		case "input_resolution", "context_length", "vocab_size", "logit_scale":
			return true
		}
		return false
	}},
	{what: "Hugging Face", of: clipHF, drop: func(name string) bool {
		return name == "logit_scale" || strings.HasSuffix(name, ".position_ids")
	}},
}

// clipHF is where transformers' CLIPModel has a tensor.
func clipHF(name string) origin {
	to, turned := tower.FromOpenAIName(name)
	return origin{parts: to, turned: turned}
}

func openCLIP(s *spec, c clipConfig, file string, ways []pictureWay, o Options) (fid.Extractor, error) {
	way, err := pickWay(o.Preset, ways...)
	if err == nil {
		err = towerOnly(o)
	}
	if err == nil && o.Tap != "" {
		err = noTap(o.Tap)
	}
	if err != nil {
		return nil, err
	}
	l, err := s.find(o, file)
	if err != nil {
		return nil, err
	}
	defer l.file.close()
	v := c.build(l)
	if l.err != nil {
		return nil, l.err
	}
	v.info = fid.ExtractorInfo{Name: s.name, SHA256: l.sha, Dim: c.embed, Preset: way.name, Precision: plan.F32.String(), Note: l.noteBut(tensor.F16)}
	v.batch = vitBatch(o, v.tokens(), c.image.width)
	v.load = way.make(c.size, clipMean, clipStd)
	return v, v.place(o)
}

// build makes the image tower.
func (c clipConfig) build(l *loaded) *vit {
	w := c.image.width
	v := &vit{size: c.size, patch: c.patch, front: 1}
	v.embed = tower.Dense{In: 3 * c.patch * c.patch, Out: w, W: l.get("visual.conv1.weight")}
	v.places = l.get("visual.positional_embedding")
	class := l.get("visual.class_embedding")
	before := l.norm("visual.ln_pre")
	v.net = c.frozen(l, c.image, "visual.", "visual.ln_post", "visual.proj", &before, false)
	if l.err != nil {
		return nil
	}
	for i, x := range class {
		v.places[i] += x
	}
	return v
}

// frozen is one of the transformers with its last norm and projection.
func (c clipConfig) frozen(l *loaded, t clipTower, at, after, proj string, before *tower.FrozenNorm, causal bool) *tower.Frozen {
	w := t.width
	var blocks []tower.FrozenBlock
	for i := range t.depth {
		a := fmt.Sprintf("%stransformer.resblocks.%d.", at, i)
		var b tower.FrozenBlock
		b.Norm1, b.Norm2 = l.norm(a+"ln_1"), l.norm(a+"ln_2")
		b.Q, b.K, b.V = l.qkv(a+"attn.in_proj_weight", a+"attn.in_proj_bias", w)
		b.Proj = l.dense(a+"attn.out_proj", w, w)
		b.In, b.Out = l.dense(a+"mlp.c_fc", w, 4*w), l.dense(a+"mlp.c_proj", 4*w, w)
		blocks = append(blocks, b)
	}
	last := l.norm(after)
	head := l.get(proj)
	if l.err != nil {
		return nil
	}
	return tower.NewFrozen(tower.FrozenConfig{Width: w, Heads: t.heads, Hidden: 4 * w, Act: tower.QuickGELU, Eps: 1e-5, Causal: causal},
		before, blocks, last, &tower.Dense{In: w, Out: c.embed, W: transposed(head, w, c.embed)})
}
