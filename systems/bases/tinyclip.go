package bases

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// TinyCLIP is the name of the task of the pair of towers for pictures of shapes and their captions.
const TinyCLIP = "tiny-clip"

func init() {
	systems.RegisterTask(systems.Task{
		Name: TinyCLIP, Text: "scenes of shapes and their captions in one space of 64, two towers, InfoNCE both ways",
		Source:   "Radford et al. 2021",
		Settings: train.Settings{Steps: 4000, Batch: 128, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Decay: 0.01, Clip: 1},
		LogEvery: 50, SaveEvery: 250, EvalEvery: 500,
		Make: func(ctx context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
			return clipJob(ctx, dev, s, clipNet(), clipData{})
		},
	})
}

// clipShift is how far pictures are moved, in pixels.
const clipShift = 2

// clipNet is the pair: of the image tower each layer sees 3, 7, 15 and 31 pixels, so that the last one sees all of an object.
func clipNet() tower.CLIPConfig {
	c := tower.TinyCLIP()
	c.Vision = tower.ViTConfig{}
	c.Plain = &tower.PlainConfig{Widths: []int{16, 32, 64, 64}, Steps: []int{2, 2, 2, 1}, Out: 64}
	return c
}

// clipData bounds what is read of the splits; 0 is all.
type clipData struct{ train, test int }

// clipRecipe is tiny-clip's part of a checkpoint.
type clipRecipe struct {
	Net   tower.CLIPConfig `json:"net"`
	Shift int              `json:"shift"`
	Data  dataConfig       `json:"data"`
}

func clipJob(ctx context.Context, dev *gpu.Device, s train.Settings, c tower.CLIPConfig, d clipData) (*train.Job, error) {
	set, err := captionedScenes(ctx, data.Enc, d.train, nil)
	if err != nil {
		return nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := tower.NewCLIP(params.At(""), c)
	params.Init(s.Seeds.Init)
	trial, err := newRetrieval(ctx, net, params, d.test)
	if err != nil {
		return nil, err
	}
	feed := newCaptionFeed(set, dev, s.Batch, clipShift)
	return &train.Job{
		Name: TinyCLIP, Config: clipRecipe{c, clipShift, set.config()},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: func(b *train.Batch) *nn.Var {
			net.ClampScale() // of the step before
			x, ids := feed.next(b)
			b.Figure("scale", net.Scale(b.Tape).Item())
			return net.Loss(net.ImageEmbedding(b.Tape.Input(x)), net.TextEmbedding(b.Tape, ids))
		},
		Figures: []string{"scale"}, Evaluate: trial.evaluate, Scores: []string{"image_to_text", "text_to_image"},
	}, nil
}

// clipRecipeOf is the part of a checkpoint that is tiny-clip's.
func clipRecipeOf(s *train.Saved) (r clipRecipe, err error) {
	if err := configOf(s, &r); err != nil {
		return r, err
	}
	if err := r.Net.Check(); err != nil {
		return r, fmt.Errorf("bases: %s: %w", s.Path, err)
	}
	return r, nil
}

// OpenCLIP makes the pair of towers of a checkpoint of tiny-clip, with its weights, which are those of the parameters.
func OpenCLIP(dev *gpu.Device, s *train.Saved) (*tower.CLIP, *nn.Params, error) {
	if s.Job != TinyCLIP {
		return nil, nil, data.Errorf("bases: %s is a checkpoint of %s; want one of %s", s.Path, s.Job, TinyCLIP)
	}
	r, err := clipRecipeOf(s)
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := tower.NewCLIP(params.At(""), r.Net)
	params.Init(0)
	return net, params, s.Load(params, "net", 0)
}

// retrievalWays is of how many captions, or pictures, the one that belongs to a picture, or a caption, is to be found.
const retrievalWays = 64

// retrieval tries a pair of towers on scenes of test in groups of retrievalWays, no two of which show the same shapes in the same
// colours: captions of like content would fit several pictures.
type retrieval struct {
	net    *tower.CLIP
	tape   *nn.Tape
	feed   *captionFeed
	groups [][]int
}

func newRetrieval(ctx context.Context, net *tower.CLIP, params *nn.Params, n int) (*retrieval, error) {
	if n == 0 {
		n = 2048
	}
	set, err := captionedScenes(ctx, data.Test, n, func(_ int, s *shapes.Scene) bool { return !showsHeldout(s) })
	if err != nil {
		return nil, err
	}
	dev := params.Value().Device()
	r := &retrieval{net: net, tape: nn.NewTape(dev, gpu.Float32), feed: newCaptionFeed(set, dev, retrievalWays, 0), groups: distinctGroups(set.scenes)}
	if len(r.groups) == 0 {
		return nil, fmt.Errorf("bases: %d test scenes have no %d of distinct content", n, retrievalWays)
	}
	return r, nil
}

// showsHeldout tells whether a scene has a pair of shape and colour that is not learned.
func showsHeldout(s *shapes.Scene) bool {
	return slices.ContainsFunc(s.Objects, func(o shapes.Object) bool { return shapes.IsHeldout(o.Pair()) })
}

// content is which shapes of which colours a scene shows, in an order of its own.
func content(s *shapes.Scene) string {
	var pairs []string
	for i := range s.Objects {
		pairs = append(pairs, s.Objects[i].Pair().String())
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ", ")
}

// distinctGroups puts each scene into the first group that has none of its content; only full groups are kept.
func distinctGroups(scenes []*shapes.Scene) [][]int {
	var groups [][]int
	var seen []map[string]bool
	for i, s := range scenes {
		c := content(s)
		g := slices.IndexFunc(seen, func(m map[string]bool) bool { return len(m) < retrievalWays && !m[c] })
		if g < 0 {
			g = len(groups)
			groups, seen = append(groups, nil), append(seen, map[string]bool{})
		}
		groups[g] = append(groups[g], i)
		seen[g][c] = true
	}
	return slices.DeleteFunc(groups, func(g []int) bool { return len(g) < retrievalWays })
}

// evaluate is the share of pictures whose own caption is nearest among those of their group, and of captions likewise.
func (r *retrieval) evaluate(ctx context.Context, _ int) ([]float64, error) {
	var right [2]int
	for _, g := range r.groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, ids := r.feed.these(g)
		r.tape.Run(func() {
			r.tape.NoGrad(func() {
				image, caption := r.net.ImageEmbedding(r.tape.Input(x)), r.net.TextEmbedding(r.tape, ids)
				right[0] += diagonals(image.MatMulNT(caption))
				right[1] += diagonals(caption.MatMulNT(image))
			})
		})
	}
	n := float64(len(r.groups) * retrievalWays)
	return []float64{float64(right[0]) / n, float64(right[1]) / n}, nil
}

// diagonals is how many rows of a square have on the diagonal an element that is greater than all others.
func diagonals(cosines *nn.Var) (n int) {
	v, err := cosines.Value().Floats()
	if err != nil {
		panic(err) // what was computed here has its device
	}
	side := cosines.Shape()[0]
	for i := range side {
		row := v[i*side : (i+1)*side]
		best := true
		for k, e := range row {
			best = best && (k == i || row[i] > e)
		}
		if best {
			n++
		}
	}
	return n
}
