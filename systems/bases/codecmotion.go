package bases

import (
	"context"
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	motionset "github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// MotionBase is the task of the codec of motions.
const MotionBase = "motion-base"

func init() { motionBase().register() }

// motionCodec is a task of an autoencoder of motions.
type motionCodec struct {
	systems.Task
	recipe codecRecipe // but its Data
	// clips of train, of val that it is tried on, of train whose latents are measured; 0: all, all, scaleCount
	train, held, scale int
}

// motionWindow is how many rows of a clip are learned at a time: none is shorter.
const motionWindow = 40

func motionBase() motionCodec {
	net := codec.MotionVQ(motion.HumanML3D.Width)
	return motionCodec{
		Task: systems.Task{
			Name: MotionBase, Text: "motions of 263 numbers a row as one index of 256 codes for four rows and back, convolutions over time, smooth L1",
			Source:   "Pinyoanuntapong et al. 2024 (MMM); Zhang et al. 2023 (T2M-GPT)",
			Settings: train.Settings{Steps: 6000, Batch: 64, Rate: 1e-3, Betas: []float64{0.9, 0.99}, Schedule: "cosine", Warmup: 200, Clip: 1},
			LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
		},
		recipe: codecRecipe{Motion: &net, Joints: 0.5},
	}
}

func (t motionCodec) register() {
	t.Make = t.make
	systems.RegisterTask(t.Task)
}

// clips are the clips that a codec learns, in rows that are normalised by stats, and those that it is tried on.
type clips struct {
	stats *motion.Stats
	rows  []float32 // of all clips that are learned
	from  []int     // the first value of each, and the end
	held  []*motionset.Item
}

func (t *motionCodec) clips(ctx context.Context) (*clips, error) {
	set, layout := motionset.New(data.DefaultSeed), motion.HumanML3D
	c, sums := &clips{from: []int{0}}, motion.NewSums(layout)
	n, held := set.Len(data.Train), set.Len(data.Val)
	if t.train > 0 {
		n = min(n, t.train)
	}
	if t.held > 0 {
		held = min(held, t.held)
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows := set.At(data.Train, i).Rows(layout)
		if err := sums.Add(rows); err != nil {
			return nil, err
		}
		c.rows = append(c.rows, rows...)
		c.from = append(c.from, len(c.rows))
	}
	for i := range held {
		c.held = append(c.held, set.At(data.Val, i))
	}
	var err error
	if c.stats, err = sums.Stats(); err != nil {
		return nil, err
	}
	return c, motion.Normalize(c.stats, c.rows)
}

func (c *clips) len() int { return len(c.from) - 1 }

// window copies motionWindow rows of a clip, from row at on.
func (c *clips) window(to []float32, clip, at int) {
	copy(to, c.rows[c.from[clip]+at*c.stats.Layout.Width:][:motionWindow*c.stats.Layout.Width])
}

// length is the number of a clip's rows.
func (c *clips) length(clip int) int {
	return (c.from[clip+1] - c.from[clip]) / c.stats.Layout.Width
}

// motionFeed hands out batches of windows.
type motionFeed struct {
	set   *clips
	order *train.Order
	x     *train.Staged // [batch, motionWindow, width]
}

func newMotionFeed(set *clips, dev *gpu.Device, batch int) *motionFeed {
	return &motionFeed{set: set, order: train.NewOrder(set.len()), x: train.NewStaged(dev, gpu.Float32, batch, motionWindow, set.stats.Layout.Width)}
}

// next is the windows of a batch, each of another clip and from a row of its own on; they are valid until the next call.
func (f *motionFeed) next(b *train.Batch) *gpu.Tensor {
	size := motionWindow * f.set.stats.Layout.Width
	for i := range b.Size {
		clip := f.order.At(b.Seeds.Data, b.First+uint64(i))
		at := b.Stream(b.Seeds.Noise, i, rng.Time).Intn(f.set.length(clip) - motionWindow + 1)
		f.set.window(f.x.Values[i*size:(i+1)*size], clip, at)
	}
	return f.x.Send()
}

func (t *motionCodec) make(ctx context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
	set, err := t.clips(ctx)
	if err != nil {
		return nil, err
	}
	recipe := t.recipe
	all := &train.Examples{X: set.rows, Shape: []int{set.stats.Layout.Width}}
	recipe.Data = dataConfig{Name: "motion:train?seed=1", SHA256: all.SHA256()}
	c, err := newCodec(dev, t.Name, recipe)
	if err != nil {
		return nil, err
	}
	c.Params.Init(s.Seeds.Init)
	c.Stats = set.stats
	scale, rows := newScale(c.channels()), keepStats(set.stats)
	trial := &motionTrial{c: c, set: set, tape: nn.NewTape(dev, gpu.Float32), joints: recipe.Joints}
	feed := newMotionFeed(set, dev, s.Batch)
	count := t.scale
	if count == 0 {
		count = scaleCount
	}
	var made vq.Residuals
	return &train.Job{
		Name: t.Name, Config: recipe,
		Nets:  []*train.Network{{Name: codecPart, Params: c.Params}},
		State: []nn.Part{{Prefix: scalePart + ".", Of: scale.params}, {Prefix: rowsPart + ".", Of: rows}},
		Loss: func(b *train.Batch) *nn.Var {
			x := b.Tape.Input(feed.next(b))
			var z *nn.Var
			z, made = c.Motion.Encode(x, true, b.First/uint64(b.Size))
			off := motionError(c.Motion.Decode(z), x, recipe.Joints)
			b.Figure("error", off.Item())
			b.Figure("commitment", made.Loss.Item())
			b.Figure("batch_perplexity", perplexity(made.Levels[0].Index, c.Book().Config.Codes))
			return off.Add(made.Loss)
		},
		Figures: []string{"error", "commitment", "batch_perplexity"},
		After: func(*train.Batch) {
			scale.forget()
			c.Motion.Quantizer.Update(made)
		},
		Sample: trial.strip, Evaluate: trial.evaluate, Scores: trial.names(),
		Finish: func(ctx context.Context) error {
			size := motionWindow * set.stats.Layout.Width
			return c.measure(ctx, scale, min(count, set.len()), []int{motionWindow, set.stats.Layout.Width}, func(lo, hi int) []float32 {
				x := make([]float32, (hi-lo)*size)
				for i := lo; i < hi; i++ {
					set.window(x[(i-lo)*size:(i-lo+1)*size], i, 0)
				}
				return x
			})
		},
	}, nil
}

// motionError is the smooth L1 distance of normalised rows, and weight times that of their joints' positions.
func motionError(y, x *nn.Var, weight float64) *nn.Var {
	l := motion.HumanML3D
	return codec.MotionLoss(y, x, l.Position(1), l.Rotation(1)-l.Position(1), weight)
}

// keepStats are statistics of rows as a checkpoint keeps them.
func keepStats(s *motion.Stats) *nn.Params {
	p := numbers(map[string]int{"mean": len(s.Mean), "deviation": len(s.Std)})
	copy(p.Get("mean").Value.F64(), s.Mean)
	copy(p.Get("deviation").Value.F64(), s.Std)
	return p
}

// loadStats are the statistics of a checkpoint.
func loadStats(s *train.Saved, width int) (*motion.Stats, error) {
	l, err := motion.LayoutOf(width)
	if err != nil {
		return nil, data.Errorf("bases: %s: %w", s.Path, err)
	}
	p := numbers(map[string]int{"mean": width, "deviation": width})
	if err := s.Load(p, rowsPart, 0); err != nil {
		return nil, err
	}
	out := &motion.Stats{Layout: l, Mean: p.Get("mean").Value.F64(), Std: p.Get("deviation").Value.F64()}
	if err := out.Check(); err != nil {
		return nil, data.Errorf("bases: %s: %w", s.Path, err)
	}
	return out, nil
}

// motionTrial tries a codec while it is trained, on clips that it does not learn, whole.
type motionTrial struct {
	c      *Codec
	set    *clips
	tape   *nn.Tape
	joints float64
}

// names are those of the scores: the loss without that of the codes; the mean distance of joints from where they were, in mm, and with
// the root of every frame where it was; how fast feet on the floor slide, in m/s, as the reader has it; the shares of contacts that are
// right, of clips in which the reader finds the actions, of those in which it finds all that the captions say; of codes that the clips
// use; and their perplexity.
func (t *motionTrial) names() []string {
	return []string{"held_out", "mpjpe", "pose", "skate", "contacts", "actions", "captions", "used", "perplexity"}
}

// through is clips of one length after the codec, in rows that are not normalised, and the loss of each clip on the mean.
func (t *motionTrial) through(items []*motionset.Item, use *vq.Usage) (rows []float32, loss float64, err error) {
	l := t.set.stats.Layout
	var x []float32
	for _, it := range items {
		x = append(x, it.Rows(l)...)
	}
	if err := motion.Normalize(t.set.stats, x); err != nil {
		return nil, 0, err
	}
	t.tape.Run(func() {
		t.tape.NoGrad(func() {
			v := onTape(t.tape, x, len(items), items[0].Len(), l.Width)
			z, index := t.c.Encode(v)
			if use != nil {
				use.Add(index)
			}
			y := t.c.Decode(z)
			loss = motionError(y, v, t.joints).Item()
			var out []float32
			out, err = y.Value().Floats()
			rows = append(rows, out...)
		})
	})
	if err != nil {
		return nil, 0, err
	}
	return rows, loss, motion.Denormalize(t.set.stats, rows)
}

// byLength are the held-out clips in groups of one length, at most HeldBatch each.
func (t *motionTrial) byLength() [][]*motionset.Item {
	sorted := slices.Clone(t.set.held)
	slices.SortStableFunc(sorted, func(a, b *motionset.Item) int { return a.Len() - b.Len() })
	var out [][]*motionset.Item
	for i, it := range sorted {
		if i == 0 || it.Len() != sorted[i-1].Len() || len(out[len(out)-1]) == HeldBatch {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], it)
	}
	return out
}

