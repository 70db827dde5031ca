package fid

import (
	"fmt"
	"math"
)

// CLIPScoreRule is a published way from cosines between pictures and their texts
// to a figure.
type CLIPScoreRule struct {
	Name   string
	Prefix string // of every text
	Weight float64
	Each   bool // a negative cosine counts as 0, else a negative mean
	Source string
}

// CLIPScoreRules are the published ways; the first is the default.
var CLIPScoreRules = []CLIPScoreRule{
	{"hessel", "A photo depicts ", 2.5, true, "Hessel et al. 2021, arXiv 2104.08718: 2.5·max(cos, 0), with clip-vit-b32"},
	{"torchmetrics", "", 100, false, "torchmetrics: 100·cos, with clip-vit-l14"},
	{"cosine", "", 1, false, "the mean of the cosines"},
}

// FindCLIPScoreRule is the rule with the given name, the first for none.
func FindCLIPScoreRule(name string) (CLIPScoreRule, error) {
	var names []string
	for _, r := range CLIPScoreRules {
		if r.Name == name || name == "" {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return CLIPScoreRule{}, fmt.Errorf("fid: no rule %q of CLIPScore; there are %v", name, names)
}

// CLIPScoreValue is the agreement of pictures with their texts.
type CLIPScoreValue struct {
	Value  float64   `json:"value"`
	StdErr float64   `json:"std_err"` // of the mean, the pairs taken as independent; 0 of one pair
	N      int       `json:"n"`       // pairs
	Rule   string    `json:"rule"`
	Prefix string    `json:"prefix"`
	Each   []float64 `json:"-"` // of every pair
}

// Number is the mean.
func (v CLIPScoreValue) Number() float64 { return v.Value }

// CLIPScore is the mean over pairs of vectors image [n, d] and text [n, d], the i-th of
// which belong together. It is a NumericError where a vector has no direction.
func CLIPScore(image, text []float32, d int, rule CLIPScoreRule) (CLIPScoreValue, error) {
	if d < 1 || len(image) != len(text) || len(image)%d != 0 || len(image) == 0 {
		return CLIPScoreValue{}, badInput("clipscore: %d and %d values of vectors of %d; want as many of both, and one pair at least", len(image), len(text), d)
	}
	v := CLIPScoreValue{N: len(image) / d, Rule: rule.Name, Prefix: rule.Prefix}
	for i := range v.N {
		var xx, yy, xy float64
		for j := range d {
			x, y := float64(image[i*d+j]), float64(text[i*d+j])
			xx, yy, xy = xx+x*x, yy+y*y, xy+x*y
		}
		c := xy / math.Sqrt(xx*yy)
		if c-c != 0 {
			return CLIPScoreValue{}, numeric("clipscore: pair %d: vectors of lengths %g and %g have no angle", i, math.Sqrt(xx), math.Sqrt(yy))
		}
		if rule.Each {
			c = max(c, 0)
		}
		v.Each = append(v.Each, rule.Weight*c)
	}
	v.Value = sum(v.Each) / float64(v.N)
	if v.N > 1 {
		dev := deviation(v.Each, v.Value) // over n
		v.StdErr = dev / math.Sqrt(float64(v.N-1))
	}
	if !rule.Each {
		v.Value = max(v.Value, 0)
	}
	return v, nil
}
