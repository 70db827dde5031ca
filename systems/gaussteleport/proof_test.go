package gaussteleport

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// The tiny tier runs through with finite measures, and two runs of it are equal
// bit for bit.
func TestTinyProof(t *testing.T) {
	proof.Tiny(t, "02", func(p *systems.Proof) {
		proof.Values(p.Record, func(experiment, arm, measure string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Errorf("%s, %s: %s is %g", experiment, arm, measure, v)
			}
		})
	})
}

// An arm that counts its evaluations as if no step had been skipped is refused.
func TestForgottenSkipsAreRefused(t *testing.T) {
	ctx := context.Background()
	env := &systems.Env{}
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBench(ctx, env, bed, tiers[systems.Tiny])
	if err != nil {
		t.Fatal(err)
	}
	e := b.skip()
	e.Arms[1].Cost = e.Arms[0].Cost // 35 in place of 23
	_, err = systems.Prove(ctx, env, systems.Recipe{Name: "gaussteleport", Number: 2, Plan: func(context.Context, *systems.Env, systems.Tier) ([]systems.Experiment, error) {
		return []systems.Experiment{e}, nil
	}}, systems.Tiny)
	if err == nil || !strings.Contains(err.Error(), "6 of them skipped") || !strings.Contains(err.Error(), "23") {
		t.Errorf("error %v, want one of 23 evaluations where 35 are declared", err)
	}
}

// The law of a training set is nearly the testbed's own Gaussian, and the moved
// testbed is the testbed elsewhere.
func TestBench(t *testing.T) {
	ctx := context.Background()
	env := &systems.Env{}
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBench(ctx, env, bed, sizes{n: 10, train: 8000})
	if err != nil {
		t.Fatal(err)
	}
	mean, cov := bed.Moments()
	var trace, off float64
	for i := range bed.Dims {
		trace += cov[i*bed.Dims+i]
		off += (b.stats.Mu[i] - mean[i]) * (b.stats.Mu[i] - mean[i])
	}
	if math.Abs(b.law.Variance()/trace-1) > 0.02 || off > 25*trace/8000 {
		t.Errorf("variance %g, want %g; mean %g off", b.law.Variance(), trace, math.Sqrt(off))
	}
	other, otherCov := moved(bed).Moments()
	for i := range mean {
		if math.Abs(other[i]-mean[i]-0.5) > 1e-12 || math.Abs(otherCov[i]-cov[i]) > 1e-12 {
			t.Fatalf("moved: mean %g and variance %g, from %g and %g", other[i], otherCov[i], mean[i], cov[i])
		}
	}
	// Pictures come of the testbed alone, and the original is as it was.
	if bed.Spec.Means[0][0] == moved(bed).Spec.Means[0][0] || len(bed.Pictures(b.data, 1)) != 1 {
		t.Error("moving the testbed changed it")
	}
	if s := (way{solver: sampler.Heun{}, steps: 18}).with(systems.Params{"skip": 6.}); b.cost(s).NFE != 23 {
		t.Errorf("%v, want 23 evaluations", b.cost(s))
	}
}
