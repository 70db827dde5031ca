package bases

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// The tasks of codecs of scenes.
const (
	ShapesVAE = "shapes-vae"
	ShapesVQ  = "shapes-vq"
)

func init() {
	for _, t := range []shapesCodec{shapesVAE(), shapesVQ()} {
		t.register()
		t.criticised().register()
	}
}

// shapesCodec is a task of an autoencoder of scenes of shapes.
type shapesCodec struct {
	systems.Task
	recipe codecRecipe // but its Data
	// scenes of train, of val that it is tried on, of train whose latents are measured; 0: all of train, heldCount, scaleCount
	train, held, scale int
}

// scaleCount is of how many examples the latents are measured.
const scaleCount = 2048

// shapesVAE leaves latents nearly as they come: a weight w of the divergence costs w/2 of squared error a latent where the posterior is at
// its optimum, with 256 latents of a picture of 3,072 values that is 50 dB below its range of 2 for the weight here.
func shapesVAE() shapesCodec {
	net := codec.ShapesVAE()
	return shapesCodec{
		Task: systems.Task{
			Name: ShapesVAE, Text: "scenes of shapes of 32×32 as 8×8 latents of 4 channels and back, convolutions, squared error and divergence",
			Source:   "Kingma and Welling 2014; Rombach et al. 2022 (network)",
			Settings: train.Settings{Steps: 2000, Batch: 32, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1},
			LogEvery: 25, SaveEvery: 100, SampleEvery: 500, EvalEvery: 500,
		},
		recipe: codecRecipe{KL: &net, Weight: 1e-3},
	}
}

func shapesVQ() shapesCodec {
	net := codec.ShapesViT()
	return shapesCodec{
		Task: systems.Task{
			Name: ShapesVQ, Text: "scenes of shapes of 32×32 as 64 indices of 256 codes and back, a vision transformer, squared error",
			Source:   "Yu et al. 2022 (ViT-VQGAN, without critic); van den Oord et al. 2017 (averages as codes)",
			Settings: train.Settings{Steps: 4000, Batch: 64, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1},
			LogEvery: 50, SaveEvery: 250, SampleEvery: 1000, EvalEvery: 500,
		},
		recipe: codecRecipe{ViT: &net},
	}
}

func (t shapesCodec) register() {
	t.Make = t.make
	systems.RegisterTask(t.Task)
}

// scenes are the scenes that a codec learns, and those that it is tried on.
type scenes struct {
	set   *shapes.Set
	train *train.Examples
	held  []*shapes.Item
}

func (t *shapesCodec) scenes(ctx context.Context) (*scenes, error) {
	s := &scenes{set: shapes.New(data.DefaultSeed), train: &train.Examples{Shape: []int{3, 32, 32}}}
	n := s.set.Len(data.Train)
	if t.train > 0 {
		n = min(n, t.train)
	}
	s.train.X = make([]float32, 0, n*3*32*32)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, _, _, _ := s.set.At(data.Train, i).Tensor()
		s.train.X = append(s.train.X, x...)
	}
	held := t.held
	if held == 0 {
		held = heldCount
	}
	for i := range min(held, s.set.Len(data.Val)) {
		s.held = append(s.held, s.set.At(data.Val, i))
	}
	return s, nil
}

