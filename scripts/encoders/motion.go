package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	kin "github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

const (
	maxRows = 64
	width   = 263
)

// motionHeads are what the encoder of motions is asked. Class 0 of all but the first is none.
var motionHeads = []extract.Head{
	{Name: "action", Kind: extract.Class, N: 7}, {Name: "direction", Kind: extract.Class, N: 3}, {Name: "pace", Kind: extract.Class, N: 4},
	{Name: "path", Kind: extract.Class, N: 4}, {Name: "jump", Kind: extract.Class, N: 3}, {Name: "height", Kind: extract.Class, N: 3},
	{Name: "times", Kind: extract.Class, N: 3}, {Name: "turn", Kind: extract.Class, N: 7}, {Name: "hand", Kind: extract.Class, N: 4}, {Name: "cycles", Kind: extract.Class, N: 6},
}

var motionRecipe = recipe{Seed: 1, Epochs: 10, Batch: 64, Rate: 2e-3, RateEnd: 1e-5, Decay: 1e-2, Contrast: 1}

func motionSpec() extract.MotionSpec {
	return extract.MotionSpec{
		Name: extract.MotionName, Heads: motionHeads,
		Network: tower.MotionConfig{Channels: width, Hidden: 128, Dim: 128, Outputs: extract.Outputs(motionHeads), Vocab: motion.Vocabulary.Len(), Word: 64, Embed: 128},
	}
}

// claimAnswers are the answers to motionHeads for what a caption says.
func claimAnswers(c motion.Claim) []float32 {
	at := func(list []string, v string) float32 {
		for i, x := range list {
			if x == v {
				return float32(i + 1)
			}
		}
		panic("encoders: no class for " + v)
	}
	flag := func(b bool) float32 {
		if b {
			return 2
		}
		return 1
	}
	out := make([]float32, len(motionHeads))
	switch {
	case c.Walk != nil && c.Wave != nil:
		out[0] = 5
	case c.Walk != nil && c.Jump != nil:
		out[0] = 6
	case c.Jump != nil:
		out[0] = 1
	case c.Turn != nil:
		out[0] = 2
	case c.Wave != nil:
		out[0] = 3
	case c.Stand:
		out[0] = 4
	}
	if w := c.Walk; w != nil {
		out[1], out[2], out[3] = flag(w.Backward), at([]string{"slow", "normal", "quick"}, w.Pace), at([]string{"straight", "left", "right"}, w.Path)
	}
	if j := c.Jump; j != nil {
		out[4], out[5], out[6] = flag(j.Forward), flag(j.High), float32(j.Times)
	}
	if t := c.Turn; t != nil {
		out[7] = 3*(at([]string{"left", "right"}, t.Side)-1) + map[int]float32{90: 1, 180: 2, 360: 3}[t.Degrees]
	}
	if w := c.Wave; w != nil {
		out[8], out[9] = at([]string{"left", "right", "both"}, w.Side), float32(w.Cycles)
	}
	return out
}

// clips are the items of a split for training: rows padded to 64, lengths, answers and captions.
type clips struct {
	rows    []float32 // [n, 64, 263]
	lens    []int32
	answers [][]float32
	tokens  [][motion.Styles][motion.Slots]uint8
}

func clipsOf(set *motion.Set, split data.Split) *clips {
	n := set.Len(split)
	c := &clips{rows: make([]float32, n*maxRows*width), lens: make([]int32, n), answers: make([][]float32, n), tokens: make([][motion.Styles][motion.Slots]uint8, n)}
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		it := set.At(split, i)
		copy(c.rows[i*maxRows*width:], it.Rows(kin.HumanML3D))
		c.lens[i], c.answers[i], c.tokens[i] = int32(it.Len()), claimAnswers(it.Known().Claim()), it.Tokens()
	})
	return c
}

