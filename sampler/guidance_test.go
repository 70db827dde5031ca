package sampler_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// conditional denoises to tanh(x/(1+sigma) + class + Σ text): something of the
// condition that is easy to say again. It keeps the batches that it saw.
type conditional struct {
	bias    float64
	batches []int
}

func (d *conditional) value(x, sigma float64, class int, text float64) float64 {
	return math.Tanh(x/(1+sigma)+0.3*float64(class)+text) + d.bias
}

func (d *conditional) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	d.batches = append(d.batches, len(at))
	size := x.Len() / len(at)
	for b, p := range at {
		class, text := 0, 0.0
		if c.Classes != nil {
			class = c.Classes[b]
		}
		if t := c.Inputs["text"]; t != nil {
			for _, v := range t.Rows(b, b+1).F64() {
				text += v
			}
		}
		for i := b * size; i < (b+1)*size; i++ {
			out.F64()[i] = d.value(x.F64()[i]/p.A, p.Sigma(), class, text)
		}
	}
	return nil
}

func (d *conditional) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return d.DenoiseAt(ctx, out, x, points(sigma), c)
}

const guideSize = 5

// guideInputs are three states and what they are conditioned on.
func guideInputs() (x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) {
	cpu := gpu.CPU()
	x = cpu.FromAs(gpu.Float64, oracle.Normal(8, 3*guideSize), 3, guideSize)
	at = []diffusion.Point{{A: 1, B: 0.4}, {A: 1, B: 2}, {A: 1, B: 9}}
	text := cpu.From64([]float64{0.1, 0.2, -0.3, 0.1, 0, 0.5}, 3, 2)
	other := func(class int) sampler.Cond {
		return sampler.Cond{Classes: []int{class, class, class}, Inputs: map[string]*gpu.Tensor{"text": text}}
	}
	c = other(0)
	c.Classes = []int{2, 0, 1}
	c.Others = []sampler.Cond{other(4), other(7)}
	return x, at, c
}

// null is what stands for no condition in these tests.
func null() sampler.Cond {
	return sampler.Cond{Inputs: map[string]*gpu.Tensor{"text": gpu.CPU().From64([]float64{0.05, 0.1}, 1, 2)}}
}

// predictions are D of image b under the run's condition, under null, and under the two others.
func predictions(d *conditional, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond, b int) (full, none []float64, others [2][]float64) {
	textOf := func(t *gpu.Tensor, b int) (s float64) {
		for _, v := range t.Rows(b, b+1).F64() {
			s += v
		}
		return s
	}
	for _, v := range x.Rows(b, b+1).F64() {
		s := at[b].Sigma()
		full = append(full, d.value(v, s, c.Classes[b], textOf(c.Inputs["text"], b)))
		none = append(none, d.value(v, s, -1, 0.15))
		for k, o := range c.Others {
			others[k] = append(others[k], d.value(v, s, o.Classes[b], textOf(o.Inputs["text"], b)))
		}
	}
	return full, none, others
}

