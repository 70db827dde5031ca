package diffusion

import (
	"math"
	"sort"
)

// Between is how a table of noise levels is read between its integer times. The
// rules agree at the integers and differ by less than an index between them, but
// published lists of levels are made with one or the other.
type Between uint8

// The rules. A path's own Sigma and Time are BySigma.
const (
	// BySigma is linear in sigma, as the diffusers library reads its tables.
	BySigma Between = iota
	// ByLogSigma is linear in ln sigma, as k-diffusion does.
	ByLogSigma
	// ByABar is linear in abar = 1/(1+sigma²).
	ByABar
)

func (b Between) String() string { return [...]string{"sigma", "log-sigma", "abar"}[b] }

// SigmaBy is Sigma with another rule between the table's integers. Where the
// table ends at infinite noise ln sigma has no line to it, and ByLogSigma goes
// there as BySigma does.
func (p *VP) SigmaBy(t float64, b Between) float64 {
	last := len(p.sigmas) - 1
	t = min(max(t, 0), float64(last))
	i := min(int(t), last-1)
	f := t - float64(i)
	lo, hi := p.sigmas[i], p.sigmas[i+1]
	switch {
	case f == 0:
		return lo
	case f == 1:
		return hi
	case b == ByABar:
		a, n := abar(lo)
		a1, n1 := abar(hi)
		return math.Sqrt((n + f*(n1-n)) / (a + f*(a1-a)))
	case b == ByLogSigma && !math.IsInf(hi, 1):
		return math.Exp(math.Log(lo) + f*(math.Log(hi)-math.Log(lo)))
	}
	return p.Sigma(t)
}

// TimeBy is the inverse of SigmaBy; levels outside the table get its nearest end.
func (p *VP) TimeBy(sigma float64, b Between) float64 {
	last := len(p.sigmas) - 1
	i := sort.SearchFloat64s(p.sigmas, sigma)
	if i == 0 || i > last || p.sigmas[i] == sigma {
		return p.Time(sigma)
	}
	lo, hi := p.sigmas[i-1], p.sigmas[i]
	switch {
	case b == ByABar:
		_, n := abar(lo)
		_, n1 := abar(hi)
		_, ns := abar(sigma)
		return float64(i-1) + (ns-n)/(n1-n)
	case b == ByLogSigma && !math.IsInf(hi, 1):
		return float64(i-1) + math.Log(sigma/lo)/math.Log(hi/lo)
	}
	return p.Time(sigma)
}

// abar is the signal's and the noise's share of the variance, 1/(1+sigma²) and
// the rest: 1-abar would lose the digits of small levels.
func abar(sigma float64) (signal, noise float64) {
	a, b := VPSpace.Scale(sigma)
	return a * a, b * b
}