func (t *shapesCodec) make(ctx context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
	set, err := t.scenes(ctx)
	if err != nil {
		return nil, err
	}
	recipe := t.recipe
	recipe.Data = dataConfig{Name: "shapes:train?seed=1", SHA256: set.train.SHA256()}
	c, err := newCodec(dev, t.Name, recipe)
	if err != nil {
		return nil, err
	}
	c.Params.Init(s.Seeds.Init)
	scale := newScale(c.channels())
	trial, err := newShapesTrial(c, set)
	if err != nil {
		return nil, err
	}
	count := t.scale
	if count == 0 {
		count = scaleCount
	}
	job := &train.Job{
		Name: t.Name, Config: recipe,
		Nets:   []*train.Network{{Name: codecPart, Params: c.Params}},
		State:  []nn.Part{{Prefix: scalePart + ".", Of: scale.params}},
		Sample: trial.sheet, Evaluate: trial.evaluate, Scores: trial.names(),
		Finish: func(ctx context.Context) error {
			const size = 3 * 32 * 32
			return c.measure(ctx, scale, min(count, set.train.Len()), set.train.Shape, func(lo, hi int) []float32 {
				return set.train.X[lo*size : hi*size]
			})
		},
	}
	l := &shapesLoss{c: c, feed: train.NewFeed(set.train, dev, gpu.Float32, s.Batch), weight: recipe.Weight}
	job.Figures = []string{"error", "nats"}
	if c.Book() != nil {
		job.Figures = []string{"error", "commitment", "batch_perplexity"}
	}
	after := func(*train.Batch) {
		scale.forget()
		if b := c.Book(); b != nil {
			b.Update(l.made)
		}
	}
	if recipe.Critic != nil {
		return job, l.criticise(job, recipe.Critic, after, train.NewFeed(set.train, dev, gpu.Float32, s.Batch), s)
	}
	job.After = after
	job.Loss = func(b *train.Batch) *nn.Var {
		_, _, mse, rest := l.of(b)
		return mse.Add(rest)
	}
	return job, nil
}

// shapesLoss is the loss of a codec of scenes without a critic.
type shapesLoss struct {
	c      *Codec
	feed   *train.Feed
	weight float64
	made   vq.Quantized // of the latest batch
}

// of is the scenes of a batch, what the codec makes of them, the squared error, a mean over values, and the rest of the loss.
func (l *shapesLoss) of(b *train.Batch) (x, y, mse, rest *nn.Var) {
	in, _ := l.feed.Next(b)
	x = b.Tape.Input(in)
	if l.c.KL != nil {
		return klLoss(b, l.c.KL, x, l.weight)
	}
	var z *nn.Var
	z, l.made = l.c.ViT.Encode(x, codec.Text{}, true)
	y = l.c.ViT.Decode(z)
	mse = nn.MSE(y, x, nil)
	b.Figure("error", mse.Item())
	b.Figure("commitment", l.made.Loss.Item())
	b.Figure("batch_perplexity", perplexity(l.made.Index, l.c.ViT.Book.Config.Codes))
	return x, y, mse, l.made.Loss
}

// klLoss is the parts of the loss of pictures x that go through latents drawn from their distributions: the squared error, and the divergence
// of these from the standard normal, weight times its nats a picture over the number of values.
func klLoss(b *train.Batch, net *codec.KL, x *nn.Var, weight float64) (in, y, mse, rest *nn.Var) {
	g := net.Encode(x)
	y = net.Decode(g.Sample(ops.ImageNoise(b.Seeds.Noise, b.First, rng.Noising)))
	mse = nn.MSE(y, x, nil)
	nats := g.KL().Mean()
	b.Figure("error", mse.Item())
	b.Figure("nats", nats.Item())
	return x, y, mse, nats.Scale(weight * float64(b.Size) / float64(x.Value().Len()))
}

// shapesTrial tries a codec while it is trained, on scenes that it does not learn.
type shapesTrial struct {
	c    *Codec
	set  *scenes
	tape *nn.Tape
	// encoder is that of the features in which scenes are compared; nil where there are too few for that. real are those of the scenes.
	encoder *extract.Encoder
	real    []float32
}

func newShapesTrial(c *Codec, set *scenes) (*shapesTrial, error) {
	t := &shapesTrial{c: c, set: set, tape: nn.NewTape(c.Params.Device(), gpu.Float32)}
	e, err := extract.OpenEncoder("shapes-enc")
	if err != nil {
		return nil, err
	}
	if len(set.held) > e.Info().Dim {
		t.encoder = e
	}
	return t, nil
}

