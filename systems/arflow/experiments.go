package arflow

import (
	"context"
	"fmt"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// digits draws digits by class with and without the past.
func (s sizes) digits() systems.Experiment {
	x := systems.Experiment{
		Name: "digits", Question: fmt.Sprintf("Are digits by class drawn better with the past? (8×8, %d steps of %d pictures, %d steps of Euler-Maruyama)", s.steps, s.images, s.draw),
		Size: systems.Size{N: s.n, Seeds: s.seeds}, TuneBy: "fid",
		Measures: []systems.Measure{
			{Name: "fid", Text: "FID to the test digits in the features of digits-enc, no guidance", Least: bases.Features + 1},
			{Name: "guided", Text: fmt.Sprintf("that of guidance %g", guided)},
			{Name: "floor", Text: "FID of as many training digits"},
			{Name: "consistency", Text: "share of digits, no guidance, that the fixed classifier takes for the class that was asked", Higher: true},
			{Name: "forgotten", Text: "FID when the state is reset at every step, over that when it is kept (1 of a network without a past)"},
			{Name: "after over alone", Text: "loss of velocities of a sequence's fifth picture over that of the same one as the first, times up to 0.9 (1 of a network without a past)"},
			{Name: "after over another's", Text: "over that of the same one after four pictures of another class"},
		},
		Notes: []string{"the class says most of what other pictures of the class say; digits in hidden styles are the test where they are not told"},
	}
	if s.timed > 0 {
		x.Measures = append(x.Measures, systems.Measure{Name: "time", Text: "time of training over ARFlow's, by the least of some steps of both, one beside the other"})
	}
	for _, a := range []struct {
		name, text string
		seq        int
		factor     float64
	}{
		{whole, "sequences of five pictures of a class", sequence, 1},
		{single, "the same block without the past, as many pictures", 1, 1},
		{longer, fmt.Sprintf("%g as many, for as much time", equal), 1, equal},
	} {
		steps := int(float64(s.steps) * a.factor)
		cost := systems.Cost{NFE: float64(s.draw), TrainSteps: float64(steps)}
		x.Arms = append(x.Arms, s.tuned(systems.Arm{Name: a.name, Text: a.text, Cost: cost, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			n, err := s.train(ctx, d.Env, form{seq: a.seq, steps: steps}, d.Params.Num("lr"), d.Seed)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Cost: cost}
			return out, s.judge(ctx, d, n, out)
		}}))
	}
	unequal := "it is trained as long by the clock, on more pictures"
	x.Criteria = []systems.Criterion{
		{Name: "equal pictures", Claim: "FID at most 0.95 of the network's of single pictures", Measure: "fid", Arm: whole, Against: []string{single}, Bound: 0.95},
		{Name: "equal time", Claim: "FID no greater than that of single pictures at equal time", Measure: "fid", Arm: whole, Against: []string{longer}, Bound: 1, Unequal: unequal},
		{Name: "forgotten", Claim: "without its past the FID is at least 1.03 times as large", Measure: "forgotten", Arm: whole, Form: systems.Value, Bound: 1.03, AtLeast: true},
		{Name: "after and alone", Claim: "at equal times the fifth picture's loss is at most 0.99 of the first's", Measure: "after over alone", Arm: whole, Form: systems.Value, Bound: 0.99},
		{Name: "its own past", Claim: "and at most 0.99 of that after pictures of another class", Measure: "after over another's", Arm: whole, Form: systems.Value, Bound: 0.99, Shown: true},
		{Name: "equal pictures, guided", Claim: "FID at most 0.95 with guidance", Measure: "guided", Arm: whole, Against: []string{single}, Bound: 0.95, Shown: true},
		{Name: "equal time, guided", Claim: "FID no greater with guidance", Measure: "guided", Arm: whole, Against: []string{longer}, Bound: 1, Shown: true, Unequal: unequal},
		{Name: "consistency", Claim: "as many digits are of the class that was asked", Measure: "consistency", Arm: whole, Against: []string{single}, Bound: 1, AtLeast: true, Shown: true},
	}
	return x
}