// trainMotion trains the encoder of motions.
func trainMotion(r recipe, c *clips, log io.Writer) (*nn.Params, *tower.Motion, error) {
	spec := motionSpec()
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := tower.NewMotion(params.At(""), spec.Network)
	params.Init(r.Seed)
	sums := kin.NewSums(kin.HumanML3D)
	for i, n := range c.lens {
		if err := sums.Add(c.rows[i*maxRows*width:][:int(n)*width]); err != nil {
			return nil, nil, err
		}
	}
	stats, err := sums.Stats()
	if err != nil {
		return nil, nil, err
	}
	mean, inverse := make([]float32, width), make([]float32, width)
	for i := range mean {
		mean[i], inverse[i] = float32(stats.Mean[i]), float32(1/stats.Std[i])
	}
	net.Mean.Set(mean)
	net.Inverse.Set(inverse)
	feed := train.NewFeed(&train.Examples{X: c.rows, Shape: []int{maxRows, width}, Labels: count(len(c.lens))}, gpu.CPU(), gpu.Float32, r.Batch)
	loss := newHeadLoss(spec.Heads, 0, r.Batch)
	lens, ids := gpu.CPU().New(gpu.Int32, r.Batch), gpu.CPU().New(gpu.Int32, r.Batch, motion.Slots)
	err = r.train(spec.Name, len(c.lens), spec.Heads, []*train.Network{{Name: "net", Params: params}}, func(b *train.Batch) *nn.Var {
		x, which := feed.Next(b)
		for i, k := range which {
			loss.set(i, c.answers[k])
			lens.I32()[i] = c.lens[k]
			for j, id := range c.tokens[k][b.Stream(b.Seeds.Noise, i, rng.Dropout).Intn(motion.Styles)] {
				ids.I32()[i*motion.Slots+j] = int32(id)
			}
		}
		f := net.Forward(b.Tape.Input(x), lens)
		contrast := net.Loss(net.MotionEmbedding(f), net.TextEmbedding(b.Tape, ids))
		return loss.of(net.Heads(f), b.Figure).Add(contrast.Scale(r.Contrast))
	}, log)
	return params, net, err
}

// clipOf gives the rows of item i.
type clipOf func(i int) []float32

// clipFeatures are the features of n clips.
func clipFeatures(e *extract.MotionEncoder, n int, clip clipOf) (vectors, error) {
	d := e.Info().Dim
	out, errs := vectors{d, make([]float32, n*d)}, make([]error, n)
	cpu.Each(n, func(_ *cpu.Worker, i int) { errs[i] = e.Features(clip(i), out.rows[i*d:(i+1)*d]) })
	return out, errors.Join(errs...)
}

// motionSet is what is measured of the encoder of motions.
type motionSet struct{ set *motion.Set }

func (m motionSet) clip(split data.Split) clipOf {
	return func(i int) []float32 { return m.set.At(split, i).Rows(kin.HumanML3D) }
}

// scores judges the heads on the first n clips of test and gives their features.
func (m motionSet) scores(e *extract.MotionEncoder, n int) ([]score, vectors, error) {
	var truth [][]float32
	for i := range n {
		truth = append(truth, claimAnswers(m.set.At(data.Test, i).Known().Claim()))
	}
	v, err := clipFeatures(e, n, m.clip(data.Test))
	if err != nil {
		return nil, v, err
	}
	return judge(e, e.Spec().Heads, v, truth), v, nil
}

// matching says how well captions find their motions: R-precision is the share of captions whose
// motion is among the nearest k of 32, its own and those of 31 other clips of test; Distance is the
// mean Euclidean distance of a caption and its motion, both unit vectors.
type matching struct {
	R        [3]float64 // k = 1, 2, 3
	Distance float64
}

// match measures the first n clips of test, a multiple of 32, in their order.
func (m motionSet) match(e *extract.MotionEncoder, v vectors, n int) (matching, error) {
	const pool = 32
	var out matching
	for at := 0; at < n; at += pool {
		var texts, motions [pool][]float32
		for i := range pool {
			tokens := m.set.At(data.Test, at+i).Tokens()[i%motion.Styles]
			ids := make([]int32, len(tokens))
			for k, id := range tokens {
				ids[k] = int32(id)
			}
			var err error
			if texts[i], err = e.EmbedCaption(ids); err != nil {
				return out, err
			}
			motions[i] = e.EmbedMotion(v.rows[(at+i)*v.dim:][:v.dim])
		}
		for i := range pool {
			own := far(texts[i], motions[i])
			nearer := 0
			for k := range pool {
				if k != i && far(texts[i], motions[k]) < own {
					nearer++
				}
			}
			for k := range out.R {
				if nearer <= k {
					out.R[k] += 1 / float64(n)
				}
			}
			out.Distance += own / float64(n)
		}
	}
	return out, nil
}

