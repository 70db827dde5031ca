package bases

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/text"
	"github.com/fidlab/fidlab/train"
)

// captioned is scenes with their captions in memory. Pictures are kept as bytes.
type captioned struct {
	name   string
	side   int
	pix    []uint8 // [n, side, side, 3]
	ids    []uint8 // [n, shapes.Slots]
	scenes []*shapes.Scene
}

// captionedScenes are the first n scenes of a split that pass keep, all of them for n 0; keep nil passes all.
func captionedScenes(ctx context.Context, split data.Split, n int, keep func(i int, s *shapes.Scene) bool) (*captioned, error) {
	set := shapes.New(data.DefaultSeed)
	out := &captioned{name: fmt.Sprintf("%s:%s?seed=%d", set.Name(), split, data.DefaultSeed), side: set.Size()}
	for i := range set.Len(split) {
		if n > 0 && out.len() == n {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if keep != nil && !keep(i, set.Scene(split, i)) {
			continue
		}
		it := set.At(split, i)
		out.pix = append(out.pix, it.Pix...)
		out.ids = append(out.ids, it.Tokens[:]...)
		out.scenes = append(out.scenes, it.Scene)
	}
	if out.len() == 0 {
		return nil, data.Errorf("bases: no scene of %s is wanted", out.name)
	}
	return out, nil
}

func (c *captioned) len() int { return len(c.scenes) }

// config is the set's part of a checkpoint.
func (c *captioned) config() dataConfig {
	h := sha256.New()
	for _, n := range []int{c.len(), c.side} {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	h.Write(c.pix)
	h.Write(c.ids)
	return dataConfig{Name: c.name, SHA256: hex.EncodeToString(h.Sum(nil))}
}

// picture writes picture i, moved dx pixels to the right and dy down, to x [3, side, side], from -1 to 1. What comes in at the
// border repeats it.
func (c *captioned) picture(x []float32, i, dx, dy int) {
	n := c.side
	src := c.pix[i*n*n*3:][:n*n*3]
	for y := range n {
		for col := range n {
			p := 3 * (min(n-1, max(0, y-dy))*n + min(n-1, max(0, col-dx)))
			for k := range 3 {
				x[(k*n+y)*n+col] = float32(src[p+k])/127.5 - 1
			}
		}
	}
}

// tokens writes the ids of caption i.
func (c *captioned) tokens(to []int32, i int) {
	for k, id := range c.ids[i*shapes.Slots:][:shapes.Slots] {
		to[k] = int32(id)
	}
}

// captionFeed hands out batches of captioned pictures.
type captionFeed struct {
	set   *captioned
	order *train.Order
	most  int // pixels that a picture is moved, to all sides
	x     *train.Staged
	ids   *gpu.Tensor // Int32 [batch, shapes.Slots] on the CPU
	at    []int       // numbers of the examples
}

func newCaptionFeed(set *captioned, dev *gpu.Device, batch, most int) *captionFeed {
	return &captionFeed{
		set: set, order: train.NewOrder(set.len()), most: most, x: train.NewStaged(dev, gpu.Float32, batch, 3, set.side, set.side),
		ids: gpu.CPU().New(gpu.Int32, batch, shapes.Slots), at: make([]int, batch),
	}
}

// next is the pictures and the captions of a batch, valid until the next call. at has which examples they are.
func (f *captionFeed) next(b *train.Batch) (x, ids *gpu.Tensor) {
	for i := range f.at {
		f.at[i] = f.order.At(b.Seeds.Data, b.First+uint64(i))
		dx, dy := 0, 0
		if f.most > 0 {
			s := b.Stream(b.Seeds.Noise, i, rng.Shift)
			dx, dy = s.Intn(2*f.most+1)-f.most, s.Intn(2*f.most+1)-f.most
		}
		f.put(i, f.at[i], dx, dy)
	}
	return f.x.Send(), f.ids
}

// these is the examples of those numbers, as many as a batch has, in their places.
func (f *captionFeed) these(at []int) (x, ids *gpu.Tensor) {
	for i, k := range at {
		f.at[i] = k
		f.put(i, k, 0, 0)
	}
	return f.x.Send(), f.ids
}

func (f *captionFeed) put(i, k, dx, dy int) {
	size := 3 * f.set.side * f.set.side
	f.set.picture(f.x.Values[i*size:][:size], k, dx, dy)
	f.set.tokens(f.ids.I32()[i*shapes.Slots:][:shapes.Slots], k)
}

// encode is the ids of captions, Int32 [n, shapes.Slots] on the CPU. words is how many ids the text tower has.
func encode(captions []string, words int) (*gpu.Tensor, error) {
	out := gpu.CPU().New(gpu.Int32, len(captions), shapes.Slots)
	var row [shapes.Slots]uint8
	for i, c := range captions {
		if err := text.Scenes.Encode(row[:], c); err != nil {
			return nil, data.Errorf("caption %q: %w", c, err)
		}
		for k, id := range row {
			if int(id) >= words {
				return nil, data.Errorf("caption %q: %q is a word of glyphs, and the network has learned captions of shapes alone", c, text.Scenes.Word(int(id)))
			}
			out.I32()[i*shapes.Slots+k] = int32(id)
		}
	}
	return out, nil
}