func (t *motionTrial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	use := vq.NewUsage(t.c.Book().Config.Codes)
	var sums motionSums
	for _, items := range t.byLength() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, loss, err := t.through(items, use)
		if err != nil {
			return nil, err
		}
		sums.loss += loss * float64(len(items))
		size := len(rows) / len(items)
		for i, it := range items {
			if err := sums.add(it, rows[i*size:(i+1)*size]); err != nil {
				return nil, err
			}
		}
	}
	return append(sums.scores(), use.Used(), use.Perplexity()), nil
}

// motionSums add up how clips differ from what became of them.
type motionSums struct {
	clips, read               int // and of these, in which the reader sees a body
	joints, contacts          int
	loss, far, pose, skate    float64
	contact, action, captions int // that are right
}

// add takes in a clip and the rows that it became.
func (s *motionSums) add(it *motionset.Item, rows []float32) error {
	l := motion.HumanML3D
	want := it.Rows(l)
	a, err := motion.Recover(l, want)
	if err != nil {
		return err
	}
	b, err := motion.Recover(l, rows)
	if err != nil {
		return err
	}
	frame := 3 * len(l.Skeleton.Parents)
	for i := 0; i < len(a); i += 3 {
		root := i / frame * frame
		var d, e [3]float64
		for k := range 3 {
			d[k] = b[i+k] - a[i+k]
			e[k] = d[k] - (b[root+k] - a[root+k])
		}
		s.far += 1000 * math.Sqrt(d[0]*d[0]+d[1]*d[1]+d[2]*d[2])
		s.pose += 1000 * math.Sqrt(e[0]*e[0]+e[1]*e[1]+e[2]*e[2])
		s.joints++
	}
	for at := l.Contacts(); at < len(want); at += l.Width {
		for k := range 4 {
			if (rows[at+k] > 0.5) == (want[at+k] > 0.5) {
				s.contact++
			}
			s.contacts++
		}
	}
	s.clips++
	read, err := motionset.Read(b)
	if err != nil {
		return nil // no body any more: nothing of it is right
	}
	s.read++
	s.skate += read.Skate
	truth := it.Known()
	fits := motionset.Compare(truth.Claim(), read.Claim)
	s.captions += share(fits.All)
	s.action += share(fits.Counts[0].Hits == 1)
	return nil
}

