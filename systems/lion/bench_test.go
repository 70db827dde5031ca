package lion

import (
	"context"
	"testing"
)

var small = Task{Name: "small", Train: Span{0, 10000}, Val: Span{10000, 12000}, Width: 32, Steps: 100, Batch: 64, Seed: 1}

// BenchmarkEvaluation is training and judging once by AdamW, as the search does it.
func BenchmarkEvaluation(b *testing.B) {
	t, err := NewTrainer(small)
	if err != nil {
		b.Fatal(err)
	}
	g := graphOf(b, AdamW(0.01, 0.9, 0.999, 1e-8, 0.01))
	for b.Loop() {
		s, err := t.Run(context.Background(), g)
		if err != nil || s.Broken {
			b.Fatal(s, err)
		}
		b.ReportMetric(s.Accuracy, "accuracy")
	}
}
