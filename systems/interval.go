package systems

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/fidlab/fidlab/fid"
)

// level is the confidence of all intervals.
const level = 0.95

// quantile is Student's t for the level and n values.
func quantile(n int) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile(0.5 + level/2)
}

// meanSD is the mean and the standard deviation (divided by n-1) of values.
func meanSD(values []float64) (mean, sd float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	for _, v := range values {
		sd += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(sd / (n - 1))
}

// overSeeds is the t interval of the mean of independent values; without
// bounds (NaN) for a single one.
func overSeeds(values []float64) (mean, lo, hi float64) {
	mean, half := fid.MeanInterval(values, level)
	return mean, mean - half, mean + half
}

// overBlocks is the jackknife's interval around all, of the values with one of g
// groups of samples left out in turn (Efron 1982): the variance is (g-1)/g times
// their sum of squares.
func overBlocks(all float64, left []float64) (lo, hi float64) {
	_, half := fid.MeanInterval(left, level) // of independent values; these hold g-1 of g groups each
	half *= float64(len(left) - 1)
	return all - half, all + half
}

// Power is the chance that the criterion passes with that many seeds, when its
// number (the logarithm of a ratio) is spread around Expect by Spread: with s the
// standard deviation that the seeds show,
//
//	P(mean + t·s/√n < bound),  s²·(n-1)/Spread² ~ χ²(n-1),
//
// integrated over s. It is NaN where nothing is expected.
func (c *Criterion) Power(seeds int) float64 {
	if c.Spread <= 0 || c.Form == Ratio && c.Expect <= 0 {
		return math.NaN()
	}
	if seeds < 2 {
		return 0
	}
	expect, bound := c.Expect, c.Bound
	if c.Form == Ratio {
		expect, bound = math.Log(expect), math.Log(bound)
	}
	distance := (bound - expect) / c.Spread
	if c.AtLeast {
		distance = -distance
	}
	n := float64(seeds)
	t := quantile(seeds)
	chi := distuv.ChiSquared{K: n - 1}
	const parts = 2000
	power := 0.0
	for i := range parts { // the mean over equal shares of the distribution of s
		s := math.Sqrt(chi.Quantile((float64(i)+0.5)/parts) / (n - 1))
		power += distuv.UnitNormal.CDF(math.Sqrt(n)*distance-t*s) / parts
	}
	return power
}
