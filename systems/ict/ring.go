package ict

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// ring is eight normals on a circle, whose flow is known: every noise's exact end, and what a consistency model should say.
type ring struct {
	bed  *bases.Mixture
	set  *train.Examples
	grid *diffusion.Grid // from the most noise to none
}

// The ring: data of a deviation of about 0.5 in each number, as EDM's preconditioning has it.
const (
	ringRadius = 0.7
	ringDev    = 0.08
	ringPoints = 50000
	ringSeed   = 1 << 42
)

func newRing() (*ring, error) {
	spec := sampler.MixtureSpec{}
	for k := range 8 {
		a := 2 * math.Pi * float64(k) / 8
		spec.Weights = append(spec.Weights, 1./8)
		spec.Means = append(spec.Means, []float64{ringRadius * math.Cos(a), ringRadius * math.Sin(a)})
		spec.Covs = append(spec.Covs, [][]float64{{ringDev * ringDev, 0}, {0, ringDev * ringDev}})
	}
	bed, err := bases.NewMixture(spec)
	if err != nil {
		return nil, err
	}
	r := &ring{bed: bed, set: &train.Examples{Shape: []int{1, 1, 2}}}
	for _, v := range bed.Draws(ringSeed, ringPoints).F64() {
		r.set.X = append(r.set.X, float32(v))
	}
	r.grid, err = diffusion.Build(path, diffusion.Spec{Rule: "karras", Steps: 18})
	return r, err
}

// energy is the energy distance of points [n, 2] to exact draws: 2·E|x-y| - E|x-x'| - E|y-y'|, without pairs of a point with itself.
func (r *ring) energy(x []float64, seed uint64) float64 {
	y := r.bed.Draws(ringSeed+1+seed, len(x)/2).F64()
	mean := func(a, b []float64, same bool) float64 {
		var sum float64
		for i := 0; i < len(a); i += 2 {
			for j := 0; j < len(b); j += 2 {
				sum += math.Hypot(a[i]-b[j], a[i+1]-b[j+1])
			}
		}
		n, m := float64(len(a)/2), float64(len(b)/2)
		if same {
			m--
		}
		return sum / (n * m)
	}
	return 2*mean(x, y, false) - mean(x, x, true) - mean(y, y, true)
}

// experiment compares the two forms where the truth is known.
func (r *ring) experiment(s sizes) systems.Experiment {
	net := mlp.Config{Channels: 1, Height: 1, Width: 2, Hidden: 128, Blocks: 3, TimeFactor: 100}
	cost := systems.Cost{TrainSteps: float64(s.ringSteps)}
	x := systems.Experiment{
		Name: "ring", Question: "And where the exact ends of all noises are known, eight normals on a circle?", Size: systems.Size{N: s.ringN, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "energy", Text: "energy distance of samples of one evaluation to exact draws, at least 0, plus 0.0001"},
			{Name: "end", Text: "root mean square distance of samples of one evaluation to the exact end of the same noise"},
		},
	}
	for _, v := range forms()[:2] {
		x.Arms = append(x.Arms, systems.Arm{
			Name: v.name, Text: v.text, Tune: s.rates(), Cost: cost,
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				k := settings(s.ringSteps, s.ringBatch, d.Params.Num("lr"), d.Seed)
				job, _, err := v.form.job(gpu.CPU(), k, net, r.set, nil)
				if err != nil {
					return nil, err
				}
				task, _ := systems.FindTask(Task)
				trained, _, err := bases.TrainJob(ctx, task, job, k, false)
				if err != nil {
					return nil, err
				}
				one, err := draw(ctx, trained.Net, d.Seed, d.N, 1, secondLevel)
				if err != nil {
					return nil, err
				}
				got := make([]float64, one.Len())
				for i, e := range one.F32() {
					got[i] = float64(e)
				}
				ends, err := r.bed.Fine(ctx, d.Env, r.grid, d.Seed, d.N) // the bed's noise, in float64, is the one that draw rounds
				if err != nil {
					return nil, err
				}
				var off float64
				for i, e := range ends.F64() {
					off += (got[i] - e) * (got[i] - e)
				}
				// Two sets of exact draws are at 0 on average, on either side of it; ratios want numbers above.
				return &systems.Outcome{Cost: cost, Values: map[string]float64{
					"energy": math.Max(r.energy(got, d.Seed), 0) + 1e-4, "end": math.Sqrt(off / float64(len(got)/2)),
				}}, nil
			},
		})
	}
	x.Criteria = []systems.Criterion{
		{Name: "energy", Claim: "in one evaluation the improved form has at most 0.6 of the first form's energy distance", Measure: "energy", Arm: "iCT", Against: []string{"CT"}, Bound: 0.6},
		{Name: "end", Claim: "and lies nearer to the exact ends", Measure: "end", Arm: "iCT", Against: []string{"CT"}, Bound: 1, Shown: true},
	}
	return x
}
