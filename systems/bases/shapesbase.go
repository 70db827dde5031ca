package bases

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// ShapesBase is the name of the task of the network that draws scenes of shapes by their captions. Others are variants of it.
const (
	ShapesBase       = "shapes-base"
	ShapesBaseSmall  = "shapes-base-small"
	ShapesBaseSingle = "shapes-base-single"
)

// captionDrop is the share of examples whose caption is empty, for guidance.
const captionDrop = 0.1

// TextInput is the name of the tokens that the networks attend to: the states of all slots of a caption, padding too.
const TextInput = "text"

func init() {
	for _, b := range []shapesBase{shapesBaseFull(), shapesBaseSmall(), shapesBaseSingle()} {
		b.register()
	}
}

// shapesBase is a task of a network that draws scenes by their captions.
type shapesBase struct {
	systems.Task
	net       unet.Config
	diffusion train.Diffusion
	mix       string // of mixes
	limit     int    // scenes of train and val that are read; 0: all
	scored    [3]int // captions of one, two and three objects that the score is of
}

// shapesBaseFull is a U-Net of squares of 2×2 pixels whose 8×8 level and middle attend to the caption. Shapes lie anywhere between pixels,
// which convolutions learn once and a transformer of patches anew for every place in a patch (docs/training.md has the figures).
func shapesBaseFull() shapesBase {
	return shapesBase{
		Task: systems.Task{
			Name: ShapesBase, Text: "scenes of 1 to 3 shapes of 32×32 by caption, a U-Net of squares of 2×2 and 1.06 M parameters, flow matching",
			Source:   "Dhariwal and Nichol 2021; Rombach et al. 2022 (cross-attention); Lipman et al. 2023; Esser et al. 2024 (times)",
			Settings: train.Settings{Steps: 10000, Batch: 32, Rate: 2e-3, Schedule: "cosine", Warmup: 200, Clip: 1, EMA: []float64{0.999, 0.9995}},
			LogEvery: 100, SaveEvery: 500, SampleEvery: 2500, EvalEvery: 2000,
			Grid: "flow",
		},
		net: unet.Config{
			Channels: 3, Height: 32, Width: 32, Patch: 2, Base: 32, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 32,
			Transformer: true, Contexts: []unet.Context{{Name: TextInput, Width: 64}},
			Embed: 128, Groups: 8, ScaleShift: true, Waves: ops.WaveConfig{Width: 32, CosFirst: true, Scale: 1000},
		},
		diffusion: train.Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal:0,1", Weight: "one"},
		mix:       "all", scored: [3]int{24, 40, 0},
	}
}

// shapesBaseSmall is trained in minutes: half as wide, no scenes of three.
func shapesBaseSmall() shapesBase {
	b := shapesBaseFull()
	b.Name, b.Text = ShapesBaseSmall, "scenes of 1 or 2 shapes by caption, the network of shapes-base half as wide"
	b.Settings.Steps, b.Settings.Batch, b.Settings.EMA = 4000, 16, []float64{0.998, 0.999}
	b.SampleEvery, b.EvalEvery = 2000, 1000
	b.net.Base, b.net.HeadWidth, b.net.Waves.Width = 16, 16, 16
	b.mix = "two"
	return b
}

// shapesBaseSingle has mostly scenes of one shape to learn from, so that two are bound worse: what methods that mend it start from.
func shapesBaseSingle() shapesBase {
	b := shapesBaseFull()
	b.Name, b.Text = ShapesBaseSingle, "the network of shapes-base, taught 85 % scenes of one shape and few pairs"
	b.mix = "single"
	return b
}

// mixes are which scenes of train are learned, by name. A function is asked about all scenes in order, once.
var mixes = map[string]func() func(s *shapes.Scene) bool{
	"all": func() func(*shapes.Scene) bool { return func(*shapes.Scene) bool { return true } },
	"two": func() func(*shapes.Scene) bool { return func(s *shapes.Scene) bool { return len(s.Objects) <= 2 } },
	// 85 % of one object and 15 % of two, these of half of the pairs of pairs that train has.
	"single": func() func(*shapes.Scene) bool {
		var one, two int
		return func(s *shapes.Scene) bool {
			switch n := len(s.Objects); {
			case n == 1:
				one++
				return true
			case n == 2 && 85*(two+1) <= 15*one && data.Mix(data.FNV1a(content(s)))%2 == 0:
				two++
				return true
			}
			return false
		}
	},
}