// far is the Euclidean distance.
func far(a, b []float32) float64 {
	var sum float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return math.Sqrt(sum)
}

// motionDamage is a way to make motions worse by levels.
type motionDamage struct {
	damage
	worse func(i int, level float64) []float32
}

// damages are those of the clips of test.
func (m motionSet) damages() []motionDamage {
	// remade is the clip of changed joints.
	remade := func(change func(joints []float64, i int, level float64)) func(i int, level float64) []float32 {
		return func(i int, level float64) []float32 {
			it := m.set.At(data.Test, i)
			if level == 0 {
				return it.Rows(kin.HumanML3D)
			}
			change(it.Joints, i, level)
			rows, err := kin.Features(kin.HumanML3D, it.Joints, kin.Options{})
			if err != nil {
				panic(fmt.Sprintf("encoders: clip %d at level %g: %v", i, level, err))
			}
			return kin.Narrow(rows)
		}
	}
	make1 := func(name, unit string, levels []float64, worse func(i int, level float64) []float32) motionDamage {
		return motionDamage{damage{name: name, unit: unit, levels: levels}, worse}
	}
	const frame = 66
	return []motionDamage{
		make1("noise", "standard deviation of every coordinate, m", []float64{0, 0.005, 0.01, 0.02, 0.05, 0.1}, remade(func(j []float64, i int, level float64) {
			s := data.FromKey(data.FNV1a("noise") ^ data.Mix(uint64(i)))
			for k := range j {
				j[k] += level * s.Normal()
			}
		})),
		make1("frozen", "share of the frames, at the end", []float64{0, 0.1, 0.25, 0.5, 0.75}, remade(func(j []float64, _ int, level float64) {
			n := len(j) / frame
			first := n - int(level*float64(n))
			for t := first; t < n; t++ {
				copy(j[t*frame:(t+1)*frame], j[(first-1)*frame:])
			}
		})),
		make1("smoothed", "passes of the mean of three frames", []float64{0, 1, 2, 4, 8, 16}, remade(func(j []float64, _ int, level float64) {
			n := len(j) / frame
			old := make([]float64, len(j))
			for range int(level) {
				copy(old, j)
				for k := range j {
					before, after := max(0, k/frame-1)*frame+k%frame, min(n-1, k/frame+1)*frame+k%frame
					j[k] = (old[before] + old[k] + old[after]) / 3
				}
			}
		})),
		make1("actions exchanged", "share of clips whose second half is another clip's", shares, func(i int, level float64) []float32 {
			rows := m.clip(data.Test)(i)
			if uniform("exchange", i, 0) >= level {
				return rows
			}
			n := m.set.Len(data.Test)
			other := m.clip(data.Test)((i + n/2) % n)
			cut := func(r []float32) int { return len(r) / width / 8 * 4 * width }
			return append(rows[:cut(rows):cut(rows)], other[cut(other):]...)
		}),
		make1("actions dropped", "kinds of clips, the first ones", []float64{0, 1, 2, 3, 4}, func(i int, level float64) []float32 {
			for claimAnswers(m.set.At(data.Test, i).Known().Claim())[0] < float32(level) {
				i = (i*31 + 7) % m.set.Len(data.Test)
			}
			return m.clip(data.Test)(i)
		}),
	}
}

// curvesOf measures damages on the first n clips of test.
func (m motionSet) curvesOf(e *extract.MotionEncoder, ref vectors, n int, damages []motionDamage) ([]curve, error) {
	var out []curve
	for _, d := range damages {
		c := curve{damage: d.damage}
		for _, level := range d.levels {
			v, err := clipFeatures(e, n, func(i int) []float32 { return d.worse(i, level) })
			if err != nil {
				return nil, err
			}
			d, err := distance(ref, v)
			if err != nil {
				return nil, err
			}
			c.values = append(c.values, d)
		}
		out = append(out, c)
	}
	return out, nil
}
