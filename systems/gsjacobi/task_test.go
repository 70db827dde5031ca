package gsjacobi

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// tinyFlow is a flow of digits that is trained in a moment.
func tinyFlow() flow.Config {
	c := flow.MNIST()
	c.Width, c.Blocks, c.Layers, c.Heads = 16, 2, 1, 2
	return c
}

// Training raises the likelihood of digits held out, the latents' variance is theirs, and the checkpoint has it all.
func TestFlowLearnsAndIsKept(t *testing.T) {
	k := settings(30, 16)
	k.Rate = 5e-3
	job, net, err := newJob(gpu.CPU(), Task, k, tinyFlow(), heldCount)
	if err != nil {
		t.Fatal(err)
	}
	before, err := job.Evaluate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// An untrained flow is the identity: the bits are those of a normal distribution, 7 + log2(2π)/2 + E[x²]/(2 ln 2).
	_, held, err := bases.Digits()
	if err != nil {
		t.Fatal(err)
	}
	var square float64
	for _, v := range held.X {
		square += float64(v) * float64(v) / float64(len(held.X))
	}
	want := 7 + math.Log2(2*math.Pi)/2 + (square+trainingNoise*trainingNoise)/(2*math.Ln2)
	if math.Abs(before[0]-want) > 0.02 { // 512 digits stand for all
		t.Errorf("%g bits untrained, want %g", before[0], want)
	}
	res, err := train.Run(t.Context(), job, train.Config{Settings: k, Dir: t.TempDir(), SampleEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	if !(res.Scores[0] < before[0]-0.2) {
		t.Errorf("%g bits after training, %g before", res.Scores[0], before[0])
	}
	saved, err := train.OpenSaved(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	m, err := Open(gpu.CPU(), saved, saved.Averages()[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.Noise != trainingNoise || !slices.Equal(floats(m.Net.Var), floats(net.Var)) || !slices.Equal(floats(m.Net.Blocks[1].Out.W.Value), floats(net.Blocks[1].Out.W.Value)) {
		t.Error("the checkpoint has another flow")
	}
	spread := floats(net.Var)
	if slices.Max(spread) == slices.Min(spread) || slices.Min(spread) <= 0 {
		t.Errorf("latents have variances from %g to %g", slices.Min(spread), slices.Max(spread))
	}
	if x, err := job.Sample(t.Context(), 30); err != nil || x.Width != 8*28+9*2 && x.Width != 8*28+7*2 {
		t.Errorf("a sheet %v, %v", x, err)
	}
	saved.Job = "digits-mlp"
	if _, err := Open(gpu.CPU(), saved, 0); err == nil || !strings.Contains(err.Error(), "it is of digits-mlp, no flow") {
		t.Error(err)
	}
	saved.Job, saved.Config = Task, []byte(`{"net":{"Patch":3}}`)
	if _, err := Open(gpu.CPU(), saved, 0); err == nil || !strings.Contains(err.Error(), "Patch is 3") {
		t.Error(err)
	}
	saved.Config = []byte(`{`)
	var bad *json.SyntaxError
	if _, err := Open(gpu.CPU(), saved, 0); !errors.As(err, &bad) {
		t.Error(err)
	}
}

// Samples are the same in any batches and from any number on; the step that removes noise goes along the score.
func TestDraw(t *testing.T) {
	c := small()
	m, tape := &Trained{made(t, c, gpu.Float32), 0.2}, nn.NewTape(gpu.CPU(), gpu.Float32)
	s := Uniform(c, Setting{Segments: 3})
	r := Request{Seed: 4, N: 5, Options: Options{Bound: 1e-3}}
	all, stats, err := Draw(tape, m, s, r)
	if err != nil || len(stats) != 1 {
		t.Fatal(err)
	}
	var seen []int
	r.Batch, r.Each = 2, func(first int, x *gpu.Tensor) error { seen = append(seen, first, x.Shape()[0]); return nil }
	parts, stats, err := Draw(tape, m, s, r)
	if err != nil || len(stats) != 3 || !slices.Equal(seen, []int{0, 2, 2, 2, 4, 1}) || !slices.Equal(floats(all), floats(parts)) {
		t.Errorf("in batches of 2 (%v): off by %g, %v", seen, farthest(all, parts), err)
	}
	last, _, err := Draw(tape, m, s, Request{Seed: 4, First: 3, N: 2, Options: r.Options})
	if err != nil || !slices.Equal(floats(last), floats(all.Rows(3, 5))) {
		t.Error("samples 3 and 4 are others where they are drawn alone")
	}
	named, _, err := Draw(tape, m, s, Request{Seed: 4, N: 5, Classes: []int{0, 1, 2, 0, -1}, Options: r.Options})
	if err != nil || !slices.Equal(floats(named.Rows(0, 4)), floats(all.Rows(0, 4))) || farthest(named.Rows(4, 5), all.Rows(4, 5)) < 1e-3 {
		t.Error("classes that are asked for are not those in turn")
	}
	clean, _, err := Draw(tape, m, s, Request{Seed: 4, N: 5, Denoise: 1.4, Options: r.Options})
	if err != nil {
		t.Fatal(err)
	}
	o := Request{}
	y := o.classes(&c, 0, 5)
	nll := func(x *gpu.Tensor) (v []float64) {
		tape.Run(func() { v = floats(m.Net.NLL(tape.Input(x), y).Value()) })
		return v
	}
	// Along the score by so small a step the density rises, by the step's length squared over factor·noise², to first order.
	a, b, per := nll(all), nll(clean), all.Len()/5
	for i := range 5 {
		var square float64
		for k := range per {
			d := floats(clean)[i*per+k] - floats(all)[i*per+k]
			square += d * d
		}
		if gain := square / (1.4 * 0.04); !(a[i] > b[i]) || math.Abs(a[i]-b[i]-gain) > 0.9*gain {
			t.Errorf("sample %d: %g nats before, %g after; to first order %g less", i, a[i], b[i], gain)
		}
	}
	for want, r := range map[string]Request{
		"0 samples":                                    {},
		"a denoising step of factor -1":                {N: 1, Denoise: -1},
		"2 classes for 1 samples of a flow with 3":     {N: 1, Classes: []int{0, 1}},
		"1 samples from number -1 on, 0 at a time":     {N: 1, First: -1},
		"guidance NaN; want a finite number, 0 or mor": {N: 1, Options: Options{InverseOptions: flow.InverseOptions{Guidance: math.NaN()}}},
	} {
		if _, _, err := Draw(tape, m, s, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Both tasks are there, have flows that can be, and say how to draw.
func TestTasks(t *testing.T) {
	for name, tokens := range map[string]int{Task: 49, FineTask: 196} {
		task, ok := systems.FindTask(name)
		if !ok || task.Draws != "fidlab system gsjacobi sample" || task.Open != nil {
			t.Errorf("%s: %+v", name, task)
		}
		c := flow.MNIST()
		if name == FineTask {
			c = fine()
		}
		if c.Check() != nil || c.Tokens() != tokens {
			t.Errorf("%s has %d tokens", name, c.Tokens())
		}
	}
}