// judge measures what a network draws.
func (s sizes) judge(ctx context.Context, d systems.Draw, n *net, out *systems.Outcome) error {
	j, err := bases.OpenSmallJudge(ctx, d.Env, s.reference)
	if err != nil {
		return err
	}
	draw := func(m models.Net, weight float64) (*gpu.Tensor, float64, error) {
		x, err := Draw(ctx, m, Request{Seed: d.Seed, N: d.N, Steps: s.draw, Guidance: weight})
		if err != nil {
			return nil, 0, err
		}
		v, err := j.FID(ctx, x)
		return x, v, err
	}
	v := map[string]float64{}
	for _, m := range []string{"guided", "floor", "consistency", "forgotten", "after over alone", "after over another's", "time"} {
		v[m] = 1
	}
	out.Values = v
	var x *gpu.Tensor
	if x, v["fid"], err = draw(n.as(), 1); err != nil || d.Split != systems.Test {
		return err // tuning looks at the FID alone
	}
	f, err := j.Append(ctx, 0, x, nil)
	if err != nil {
		return err
	}
	if v["consistency"], err = bases.DigitsTold(f, bases.InTurn(n.c.Classes, d.N).Classes); err != nil {
		return err
	}
	if v["floor"], err = j.Floor(ctx, d.Env, d.Seed, d.N); err != nil {
		return err
	}
	if _, v["guided"], err = draw(n.as(), guided); err != nil {
		return err
	}
	if d.First {
		out.Pictures = pictures(x, 20)
	}
	if v["time"], err = s.clock(n.form, s.steps); err != nil || n.seq == 1 {
		return err
	}
	_, forgot, err := draw(Alone{n.Net}, 1)
	if err != nil {
		return err
	}
	v["forgotten"] = forgot / v["fid"]
	past, err := s.past(ctx, n, d.Seed)
	if err != nil {
		return err
	}
	for _, m := range []string{"after over alone", "after over another's"} {
		v[m] = past[m]
	}
	return nil
}

// pictures are the first ones, enlarged.
func pictures(x *gpu.Tensor, count int) []*imageio.Image {
	v := x.Rows(0, min(count, x.Shape()[0])).F32()
	return bases.SmallPictures(v)
}

// partsOf compares networks without one part each, on hidden styles.
func (s sizes) partsOf() systems.Experiment {
	x := systems.Experiment{
		Name: "parts", Question: fmt.Sprintf("What are the gate, the sequence's length and the chunk worth? (digits in hidden styles, %d steps of %d pictures)", s.partSteps, s.images),
		Size: systems.Size{N: s.probe, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "loss", Text: "squared error of velocities of a sequence's last picture at times up to 0.9, of a single one where the network learned by those"},
			{Name: "after over another's", Text: "over that of the same one after pictures of another style (1 of a network without a past)"},
			{Name: "time", Text: "time of training over ARFlow's, by the least of some steps of both, one beside the other (1 where nothing is timed)"},
		},
		Notes: []string{fmt.Sprintf("no arm is tuned: all have the rate %g", fixedRate)},
	}
	for _, a := range []struct {
		name, text string
		form       form
	}{
		{whole, "sequences of five, gates that cumulate along tokens, a chunk is a picture", form{seq: sequence}},
		{"mean gate", "all tokens of a picture see the past alike", form{seq: sequence, gate: MeanGate}},
		{"no gate", "nothing of the past is lost", form{seq: sequence, gate: NoGate}},
		{"sequences of 2", "as many pictures, in pairs", form{seq: 2}},
		{"sequences of 10", "as many pictures", form{seq: 10}},
		{"chunks of half a picture", "softmax attention sees 8 tokens of 16, the state tells the later half of the earlier", form{seq: sequence, parts: 2}},
		{"chunks of a quarter", "of 4 tokens", form{seq: sequence, parts: 4}},
		{single, "no past", form{seq: 1}},
	} {
		f := a.form
		f.hidden, f.steps = true, s.partSteps
		cost := systems.Cost{TrainSteps: float64(s.partSteps)}
		x.Arms = append(x.Arms, systems.Arm{Name: a.name, Text: a.text, Cost: cost, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			n, err := s.train(ctx, d.Env, f, fixedRate, d.Seed)
			if err != nil {
				return nil, err
			}
			v, err := s.past(ctx, n, d.Seed)
			if err != nil {
				return nil, err
			}
			v["time"], err = s.clock(f, s.partSteps)
			return &systems.Outcome{Values: v, Cost: cost}, err
		}})
		if a.name != whole {
			x.Criteria = append(x.Criteria, systems.Criterion{Name: a.name, Claim: "worse than the whole", Measure: "loss", Arm: a.name, Against: []string{whole}, Bound: 1, AtLeast: true, Shown: true})
		}
	}
	return x
}

