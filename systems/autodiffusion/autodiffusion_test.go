package autodiffusion

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func testbed(t testing.TB, env *systems.Env, tier systems.Tier) *study {
	t.Helper()
	bed, err := systems.Use[*bases.Mixture](context.Background(), env, bases.DigitMixture)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStudy(bed, sizes[tier])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The tiny tier runs through, and twice to the same numbers.
func TestTinyProof(t *testing.T) {
	proof.Tiny(t, "autodiffusion", func(p *systems.Proof) {
		proof.Values(p.Record, func(experiment, arm, measure string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s, %s: %s is %v", experiment, arm, measure, v)
			}
		})
	})
}

// Known good steps, found by such a search on a similar mixture, are good here: started
// far below the noisy end they are a quarter of what the fixed grids give.
func TestKnownSteps(t *testing.T) {
	s := testbed(t, &systems.Env{}, systems.Short)
	m := s.images(3)
	m.Run.N = 1000
	at := func(steps ...int) float64 {
		v, err := m.Fitness(context.Background(), search.Choice{Steps: steps})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	low, uniform := at(64, 151, 253, 400), at(0, 333, 666, 999)
	if low > 0.45 || uniform < 2 || low > 0.25*uniform {
		t.Errorf("four steps from 400: %.3f, uniform ones: %.3f; wanted some 0.37 and 2.3", low, uniform)
	}
}

// The search's noise is neither that of a test nor of a validation, and the
// second ranking's is neither.
func TestNoiseIsHeldOut(t *testing.T) {
	s := testbed(t, &systems.Env{}, systems.Tiny)
	seen := map[uint64]bool{1: true, 2: true, 1_000_001: true, 1_000_002: true}
	for _, seed := range []uint64{1, 2, 1_000_001, 1_000_002} {
		m := s.images(seed)
		h, err := m.Held(seed+rankNoise, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []uint64{m.Run.Seed, h.Run.Seed} {
			if seen[n] {
				t.Errorf("seed %d serves twice", n)
			}
			seen[n] = true
		}
	}
}

// A tuned curve has exactly as many trials as the search has candidates' worth of
// samples, and they are grids that the path can build.
func TestTrialsAreEqual(t *testing.T) {
	for _, tier := range []systems.Tier{systems.Tiny, systems.Short, systems.Full} {
		s := testbed(t, &systems.Env{}, tier)
		for _, free := range []bool{false, true} {
			trials := s.karras(s.size.trials(), free)
			if len(trials) != s.size.trials() {
				t.Errorf("%v: %d trials, want %d", tier, len(trials), s.size.trials())
			}
			tops := map[float64]bool{}
			for _, p := range trials {
				tops[p.Num("sigma_max")] = true
				if _, err := diffusion.Build(s.levels.Path, diffusion.Spec{Rule: "karras", Steps: 4, Rho: p.Num("rho"), SigmaMax: p.Num("sigma_max"), SigmaMin: p.Num("sigma_min")}); err != nil {
					t.Error(err)
				}
			}
			if free != (len(tops) > 1) {
				t.Errorf("%v, free %t: first levels %v", tier, free, tops)
			}
		}
	}
	if z := sizes[systems.Full]; z.trials() != 300 {
		t.Errorf("the full tier has %d trials, want 300", z.trials())
	}
}

// The second model is another one of the same data: its moments are those of the
// draws that it was fitted to, its denoiser differs.
func TestRefit(t *testing.T) {
	s := testbed(t, &systems.Env{}, systems.Tiny)
	spec, err := refit(context.Background(), s.bed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := refit(context.Background(), s.bed)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(spec.Means[0], again.Means[0]) {
		t.Error("two fits differ")
	}
	other, err := bases.NewMixture(spec)
	if err != nil {
		t.Fatal(err)
	}
	mean, cov := other.Moments()
	x := s.bed.Draws(77, otherDraws)
	draws := make([]float32, x.Len())
	for i, v := range x.F64() {
		draws[i] = float32(v)
	}
	stats, err := fid.FromFeatures(draws, otherDraws, s.bed.Dims)
	if err != nil {
		t.Fatal(err)
	}
	d, err := fid.Frechet(stats, &fid.Stats{Mu: mean, Sigma: cov})
	if err != nil {
		t.Fatal(err)
	}
	if d.Value > 1e-4 { // EM keeps both moments; ddof and a pooled prior are what differs
		t.Errorf("the fit is %.3g from the draws that it was made of", d.Value)
	}
	if other.K() != otherComponents {
		t.Errorf("%d components", other.K())
	}
	for i, row := range spec.Covs[0] {
		for j := range row {
			if row[j] != spec.Covs[0][j][i] {
				t.Fatal("a covariance is not symmetric")
			}
		}
	}
}

// Other layers are left out at random, as many in each step.
func TestShuffledLayers(t *testing.T) {
	c := search.Choice{Steps: []int{1, 2, 3}, Skips: [][]int{{}, {0, 4, 5}, {11}}}
	o := shuffled(c, 1)
	if !slices.Equal(o.Steps, c.Steps) || o.Executed(layerCount) != c.Executed(layerCount) || len(o.Skips[1]) != 3 || o.Key() == c.Key() {
		t.Errorf("%s becomes %s", c.Key(), o.Key())
	}
}

// Guided studies draw their classes in turn, under their weight.
func TestGuidedStudy(t *testing.T) {
	s := testbed(t, &systems.Env{}, systems.Tiny)
	g, err := s.classed("guided", s.bed.Spec, guidance)
	if err != nil {
		t.Fatal(err)
	}
	den, err := g.wrap(g.den)
	if err != nil {
		t.Fatal(err)
	}
	if w, ok := den.(*sampler.Guided); !ok || w.Weight != guidance {
		t.Errorf("%T is no guidance of weight %g", den, float64(guidance))
	}
	if c := g.cond(5).Classes; !slices.Equal(c, []int{0, 1, 2, 0, 1}) {
		t.Errorf("classes %v", c)
	}
	if s.cond(5).Classes != nil || s.bed.Spec.Labels != nil {
		t.Error("the study without classes has some now")
	}
}
