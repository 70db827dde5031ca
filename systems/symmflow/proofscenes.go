package symmflow

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/fid/measure"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// tried are the scenes that results are of: none is learned, and none has a say in tuning.
func (s sizes) tried() *set { return heldScenes().part(s.held, s.held+s.n) }

// arm trains a network of a way, which tuning looks at by its held-out loss alone, and measures it.
func (s sizes) arm(way string, nfe float64, values []systems.Measure, measure func(ctx context.Context, d systems.Draw, n *netOf, out *systems.Outcome) error) systems.Arm {
	cost := systems.Cost{NFE: nfe, TrainSteps: float64(s.steps)}
	return systems.Arm{
		Name: way, Text: ways[way], Cost: cost, Tune: s.rates(),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			steps := s.steps
			if d.Split == systems.Val {
				steps = s.tuned
			}
			n, err := s.train(ctx, d.Env, way, steps, d.Params.Num("lr"), d.Seed)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Cost: cost, Values: map[string]float64{}}
			for _, v := range values { // tuning reads the loss, and no other
				out.Values[v.Name] = 0
			}
			out.Values["loss"], out.Values["parameters"] = n.loss, float64(n.params)
			if d.Split == systems.Val {
				return out, nil
			}
			return out, measure(ctx, d, n, out)
		},
	}
}

// common are the measures of all experiments on scenes.
func (s sizes) common() []systems.Measure {
	return []systems.Measure{
		{Name: "loss", Text: fmt.Sprintf("held-out loss of the arm's own objective, which tuning compares after %d steps", s.tuned)},
		{Name: "parameters", Text: "numbers learned"},
	}
}

func (s sizes) segmentation() systems.Experiment {
	x := systems.Experiment{
		Name: "segmentation", Question: fmt.Sprintf("Does the network that draws read masks as one does that only reads? (scenes of shapes, %d steps of %d)", s.steps, s.batch),
		Size: systems.Size{N: s.n, Seeds: s.seeds}, TuneBy: "loss",
		Measures: append([]systems.Measure{
			{Name: "miou", Text: "mean intersection over union of 5 classes, one evaluation", Higher: true},
			{Name: "many", Text: fmt.Sprintf("that of %d evaluations; of an arm that has one only, the same", s.many), Higher: true},
			{Name: "kept", Text: "one evaluation's over many evaluations'", Higher: true},
			{Name: "pixels", Text: "share of pixels that are right, one evaluation", Higher: true},
		}, s.common()...),
	}
	for _, way := range []string{both, direct} {
		x.Arms = append(x.Arms, s.arm(way, 1, x.Measures, func(ctx context.Context, d systems.Draw, n *netOf, out *systems.Outcome) error {
			set := s.tried()
			var many *measure.Confusion
			said, one, err := n.read(ctx, set, 1, d.Seed)
			if err != nil {
				return err
			}
			if _, many, err = n.read(ctx, set, s.many, d.Seed); err != nil {
				return err
			}
			out.Values["miou"], out.Values["many"], out.Values["pixels"] = one.MeanIoU(), many.MeanIoU(), one.Accuracy()
			out.Values["kept"] = one.MeanIoU() / many.MeanIoU()
			if d.First {
				all := set.all().F32()
				for i := range shown {
					c := shapesRecipe().coding
					out.Pictures = append(out.Pictures, imageio.Grid([]*imageio.Image{
						pictures(all[i*set.size():][:set.size()], set.shape, 2)[0], c.mask(set.label(i), sceneSide, 2), c.mask(said[i], sceneSide, 2),
					}, 1, 1))
				}
			}
			return nil
		}))
	}
	x.Criteria = []systems.Criterion{
		{Name: "one step", Claim: "in one evaluation the mIoU is at least 0.9 of the direct segmenter's", Measure: "miou", Arm: both, Against: []string{direct}, Bound: 0.9, AtLeast: true},
		{Name: "few steps do", Claim: "one evaluation keeps at least 0.97 of the mIoU of many", Measure: "kept", Arm: both, Form: systems.Value, Bound: 0.97, AtLeast: true},
		{Name: "one network", Claim: "the network that does both has at most 1.02 of the segmenter's parameters", Measure: "parameters", Arm: both, Against: []string{direct}, Bound: 1.02},
	}
	x.Notes = []string{"pictures: scene, true mask, mask read in one evaluation"}
	return x
}

