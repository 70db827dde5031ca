package shiftsteps

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func recipe(t *testing.T) systems.Recipe {
	t.Helper()
	r, err := systems.Find("shiftsteps")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) { proof.Tiny(t, "shiftsteps") }

// What is tuned is never what is reported: no seed is in both splits. The version
// that reports the seed that it was tuned on is caught.
func TestTuningSeedsAreNotReported(t *testing.T) {
	seeds := map[systems.Split]map[uint64]bool{systems.Val: {}, systems.Test: {}}
	r := recipe(t)
	plan := r.Plan
	r.Plan = func(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
		list, err := plan(ctx, env, tier)
		for i := range list {
			for j := range list[i].Arms {
				a := &list[i].Arms[j]
				a.Run = func(_ context.Context, d systems.Draw) (*systems.Outcome, error) {
					seeds[d.Split][d.Seed] = true
					return &systems.Outcome{Cost: a.Cost, Values: map[string]float64{"excess": 1, "fd": 1, "floor": 1, "rmse": 1, "bias": 1, "start": 1}}, nil
				}
			}
		}
		return list, err
	}
	if _, err := systems.Prove(context.Background(), &systems.Env{}, r, systems.Tiny); err != nil {
		t.Fatal(err)
	}
	shared := func(a, b map[uint64]bool) int {
		n := 0
		for s := range a {
			if b[s] {
				n++
			}
		}
		return n
	}
	if len(seeds[systems.Val]) == 0 || len(seeds[systems.Test]) != 2 || shared(seeds[systems.Val], seeds[systems.Test]) != 0 {
		t.Errorf("tuned on %v, reported on %v", seeds[systems.Val], seeds[systems.Test])
	}
	if shared(seeds[systems.Val], seeds[systems.Val]) == 0 {
		t.Error("a report on the tuned seeds is not noticed")
	}
}

func tinyBed(t *testing.T) *bed {
	t.Helper()
	b, err := open(context.Background(), &systems.Env{}, sizes[systems.Tiny].scale)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Components by k-means keep all second moments of the images that they are fitted
// to: mean, covariance and the mean variance of an image, but for the ridge. That
// holds in the pixels, so the way back from the principal dimensions is right.
func TestBedHasTheImagesMoments(t *testing.T) {
	b := tinyBed(t)
	set, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	s := sizes[systems.Tiny].scale
	x := gpu.CPU().Empty64(s.fitted, b.Dims)
	for i := range s.fitted {
		pooled(x.F64()[i*b.Dims:(i+1)*b.Dims], set.Images[i], s.pool)
	}
	mean, cov := bases.MomentsOf(x)
	gotMean, gotCov := b.Moments()
	for i := range b.Dims {
		if !(math.Abs(gotMean[i]-mean.F64()[i]) <= 1e-10) {
			t.Fatalf("mean of pixel %d is %v, of the images %v", i, gotMean[i], mean.F64()[i])
		}
		for j := range b.Dims {
			want := cov.F64()[i*b.Dims+j] * float64(s.fitted-1) / float64(s.fitted)
			if i == j {
				want += ridge
			}
			if got := gotCov[i*b.Dims+j]; !(math.Abs(got-want) <= 1e-10) {
				t.Fatalf("covariance of pixels %d and %d is %v, of the images %v", i, j, got, want)
			}
		}
	}
	got, err := b.PixelVariance()
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(got-(b.v0+ridge)) <= 1e-10) {
		t.Errorf("mean variance of an image %v, of the images %v and the ridge", got, b.v0)
	}
}

func TestPooled(t *testing.T) {
	gray := make([]uint8, mnist.Width*mnist.Height)
	gray[0], gray[1], gray[29] = 255, 255, 255 // three of the first four pixels
	v := make([]float64, 14*14)
	pooled(v, gray, 2)
	if v[0] != 0.5 || v[1] != -1 {
		t.Errorf("pixels %v and %v, want 0.5 and -1", v[0], v[1])
	}
}