// names are those of the scores: the mean squared error of values from -1 to 1; 10·log10(255²/error) of pictures in 8 bits, in dB; the share
// of scenes in which the reader finds all objects and no others; the Fréchet distance of the features of shapes-enc from those of the same
// scenes; of a book the share of codes that the scenes use, and their perplexity.
func (t *shapesTrial) names() []string {
	out := []string{"held_out", "psnr", "scenes"}
	if t.encoder != nil {
		out = append(out, "frechet")
	}
	if t.c.Book() != nil {
		out = append(out, "used", "perplexity")
	}
	return out
}

// distance is the Fréchet distance of pictures from the scenes, by their features.
func (t *shapesTrial) distance(ctx context.Context, pictures []*imageio.Image) (float64, error) {
	if t.real == nil {
		var err error
		if t.real, err = FeaturesOf(ctx, t.encoder, len(t.set.held), func(i int) *imageio.Image { return t.set.held[i].Image() }); err != nil {
			return 0, err
		}
	}
	v, err := FeaturesOf(ctx, t.encoder, len(pictures), func(i int) *imageio.Image { return pictures[i] })
	if err != nil {
		return 0, err
	}
	return pixelDistance(v, t.real, t.encoder.Info().Dim)
}

// through is scenes after the codec, [n, 3, 32, 32]. Indices are told to use, where there are some.
func (t *shapesTrial) through(items []*shapes.Item, use *vq.Usage) (y []float32, err error) {
	var x []float32
	for _, it := range items {
		v, _, _, _ := it.Tensor()
		x = append(x, v...)
	}
	t.tape.Run(func() {
		t.tape.NoGrad(func() {
			z, index := t.c.Encode(onTape(t.tape, x, len(items), 3, 32, 32))
			if index != nil && use != nil {
				use.Add(index)
			}
			y, err = t.c.Decode(z).Value().Floats()
		})
	})
	return append([]float32{}, y...), err
}

func (t *shapesTrial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	var use *vq.Usage
	if b := t.c.Book(); b != nil {
		use = vq.NewUsage(b.Config.Codes)
	}
	var squares, levels float64
	whole, size := 0, 3*32*32
	var pictures []*imageio.Image
	for lo := 0; lo < len(t.set.held); lo += HeldBatch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		items := t.set.held[lo:min(lo+HeldBatch, len(t.set.held))]
		y, err := t.through(items, use)
		if err != nil {
			return nil, err
		}
		made := Pictures(y, t.set.train.Shape)
		pictures = append(pictures, made...)
		for i, it := range items {
			x, _, _, _ := it.Tensor()
			for k, v := range x {
				d := float64(v) - float64(y[i*size+k])
				squares += d * d
			}
			for k, v := range it.Pix {
				d := float64(v) - float64(made[i].Pix[k])
				levels += d * d
			}
			given, err := data.Give(it)
			if err != nil {
				return nil, err
			}
			given.Pictures[0].Image = made[i]
			read, err := t.set.set.Check(given)
			if err != nil {
				return nil, err
			}
			if read.OK {
				whole++
			}
		}
	}
	n := float64(len(t.set.held))
	out := []float64{squares / (n * float64(size)), 10 * math.Log10(255*255*n*float64(size)/levels), float64(whole) / n}
	if t.encoder != nil {
		d, err := t.distance(ctx, pictures)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	if use != nil {
		out = append(out, use.Used(), use.Perplexity())
	}
	return out, nil
}

// sheet is scenes above what the codec makes of them, row by row.
func (t *shapesTrial) sheet(_ context.Context, _ int) (*imageio.Image, error) {
	cols := min(previewSide, len(t.set.held))
	items := t.set.held[:min(4, len(t.set.held)/cols)*cols]
	y, err := t.through(items, nil)
	if err != nil {
		return nil, err
	}
	made := Pictures(y, t.set.train.Shape)
	var list []*imageio.Image
	for lo := 0; lo < len(items); lo += cols {
		for _, it := range items[lo : lo+cols] {
			list = append(list, Enlarged(it.Image(), 2))
		}
		for _, m := range made[lo : lo+cols] {
			list = append(list, Enlarged(m, 2))
		}
	}
	return imageio.Grid(list, cols, 2), nil
}
