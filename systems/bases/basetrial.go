package bases

import (
	"context"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
)

// The trials of networks that draw by captions.
const (
	trialSteps    = 25 // of DDIM
	trialGuidance = 2
)

// baseTrial tries a network while it is trained: its loss on scenes of val, and what it draws by their captions.
type baseTrial struct {
	net      models.Net
	words    *textTower
	loss     *captionLoss
	tape     *nn.Tape
	grid     *diffusion.Grid
	den      *sampler.Guided
	captions []string // of one object, then of two, then of three
	count    [3]int

	// What the preview of a step has drawn, for the evaluation that may follow it.
	drawn     []*imageio.Image
	drawnStep int
}

func (b *shapesBase) newTrial(ctx context.Context, net models.Net, words *textTower) (*baseTrial, error) {
	n := 2048
	if b.limit > 0 {
		n = b.limit
	}
	set, err := captionedScenes(ctx, data.Val, n, nil)
	if err != nil {
		return nil, err
	}
	t := &baseTrial{net: net, words: words, tape: nn.NewTape(net.Params().Value().Device(), gpu.Float32)}
	if t.loss, err = newCaptionLoss(net, words, b.diffusion, set, HeldBatch, 0); err != nil {
		return nil, err
	}
	for k, want := range b.scored {
		for _, s := range set.scenes {
			if len(s.Objects) == k+1 && t.count[k] < want {
				t.captions = append(t.captions, s.Caption)
				t.count[k]++
			}
		}
	}
	path, pred, err := b.diffusion.Convention()
	if err != nil {
		return nil, err
	}
	if t.grid, err = diffusion.Build(path, diffusion.Spec{Rule: b.Grid, Steps: trialSteps}); err != nil {
		return nil, err
	}
	t.den = &sampler.Guided{Den: network.Denoiser(net, path, pred, network.Options{Batch: 32}), Weight: trialGuidance}
	return t, nil
}

// names are those of the scores.
func (t *baseTrial) names() []string {
	out := []string{"held_out"}
	for k, name := range []string{"single", "binding", "binding_three"} {
		if t.count[k] > 0 {
			out = append(out, name)
		}
	}
	return out
}

// evaluate is the loss on scenes of val, the same ones under the same noise each time, and the share of the objects of captions that
// the reader finds in what the network draws by them.
func (t *baseTrial) evaluate(ctx context.Context, step int) ([]float64, error) {
	loss, err := HeldLoss(ctx, t.tape, t.loss.feed.set.len(), t.loss.of)
	if err != nil {
		return nil, err
	}
	out := []float64{loss}
	if len(t.captions) == 0 {
		return out, nil
	}
	pictures := t.drawn
	t.drawn = nil // the weights may change before the next call
	if pictures == nil || t.drawnStep != step {
		if pictures, err = t.draw(ctx, t.captions); err != nil {
			return nil, err
		}
	}
	from := 0
	for _, n := range t.count {
		if n == 0 {
			continue
		}
		found, asked := 0, 0
		for i := from; i < from+n; i++ {
			g, err := gradeOf(t.captions[i], pictures[i])
			if err != nil {
				return nil, err
			}
			found, asked = found+g.Found, asked+g.Asked
		}
		out = append(out, float64(found)/float64(asked))
		from += n
	}
	return out, nil
}

// gradeOf is how far a picture fits a caption.
func gradeOf(caption string, m *imageio.Image) (shapes.Grades, error) {
	seen, err := shapes.Read(m)
	if err != nil {
		return shapes.Grades{}, err
	}
	return shapes.Score(caption, seen)
}

// draw draws a picture by each caption.
func (t *baseTrial) draw(ctx context.Context, captions []string) ([]*imageio.Image, error) {
	states, err := t.words.encode(append(slices.Clone(captions), ""))
	if err != nil {
		return nil, err
	}
	n := len(captions)
	t.den.Null.Inputs = map[string]*gpu.Tensor{TextInput: states.Rows(n, n+1)}
	k := t.net.Takes()
	o := sampler.Options{
		Seed: HeldSeed, N: n, Batch: 64, Shape: []int{k.Channels, k.Height, k.Width}, Device: t.net.Params().Value().Device(),
		Cond: sampler.Cond{Inputs: map[string]*gpu.Tensor{TextInput: states.Rows(0, n)}},
	}
	r, err := sampler.Run(ctx, t.den, sampler.DDIM{}, t.grid, o)
	if err != nil {
		return nil, err
	}
	v, err := r.X.Floats()
	if err != nil {
		return nil, err
	}
	return Pictures(v, o.Shape), nil
}

// sheet is a contact sheet of pictures drawn by the captions of the scores.
func (t *baseTrial) sheet(ctx context.Context, step int) (*imageio.Image, error) {
	pictures, err := t.draw(ctx, t.captions)
	if err != nil {
		return nil, err
	}
	t.drawn, t.drawnStep = pictures, step
	return imageio.Grid(pictures, previewSide, 2), nil
}
