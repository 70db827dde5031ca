package search_test

import (
	"context"
	"testing"
	"time"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
)

// BenchmarkFitness is a candidate of 500 samples; x is the ratio of its time to
// that of the sampling alone: what the features and the distance add.
func BenchmarkFitness(b *testing.B) {
	m, c := toyImages(b, 500), search.Choice{Steps: []int{60, 150, 250, 400}}
	g, err := m.Levels.Grid(c.Steps)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := m.Fitness(context.Background(), c); err != nil {
		b.Fatal(err)
	}
	var whole, alone time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := m.Fitness(context.Background(), c); err != nil {
			b.Fatal(err)
		}
		whole += time.Since(start)
		b.StopTimer()
		start = time.Now()
		if _, err := sampler.Run(context.Background(), m.Den, m.Solver, g, m.Run); err != nil {
			b.Fatal(err)
		}
		alone += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(whole.Seconds()/alone.Seconds(), "x")
}