func dot(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// Each rule against its formula, image by image.
func TestGuidanceRules(t *testing.T) {
	weakBias := 0.7
	for _, c := range []struct {
		name  string
		rule  sampler.GuidanceRule
		w     float64
		calls []int
		want  func(full, none []float64, others [2][]float64, i int) float64
	}{
		{"cfg", nil, 4, []int{6}, func(f, n []float64, _ [2][]float64, i int) float64 { return n[i] + 4*(f[i]-n[i]) }},
		{"none", nil, 1, []int{3}, func(f, _ []float64, _ [2][]float64, i int) float64 { return f[i] }},
		{"unconditional", nil, 0, []int{6}, func(_, n []float64, _ [2][]float64, i int) float64 { return n[i] }},
		{"rescale", sampler.Standard{Rescale: 0.7}, 5, []int{6}, func(f, n []float64, _ [2][]float64, i int) float64 {
			g := make([]float64, len(f))
			for j := range g {
				g[j] = n[j] + 5*(f[j]-n[j])
			}
			return g[i] * (0.7*deviation(f)/deviation(g) + 0.3)
		}},
		{"autoguidance", sampler.Standard{From: sampler.Weak}, 2.5, []int{3, 3}, func(f, _ []float64, _ [2][]float64, i int) float64 {
			return f[i] + weakBias + 2.5*(f[i]-(f[i]+weakBias))
		}},
		{"several", sampler.Multi{Weights: []float64{1.5, -0.5}}, 2, []int{12}, func(f, n []float64, o [2][]float64, i int) float64 {
			return n[i] + 2*(f[i]-n[i]) + 1.5*(o[0][i]-n[i]) - 0.5*(o[1][i]-n[i])
		}},
		{"one of several", sampler.Multi{}, 3, []int{6}, func(f, n []float64, _ [2][]float64, i int) float64 { return n[i] + 3*(f[i]-n[i]) }},
		{"perp-neg", &sampler.PerpNeg{Weights: []float64{-1, -0.4}}, 3, []int{12}, func(f, n []float64, o [2][]float64, i int) float64 {
			d := minus(f, n)
			sum := d[i]
			for k, w := range []float64{-1, -0.4} {
				v := minus(o[k], n)
				sum += w * (v[i] - dot(v, d)/dot(d, d)*d[i])
			}
			return n[i] + 3*sum
		}},
		{"projected", &sampler.Projected{Parallel: 0.2, Norm: 0.5}, 6, []int{6}, func(f, n []float64, _ [2][]float64, i int) float64 {
			m := minus(f, n)
			if l := math.Sqrt(dot(m, m)); l > 0.5 {
				for j := range m {
					m[j] *= 0.5 / l
				}
			}
			along := dot(m, f) / dot(f, f) * f[i]
			return f[i] + 5*(m[i]-along+0.2*along)
		}},
		{"projected is cfg", &sampler.Projected{Parallel: 1}, 6, []int{6}, func(f, n []float64, _ [2][]float64, i int) float64 { return n[i] + 6*(f[i]-n[i]) }},
		{"interleaved A", sampler.Interleaved{A: sampler.Other, B: sampler.Other + 1, WeightB: 3, Share: 1}, 2, []int{6}, func(f, _ []float64, o [2][]float64, i int) float64 { return o[0][i] + 2*(f[i]-o[0][i]) }},
		{"interleaved B", sampler.Interleaved{A: sampler.Other, B: sampler.Other + 1, WeightB: 3, Share: 0}, 2, []int{6}, func(f, _ []float64, o [2][]float64, i int) float64 { return o[1][i] + 3*(f[i]-o[1][i]) }},
	} {
		x, at, cond := guideInputs()
		d, weak := &conditional{}, &conditional{bias: weakBias}
		g := &sampler.Guided{Den: d, Weak: weak, Rule: c.rule, Weight: c.w, Null: null()}
		if c.name == "autoguidance" {
			g.Weak = weak
			c.want = func(f, _ []float64, _ [2][]float64, i int) float64 { return f[i] + weakBias + 2.5*(-weakBias) }
		}
		out := x.Like()
		if err := g.DenoiseAt(context.Background(), out, x, at, cond); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if calls := slices.Concat(d.batches, weak.batches); !slices.Equal(calls, c.calls) {
			t.Errorf("%s: batches of %v, want %v", c.name, calls, c.calls)
		}
		total := 0
		for _, n := range c.calls {
			total += n
		}
		if got := g.Cost(at[0]); got != total/3 {
			t.Errorf("%s: costs %d, want %d", c.name, got, total/3)
		}
		for b := range 3 {
			full, none, others := predictions(d, x, at, cond, b)
			for i := range guideSize {
				if got, want := out.F64()[b*guideSize+i], c.want(full, none, others, i); !(math.Abs(got-want) <= 1e-12) {
					t.Errorf("%s: image %d, value %d is %v, want %v", c.name, b, i, got, want)
				}
			}
		}
	}
}

func deviation(v []float64) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum / float64(len(v)))
}

