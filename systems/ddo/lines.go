package ddo

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
)

// likeliest is the mixture of two normals that is likeliest for p, to rounding.
func likeliest(p mixture) (mixture, error) {
	return fit(mixture{w: []float64{0.5, 0.5}, mean: []float64{-2, 2}, dev: []float64{1, 1}}, unlikely(p.quadrature()))
}

// lines compares on mixtures on a line, where nothing is approximated: three modes for a family of two.
func (s sizes) lines() systems.Experiment {
	x := systems.Experiment{
		Name: "lines", Question: "And mixtures of two normals that are likeliest for three modes, where likelihoods and divergences are exact?",
		Size: systems.Size{N: s.draws, Seeds: s.mixtures},
		Measures: []systems.Measure{
			{Name: "reverse", Text: "KL of the model from the data, in nats"},
			{Name: "forward", Text: "KL of the data from the model"},
			{Name: "precision", Text: "how much of the model lies where 95 % of the data do", Higher: true},
		},
		Notes: []string{"Each seed draws other modes. Rounds take steps of the gradient by as many draws of data and fakes, and the best place seen by the reverse divergence begins the next, for both arms."},
	}
	tune := map[string][]systems.Params{
		method: {{"rate": 0.3, "beta": 1., "alpha": 1.}, {"rate": 0.1, "beta": 1., "alpha": 2.}, {"rate": 0.1, "beta": 2., "alpha": 1.5}, {"rate": 1., "beta": 0.1, "alpha": 1.5}},
		longer: {{"rate": 0.1}, {"rate": 0.3}, {"rate": 1.}, {"rate": 0.03}},
	}
	for _, name := range []string{method, longer, before} {
		arm := systems.Arm{Name: name, Text: map[string]string{method: "three rounds", longer: "as many steps of likelihood, chosen likewise", before: "the likeliest of the family"}[name]}
		if list := tune[name]; list != nil {
			arm.Tune = list[:s.trials]
		}
		arm.Run = func(_ context.Context, d systems.Draw) (*systems.Outcome, error) {
			p := target(d.Seed)
			q, err := likeliest(p)
			if err != nil {
				return nil, err
			}
			if name != before {
				q = s.play(p, q, name == longer, d)
			}
			return &systems.Outcome{Values: map[string]float64{"reverse": divergence(q, p), "forward": divergence(p, q), "precision": precision(p, q, 0.95)}}, nil
		}
		x.Arms = append(x.Arms, arm)
	}
	x.Criteria = []systems.Criterion{
		{Name: "reverse", Claim: "the reverse divergence is at most 0.7 of that after more likelihood", Measure: "reverse", Arm: method, Against: []string{longer}, Bound: 0.7},
		{Name: "precision", Claim: "more of it lies where the data do", Measure: "precision", Arm: method, Against: []string{before}, Bound: 1, AtLeast: true, Shown: true,
			Unequal: "nothing of the likeliest is tuned"},
	}
	return x
}

// play is rounds of the method, or of likelihood.
func (s sizes) play(p, q mixture, likelihood bool, d systems.Draw) mixture {
	for k := range 3 {
		stream := rng.ForImage(d.Seed, uint64(k+1), rng.Noising)
		data, fakes := p.draws(stream, d.N), q.draws(stream, d.N)
		of := unlikely(data)
		if !likelihood {
			of = contrast(q, data, fakes, d.Params.Num("alpha"), d.Params.Num("beta"))
		}
		q = descend(q, of, s.descents, max(1, s.descents/30), d.Params.Num("rate"), func(m mixture) float64 { return divergence(m, p) })
	}
	return q
}

// family asks whether a family that has the data's law in it gets there from a reference that is far from it.
func (s sizes) family() systems.Experiment {
	return systems.Experiment{
		Name: "family", Question: fmt.Sprintf("Where the family has the data's law in it, do α = β = 1 and %d draws of each find it?", s.recover),
		Size:     systems.Size{N: s.recover, Seeds: s.seeds},
		Measures: []systems.Measure{{Name: "forward", Text: "KL of the data from the model, in nats"}, {Name: "reference", Text: "that of the reference"}},
		Arms: []systems.Arm{{Name: method, Text: "one round, to its end", Run: func(_ context.Context, d systems.Draw) (*systems.Outcome, error) {
			p, ref := pair(d.Seed)
			q, err := recovered(p, ref, d.Seed, d.N)
			if err != nil {
				return nil, err
			}
			return &systems.Outcome{Values: map[string]float64{"forward": divergence(p, q), "reference": divergence(p, ref)}}, nil
		}}},
		Criteria: []systems.Criterion{{Name: "data", Claim: "it ends at the data's law", Measure: "forward", Arm: method, Form: systems.Value, Bound: 0.01}},
	}
}

// pair is a law of two modes, and a reference of its family that is far from it.
func pair(seed uint64) (p, ref mixture) {
	t := target(seed)
	w := t.w[0] + t.w[1]
	p = mixture{w: []float64{t.w[0] / w, t.w[1] / w}, mean: t.mean[:2], dev: t.dev[:2]}
	return p, mixture{w: []float64{0.5, 0.5}, mean: []float64{-3, 1.5}, dev: []float64{1.2, 1.2}}
}

// recovered is where a round ends that goes on to the least loss.
func recovered(p, ref mixture, seed uint64, n int) (mixture, error) {
	stream := rng.ForImage(seed, 0, rng.Noising)
	data, fakes := p.draws(stream, n), ref.draws(stream, n)
	return fit(ref, contrast(ref, data, fakes, 1, 1))
}