// shown is how many pictures of an arm are shown.
const shown = 8

// read reads the masks of a set's pictures.
func (n *netOf) read(ctx context.Context, from *set, steps int, seed uint64) ([][]uint8, *measure.Confusion, error) {
	var said [][]uint8
	var err error
	if n.segmenter != nil {
		said, err = n.segmenter.read(ctx, from.all())
	} else {
		said, err = n.model.Label(ctx, from.all(), Options{Steps: steps, Seed: seed})
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := from.confusion(said, len(Forms))
	return said, c, err
}

// draw draws pictures of masks.
func (n *netOf) draw(ctx context.Context, masks [][]uint8, o Options) (*gpu.Tensor, error) {
	if n.conditional != nil {
		return n.conditional.generate(ctx, masks, o)
	}
	return n.model.Generate(ctx, masks, o)
}

// sceneJudge measures drawn scenes.
type sceneJudge struct {
	ex  fid.Extractor
	ref *fid.Reference
	// reader reads the masks of drawn scenes: a direct segmenter, trained apart from all arms.
	reader *segmenter
}

// Seeds of the reader's training, and of pictures that are drawn a second time.
const (
	readerSeed = 1 << 40
	againSeed  = 1 << 41
)

func (s sizes) judge(ctx context.Context, env *systems.Env) (*sceneJudge, error) {
	return systems.Memo(env, fmt.Sprintf("symmflow judge %+v", s), func() (*sceneJudge, error) {
		ex, err := extract.Open("shapes-enc", extract.Options{})
		if err != nil {
			return nil, err
		}
		j := &sceneJudge{ex: ex}
		stats, _, err := j.stats(ctx, scenes(data.Train, learnedScenes, s.others).all())
		if err != nil {
			return nil, err
		}
		if j.ref, err = fid.NewReference(stats); err != nil {
			return nil, err
		}
		n, err := s.train(ctx, env, direct, s.steps, 1e-3, readerSeed)
		if err != nil {
			return nil, err
		}
		j.reader = n.segmenter
		return j, nil
	})
}

// stats are those of the features of pictures, rounded to 8 bits as files are, and the features.
func (j *sceneJudge) stats(ctx context.Context, x *gpu.Tensor) (*fid.Stats, []float32, error) {
	n, dim := x.Shape()[0], j.ex.Info().Dim
	list := pictures(x.F32(), x.Shape()[1:], 1)
	f, err := bases.FeaturesOf(ctx, j.ex, n, func(i int) *imageio.Image { return list[i] })
	if err != nil {
		return nil, nil, err
	}
	stats, err := fid.FromFeatures(f, n, dim)
	return stats, f, err
}

// fid is the Fréchet distance of pictures to other scenes of the training split, and their features.
func (j *sceneJudge) fid(ctx context.Context, x *gpu.Tensor) (float64, []float32, error) {
	stats, f, err := j.stats(ctx, x)
	if err != nil {
		return 0, nil, err
	}
	d, err := j.ref.Frechet(stats)
	return d.Value, f, err
}

// apart is the mean distance of the first n rows of a and b, [., dim].
func apart(a, b []float32, n, dim int) float64 {
	var sum float64
	for i := range n {
		var d float64
		for k := i * dim; k < (i+1)*dim; k++ {
			d += float64(a[k]-b[k]) * float64(a[k]-b[k])
		}
		sum += math.Sqrt(d) / float64(n)
	}
	return sum
}

// covered is the intersection over union of what masks say is an object and of what is coloured in the pictures, all pixels together.
func covered(masks [][]uint8, x *gpu.Tensor) float64 {
	var both, either float64
	for i, m := range pictures(x.F32(), x.Shape()[1:], 1) {
		for p, c := range shapes.LabelMap(m) {
			if given := masks[i][p] > 0; given && c > 0 {
				both++
				either++
			} else if given || c > 0 {
				either++
			}
		}
	}
	return both / math.Max(either, 1)
}

func (s sizes) generation() systems.Experiment {
	x := systems.Experiment{
		Name: "generation", Question: fmt.Sprintf("And does it draw pictures of masks as a network does that only draws? (%d steps of Euler's method)", s.many),
		Size: systems.Size{N: s.n, Seeds: s.seeds}, TuneBy: "loss",
		Measures: append([]systems.Measure{
			{Name: "fid", Text: "FID to other scenes in the features of shapes-enc", Least: bases.Features + 1},
			{Name: "floor", Text: "that of the scenes themselves whose masks are given"},
			{Name: "consistency", Text: "mIoU of the given masks and those that a segmenter trained apart reads in the pictures", Higher: true},
			{Name: "foreground", Text: "intersection over union of the given objects and of what is coloured in the pictures, by the exact rule of the set's reader", Higher: true},
			{Name: "diversity", Text: "mean distance of the features of two pictures of one mask", Higher: true},
		}, s.common()...),
	}
	for _, way := range []string{both, onlyDraw} {
		x.Arms = append(x.Arms, s.arm(way, float64(s.many), x.Measures, func(ctx context.Context, d systems.Draw, n *netOf, out *systems.Outcome) error {
			return s.drawn(ctx, d, n, out)
		}))
	}
	x.Criteria = []systems.Criterion{
		{Name: "as good", Claim: "the FID is at most 1.1 of the conditional flow's", Measure: "fid", Arm: both, Against: []string{onlyDraw}, Bound: 1.1},
		{Name: "one network", Claim: "with at most 1.02 of its parameters", Measure: "parameters", Arm: both, Against: []string{onlyDraw}, Bound: 1.02},
		{Name: "to the mask", Claim: "and pictures that keep at least 0.9 of its consistency with their masks", Measure: "consistency", Arm: both, Against: []string{onlyDraw}, Bound: 0.9, AtLeast: true, Shown: true},
	}
	x.Notes = []string{"pictures: given mask, scene drawn of it, and the mask that is read in that: by SymmFlow itself in one evaluation, of the conditional flow by the segmenter"}
	return x
}

// drawn draws and measures pictures of masks.
func (s sizes) drawn(ctx context.Context, d systems.Draw, n *netOf, out *systems.Outcome) error {
	j, err := s.judge(ctx, d.Env)
	if err != nil {
		return err
	}
	from := s.tried()
	var masks [][]uint8
	for i := range from.len() {
		masks = append(masks, from.label(i))
	}
	x, err := n.draw(ctx, masks, Options{Steps: s.many, Seed: d.Seed})
	if err != nil {
		return err
	}
	v := out.Values
	var f, g []float32
	if v["fid"], f, err = j.fid(ctx, x); err != nil {
		return err
	}
	if v["floor"], _, err = j.fid(ctx, from.all()); err != nil {
		return err
	}
	said, err := j.reader.read(ctx, x)
	if err != nil {
		return err
	}
	c, err := from.confusion(said, len(Forms))
	if err != nil {
		return err
	}
	v["consistency"], v["foreground"] = c.MeanIoU(), covered(masks, x)
	y, err := n.draw(ctx, masks[:s.again], Options{Steps: s.many, Seed: d.Seed + againSeed})
	if err != nil {
		return err
	}
	if _, g, err = j.stats(ctx, y); err != nil {
		return err
	}
	v["diversity"] = apart(f, g, s.again, j.ex.Info().Dim)
	if !d.First {
		return nil
	}
	first := x.Rows(0, shown)
	own, coding := said[:shown], shapesRecipe().coding
	if n.model != nil {
		if own, err = n.model.Label(ctx, first, Options{Steps: 1, Seed: d.Seed}); err != nil {
			return err
		}
	}
	for i, p := range pictures(first.F32(), from.shape, 2) {
		out.Pictures = append(out.Pictures, imageio.Grid([]*imageio.Image{coding.mask(masks[i], sceneSide, 2), p, coding.mask(own[i], sceneSide, 2)}, 1, 1))
	}
	return nil
}
