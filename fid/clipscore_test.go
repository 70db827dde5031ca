package fid

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestCLIPScore(t *testing.T) {
	// Cosines 1, 0.6, 0 and -0.8 of vectors of several lengths.
	image := []float32{1, 0, 3, 4, 0, 2, 5, 0}
	text := []float32{7, 0, 2, 0, 1, 0, -4, 3}
	for _, c := range []struct {
		rule        string
		value, each float64
	}{{"", 2.5 * (1 + 0.6) / 4, 0}, {"hessel", 1, 0}, {"torchmetrics", 100 * 0.8 / 4, -80}, {"cosine", 0.2, -0.8}} {
		rule, err := FindCLIPScoreRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		v, err := CLIPScore(image, text, 2, rule)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(v.Value-c.value) > 1e-6 || math.Abs(v.Each[3]-c.each) > 1e-5 || v.N != 4 || v.Number() != v.Value {
			t.Errorf("%q: %+v, want %g, the last pair %g", c.rule, v, c.value, c.each)
		}
		// The standard error of the mean by its definition.
		mean, ss := 0.0, 0.0
		for _, x := range v.Each {
			mean += x / 4
		}
		for _, x := range v.Each {
			ss += (x - mean) * (x - mean)
		}
		if want := math.Sqrt(ss / 3 / 4); math.Abs(v.StdErr-want) > 1e-9 {
			t.Errorf("%q: standard error %g, want %g", c.rule, v.StdErr, want)
		}
	}
	// A mean below 0 is 0, whatever the rule.
	for _, rule := range CLIPScoreRules {
		v, err := CLIPScore([]float32{1, 0}, []float32{-1, 0}, 2, rule)
		if err != nil || v.Value != 0 || v.StdErr != 0 {
			t.Errorf("%s: opposite vectors: %+v, %v", rule.Name, v, err)
		}
	}
	var number *NumericError
	if _, err := CLIPScore([]float32{0, 0}, []float32{1, 0}, 2, CLIPScoreRules[0]); !errors.As(err, &number) || !strings.Contains(err.Error(), "pair 0: vectors of lengths 0 and 1 have no angle") {
		t.Errorf("a vector of zeros: %v", err)
	}
	for _, n := range []int{0, 1, 3} {
		var bad *BadInputError
		if _, err := CLIPScore(make([]float32, n), make([]float32, n), 2, CLIPScoreRules[0]); !errors.As(err, &bad) {
			t.Errorf("%d values: %v", n, err)
		}
	}
	if _, err := FindCLIPScoreRule("x"); err == nil || !strings.Contains(err.Error(), "hessel torchmetrics cosine") {
		t.Errorf("an unknown rule: %v", err)
	}
}