// Outside the interval the network is asked once, for the condition alone.
func TestGuidanceInterval(t *testing.T) {
	x, at, cond := guideInputs() // sigma 0.4, 2, 9
	d := &conditional{}
	g := &sampler.Guided{Den: d, Weight: 4, Null: null(), Lo: 0.4, Hi: 2}
	out := x.Like()
	if err := g.DenoiseAt(context.Background(), out, x, at, cond); err != nil {
		t.Fatal(err)
	}
	slices.Sort(d.batches)
	if !slices.Equal(d.batches, []int{2, 2}) { // two images alone, and one twice
		t.Errorf("batches %v", d.batches)
	}
	for b, w := range []float64{1, 4, 1} {
		full, none, _ := predictions(d, x, at, cond, b)
		for i := range guideSize {
			if got, want := out.F64()[b*guideSize+i], none[i]+w*(full[i]-none[i]); !(math.Abs(got-want) <= 1e-12) {
				t.Errorf("image %d, value %d is %v, want %v", b, i, got, want)
			}
		}
		if c := g.Cost(at[b]); (c == 2) != (w != 1) {
			t.Errorf("sigma %g costs %d", at[b].Sigma(), c)
		}
	}
	// A run counts what it asked.
	grid := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{9, 3, 2, 1, 0.4, 0.1}})
	cond.Others = nil
	r, err := sampler.Run(context.Background(), g, sampler.Euler{}, grid, sampler.Options{N: 3, Batch: 2, Shape: []int{guideSize}, Double: true, Cond: cond})
	if err != nil {
		t.Fatal(err)
	}
	if r.NFE != 6 || r.Network != 8 { // twice at 2 and at 1
		t.Errorf("counts %+v, want 6 and 8", r.Count)
	}
}

// CFG++ against its own formula: x' = A'·(D_0 + λ(D - D_0)) + B'·(x - A·D_0)/B.
func TestCFGPlusPlus(t *testing.T) {
	const lambda = 0.6
	d := &conditional{}
	g := build(t, "vp", diffusion.Spec{Rule: "trailing", Steps: 5})
	cond := sampler.Cond{Classes: []int{2}}
	start := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(3, guideSize), 1, guideSize)
	r, err := sampler.Run(context.Background(), &sampler.Guided{Den: d, Weight: lambda, PlusPlus: true}, sampler.DDIM{}, g,
		sampler.Options{N: 1, Shape: []int{guideSize}, Double: true, State: start, Cond: cond})
	if err != nil {
		t.Fatal(err)
	}
	x := slices.Clone(start.F64())
	for _, s := range g.Steps {
		for i, v := range x {
			sigma := s.From.Sigma()
			full, none := d.value(v/s.From.A, sigma, 2, 0), d.value(v/s.From.A, sigma, -1, 0)
			x[i] = s.To.A*(none+lambda*(full-none)) + s.To.B*(v-s.From.A*none)/s.From.B
		}
	}
	if e := rel(r.X.F64(), x); e > 1e-12 {
		t.Errorf("differs by %.2g", e)
	}
}

// The momentum of projected guidance runs through the steps, and begins anew with every batch.
func TestProjectedMomentum(t *testing.T) {
	d := &conditional{}
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{4, 2, 1}})
	rule := &sampler.Projected{Parallel: 0.5, Momentum: -0.6}
	cond := sampler.Cond{Classes: []int{1, 3}}
	start := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(3, 2*guideSize), 2, guideSize)
	r, err := sampler.Run(context.Background(), &sampler.Guided{Den: d, Weight: 3, Rule: rule}, sampler.Euler{}, g,
		sampler.Options{N: 2, Batch: 1, Shape: []int{guideSize}, Double: true, State: start, Cond: cond})
	if err != nil {
		t.Fatal(err)
	}
	for b, class := range cond.Classes {
		x := slices.Clone(start.Rows(b, b+1).F64())
		m := make([]float64, guideSize)
		for _, s := range g.Steps {
			full, none := make([]float64, guideSize), make([]float64, guideSize)
			for i, v := range x {
				full[i], none[i] = d.value(v, s.From.B, class, 0), d.value(v, s.From.B, -1, 0)
				m[i] = full[i] - none[i] - 0.6*m[i]
			}
			k := dot(m, full) / dot(full, full)
			r := s.To.B / s.From.B
			for i := range x {
				along := k * full[i]
				guided := full[i] + 2*(m[i]-along+0.5*along)
				x[i] = r*x[i] + (1-r)*guided
			}
		}
		if e := rel(r.X.Rows(b, b+1).F64(), x); e > 1e-12 {
			t.Errorf("image %d differs by %.2g", b, e)
		}
	}
}

