package bases

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/train"
)

// Codec is a trained network that turns pictures, or motions, into latents and back. One of KL, ViT and Motion is there.
type Codec struct {
	Task   string // that trained it
	Params *nn.Params
	KL     *codec.KL     // of shapes-vae: pictures [N, 3, 32, 32] from -1 to 1
	ViT    *codec.ViT    // of shapes-vq: the same
	Motion *codec.Motion // of motion-base: rows [N, T, width], normalised by Stats, T a multiple of 4
	Stats  *motion.Stats
	Scale  Scale
}

// Scale is the size of a codec's latents over examples that it was trained on, by channel. A network that makes latents learns
// (z - Mean)/Deviation: what a codec's loss leaves free is then the same for all codecs.
type Scale struct {
	Mean      []float64
	Deviation []float64 // of latents as they are drawn: that of the means, and of the normals around them
	Latents   int       // vectors that it was measured on
}

// codecRecipe is a codec's part of a checkpoint. One of the networks is there.
type codecRecipe struct {
	KL     *codec.Config       `json:"kl,omitempty"`
	ViT    *codec.ViTConfig    `json:"vit,omitempty"`
	Motion *codec.MotionConfig `json:"motion,omitempty"`
	// Weight is that of the divergence from the standard normal, in nats a picture, against the squared error summed over a picture.
	Weight float64       `json:"kl_weight,omitempty"`
	Joints float64       `json:"joints_weight,omitempty"` // of the positions of joints, beside the distance of whole rows
	Critic *criticRecipe `json:"critic,omitempty"`
	Data   dataConfig    `json:"data"`
}

// newCodec makes the network of a recipe, before Init.
func newCodec(dev *gpu.Device, task string, r codecRecipe) (*Codec, error) {
	c := &Codec{Task: task, Params: nn.NewParams(dev, gpu.Float32)}
	many := 0
	for _, has := range []bool{r.KL != nil, r.ViT != nil, r.Motion != nil} {
		if has {
			many++
		}
	}
	switch {
	case many != 1:
		return nil, data.Errorf("the configuration has %d networks of codecs, want one", many)
	case r.KL != nil:
		if err := r.KL.Check(); err != nil {
			return nil, err
		}
		c.KL = codec.NewKL(c.Params.At(""), *r.KL)
	case r.ViT != nil:
		if err := r.ViT.Check(); err != nil {
			return nil, err
		}
		if r.ViT.Text > 0 {
			return nil, data.Errorf("codec: Text is %d, want 0: nothing here knows of texts", r.ViT.Text)
		}
		c.ViT = codec.NewViT(c.Params.At(""), *r.ViT)
	default:
		if err := r.Motion.Check(); err != nil {
			return nil, err
		}
		c.Motion = codec.NewMotion(c.Params.At(""), *r.Motion)
	}
	return c, nil
}

// The parts of a codec's checkpoint.
const (
	codecPart = "net"
	scalePart = "scale"
	rowsPart  = "rows" // of motions: the statistics of their rows
)

// OpenCodec makes the codec of a checkpoint, with the weights that it was tried with: the first average that the run kept, else the
// weights themselves. The run must have come to its end, where the scale of the latents is measured.
func OpenCodec(dev *gpu.Device, s *train.Saved) (*Codec, error) {
	var r codecRecipe
	if err := configOf(s, &r); err != nil {
		return nil, data.Errorf("%w", err)
	}
	c, err := newCodec(dev, s.Job, r)
	if err != nil {
		return nil, data.Errorf("bases: %s, a checkpoint of %s: %w", s.Path, s.Job, err)
	}
	c.Params.Init(0)
	if err := s.Load(c.Params, codecPart, s.Averages()[0]); err != nil {
		return nil, err
	}
	if c.Motion != nil {
		if c.Stats, err = loadStats(s, c.Motion.Config.Channels); err != nil {
			return nil, err
		}
	}
	kept := newScale(c.channels())
	if err := s.Load(kept.params, scalePart, 0); err != nil {
		return nil, err
	}
	if c.Scale = kept.scale(); c.Scale.Latents == 0 {
		return nil, data.Errorf("bases: %s stands at step %d of %d: the scale of its latents is measured at the end; go on with fidlab train %s --resume",
			s.Path, s.Step, s.Settings.Steps, s.Job)
	}
	return c, nil
}

// channels is the width of a latent.
func (c *Codec) channels() int {
	switch {
	case c.KL != nil:
		return c.KL.Config.Latent
	case c.ViT != nil:
		return c.ViT.Config.Latent
	}
	return c.Motion.Config.Codes.Book.Width
}

// Book is the book of codes, of several levels the first; nil where latents are continuous.
func (c *Codec) Book() *vq.Book {
	switch {
	case c.KL != nil:
		return nil
	case c.ViT != nil:
		return c.ViT.Book
	}
	return c.Motion.Quantizer.Book(0)
}

