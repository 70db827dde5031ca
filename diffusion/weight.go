package diffusion

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Weight weighs squared errors of training examples by their noise level.
type Weight interface {
	Name() string
	// Of is the factor of |f - f̂|² of a prediction p at x = a·x0 + b·n. One weight means the same loss for all
	// predictions, but for WeightOne: the errors of x0 that they lead to are weighed.
	Of(p Pred, a, b float64) float64
}

// WeightOne weighs the error of what the network predicts itself: of eps it is the simple loss of Ho et al.
// 2020, of edm that of Karras et al. 2022, of flow that of rectified flow.
type WeightOne struct{}

// Name is "one".
func (WeightOne) Name() string { return "one" }

// Of is 1.
func (WeightOne) Of(Pred, float64, float64) float64 { return 1 }

// WeightSNR weighs errors of x0 with the signal-to-noise ratio a²/b²: errors of eps with 1.
type WeightSNR struct{}

// Name is "snr".
func (WeightSNR) Name() string { return "snr" }

// Of implements Weight.
func (WeightSNR) Of(p Pred, a, b float64) float64 { return a * a * p.errorOfX0(a, b) }

// WeightMinSNR weighs errors of x0 with min(a²/b², Gamma) (Hang et al. 2023, arXiv 2303.09556; 5 there).
type WeightMinSNR struct{ Gamma float64 }

// Name is "min-snr:gamma".
func (w WeightMinSNR) Name() string { return "min-snr:" + number(w.Gamma) }

// Of implements Weight.
func (w WeightMinSNR) Of(p Pred, a, b float64) float64 {
	return min(a*a, w.Gamma*b*b) * p.errorOfX0(a, b)
}

// WeightTruncatedSNR weighs errors of x0 with max(a²/b², 1) (Salimans and Ho 2022, arXiv 2202.00512).
type WeightTruncatedSNR struct{}

// Name is "truncated-snr".
func (WeightTruncatedSNR) Name() string { return "truncated-snr" }

// Of implements Weight.
func (WeightTruncatedSNR) Of(p Pred, a, b float64) float64 { return max(a*a, b*b) * p.errorOfX0(a, b) }

// WeightEDM weighs errors of x0 with (sigma² + Data²)/(sigma·Data)²: errors of edm's F with 1 (Karras et al. 2022, arXiv 2206.00364, table 1).
type WeightEDM struct{ Data float64 }

// Name is "edm:data".
func (w WeightEDM) Name() string { return "edm:" + number(w.Data) }

// Of implements Weight. On EDM's path a is c_in; a ratio b/a is sigma on all.
func (w WeightEDM) Of(p Pred, a, b float64) float64 {
	return (b*b/(w.Data*w.Data) + a*a) * p.errorOfX0(a, b)
}

// errorOfX0 is (cf/b)² with x0 = cx·x + cf·f: a squared error of f is b² times that of x0. The factor b² is the weight's, which stays
// finite without noise.
func (p Pred) errorOfX0(a, b float64) float64 {
	switch p {
	case PredX0:
		return 1 / (b * b)
	case PredEps:
		return 1 / (a * a)
	case PredV:
		return 1 / (a*a + b*b)
	case PredFlow, PredFlowReversed:
		return 1 / ((a + b) * (a + b))
	case PredEDM, PredTrigFlow:
		return (1 - b) * (1 + b) / (a * a)
	case PredScore:
		return b * b / (a * a)
	}
	panic("diffusion: Weight: unknown prediction")
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// numbers reads "name:1,2", n numbers after a name; standard holds where there are none.
func numbers(what, spec string, standard ...float64) ([]float64, error) {
	_, list, given := strings.Cut(spec, ":")
	if !given {
		return standard, nil
	}
	parts := strings.Split(list, ",")
	out := make([]float64, len(parts))
	for i, s := range parts {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || len(parts) != len(standard) {
			return nil, fmt.Errorf("diffusion: %s %q: want %d finite numbers after the colon", what, spec, len(standard))
		}
		out[i] = v
	}
	return out, nil
}

// WeightByName is the weight of that name: one, snr, min-snr or min-snr:GAMMA (5), truncated-snr, edm or edm:DATA (0.5).
func WeightByName(spec string) (Weight, error) {
	name, _, _ := strings.Cut(spec, ":")
	switch name {
	case "one", "snr", "truncated-snr":
		if name != spec {
			return nil, fmt.Errorf("diffusion: weight %q: %s has no parameters", spec, name)
		}
		return map[string]Weight{"one": WeightOne{}, "snr": WeightSNR{}, "truncated-snr": WeightTruncatedSNR{}}[name], nil
	case "min-snr", "edm":
		standard := 5.0
		if name == "edm" {
			standard = 0.5
		}
		v, err := numbers("weight", spec, standard)
		if err != nil {
			return nil, err
		}
		if !(v[0] > 0) {
			return nil, fmt.Errorf("diffusion: weight %q: want a number above 0", spec)
		}
		if name == "edm" {
			return WeightEDM{v[0]}, nil
		}
		return WeightMinSNR{v[0]}, nil
	}
	return nil, fmt.Errorf("diffusion: no weight %q; there are one, snr, min-snr, truncated-snr, edm", spec)
}