// byTime is losses by the time of the picture that is looked at.
func (s sizes) byTime() systems.Experiment {
	var at []float64
	for _, t := range Matched(max(s.times, 2)) {
		at = append(at, float64(int(t*1000+0.5))/1000)
	}
	x := systems.Experiment{
		Name: "times", Question: "At which times does the past help? (digits in hidden styles)", Size: systems.Size{N: s.probe, Seeds: s.sweepSeeds},
		Measures: []systems.Measure{{Name: "loss", Text: "squared error of velocities"}},
		Sweep:    &systems.Sweep{Param: "t", Label: "time of the picture (0 noise, 1 data)", Values: at},
	}
	for _, a := range []struct {
		name string
		seq  int
		of   func(l ProbeLoss) float64
	}{
		{pastRow, sequence, func(l ProbeLoss) float64 { return l.After }},
		{"after four of another style", sequence, func(l ProbeLoss) float64 { return l.Other }},
		{"first of its sequence", sequence, func(l ProbeLoss) float64 { return l.Alone }},
		{"network of single pictures", 1, func(l ProbeLoss) float64 { return l.Alone }},
	} {
		x.Arms = append(x.Arms, systems.Arm{Name: a.name, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			n, err := s.train(ctx, d.Env, form{hidden: true, seq: a.seq, steps: s.steps}, fixedRate, d.Seed)
			if err != nil {
				return nil, err
			}
			l, err := s.losses(ctx, n, []float64{d.Params.Num("t")}, sequence, d.Seed)
			return &systems.Outcome{Values: map[string]float64{"loss": a.of(l)}}, err
		}})
	}
	return x
}

// byLength is the time of hybrid attention, forward and back, over that of softmax attention of a causal order over all tokens of the sequence.
func (s sizes) byLength() systems.Experiment {
	x := systems.Experiment{
		Name: "length", Question: "What does attention take, as sequences grow?", Size: systems.Size{N: 1, Seeds: s.sweepSeeds},
		Measures: []systems.Measure{{Name: "ratio", Text: "time of hybrid attention, forward and back, over that of causal softmax attention over all tokens, beside it (1 where nothing is timed)"}},
		Sweep:    &systems.Sweep{Param: "pictures", Label: "pictures of a sequence", Values: s.lengths},
	}
	for _, a := range []struct{ tokens, heads, width int }{{16, 3, 16}, {64, 4, 32}} {
		x.Arms = append(x.Arms, systems.Arm{Name: fmt.Sprintf("%d tokens a picture, %d heads of %d", a.tokens, a.heads, a.width), Run: func(_ context.Context, d systems.Draw) (*systems.Outcome, error) {
			ratio := 1.0
			if s.timed > 0 {
				ratio = attentionTimes(d.Params.Int("pictures"), a.tokens, a.heads, a.width, s.timed)
			}
			return &systems.Outcome{Values: map[string]float64{"ratio": ratio}}, nil
		}})
	}
	return x
}

// attentionTimes is the least time of some rounds of hybrid attention over that of softmax attention.
func attentionTimes(pictures, tokens, heads, width, rounds int) float64 {
	const together = 1024 // tokens of all sequences, at least
	t := pictures * tokens
	b := max(1, together/t)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	draw := func(stream uint64, shape ...int) *gpu.Tensor {
		x := gpu.CPU().New(gpu.Float32, shape...)
		s := rng.New(1, stream)
		for i := range x.F32() {
			x.F32()[i] = float32(s.Normal())
		}
		return x
	}
	q, k, v := draw(1, b, t, heads, width), draw(2, b, t, heads, width), draw(3, b, t, heads, width)
	gates := draw(4, b, t, heads)
	for i, g := range gates.F32() {
		gates.F32()[i] = -g * g / gateSpread
	}
	run := func(f func(q, k, v, g *nn.Var) *nn.Var) time.Duration {
		start := time.Now()
		tape.Run(func() {
			tape.Backward(f(tape.Leaf(q), tape.Leaf(k), tape.Leaf(v), tape.Leaf(gates)).Square().Mean())
		})
		return time.Since(start)
	}
	var least [2]time.Duration
	for i := range rounds + 2 {
		for j, f := range []func(q, k, v, g *nn.Var) *nn.Var{
			func(q, k, v, g *nn.Var) *nn.Var {
				y, _ := Hybrid(q, k, v, Past{Gates: g, Chunk: tokens})
				return y
			},
			func(q, k, v, _ *nn.Var) *nn.Var { return nn.Attention(q, k, v, 0, nn.AttnMask{Causal: true}) },
		} {
			if took := run(f); i > 1 && (least[j] == 0 || took < least[j]) {
				least[j] = took
			}
		}
	}
	return least[0].Seconds() / least[1].Seconds()
}
