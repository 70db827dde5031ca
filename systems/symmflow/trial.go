package symmflow

import (
	"context"

	"github.com/fidlab/fidlab/fid/measure"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The trials of networks on their way, on pictures that they do not learn.
const (
	heldCount  = 512
	sheetSide  = 8
	sheetSteps = 25
)

// trial tries a model.
type trial struct {
	m    *Model
	loss *Loss
	feed *feed
	held *set
}

func newTrial(m *Model, weight float64, held *set) *trial {
	return &trial{m, NewLoss(m, weight, bases.HeldBatch), newFeed(held, train.NewStaged(gpu.CPU(), gpu.Float32, append([]int{bases.HeldBatch}, held.shape...)...), bases.HeldBatch), held}
}

// names are those of the scores: the loss, and of labels read in one step and in 25 the mean intersection over union, or the share that are right.
func (t *trial) names() []string {
	if t.m.Coding.PerPixel() {
		return []string{"held_out", "miou_1", "miou_25"}
	}
	return []string{"held_out", "accuracy_1", "accuracy_25"}
}

func (t *trial) heldOut(ctx context.Context) (float64, error) {
	return bases.HeldLoss(ctx, nn.NewTape(gpu.CPU(), gpu.Float32), t.held.len(), func(b *train.Batch) *nn.Var {
		x, ids := t.feed.next(b)
		return t.loss.Of(b, x, ids)
	})
}

func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	loss, err := t.heldOut(ctx)
	if err != nil {
		return nil, err
	}
	out := []float64{loss}
	for _, steps := range []int{1, 25} {
		c, err := t.read(ctx, Options{Steps: steps, Seed: bases.HeldSeed})
		if err != nil {
			return nil, err
		}
		if t.m.Coding.PerPixel() {
			out = append(out, c.MeanIoU())
		} else {
			out = append(out, c.Accuracy())
		}
	}
	return out, nil
}

// all are the set's pictures, [n, C, H, W].
func (s *set) all() *gpu.Tensor {
	x := gpu.CPU().New(gpu.Float32, append([]int{s.len()}, s.shape...)...)
	for i := range s.len() {
		s.picture(x.F32()[i*s.size():][:s.size()], i)
	}
	return x
}

// read counts how the held-out labels are read.
func (t *trial) read(ctx context.Context, o Options) (*measure.Confusion, error) {
	said, err := t.m.Label(ctx, t.held.all(), o)
	if err != nil {
		return nil, err
	}
	return t.held.confusion(said, t.m.Coding.Classes)
}

// confusion counts what the set's labels were taken for.
func (s *set) confusion(said [][]uint8, classes int) (*measure.Confusion, error) {
	c := measure.NewConfusion(classes)
	for i, ids := range said {
		if err := c.Add(s.label(i), ids); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// sheet is pictures drawn of held-out labels; masks have a row of their own above each.
func (t *trial) sheet(ctx context.Context, _ int) (*imageio.Image, error) {
	rows := sheetSide
	if t.m.Coding.PerPixel() {
		rows /= 2
	}
	n := min(rows*sheetSide, t.held.len()/sheetSide*sheetSide)
	var labels [][]uint8
	for i := range n {
		labels = append(labels, t.held.label(i))
	}
	x, err := t.m.Generate(ctx, labels, Options{Steps: sheetSteps, Seed: bases.HeldSeed})
	if err != nil {
		return nil, err
	}
	drawn := pictures(x.F32(), t.held.shape, 2)
	if !t.m.Coding.PerPixel() {
		return imageio.Grid(drawn, sheetSide, 2), nil
	}
	var list []*imageio.Image
	for lo := 0; lo < n; lo += sheetSide {
		for _, ids := range labels[lo : lo+sheetSide] {
			list = append(list, t.m.Coding.mask(ids, t.held.shape[2], 2))
		}
		list = append(list, drawn[lo:lo+sheetSide]...)
	}
	return imageio.Grid(list, sheetSide, 2), nil
}

// mask is the picture of a label a pixel, w wide, in the palette's colours, by times as large.
func (c Coding) mask(ids []uint8, w, by int) *imageio.Image {
	m, err := c.Palette.Picture(&label.Map{W: w, H: len(ids) / w, IDs: ids})
	if err != nil {
		panic("symmflow: " + err.Error()) // callers have them of Decode, or of a set
	}
	return bases.Enlarged(m, by)
}