// The held images are at distance 0 from themselves, exact draws of the mixture are
// not, and too few samples are refused.
func TestFrechet(t *testing.T) {
	b := tinyBed(t)
	set, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	s := sizes[systems.Tiny].scale
	x := gpu.CPU().Empty64(s.held, b.Dims)
	for i := range s.held {
		pooled(x.F64()[i*b.Dims:(i+1)*b.Dims], set.Images[heldFrom+i], s.pool)
	}
	if got, err := b.frechet(x); err != nil || !(math.Abs(got) < 1e-6) {
		t.Errorf("the held images are %v from themselves (%v)", got, err)
	}
	if got, err := b.frechet(b.Draws(1, s.held)); err != nil || !(got > 0.01) {
		t.Errorf("draws of the mixture are %v from the held images (%v)", got, err)
	}
	if _, err := b.frechet(x.Rows(0, b.Dims)); err == nil || !strings.Contains(err.Error(), "wanted more samples than pixels") {
		t.Errorf("as many samples as pixels: %v", err)
	}
}

// Fitting is at the mercy of what comes before the held images: no scale reaches them.
func TestScalesKeepImagesApart(t *testing.T) {
	for tier, s := range sizes {
		if s.fitted > heldFrom || heldFrom+s.held > 60000 {
			t.Errorf("%v: %d images are fitted and %d held from %d on", tier, s.fitted, s.held, heldFrom)
		}
	}
}

// The grids are the programs': times, number of steps, evaluations of F-PNDM.
func TestGrids(t *testing.T) {
	pndm, err := sampler.ByName("pndm")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule  string
		times []float64
		nfe   int
	}{
		{"paper", []float64{901, 801, 701, 601, 501, 401, 301, 201, 101, 1}, 19},
		{"released", []float64{801, 701, 601, 501, 401, 301, 201, 101, 1}, 18},
	} {
		g, err := grid(c.rule, 10)
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		for _, s := range g.Steps {
			got = append(got, s.From.T)
		}
		if !slices.Equal(got, c.times) || pndm.NFE(g) != c.nfe {
			t.Errorf("%s: times %v and %d evaluations, want %v and %d", c.rule, got, pndm.NFE(g), c.times, c.nfe)
		}
	}
	for _, rule := range otherGrids {
		for _, s := range sizes {
			for _, steps := range s.steps {
				if g, err := grid(rule, steps); err != nil || g.Check() != nil || len(g.Steps) != steps {
					t.Errorf("%s of %d steps: %v", rule, steps, err)
				}
			}
		}
	}
	for _, rule := range []string{"magic", "leading:x"} {
		if _, err := grid(rule, 10); err == nil {
			t.Errorf("grid %s is taken", rule)
		}
	}
}

// Every setting of every tier can be walked, at the cost that its arm declares: a full
// proof does not find that out after half an hour.
func TestSettings(t *testing.T) {
	b := tinyBed(t)
	for tier, s := range sizes {
		p := &planner{bed: b, size: s}
		for _, e := range p.experiments(tier) {
			for _, a := range e.Arms {
				trials := a.Tune
				if trials == nil {
					trials = []systems.Params{{}}
				}
				for _, trial := range trials {
					steps := []float64{0}
					if e.Sweep != nil {
						steps = e.Sweep.Values
					}
					for _, n := range steps {
						set := systems.Params{}
						for _, from := range []systems.Params{a.Set, trial} {
							for k, v := range from {
								set[k] = v
							}
						}
						if e.Sweep != nil {
							set["S"] = n
						}
						st, err := b.settle(set)
						if err == nil {
							err = sampler.Walks(st.solver, st.grid)
						}
						if err != nil {
							t.Errorf("%v, %s, %s (%v): %v", tier, e.Name, a.Name, set, err)
							continue
						}
						if nfe := st.solver.NFE(st.grid); e.Sweep == nil && float64(nfe) != a.Cost.NFE {
							t.Errorf("%v, %s, %s: %d evaluations, declared %g", tier, e.Name, a.Name, nfe, a.Cost.NFE)
						}
						if st.levels != nil && !sampler.OwnLevels(st.solver) {
							t.Errorf("%v, %s, %s: %s has no levels of single images", tier, e.Name, a.Name, st.solver.Name())
						}
					}
				}
			}
		}
	}
}

