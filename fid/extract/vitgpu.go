package extract

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops"
)

// vitOn is a vision transformer on a GPU. It always runs a whole batch, so that sizes, which decide how products are cut, are one.
type vitOn struct {
	dev    *gpu.Device
	embed  tower.DenseOn
	places *gpu.Tensor // [tokens·width]
	net    *tower.FrozenOn
	batch  int
	tokens int
	in     int // values of a patch
	runs   *gpu.Lanes[*vitRun]
}

type vitRun struct {
	patches, x, places *gpu.Tensor // [batch·tokens, in], [batch, tokens·width]
	net                *tower.FrozenRun
}

func newVitOn(dev *gpu.Device, v *vit) (*vitOn, error) {
	o := &vitOn{
		dev: dev, embed: v.embed.On(dev), places: dev.From(v.places, 1, len(v.places)), net: v.net.On(dev), batch: v.batch, tokens: v.tokens(), in: v.embed.In,
	}
	o.runs = gpu.NewLanes(dev, o.prepare, (*vitRun).free)
	return o, dev.Sync()
}

func (o *vitOn) prepare(dev *gpu.Device) (*vitRun, error) {
	r := &vitRun{
		patches: dev.Zeros(gpu.Float32, o.batch*o.tokens, o.in), x: dev.Empty(o.batch, o.places.Len()),
		places: o.places.On(dev), net: o.net.Prepare(dev, o.batch, o.tokens),
	}
	return r, dev.Err()
}

func (r *vitRun) free() {
	r.patches.Free()
	r.x.Free()
	r.net.Free()
}

// run computes the vectors of pictures whose patches are laid out; what is left of the batch is what was there.
func (o *vitOn) run(patches, out []float32) error {
	return o.runs.Use(func(_ *gpu.Device, r *vitRun) error {
		r.patches.Rows(0, len(patches)/o.in).Set(patches)
		o.embed.Apply(r.x.View(o.batch*o.tokens, r.x.Len()/(o.batch*o.tokens)), r.patches)
		ops.Add(r.x, r.x, r.places, false)
		y := r.net.Run(r.x)
		return y.View(y.Len()).Rows(0, len(out)).Read(out)
	})
}
