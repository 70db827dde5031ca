package train

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// start is affine's weight, a float32.
const start = 0.6875

// affine is a network that says w·x + 0.1·time + 0.01·class.
type affine struct {
	net     *nn.Params
	w       *nn.Param
	classes int
	seen    []int32
}

func newAffine(dt gpu.DType, classes int) *affine {
	a := &affine{net: nn.NewParams(gpu.CPU(), dt), classes: classes}
	a.w = a.net.At("").Param("w", nn.Fill(start), 1)
	a.net.Init(0)
	return a
}

func (a *affine) Params() *nn.Params { return a.net }
func (a *affine) Takes() models.Takes {
	return models.Takes{Channels: 1, Out: 1, Height: 2, Width: 3, Classes: a.classes}
}

func (a *affine) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	if err := a.Takes().Check(x.Shape(), in); err != nil {
		panic(err)
	}
	n := x.Shape()[0]
	y := x.Mul(x.Tape().Use(a.w)).Add(time.Scale(0.1).Reshape(n, 1, 1, 1))
	if a.classes > 0 {
		a.seen = append(a.seen, in.Classes.I32()...)
		c := make([]float64, n)
		for i, k := range in.Classes.I32() {
			c[i] = 0.01 * float64(k)
		}
		y = y.Add(x.Tape().Input(gpu.CPU().From64(c, n, 1, 1, 1)))
	}
	return y
}

func pictures64(n int) *gpu.Tensor {
	v := make([]float64, n*6)
	for i, z := range oracle.Normal(21, len(v)) {
		v[i] = 0.5 * float64(z)
	}
	return gpu.CPU().From64(v, n, 1, 2, 3)
}

// drawn is what the loss draws for example k under a seed.
func drawn(t *testing.T, c Diffusion, p diffusion.Path, seed, k uint64) (sigma float64, noise []float64) {
	d, err := diffusion.DrawByName(c.Draw)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := diffusion.NoiseByName(c.Kernel, 6)
	if err != nil {
		t.Fatal(err)
	}
	noise = make([]float64, 6)
	kernel.Prior(noise, 1, rng.ForImage(seed, k, rng.Noising))
	return d.Sigma(p, rng.ForImage(seed, k, rng.Time)), noise
}

