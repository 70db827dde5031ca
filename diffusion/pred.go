package diffusion

import (
	"fmt"
	"math"
	"strings"
)

// Pred is what a network predicts for x = A·x0 + B·n.
type Pred uint8

// The predictions. All are linear in x and x0, so two coefficients convert.
const (
	PredX0           Pred = iota // x0
	PredEps                      // n
	PredV                        // (A·n - B·x0)/√(A²+B²) (Salimans and Ho 2022)
	PredFlow                     // n - x0, the velocity towards noise
	PredFlowReversed             // x0 - n, the velocity towards data
	PredEDM                      // F of Karras et al. 2022: x0 = c_skip·x/c_in + c_out·F, x as fed to the network
	PredScore                    // ∇ ln p(x) = -n/B, the score of the states x (Song et al. 2021)
	PredTrigFlow                 // F of Lu and Song 2024: x0 = cos(t)·x - sin(t)·sd·F with x = cos(t)·x0 + sin(t)·sd·n, fed as x/sd
)

var predNames = [...]string{"x0", "eps", "v", "flow", "flow-reversed", "edm", "score", "trigflow"}

// Preds lists all predictions.
func Preds() []Pred {
	return []Pred{PredX0, PredEps, PredV, PredFlow, PredFlowReversed, PredEDM, PredScore, PredTrigFlow}
}

func (p Pred) String() string { return predNames[p] }

// PredByName is the inverse of String; "epsilon", "sample", "v_prediction" and
// "velocity" are understood too.
func PredByName(name string) (Pred, error) {
	switch name {
	case "epsilon":
		return PredEps, nil
	case "sample":
		return PredX0, nil
	case "v_prediction":
		return PredV, nil
	case "velocity":
		return PredFlow, nil
	}
	for i, n := range predNames {
		if n == name {
			return Pred(i), nil
		}
	}
	return 0, fmt.Errorf("diffusion: no prediction %q; there are %s", name, strings.Join(predNames[:], ", "))
}

// ToX0 gives the coefficients of x0 = cx·x + cf·f for a network's output f at
// x = a·x0 + b·n. A prediction of eps or the score at a = 0 says nothing about
// x0, and one of edm or trigflow is not defined there: an error. For PredEDM and
// PredTrigFlow a and b are EDM.Input's.
func (p Pred) ToX0(a, b float64) (cx, cf float64, err error) {
	switch p {
	case PredX0:
		return 0, 1, nil
	case PredEps, PredScore, PredEDM, PredTrigFlow:
		if a == 0 {
			return 0, 0, fmt.Errorf("diffusion: a network that predicts %s cannot be used at infinite noise (zero terminal SNR); use one that predicts v or x0, or start the grid lower", p)
		}
	}
	switch p {
	case PredEps:
		return 1 / a, -b / a, nil
	case PredScore:
		return 1 / a, b * b / a, nil
	case PredV:
		q := a*a + b*b
		return a / q, -b / math.Sqrt(q), nil
	case PredFlow:
		return 1 / (a + b), -b / (a + b), nil
	case PredFlowReversed:
		return 1 / (a + b), b / (a + b), nil
	case PredEDM, PredTrigFlow: // the same but for the sign of F
		// With a = c_in and sd the data's deviation, a²·sd² = 1-b²:
		// c_skip/c_in = (1-b²)/a and c_out = b·sd = b·√(1-b²)/a.
		q := (1 - b) * (1 + b)
		cf = b * math.Sqrt(q) / a
		if p == PredTrigFlow {
			cf = -cf
		}
		return q / a, cf, nil
	}
	panic("diffusion: ToX0: unknown prediction")
}

// FromX0 gives the coefficients of f = cx·x + c0·x0, ToX0's inverse. Without
// noise (b = 0) x0 tells nothing about the others: an error.
func (p Pred) FromX0(a, b float64) (cx, c0 float64, err error) {
	if p == PredX0 {
		return 0, 1, nil
	}
	if b == 0 {
		return 0, 0, fmt.Errorf("diffusion: %s cannot be told from x0 without noise", p)
	}
	switch p {
	case PredEps:
		return 1 / b, -a / b, nil
	case PredScore:
		return -1 / (b * b), a / (b * b), nil
	case PredV: // n = (x - a·x0)/b
		q := math.Sqrt(a*a + b*b)
		return a / (b * q), -q / b, nil
	case PredFlow:
		return 1 / b, -(a + b) / b, nil
	case PredFlowReversed:
		return -1 / b, (a + b) / b, nil
	}
	cx, cf, err := p.ToX0(a, b)
	return -cx / cf, 1 / cf, err
}
