package fid

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/rng"
)

// MeanValue is the mean of distances of pairs, each taken as independent of the others.
type MeanValue struct {
	Value  float64    `json:"value"`
	StdErr float64    `json:"std_err"` // of the mean; 0 of one pair
	CI     [2]float64 `json:"ci"`      // percentiles of a bootstrap over the pairs
	Level  float64    `json:"ci_level"`
	N      int        `json:"n"`
}

// Number is the mean.
func (v MeanValue) Number() float64 { return v.Value }

// MeanOf is the mean of a metric of pairs, such as LPIPS. It is a NumericError where a value is not finite.
func MeanOf(metric string, values []float64, opt IntervalOptions) (MeanValue, error) {
	sorted, err := sortedPairs(metric, values)
	if err != nil {
		return MeanValue{}, err
	}
	n := len(values)
	return meanValue(values, sorted, func(int) (int, int) { return 0, n - 1 }, opt), nil
}

// meanValue is the mean of those values that are kept, of all of which sorted has the order; bounds says which are.
func meanValue(kept, sorted []float64, bounds func(n int) (lo, hi int), opt IntervalOptions) MeanValue {
	n := float64(len(kept))
	v := MeanValue{Value: sum(kept) / n, N: len(sorted), Level: opt.withDefaults().Level, CI: meanInterval(sorted, bounds, opt)}
	if n > 1 {
		v.StdErr = deviation(kept, v.Value) / math.Sqrt(n-1)
	}
	return v
}

func sortedPairs(metric string, values []float64) ([]float64, error) {
	if len(values) == 0 {
		return nil, badInput("%s: no pairs", metric)
	}
	for i, v := range values {
		if v-v != 0 {
			return nil, numeric("%s: pair %d has the value %g", metric, i, v)
		}
	}
	return slices.Sorted(slices.Values(values)), nil
}

// PPLRule is a published way to a perceptual path length.
type PPLRule struct {
	Name, Source string
	LPIPS        string // the rule of package extract's LPIPS
	N            int    // paths
	Interpolate  string // of z: slerp, lerp; of w it is lerp
	Size         int    // of a side that pictures are brought to
	Box          bool   // by whole factors only, and never enlarged; else by areas, or bilinear where a side is no longer than Size
	Levels       bool   // pictures are cut to 8 bits first
	bounds       func(n int) (lo, hi int)
}

const pplLow, pplHigh = 0.01, 0.99

// PPLRules are the published ways; the first is the default.
var PPLRules = []PPLRule{
	{"stylegan", "StyleGAN2-ADA: box filter to 256, percentiles 1 (lower) to 99 (higher) kept", "lpips", 50000, "slerp", 256, true, false, pplOuter},
	{"torch-fidelity", "torch-fidelity: 8-bit pictures, 64×64, percentiles 1 (lower) to 99 (higher) kept", "lpips", 50000, "lerp", 64, false, true, pplOuter},
	{"torchmetrics", "torchmetrics: 64×64, quantiles 0.01 and 0.99 (both lower) kept", "torchmetrics", 10000, "lerp", 64, false, false, func(n int) (lo, hi int) {
		return int(float32(pplLow) * float32(n-1)), int(float32(pplHigh) * float32(n-1)) // torch.quantile's ranks are float32
	}},
}

// pplOuter are the order statistics of numpy.percentile with the methods "lower" and "higher".
func pplOuter(n int) (lo, hi int) {
	return int(pplLow * float64(n-1)), int(math.Ceil(pplHigh * float64(n-1)))
}

// FindPPLRule is the rule with the given name, the first for none.
func FindPPLRule(name string) (PPLRule, error) {
	var names []string
	for _, r := range PPLRules {
		if r.Name == name || name == "" {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return PPLRule{}, fmt.Errorf("fid: no rule %q of PPL; there are %v", name, names)
}

// PPLValue is a perceptual path length.
type PPLValue struct {
	MeanValue         // of what is kept; the interval is of the whole figure, percentiles found anew in every replicate
	Kept      int     `json:"kept"`
	Low       float64 `json:"low"` // what is kept lies between
	High      float64 `json:"high"`
	Rule      string  `json:"rule"`
}

// PPL is the perceptual path length (Karras et al. 2019, arXiv 1812.04948) of the distances of paths' ends, each over ε² already: their
// mean without the smallest and the largest, as the rule has it.
func PPL(distances []float64, rule PPLRule, opt IntervalOptions) (PPLValue, error) {
	sorted, err := sortedPairs("ppl", distances)
	if err != nil {
		return PPLValue{}, err
	}
	lo, hi := rule.bounds(len(sorted))
	v := PPLValue{Low: sorted[lo], High: sorted[hi], Rule: rule.Name}
	var kept []float64
	for _, d := range distances {
		if v.Low <= d && d <= v.High {
			kept = append(kept, d)
		}
	}
	v.MeanValue, v.Kept = meanValue(kept, sorted, rule.bounds, opt), len(kept)
	return v, nil
}

// meanStream keeps these random streams apart from all others.
const meanStream = 0xf1e << 48

// meanInterval is the percentile bootstrap of the mean between two order statistics, those equal to them included.
func meanInterval(sorted []float64, bounds func(n int) (lo, hi int), opt IntervalOptions) [2]float64 {
	if opt.Replicates == 0 {
		opt.Replicates = 1000
	}
	opt = opt.withDefaults()
	n := len(sorted)
	lo, hi := bounds(n)
	counts, values := make([]int, n), make([]float64, opt.Replicates)
	for r := range values {
		clear(counts)
		s := rng.New(opt.Seed, meanStream+uint64(r))
		for range n {
			counts[s.Intn(n)]++
		}
		// The two order statistics of the resample, by counting up to them.
		seen := 0
		var low, high float64
		for i, c := range counts {
			if c > 0 && seen <= lo && lo < seen+c {
				low = sorted[i]
			}
			if c > 0 && seen <= hi && hi < seen+c {
				high = sorted[i]
			}
			seen += c
		}
		total, kept := 0.0, 0
		for i, c := range counts {
			if low <= sorted[i] && sorted[i] <= high {
				total, kept = total+float64(c)*sorted[i], kept+c
			}
		}
		values[r] = total / float64(kept)
	}
	slices.Sort(values)
	tail := (1 - opt.Level) / 2
	return [2]float64{quantile(values, tail), quantile(values, 1-tail)}
}