// The loss is its formula, in float64, for every path, prediction, draw and weight, with and without the Huber distance.
func TestDenoisingIsItsFormula(t *testing.T) {
	const n, first = 5, 100
	x0 := pictures64(n)
	cases := 0
	for _, c := range []Diffusion{
		{Path: "vp", Pred: "eps", Draw: "uniform", Weight: "one"},
		{Path: "vp", Pred: "eps", Draw: "uniform", Weight: "min-snr"},
		{Path: "vp-cosine", Pred: "v", Draw: "uniform", Weight: "min-snr:5"},
		{Path: "vp-cosine-zt", Pred: "x0", Draw: "uniform", Weight: "truncated-snr"},
		{Path: "vp-sde", Pred: "score", Draw: "uniform", Weight: "snr"},
		{Path: "edm", Pred: "edm", Draw: "lognormal", Weight: "one"},
		{Path: "edm", Pred: "x0", Draw: "lognormal:-0.4,1", Weight: "edm"},
		{Path: "trigflow", Pred: "trigflow", Draw: "lognormal:-1,1.4", Weight: "one"},
		{Path: "flow", Pred: "flow", Draw: "logit-normal", Weight: "one"},
		{Path: "flow-reversed", Pred: "flow-reversed", Draw: "uniform", Weight: "one"},
		{Path: "ve", Pred: "eps", Draw: "loguniform", Weight: "one", Huber: 0.03},
		{Path: "edm", Pred: "edm", Draw: "lognormal", Weight: "edm", Huber: 0.1},
		{Path: "edm", Pred: "edm", Draw: "lognormal", Weight: "one", Kernel: "pfgmpp:8"},
		{Path: "flow", Pred: "x0", Draw: "logit-normal", Weight: "edm:1", Kernel: "pfgmpp:128,0.001"},
	} {
		cases++
		net := newAffine(gpu.Float64, 0)
		l, err := c.NewDenoising(net, n)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		weight, err := diffusion.WeightByName(c.Weight)
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for i := range n {
			sigma, noise := drawn(t, c, l.Path, 9, first+uint64(i))
			a, b := l.Path.Input(sigma)
			cx, cx0, err := l.Pred.FromX0(a, b)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for j := range 6 {
				clean := x0.F64()[6*i+j]
				x := a*clean + b*noise[j]
				e := start*x + 0.1*l.Path.Time(sigma) - (cx*x + cx0*clean)
				sum += e * e
			}
			w := weight.Of(l.Pred, a, b)
			if c.Huber > 0 {
				want += w * (math.Sqrt(sum+c.Huber*c.Huber) - c.Huber) / n
			} else {
				want += w * sum / 6 / n
			}
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		b := &Batch{Tape: tape, First: first, Size: n, Seeds: SeedsOf(9)}
		if got := l.Loss(b, x0, nil, models.Inputs{}).Item(); math.Abs(got-want) > 1e-9*want {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
	if cases != 14 {
		t.Errorf("%d cases", cases)
	}
}

// Pieces of a batch are the batch: what an example is noised with depends on its number alone.
func TestDenoisingByNumber(t *testing.T) {
	x0 := pictures64(8)
	d := Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal", Weight: "one", Drop: 0.4}
	labels := []int32{0, 1, 2, 0, 1, 2, 0, 1}
	each := func(batch int) (out []float64, told []int32) {
		net := newAffine(gpu.Float64, 3)
		l, err := d.NewDenoising(net, batch)
		if err != nil {
			t.Fatal(err)
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		for lo := 0; lo < 8; lo += batch {
			tape.Run(func() {
				e, _ := l.Each(&Batch{Tape: tape, First: 40 + uint64(lo), Size: batch, Seeds: SeedsOf(2)}, x0.Rows(lo, lo+batch), labels[lo:lo+batch], models.Inputs{})
				out = append(out, e.Value().F64()...)
			})
		}
		return out, net.seen
	}
	want, told := each(8)
	got, told2 := each(2)
	for i, v := range want {
		if math.Abs(got[i]-v) > 1e-14*v || told[i] != told2[i] {
			t.Errorf("example %d: %v and class %d in pieces, %v and %d", i, got[i], told2[i], v, told[i])
		}
	}
	// Others with another seed of noise; the same with another seed of data.
	l, err := d.NewDenoising(newAffine(gpu.Float64, 3), 8)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    Seeds
		same bool
	}{"data": {Seeds{Noise: 2, Data: 7}, true}, "noise": {Seeds{Noise: 3}, false}} {
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		e, _ := l.Each(&Batch{Tape: tape, First: 40, Size: 8, Seeds: c.s}, x0, labels, models.Inputs{})
		if (e.Value().F64()[0] == want[0]) != c.same {
			t.Errorf("another seed of %s: loss %v, was %v", name, e.Value().F64()[0], want[0])
		}
	}
}

// As many examples as asked for are told no class.
func TestLabelDropout(t *testing.T) {
	const n = 20000
	net := newAffine(gpu.Float64, 3)
	l, err := Diffusion{Path: "flow", Pred: "flow", Draw: "uniform", Weight: "one", Drop: 0.1}.NewDenoising(net, n)
	if err != nil {
		t.Fatal(err)
	}
	labels := make([]int32, n)
	for i := range labels {
		labels[i] = int32(i % 3)
	}
	none := 0
	b := &Batch{Size: n, Seeds: SeedsOf(1)}
	for i, k := range b.Tell(l.classes, labels, 3, l.drop).I32() {
		if k == 3 {
			none++
		} else if k != labels[i] {
			t.Fatalf("example %d is told class %d, it has %d", i, k, labels[i])
		}
	}
	if d := math.Abs(float64(none)-0.1*n) / math.Sqrt(n*0.1*0.9); d > 5 {
		t.Errorf("%d of %d are told none", none, n)
	}
}

// The least loss that theory allows for normal data is reached by the exact predictor, and by no other: with x0 ~ N(0, s²) the error of
// eps given x is a²s²/(a²s² + b²).
func TestDenoisingMeetsTheory(t *testing.T) {
	const n, s = 4000, 0.5
	x0 := pictures64(n)
	d := Diffusion{Path: "vp", Pred: "eps", Draw: "uniform", Weight: "one"}
	exact := &optimal{affine: newAffine(gpu.Float64, 0), s: s, scale: 1}
	l, err := d.NewDenoising(exact, n)
	if err != nil {
		t.Fatal(err)
	}
	exact.path = l.Path
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	mean := func() float64 {
		var v float64
		tape.Run(func() {
			tape.NoGrad(func() { v = l.Loss(&Batch{Tape: tape, Size: n, Seeds: SeedsOf(1)}, x0, nil, models.Inputs{}).Item() })
		})
		return v
	}
	table, want := diffusion.TableOf(l.Path), 0.0
	for k := range table.Len() {
		a, b := l.Path.Input(table.Sigma(float64(k)))
		want += a * a * s * s / (a*a*s*s + b*b) / float64(table.Len())
	}
	got := mean()
	if math.Abs(got-want) > 0.015*want { // 24,000 values of a relative deviation of about 2
		t.Errorf("loss %v, theory has %v", got, want)
	}
	for _, scale := range []float64{0.9, 1.1} {
		exact.scale = scale
		if worse := mean(); worse <= got {
			t.Errorf("a predictor %g times the exact one has the loss %v, the exact one %v", scale, worse, got)
		}
	}
}

// optimal predicts eps from normal data: b·x/(a²s² + b²).
type optimal struct {
	*affine
	path     diffusion.Path
	s, scale float64
}

func (o *optimal) Forward(x, time *nn.Var, _ models.Inputs) *nn.Var {
	c := make([]float64, x.Shape()[0])
	for i, t := range time.Value().F64() {
		a, b := o.path.Input(o.path.Sigma(t))
		c[i] = o.scale * b / (a*a*o.s*o.s + b*b)
	}
	return x.Mul(x.Tape().Input(gpu.CPU().From64(c, len(c), 1, 1, 1)))
}

func TestDiffusionRefuses(t *testing.T) {
	good := Diffusion{Path: "flow", Pred: "flow", Draw: "uniform", Weight: "one"}
	for want, change := range map[string]func(d *Diffusion){
		"path: ":                          func(d *Diffusion) { d.Path = "flaw" },
		"pred: ":                          func(d *Diffusion) { d.Pred = "epsy" },
		"draw: ":                          func(d *Diffusion) { d.Draw = "normal" },
		"weight: ":                        func(d *Diffusion) { d.Weight = "two" },
		"huber -1":                        func(d *Diffusion) { d.Huber = -1 },
		"drop 0.1 of a network with 0":    func(d *Diffusion) { d.Drop = 0.1 },
		"pred edm on path flow":           func(d *Diffusion) { d.Pred = "edm" },
		"pred eps on path flow":           func(d *Diffusion) { d.Pred = "eps" },
		"pred eps on path vp-zt":          func(d *Diffusion) { d.Path, d.Pred = "vp-zt", "eps" },
		"pred trigflow on path vp":        func(d *Diffusion) { d.Path, d.Pred = "vp", "trigflow" },
		"pred score on path flow-reverse": func(d *Diffusion) { d.Path, d.Pred = "flow-reversed", "score" },
	} {
		d := good
		change(&d)
		if _, err := d.NewDenoising(newAffine(gpu.Float32, 0), 2); err == nil || !strings.HasPrefix(err.Error(), "train: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	l, err := good.NewDenoising(newAffine(gpu.Float32, 3), 2)
	if err != nil {
		t.Fatal(err)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"it was made for 2":         func() { l.Loss(&Batch{Tape: tape, Size: 3}, gpu.CPU().Empty(3, 1, 2, 3), nil, models.Inputs{}) },
		"0 classes for 2 examples":  func() { l.Loss(&Batch{Tape: tape, Size: 2}, gpu.CPU().Empty(2, 1, 2, 3), nil, models.Inputs{}) },
		"Loss before SetLevels":     func() { new(Consistency).Loss(nil, nil, models.Inputs{}) },
		"from the path's least":     func() { (&Consistency{Path: diffusion.DefaultEDM()}).SetLevels([]float64{1, 2}) },
		"level 2 is 0.1 after 0.2;": func() { (&Consistency{Path: diffusion.DefaultEDM()}).SetLevels([]float64{0.002, 0.2, 0.1}) },
		"1 levels":                  func() { ConsistencyLevels(diffusion.DefaultEDM(), 1) },
	})
}

// A diffusion step allocates nothing after the second.
func TestDenoisingAllocatesNothing(t *testing.T) {
	e := &Examples{X: make([]float32, 6*50), Shape: []int{1, 2, 3}}
	copy(e.X, oracle.Normal(3, len(e.X)))
	for _, huber := range []float64{0, 0.1} {
		net := newAffine(gpu.Float32, 0)
		l, err := Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal", Weight: "edm", Huber: huber}.NewDenoising(net, 8)
		if err != nil {
			t.Fatal(err)
		}
		feed := NewFeed(e, gpu.CPU(), gpu.Float32, 8)
		job := &Job{Name: "allocations", Nets: []*Network{{Name: "net", Params: net.net}}, Loss: func(b *Batch) *nn.Var {
			x, _ := feed.Next(b)
			return l.Loss(b, x, nil, models.Inputs{})
		}}
		r := newRun(job, Config{Settings: Settings{Steps: 1000, Batch: 8, Rate: 1e-3, EMA: []float64{0.9}}.Filled()})
		step := func() {
			if err := r.advance(); err != nil {
				t.Fatal(err)
			}
		}
		step()
		step()
		if n := oracle.Allocations(50, step); n >= 1 {
			t.Errorf("huber %g: %v allocations a step", huber, n)
		}
	}
}

// Masks of batches differ, and are never the one that stands for none.
func TestMask(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(3) {
		for first := range uint64(2000) {
			m := (&Batch{First: first, Seeds: Seeds{Dropout: seed}}).Mask(0.2)
			if m.Seed == 0 || m.P != 0.2 || seen[m.Seed] {
				t.Fatalf("the mask of batch %d under seed %d: %+v", first, seed, m)
			}
			seen[m.Seed] = true
		}
	}
}