func TestInterleavedShares(t *testing.T) {
	for share, want := range map[float64]string{0.5: "BABABABA", 0.25: "BBBABBBA", 0: "BBBBBBBB", 1: "AAAAAAAA", 1. / 3: "BBABBABB"} {
		got := ""
		for i := range 8 {
			if (sampler.Interleaved{Share: share}).TakesA(i) {
				got += "A"
			} else {
				got += "B"
			}
		}
		if got != want {
			t.Errorf("share %g: %s, want %s", share, got, want)
		}
	}
	n := 0
	for i := range 10000 {
		if (sampler.Interleaved{Share: 0.3, Random: true, Seed: 5}).TakesA(i) {
			n++
		}
	}
	if math.Abs(float64(n)-3000) > 4*math.Sqrt(10000*0.3*0.7) {
		t.Errorf("%d of 10000 steps take A, want about 3000", n)
	}
}

func TestGuidanceRefusals(t *testing.T) {
	x, at, cond := guideInputs()
	nan := math.NaN()
	d := &conditional{}
	for want, g := range map[string]*sampler.Guided{
		"weight NaN":                 {Den: d, Weight: nan},
		"cfg++ weight 7.5":           {Den: d, Weight: 7.5, PlusPlus: true},
		"sigma 3 and 2":              {Den: d, Weight: 2, Lo: 3, Hi: 2},
		"rescale 2":                  {Den: d, Weight: 2, Rule: sampler.Standard{Rescale: 2}},
		"weak denoiser":              {Den: d, Weight: 2, Rule: sampler.Standard{From: sampler.Weak}},
		"7 further conditions":       {Den: d, Weight: 2, Rule: sampler.Multi{Weights: make([]float64, 7)}},
		"negative prompts: weights":  {Den: d, Weight: 2, Rule: &sampler.PerpNeg{Weights: []float64{nan}}},
		"momentum 1":                 {Den: d, Weight: 2, Rule: &sampler.Projected{Momentum: 1}},
		"share 2":                    {Den: d, Weight: 2, Rule: sampler.Interleaved{A: sampler.Null, B: sampler.Other, Share: 2}},
		"cannot be used at infinite": {Den: sampler.Adapt(&goldenNet{}, diffusion.Flow{}, diffusion.PredEps), Weight: 2},
	} {
		grid := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 3})
		if err := g.Check(grid); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, g := range map[string]struct {
		g *sampler.Guided
		c sampler.Cond
	}{
		"needs a condition":            {&sampler.Guided{Den: d, Weight: 2}, sampler.Cond{}},
		`no input "text" of shape [2]`: {&sampler.Guided{Den: d, Weight: 2}, cond},
		"needs 3 further conditions":   {&sampler.Guided{Den: d, Weight: 2, Null: null(), Rule: sampler.Multi{Weights: []float64{1, 1, 1}}}, cond},
		"within Run":                   {&sampler.Guided{Den: d, Weight: 0.5, Null: null(), PlusPlus: true}, cond},
		`differ in input "text"`: {&sampler.Guided{Den: d, Weight: 2, Null: null(), Rule: sampler.Multi{Weights: []float64{1}}}, sampler.Cond{
			Classes: cond.Classes, Inputs: cond.Inputs, Others: []sampler.Cond{{Classes: cond.Classes}},
		}},
	} {
		if err := g.g.DenoiseAt(context.Background(), x.Like(), x, at, g.c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Guided images do not depend on their batch.
func TestGuidedBatches(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 4})
	for _, rule := range []sampler.GuidanceRule{nil, &sampler.Projected{Norm: 1, Momentum: -0.5}, sampler.Standard{Rescale: 0.5}} {
		var want []float64
		for _, batch := range []int{7, 1, 3} {
			r, err := sampler.Run(context.Background(), &sampler.Guided{Den: &conditional{}, Weight: 3, Rule: rule}, sampler.Heun{}, g, sampler.Options{
				N: 7, Batch: batch, Shape: []int{guideSize}, Double: true, Cond: sampler.Cond{Classes: []int{0, 1, 2, 3, 4, 5, 6}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = r.X.F64()
			} else if !slices.Equal(r.X.F64(), want) {
				t.Errorf("%s: batches of %d give other bits", fmt.Sprint(rule), batch)
			}
		}
	}
}
