package bases

import (
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/train"
)

// textPart is what a frozen text tower is called in checkpoints of networks that were trained on it.
const textPart = "text"

// textTower is a frozen one.
type textTower struct {
	tower  *tower.Text
	params *nn.Params
	tape   *nn.Tape
}

// openText makes the text tower of a checkpoint: of tiny-clip its own, of a network that was trained on one the copy that it keeps.
func openText(dev *gpu.Device, s *train.Saved) (*textTower, error) {
	var c tower.TextConfig
	part := textPart
	if s.Job == TinyCLIP {
		r, err := clipRecipeOf(s)
		if err != nil {
			return nil, err
		}
		c, part = r.Net.Text, "net.text_model"
	} else {
		var r baseRecipe
		if err := configOf(s, &r); err != nil {
			return nil, err
		}
		if c = r.Text; c.Width == 0 {
			return nil, data.Errorf("bases: %s is a checkpoint of %s, which has no text tower; want one of %s", s.Path, s.Job, TinyCLIP)
		}
		if err := c.Check(); err != nil {
			return nil, fmt.Errorf("bases: %s: %w", s.Path, err)
		}
	}
	t := &textTower{params: nn.NewParams(dev, gpu.Float32), tape: nn.NewTape(dev, gpu.Float32)}
	t.tower = tower.NewText(t.params.At(""), c)
	t.params.Init(0)
	t.params.Freeze(true)
	return t, s.Load(t.params, part, 0)
}

// encodeBatch is how many captions the tower sees at a time.
const encodeBatch = 64

// states are the last layer's at all slots of captions, [n, slots, width], of ids [n, slots]. Those of a caption do not depend on the
// others: a batch is always full.
func (t *textTower) states(ids *gpu.Tensor) *gpu.Tensor {
	n, slots := ids.Shape()[0], ids.Shape()[1]
	out := t.params.Value().Device().New(gpu.Float32, n, slots, t.tower.Width())
	batch := gpu.CPU().New(gpu.Int32, encodeBatch, slots)
	for lo := 0; lo < n; lo += encodeBatch {
		hi := min(lo+encodeBatch, n)
		for i := range encodeBatch {
			at := min(lo+i, hi-1)
			copy(batch.I32()[i*slots:(i+1)*slots], ids.I32()[at*slots:(at+1)*slots])
		}
		t.tape.Run(func() {
			t.tape.NoGrad(func() {
				s, _ := t.tower.Forward(t.tape, batch)
				out.Rows(lo, hi).Copy(s.Value().Rows(0, hi-lo))
			})
		})
	}
	return out
}

// encode is the states of captions, [n, slots, width]; it refuses unknown words.
func (t *textTower) encode(captions []string) (*gpu.Tensor, error) {
	ids, err := encode(captions, t.tower.Config.Vocab)
	if err != nil {
		return nil, err
	}
	return t.states(ids), nil
}

// captionStates are the states of a set's captions, each once; row 0 is the empty caption.
type captionStates struct {
	row   []int // of each example
	table *gpu.Tensor
}

// statesOf computes the states of a set's captions.
func (t *textTower) statesOf(set *captioned) *captionStates {
	known := map[[shapes.Slots]uint8]int{}
	var all []int32
	number := func(ids []uint8) int {
		key := [shapes.Slots]uint8(ids)
		at, ok := known[key]
		if !ok {
			at = len(known)
			known[key] = at
			for _, id := range ids {
				all = append(all, int32(id))
			}
		}
		return at
	}
	empty, err := encode([]string{""}, t.tower.Config.Vocab)
	if err != nil {
		panic(err) // it has no word
	}
	none := make([]uint8, shapes.Slots)
	for i, id := range empty.I32() {
		none[i] = uint8(id)
	}
	number(none)
	s := &captionStates{}
	for i := range set.len() {
		s.row = append(s.row, number(set.ids[i*shapes.Slots:(i+1)*shapes.Slots]))
	}
	s.table = t.states(gpu.CPU().FromInt32(all, len(known), shapes.Slots))
	return s
}

// gather copies rows of the table.
func (s *captionStates) gather(to *gpu.Tensor, rows []int) {
	for i, r := range rows {
		to.Rows(i, i+1).Copy(s.table.Rows(r, r+1))
	}
}
