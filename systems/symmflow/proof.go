package symmflow

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 3, Name: "symmflow",
		Source: "Caetano et al. 2025, Symmetrical Flow Matching: Unified Image Generation, Segmentation, and Classification with Score-Based Generative Models (AAAI 2026), arXiv 2506.10634",
		Idea: "One velocity network on a picture and its label: while time runs one way the picture goes from noise to data and the label from data to noise. Forward it draws a picture " +
			"with a given label, backward it reads a picture's label, in a single step if wanted.",
		Headline: "segmentation/one step",
		Remark:   "one network does all three in few more parameters, but reads forms less well than one that only reads; classes want a channel each",
		Plan:     plan,
		Sheets:   []string{"segmentation", "generation", "digits"},
		Open: []string{
			"CelebAMask-HQ, COCO-Stuff, CIFAR-10 and the latent variant: pictures of that size on a CPU, and an autoencoder's and Stable Diffusion's weights.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	n, seeds, batch      int
	steps, tuned, trials int // of training scenes; of a training that only tunes; rates tried
	learned, others      int // scenes that are learned, and others that pictures are compared with
	held                 int // scenes of the held-out loss
	many                 int // steps of Euler's method where there are several
	again                int // labels that are drawn twice
	digitN, digitBatch   int
	digitSteps           int
	reference            int // test digits that drawn ones are compared with
	tiny                 bool
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 66, seeds: 2, batch: 4, steps: 3, tuned: 2, trials: 2, learned: 40, others: 70, held: 64, many: 2, again: 2, digitN: 66, digitBatch: 4, digitSteps: 3, reference: 100, tiny: true},
	systems.Short: {n: 66, seeds: 2, batch: 8, steps: 25, tuned: 6, trials: 2, learned: 2000, others: 500, held: 64, many: 4, again: 16, digitN: 200, digitBatch: 64, digitSteps: 100, reference: 2000},
	systems.Full:  {n: 500, seeds: 3, batch: 16, steps: 2000, tuned: 300, trials: 2, learned: learnedScenes, others: otherScenes, held: heldCount, many: 25, again: 64, digitN: 2000, digitBatch: 128, digitSteps: 3000, reference: 10000},
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	return []systems.Experiment{s.segmentation(), s.generation(), s.digits()}, nil
}

// rates that arms are tuned over.
func (s sizes) rates() []systems.Params {
	return []systems.Params{{"lr": 2e-3}, {"lr": 1e-3}}[:s.trials]
}

// scenesRecipe is that of the task with as many scenes as the tier learns.
func (s sizes) scenesRecipe() recipe {
	r := shapesRecipe()
	if s.learned != learnedScenes {
		r.learn = always(func() *set { return scenes(data.Train, 0, s.learned) })
	}
	if s.tiny {
		u := r.net.UNet
		u.Patch, u.Base, u.Mult, u.AttnAt, u.HeadWidth, u.Waves.Width, u.Embed = 4, 8, []int{1}, nil, 8, 8, 16
	}
	return r
}

// The ways to train a network on scenes.
const (
	both     = "SymmFlow"
	direct   = "direct"
	onlyDraw = "conditional"
)

var ways = map[string]string{
	both:     "one network both ways",
	direct:   "the same network from the picture to the classes of its pixels, cross-entropy",
	onlyDraw: "the same network on the picture's flow, the mask a condition",
}

// net is a trained network of one of the ways; the others are nil.
type netOf struct {
	model       *Model
	segmenter   *segmenter
	conditional *conditional
	params      int
	loss        float64 // held out, of its own objective
}

// settings of a training of scenes or digits.
func settings(steps, batch int, rate float64, seed uint64) train.Settings {
	return train.Settings{
		Steps: steps, Batch: batch, Rate: rate, Schedule: "cosine", Warmup: min(100, steps/4), Clip: 1, EMA: []float64{min(0.998, 1-3/float64(steps+3))}, Seeds: train.SeedsOf(seed),
	}
}

// train trains a network of a way, or takes the one that was trained so before.
func (s sizes) train(ctx context.Context, env *systems.Env, way string, steps int, rate float64, seed uint64) (*netOf, error) {
	return systems.Memo(env, fmt.Sprintf("symmflow %+v %s %d %g %d", s, way, steps, rate, seed), func() (*netOf, error) {
		r := s.scenesRecipe()
		learn, err := systems.Memo(env, fmt.Sprintf("symmflow scenes %d", s.learned), r.learn)
		if err != nil {
			return nil, err
		}
		t := course{recipe: r, learn: learn, held: heldScenes().part(0, s.held), settings: settings(steps, s.batch, rate, seed)}
		t.params = nn.NewParams(gpu.CPU(), gpu.Float32)
		return t.train(ctx, way)
	})
}

// course is a training of one of the ways.
type course struct {
	recipe
	learn, held *set
	settings    train.Settings
	params      *nn.Params
}

// train trains the network of a way and tries it on the pictures that are held out.
func (t *course) train(ctx context.Context, way string) (*netOf, error) {
	var out netOf
	var err error
	var loss func(batch int) func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var
	switch way {
	case direct:
		out.segmenter, err = newSegmenter(t.params, t.net, t.channels, t.coding.Classes)
		loss = func(batch int) func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var {
			labels := gpu.CPU().New(gpu.Int32, batch*t.learn.labels())
			return func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var {
				return out.segmenter.loss(b, x.Send(), ids, labels)
			}
		}
	case onlyDraw:
		out.conditional, err = newConditional(t.params, t.net, t.channels, t.coding)
		loss = func(batch int) func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var {
			c := out.conditional
			denoising, bad := towardsData.NewDenoising(c.net, batch)
			if bad != nil {
				panic("symmflow: " + bad.Error()) // the convention is this package's
			}
			extra := train.NewStaged(gpu.CPU(), gpu.Float32, batch, c.coding.Channels(), sceneSide, sceneSide)
			return func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var {
				c.told(extra.Values, batch, ids)
				return denoising.Loss(b, x.Send(), nil, models.Inputs{Extra: b.Tape.Input(extra.Send())})
			}
		}
	default:
		out.model, err = build(t.params, t.net.with(t.channels+t.coding.Channels(), 0, 0), t.coding, t.channels)
		loss = func(batch int) func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var {
			l := NewLoss(out.model, t.weight, batch)
			l.Ends = t.ends
			return func(b *train.Batch, x *train.Staged, ids []uint8) *nn.Var { return l.Of(b, x.Values, ids) }
		}
	}
	if err != nil {
		return nil, err
	}
	t.params.Init(t.settings.Seeds.Init)
	of := func(from *set, batch int) func(b *train.Batch) *nn.Var {
		x := train.NewStaged(gpu.CPU(), gpu.Float32, append([]int{batch}, from.shape...)...)
		f, l := newFeed(from, x, batch), loss(batch)
		return func(b *train.Batch) *nn.Var {
			_, ids := f.next(b)
			return l(b, x, ids)
		}
	}
	job := &train.Job{Name: Shapes, Config: way, Nets: []*train.Network{{Name: "net", Params: t.params}}, Loss: of(t.learn, t.settings.Batch)}
	if err := trainHere(ctx, job, t.settings); err != nil {
		return nil, err
	}
	out.params = t.params.Value().Len()
	out.loss, err = bases.HeldLoss(ctx, nn.NewTape(gpu.CPU(), gpu.Float32), t.held.len(), of(t.held, bases.HeldBatch))
	return &out, err
}
