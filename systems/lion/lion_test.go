package lion

import (
	"context"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

// The tiny tier runs through, and twice to the same numbers.
func TestTinyProof(t *testing.T) {
	proof.Tiny(t, "lion", func(p *systems.Proof) {
		for _, name := range []string{"exactness/one size", "exactness/memory", "exactness/program", "exactness/start"} {
			if c := p.Record.Find(name); c == nil || c.Verdict != systems.Pass {
				t.Errorf("%s: %+v, want a pass", name, c)
			}
		}
	})
}

// Arms are tuned by as many trials, and by grids of which Lion's is shifted: rates a fifth,
// decays five times, so that the product, which is what decays, is the same.
func TestGridsAreEqual(t *testing.T) {
	for tier, z := range tiers {
		s := &study{tier: tier, sizes: z}
		a, l := s.grid("adamw", 1e-3), s.grid("lion", 1e-3)
		if len(a) != 2*z.rates || len(l) != len(a) {
			t.Errorf("%v: %d and %d settings, want %d", tier, len(a), len(l), 2*z.rates)
		}
		for i := range a {
			for _, c := range [][2]float64{{l[i].Num("lr"), a[i].Num("lr") / 5}, {l[i].Num("decay"), a[i].Num("decay") * 5}, {l[i].Num("lr") * l[i].Num("decay"), a[i].Num("lr") * a[i].Num("decay")}} {
				if math.Abs(c[0]-c[1]) > 1e-12 {
					t.Errorf("%v: setting %d is %v, AdamW's %v", tier, i, l[i], a[i])
				}
			}
		}
	}
}

// What is judged by is not what is trained on or chosen by.
func TestDataIsHeldOut(t *testing.T) {
	spans := []Span{searchTrain, searchVal, funnelTrain, funnelVal, finalTrain}
	for i, a := range spans {
		for _, b := range spans[:i] {
			if a.From < b.To && b.From < a.To {
				t.Errorf("digits %v and %v overlap", a, b)
			}
		}
	}
	if !Final(1).Test || Proxy(1).Test {
		t.Error("the end is judged by the test split, and nothing before")
	}
	for _, list := range FunnelTasks(1) {
		for _, k := range list {
			if k.Test || k.Check() != nil {
				t.Errorf("funnel task %+v", k)
			}
		}
	}
}

// A denoiser of a network that knows the noise gives the clean picture: the sampler's
// scaling is the network's.
func TestDenoiserScales(t *testing.T) {
	d, err := newDenoising(6, func(s nn.Scope) models.Net { return newPlainNet(s, 8, 1) })
	if err != nil {
		t.Fatal(err)
	}
	b := newNoised(6)
	d.fill(b, rng.New(1, 0), d.val, func(i int) int { return i })
	for i := range 6 {
		time := int(math.Round(float64(b.time.F32()[i]) * 1000))
		var off float64
		for k := range pixelCount {
			clean := (float64(b.x.F32()[i*pixelCount+k]) - float64(d.b[time])*float64(b.eps.F32()[i*pixelCount+k])) / float64(d.a[time])
			off = math.Max(off, math.Abs(clean-float64(d.val[i*pixelCount+k])))
		}
		if off > 1e-3 {
			t.Errorf("digit %d at time %d is %v off", i, time, off)
		}
	}
	// The oracle: it answers with the noise that was put in, at the time that it is asked.
	x0, eps := d.val[:pixelCount], make([]float32, pixelCount)
	rng.New(2, 0).FillNormal32(eps)
	const time = 437
	sigma := d.path.Sigma(time)
	net := &knowing{t: t, eps: eps, time: time / 1000.0}
	x := gpu.CPU().Empty(1, 1, 8, 8)
	for k, v := range x0 {
		x.F32()[k] = v + float32(sigma)*eps[k]
	}
	out := gpu.CPU().Empty(1, 1, 8, 8)
	if err := (&denoiser{d: d, net: net, tape: nn.NewTape(gpu.CPU(), gpu.Float32)}).Denoise(context.Background(), out, x, []float64{sigma}, sampler.Cond{}); err != nil {
		t.Fatal(err)
	}
	for k, v := range x0 {
		if got := out.F32()[k]; math.Abs(float64(got-v)) > 1e-5 {
			t.Fatalf("pixel %d is %v, want %v", k, got, v)
		}
		want := float64(d.a[time])*float64(v) + float64(d.b[time])*float64(eps[k])
		if math.Abs(float64(net.saw[k])-want) > 1e-5 {
			t.Fatalf("the network sees %v, want %v, as in training", net.saw[k], want)
		}
	}
}

type knowing struct {
	models.Net
	t    *testing.T
	eps  []float32
	saw  []float32
	time float64
}

func (n *knowing) Forward(x, time *nn.Var, _ models.Inputs) *nn.Var {
	if got := float64(time.Value().F32()[0]); math.Abs(got-n.time) > 1e-6 {
		n.t.Errorf("asked at time %v, want %v", got, n.time)
	}
	n.saw = append(n.saw, x.Value().F32()...)
	return x.Tape().Input(gpu.CPU().From(n.eps, 1, 1, 8, 8))
}

// Every use learns: after some steps its loss is well below that at the start, and what a
// causal model says of a token does not depend on later ones.
func TestUsesLearn(t *testing.T) {
	u, err := newUses(60)
	if err != nil {
		t.Fatal(err)
	}
	steps := 60
	for name, c := range map[string]struct {
		of   func(batch int, seed uint64) (*job, error)
		most float64 // of the loss after over that before
		by   []string
	}{
		"classifier": {u.classifier, 0.7, []string{"adamw", "lion", "adafactor"}}, "contrastive": {u.contrastive, 0.9, []string{"adamw", "lion"}},
		"autoregressive": {u.autoregressive, 0.8, []string{"lion"}}, "masked": {u.masked, 0.9, []string{"adafactor"}},
		"fine-tuning": {u.fineTuning(&systems.Env{}, 60), 0.8, []string{"lion"}},
	} {
		for _, optimizer := range c.by {
			lr := map[string]float64{"adamw": 3e-3, "lion": 2e-3, "adafactor": 0.1}[optimizer]
			before, err := c.of(32, 1)
			if err != nil {
				t.Fatal(err)
			}
			first, _ := before.look(nn.NewTape(gpu.CPU(), gpu.Float32))
			r, err := train(context.Background(), c.of, setting{optimizer, lr, 0.01, steps, 32, 1}, 0.9)
			if err != nil {
				t.Fatal(err)
			}
			if r.loss > c.most*first || r.right <= 0 {
				t.Errorf("%s by %s: loss from %.3f to %.3f, %.2f right", name, optimizer, first, r.loss, r.right)
			}
		}
	}
}

func TestReach(t *testing.T) {
	curve := []float64{4, 3, 2, 1}
	for loss, want := range map[float64]float64{1: 1, 2: 0.75, 2.5: 0.625, 5: 0.25, 0.5: 2} {
		if got := reach(curve, loss); got != want {
			t.Errorf("down to %v after %v, want %v", loss, got, want)
		}
	}
}

// What diverges ends early with a loss that no other has, and bad settings are refused.
func TestDivergence(t *testing.T) {
	u, err := newUses(60)
	if err != nil {
		t.Fatal(err)
	}
	wild := func(batch int, seed uint64) (*job, error) {
		j, err := u.classifier(batch, seed)
		draw := j.draw
		j.draw = func(r *rng.Stream) {
			draw(r)
			j.net.Value().F32()[0] = float32(math.NaN())
		}
		return j, err
	}
	r, err := train(context.Background(), wild, setting{"lion", 1e-3, 0, 200, 8, 1}, 0.9)
	if err != nil || r.loss != worstLoss || r.average != nil || r.skipped != mostSkips+1 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, s := range []setting{{"lion", 0, 0, 1, 8, 1}, {"lion", 0.1, 10, 1, 8, 1}, {"adamw", 0.1, -1, 1, 8, 1}, {"sgd", 0.1, 0, 1, 8, 1}, {"lion", math.NaN(), 0, 1, 8, 1}} {
		if _, err := train(context.Background(), u.classifier, s, 0.9); err == nil {
			t.Errorf("%+v passes", s)
		}
	}
}
