package diffusion

import (
	"fmt"
	"math"
	"strings"

	"github.com/fidlab/fidlab/rng"
)

// Draw is how the noise level of a training example is drawn.
type Draw interface {
	Name() string
	// Sigma draws a level of p, from Range's least to its most noise.
	Sigma(p Path, s *rng.Stream) float64
}

// DrawTime is uniform in the path's time: over the whole numbers of a table (Ho et al. 2020), else over the range.
type DrawTime struct{}

// Name is "uniform".
func (DrawTime) Name() string { return "uniform" }

// Sigma implements Draw.
func (DrawTime) Sigma(p Path, s *rng.Stream) float64 {
	if table := TableOf(p); table != nil {
		return table.Sigma(float64(s.Intn(table.Len())))
	}
	most, least := p.Range()
	return p.Sigma(most + (least-most)*s.Float64())
}

// DrawLogNormal has ln sigma normal (Karras et al. 2022, arXiv 2206.00364: mean -1.2, deviation 1.2). On a Flow path
// ln sigma is the logit of the noise fraction τ, so this is the logit-normal draw of Esser et al. 2024 (arXiv
// 2403.03206: mean 0, deviation 1). Levels beyond the path's range are drawn again.
type DrawLogNormal struct{ Mean, Dev float64 }

// Name is "lognormal:mean,dev".
func (d DrawLogNormal) Name() string { return "lognormal:" + number(d.Mean) + "," + number(d.Dev) }

// Sigma implements Draw.
func (d DrawLogNormal) Sigma(p Path, s *rng.Stream) float64 {
	most, least := p.Range()
	lo, hi := p.Sigma(least), p.Sigma(most)
	for range 1000 {
		if v := math.Exp(d.Mean + d.Dev*s.Normal()); v >= lo && v <= hi {
			return v
		}
	}
	return min(max(math.Exp(d.Mean), lo), hi) // of a path that the draw hardly meets
}

// DrawLogUniform is uniform in ln sigma between Min and Max; zeros stand for the path's own.
type DrawLogUniform struct{ Min, Max float64 }

// Name is "loguniform:min,max".
func (d DrawLogUniform) Name() string { return "loguniform:" + number(d.Min) + "," + number(d.Max) }

// Sigma implements Draw. It panics where the range has no finite logarithm.
func (d DrawLogUniform) Sigma(p Path, s *rng.Stream) float64 {
	most, least := p.Range()
	lo, hi := d.Min, d.Max
	if lo == 0 {
		lo = p.Sigma(least)
	}
	if hi == 0 {
		hi = p.Sigma(most)
	}
	if !(lo > 0 && hi >= lo) || math.IsInf(hi, 0) {
		panic(fmt.Sprintf("diffusion: DrawLogUniform: levels from %g to %g, want 0 < min <= max < ∞; name them where the path's are not", lo, hi))
	}
	return lo * math.Pow(hi/lo, s.Float64())
}

// DrawByName is the draw of that name: uniform; lognormal or lognormal:MEAN,DEV (-1.2,1.2); logit-normal or
// logit-normal:MEAN,DEV (0,1), the same family with flow's defaults; loguniform or loguniform:MIN,MAX (the path's).
func DrawByName(spec string) (Draw, error) {
	name, _, _ := strings.Cut(spec, ":")
	switch name {
	case "uniform":
		if name != spec {
			return nil, fmt.Errorf("diffusion: draw %q: uniform has no parameters", spec)
		}
		return DrawTime{}, nil
	case "lognormal", "logit-normal":
		standard := []float64{-1.2, 1.2}
		if name == "logit-normal" {
			standard = []float64{0, 1}
		}
		v, err := numbers("draw", spec, standard...)
		if err != nil {
			return nil, err
		}
		if !(v[1] >= 0) {
			return nil, fmt.Errorf("diffusion: draw %q: want a deviation of 0 or more", spec)
		}
		return DrawLogNormal{v[0], v[1]}, nil
	case "loguniform":
		v, err := numbers("draw", spec, 0, 0)
		if err != nil {
			return nil, err
		}
		if v[0] < 0 || v[1] < v[0] {
			return nil, fmt.Errorf("diffusion: draw %q: want 0 <= MIN <= MAX", spec)
		}
		return DrawLogUniform{v[0], v[1]}, nil
	}
	return nil, fmt.Errorf("diffusion: no draw %q; there are uniform, lognormal, logit-normal, loguniform", spec)
}