// Encode is the latents of pictures or motions x: [N, channels, h, w] of shapes-vae, the means of their distributions; codes
// [N, 64, width] of shapes-vq and [N, T/4, width] of motion-base with their indices, Int32 on the CPU until the tape's next Run, one
// of each code (of several levels [N·T/4, levels]).
func (c *Codec) Encode(x *nn.Var) (z *nn.Var, index *gpu.Tensor) {
	switch {
	case c.KL != nil:
		return c.KL.Encode(x).Mean, nil
	case c.ViT != nil:
		z, made := c.ViT.Encode(x, codec.Text{}, false)
		return z, made.Index
	}
	z, made := c.Motion.Encode(x, false, 0)
	return z, made.Index
}

// Decode is the pictures or motions of latents.
func (c *Codec) Decode(z *nn.Var) *nn.Var {
	switch {
	case c.KL != nil:
		return c.KL.Decode(z)
	case c.ViT != nil:
		return c.ViT.Decode(z)
	}
	return c.Motion.Decode(z)
}

// keptScale is a Scale in a checkpoint.
type keptScale struct {
	params               *nn.Params
	mean, spread, counts *gpu.Tensor
}

func newScale(channels int) *keptScale {
	p := numbers(map[string]int{"mean": channels, "deviation": channels, "latents": 1})
	return &keptScale{p, p.Get("mean").Value, p.Get("deviation").Value, p.Get("latents").Value}
}

// numbers are vectors of float64 of those lengths that a checkpoint keeps, 0 as yet; nothing trains them.
func numbers(lengths map[string]int) *nn.Params {
	p := nn.NewParams(gpu.CPU(), gpu.Float64)
	for _, name := range slices.Sorted(maps.Keys(lengths)) {
		p.At("").Param(name, nn.Zeros, lengths[name])
	}
	p.Init(0)
	return p
}

func (k *keptScale) scale() Scale {
	return Scale{slices.Clone(k.mean.F64()), slices.Clone(k.spread.F64()), int(k.counts.F64()[0])}
}

// forget says that the weights are no longer those that were measured.
func (k *keptScale) forget() { k.counts.F64()[0] = 0 }

// scaleSums add up latents, by channel.
type scaleSums struct {
	n              int
	sum, square    []float64 // of means
	noise          []float64 // of variances
	values, around []float32
}

// add takes in latents z, whose channels are axis 1 of [N, C, h, w] or the last, and the logarithms of the variances of the normals around
// them, nil for none.
func (s *scaleSums) add(z, logVar *nn.Var) error {
	shape := z.Shape()
	c, after := shape[len(shape)-1], 1
	if len(shape) == 4 {
		c, after = shape[1], shape[2]*shape[3]
	}
	if s.sum == nil {
		s.sum, s.square, s.noise = make([]float64, c), make([]float64, c), make([]float64, c)
	}
	var err error
	if s.values, err = z.Value().Floats(); err != nil {
		return err
	}
	for i, v := range s.values {
		k := i / after % c
		s.sum[k] += float64(v)
		s.square[k] += float64(v) * float64(v)
	}
	s.n += len(s.values) / c
	if logVar == nil {
		return nil
	}
	if s.around, err = logVar.Value().Floats(); err != nil {
		return err
	}
	for i, v := range s.around {
		s.noise[i/after%c] += math.Exp(float64(v))
	}
	return nil
}

// keep writes what was added up.
func (s *scaleSums) keep(k *keptScale) {
	n := float64(s.n)
	for i := range s.sum {
		mean := s.sum[i] / n
		k.mean.F64()[i] = mean
		k.spread.F64()[i] = math.Sqrt(max(0, s.square[i]/n-mean*mean) + s.noise[i]/n)
	}
	k.counts.F64()[0] = n
}

// measure brings the scale of the latents of n examples of a shape into k; batch is examples lo to hi.
func (c *Codec) measure(ctx context.Context, k *keptScale, n int, shape []int, batch func(lo, hi int) []float32) error {
	tape := nn.NewTape(c.Params.Device(), gpu.Float32)
	var sums scaleSums
	for lo := 0; lo < n; lo += HeldBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		hi := min(lo+HeldBatch, n)
		values := batch(lo, hi)
		var err error
		tape.Run(func() {
			tape.NoGrad(func() {
				x := onTape(tape, values, append([]int{hi - lo}, shape...)...)
				if c.KL != nil {
					g := c.KL.Encode(x)
					err = sums.add(g.Mean, g.LogVar)
					return
				}
				z, _ := c.Encode(x)
				err = sums.add(z, nil)
			})
		})
		if err != nil {
			return err
		}
	}
	sums.keep(k)
	return nil
}

// onTape is values on a tape, until its next Run.
func onTape(t *nn.Tape, values []float32, shape ...int) *nn.Var {
	x := t.Arena().New(gpu.Float32, shape...)
	x.Set(values)
	return t.Input(x)
}

// perplexity is that of the indices of a batch.
func perplexity(index *gpu.Tensor, codes int) float64 {
	u := vq.NewUsage(codes)
	u.Add(index)
	return u.Perplexity()
}
