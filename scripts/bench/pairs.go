package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/tensor"
)

// pairRows are the metrics that look at pairs of vectors, of two sets of 10,000 with 2048 features in memory, float32.
func pairRows(job func(name string, threads int) func(*peers) (runner, error)) []row {
	var out []row
	for _, c := range []struct {
		name, peer, job   string
		target, tolerance float64
		options           fid.Options
		value             func(*fid.Result) float64
	}{
		{"precision, recall, density, coverage", "prdc", "prdc", 5, 1e-3, fid.Options{Metrics: []string{"pr", "dc"}, NearestK: 5, Boundary: "strict"}, figures},
		{"precision and recall", "torch-fidelity", "precision-recall", 2, 1e-3, fid.Options{Metrics: []string{"pr"}, NearestK: 3}, figures},
		// The peer draws other subsets.
		{"KID of 100 subsets of 1000", "torch-fidelity", "kid:100:1000", 1.5, 0, fid.Options{Metrics: []string{"kid"}}, number("kid")},
		// The peer sums float32 kernels, whose values near 1 cancel.
		{"KID of whole sets", "torch-fidelity", "kid:1:10000", 2, 1e-2, fid.Options{Metrics: []string{"kid-full"}}, number("kid-full")},
	} {
		out = append(out, row{
			name: c.name + ", 10000x2048", peer: c.peer, target: c.target, tolerance: c.tolerance, rounds: 3, repeat: 1,
			ours:   func(p *peers) (runner, error) { return compared(p.inputs, c.options, c.value) },
			theirs: job(c.job, threads()),
		})
	}
	return out
}

func number(metric string) func(*fid.Result) float64 {
	return func(r *fid.Result) float64 { return r.Metrics[metric].Number() }
}

// figures is the sum of all figures of a result.
func figures(r *fid.Result) float64 {
	sum := 0.0
	for _, v := range r.Metrics {
		for _, f := range v.(interface{ Figures() []fid.Figure }).Figures() {
			sum += f.Value
		}
	}
	return sum
}

// compared is fid.Compare of two sets of features in memory.
func compared(inputs string, o fid.Options, value func(*fid.Result) float64) (runner, error) {
	var s [2]*fid.Stats
	for i, name := range []string{"ref", "gen"} {
		a, err := tensor.ReadNPY(filepath.Join(inputs, fmt.Sprintf("%s10000.npy", name)))
		if err != nil {
			return nil, err
		}
		if s[i], err = fid.FromFeatures(a.F32(), 10000, len(a.F32())/10000); err != nil {
			return nil, err
		}
	}
	return own{work: func() (answer, error) {
		r, err := fid.Compare(context.Background(), s[0], s[1], o)
		if err != nil {
			return answer{}, err
		}
		return answer{Value: value(r)}, nil
	}}, nil
}