// baseRecipe is the task's part of a checkpoint.
type baseRecipe struct {
	Net       unet.Config      `json:"net"`
	Text      tower.TextConfig `json:"text"`
	TextOf    string           `json:"text_sha256"` // of the text tower's weights
	Diffusion train.Diffusion  `json:"diffusion"`
	Drop      float64          `json:"caption_drop"`
	Mix       string           `json:"mix"`
	Data      dataConfig       `json:"data"`
}

func (b shapesBase) register() {
	b.On, b.MakeOn, b.Path, b.Open = TinyCLIP, b.makeOn, b.path, b.open
	systems.RegisterTask(b.Task)
}

func (b *shapesBase) makeOn(ctx context.Context, dev *gpu.Device, s train.Settings, base *train.Saved) (*train.Job, error) {
	words, err := openText(dev, base)
	if err != nil {
		return nil, err
	}
	sum, err := tower.Fingerprint(words.params)
	if err != nil {
		return nil, err
	}
	keep := mixes[b.mix]()
	set, err := captionedScenes(ctx, data.Train, b.limit, func(_ int, s *shapes.Scene) bool { return keep(s) })
	if err != nil {
		return nil, err
	}
	if err := b.net.Check(); err != nil {
		return nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := unet.New(params.At(""), b.net)
	params.Init(s.Seeds.Init)
	loss, err := newCaptionLoss(net, words, b.diffusion, set, s.Batch, captionDrop)
	if err != nil {
		return nil, err
	}
	trial, err := b.newTrial(ctx, net, words)
	if err != nil {
		return nil, err
	}
	return &train.Job{
		Name: b.Name, Config: baseRecipe{b.net, words.tower.Config, sum, b.diffusion, captionDrop, b.mix, set.config()},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: loss.of, State: []nn.Part{{Prefix: textPart + ".", Of: words.params}},
		Sample: trial.sheet, Evaluate: trial.evaluate, Scores: trial.names(),
	}, nil
}

// captionLoss is the loss of a network that removes noise from pictures that it is told the captions of.
type captionLoss struct {
	*train.Denoising
	feed   *captionFeed
	states *captionStates
	told   *gpu.Tensor // [batch, slots, width]
	rows   []int
	drop   float64
}

func newCaptionLoss(net models.Net, words *textTower, d train.Diffusion, set *captioned, batch int, drop float64) (*captionLoss, error) {
	loss, err := d.NewDenoising(net, batch)
	if err != nil {
		return nil, err
	}
	dev := net.Params().Value().Device()
	return &captionLoss{
		Denoising: loss, feed: newCaptionFeed(set, dev, batch, 0), states: words.statesOf(set), rows: make([]int, batch), drop: drop,
		told: dev.New(gpu.Float32, batch, shapes.Slots, words.tower.Width()),
	}, nil
}

func (l *captionLoss) of(b *train.Batch) *nn.Var {
	x, _ := l.feed.next(b)
	for i, at := range l.feed.at {
		l.rows[i] = l.states.row[at]
		if l.drop > 0 && b.Stream(b.Seeds.Noise, i, rng.Label).Float64() < l.drop {
			l.rows[i] = 0
		}
	}
	l.states.gather(l.told, l.rows)
	return l.Loss(b, x, nil, models.Inputs{Tokens: map[string]models.Tokens{TextInput: {States: b.Tape.Input(l.told)}}})
}

func (b *shapesBase) recipeOf(s *train.Saved) (r baseRecipe, path diffusion.Path, pred diffusion.Pred, err error) {
	if err := configOf(s, &r); err != nil {
		return r, nil, 0, err
	}
	path, pred, err = conventionOf(s, r.Diffusion)
	return r, path, pred, err
}

func (b *shapesBase) path(s *train.Saved) (diffusion.Path, error) {
	_, path, _, err := b.recipeOf(s)
	return path, err
}

func (b *shapesBase) open(dev *gpu.Device, s *train.Saved, decay float64) (*systems.Trained, error) {
	r, path, pred, err := b.recipeOf(s)
	if err != nil {
		return nil, err
	}
	if err := r.Net.Check(); err != nil {
		return nil, fmt.Errorf("bases: %s: %w", s.Path, err)
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := unet.New(params.At(""), r.Net)
	params.Init(0)
	if err := s.Load(params, "net", decay); err != nil {
		return nil, err
	}
	words, err := openText(dev, s)
	if err != nil {
		return nil, err
	}
	return &systems.Trained{
		Net: net, Path: path, Pred: pred, Shape: []int{r.Net.Channels, r.Net.Height, r.Net.Width}, Lo: -1, Hi: 1,
		Prompt: func(captions []string) (map[string]*gpu.Tensor, error) {
			x, err := words.encode(captions)
			return map[string]*gpu.Tensor{TextInput: x}, err
		},
	}, nil
}