func share(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (s *motionSums) scores() []float64 {
	n := float64(s.clips)
	return []float64{
		s.loss / n, s.far / float64(s.joints), s.pose / float64(s.joints), s.skate / float64(s.read),
		float64(s.contact) / float64(s.contacts), float64(s.action) / n, float64(s.captions) / n,
	}
}

// stripClips and stripFrames are how many clips a preview has, and how many frames of each.
const stripClips, stripFrames = 4, 8

// strip is frames of clips above what the codec makes of them.
func (t *motionTrial) strip(_ context.Context, _ int) (*imageio.Image, error) {
	var list []*imageio.Image
	for _, it := range t.set.held[:min(stripClips, len(t.set.held))] {
		rows, _, err := t.through([]*motionset.Item{it}, nil)
		if err != nil {
			return nil, err
		}
		l := t.set.stats.Layout
		a, err := motion.Recover(l, it.Rows(l))
		if err != nil {
			return nil, err
		}
		b, err := motion.Recover(l, rows)
		if err != nil {
			return nil, err
		}
		frame := 3 * len(l.Skeleton.Parents)
		for _, joints := range [][]float64{a, b} {
			for k := range stripFrames {
				at := k * (it.Len() - 1) / (stripFrames - 1) * frame
				list = append(list, stick(l.Skeleton, joints[at:at+frame], a[at], a[at+2]))
			}
		}
	}
	return imageio.Grid(list, stripFrames, 1), nil
}