// A time for the whole batch, the naive version, makes an image depend on its
// batch; the shift does not.
func TestTogetherDependsOnTheBatch(t *testing.T) {
	b := tinyBed(t)
	run := func(p systems.Params, batch int) []float64 {
		s, err := b.settle(p)
		if err != nil {
			t.Fatal(err)
		}
		o := b.Options(3, 8)
		o.Batch, o.Levels = batch, s.levels
		r, err := sampler.Run(context.Background(), s.den, s.solver, s.grid, o)
		if err != nil {
			t.Fatal(err)
		}
		return r.X.F64()
	}
	p := systems.Params{"S": 5, "mode": "debiased", "window": 80, "cutoff": 100}
	if !slices.Equal(run(p, 8), run(p, 3)) {
		t.Error("the shift depends on the batch")
	}
	p["together"] = 1
	if slices.Equal(run(p, 8), run(p, 3)) {
		t.Error("one time for the batch does not depend on it; the check would not see it")
	}
}

// The forced error multiplies states by 1 + e once a step, but for the first, and
// nothing else: with a denoiser of data without spread, DDIM's end is the data's
// whatever was forced, and the states between are in closed form.
func TestForcedError(t *testing.T) {
	g, err := grid("paper", 5)
	if err != nil {
		t.Fatal(err)
	}
	x0, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0.5, -0.25}}, Vars: []float64{0}})
	if err != nil {
		t.Fatal(err)
	}
	const e = 0.03
	var states [][]float64
	o := sampler.Options{N: 1, Shape: []int{2}, Double: true, Levels: forced(nil, e), Trajectory: func(ev sampler.Event) error {
		states = append(states, slices.Clone(ev.X.F64()))
		return nil
	}}
	if _, err := sampler.Run(context.Background(), x0, sampler.DDIM{}, g, o); err != nil {
		t.Fatal(err)
	}
	mean := []float64{0.5, -0.25}
	x := states[0]
	for i, s := range g.Steps {
		for j := range x {
			v := x[j]
			if i > 0 {
				v *= 1 + e
			}
			x[j] = s.To.A*mean[j] + s.To.B*(v-s.From.A*mean[j])/s.From.B
			if got := states[i+1][j]; !(math.Abs(got-x[j]) <= 1e-12) {
				t.Errorf("after step %d value %d is %v, want %v", i, j, got, x[j])
			}
		}
	}
}

// Offsets are |mean variance - expected|, mean over the steps: 0 where images have
// what is expected, and known where they are off by a known share.
func TestOffsets(t *testing.T) {
	b := &bed{v0: 0.3}
	o := &offsets{v0: b.v0}
	for step := 1; step <= 2; step++ {
		p := diffusion.AtTime(vp, float64(600-200*step))
		want := p.A*p.A*0.3 + p.B*p.B
		x := gpu.CPU().Empty64(2, 2)
		for i, f := range []float64{1.1, 1.3} { // two values ±s have the variance 2s²
			s := math.Sqrt(f * want / 2)
			x.F64()[2*i], x.F64()[2*i+1] = s, -s
		}
		if err := o.see(sampler.Event{Step: step, At: p, X: x}); err != nil {
			t.Fatal(err)
		}
	}
	want := 0.0
	for step := 1; step <= 2; step++ {
		p := diffusion.AtTime(vp, float64(600-200*step))
		want += 0.2 * (p.A*p.A*0.3 + p.B*p.B) / 2
	}
	if got := o.mean(); !(math.Abs(got-want) <= 1e-12) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, e := range []sampler.Event{{Step: 0, At: diffusion.Point{A: 1, B: 1}}, {Step: 3, At: diffusion.Point{A: 1}}} {
		if err := o.see(e); err != nil || len(o.steps) != 2 {
			t.Errorf("step %d is counted", e.Step)
		}
	}
}

// The words of notes.
func TestShifts(t *testing.T) {
	var m shifts
	if m.note() != "" {
		t.Errorf("nothing was moved, and %q", m.note())
	}
	m.add(1, nil, []float64{1, 3})
	if got, want := m.note(), "moved by 2.0 times on average, with a deviation of 1.0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
