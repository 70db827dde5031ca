package diffusion

import (
	"fmt"
	"math"
)

// Target gives the coefficients of f = c0·x0 + cn·n, what a network that predicts p is trained
// towards at x = a·x0 + b·n: those of FromX0 without the detour over x, which loses digits where
// b is small. For PredEDM and PredTrigFlow a and b are EDM.Input's. The score has none without
// noise, edm and trigflow none at infinite noise: an error.
func (p Pred) Target(a, b float64) (c0, cn float64, err error) {
	switch p {
	case PredX0:
		return 1, 0, nil
	case PredEps:
		return 0, 1, nil
	case PredV:
		q := math.Hypot(a, b)
		return -b / q, a / q, nil
	case PredFlow:
		return -1, 1, nil
	case PredFlowReversed:
		return 1, -1, nil
	case PredScore:
		if b == 0 {
			return 0, 0, fmt.Errorf("diffusion: there is no score without noise; draw noise levels above 0")
		}
		return 0, -1 / b, nil
	case PredEDM, PredTrigFlow:
		// With sd the data's deviation, √q = a·sd: F = (x0·sigma/sd - n·sd)/√(sigma²+sd²).
		q := math.Sqrt((1 - b) * (1 + b))
		if a == 0 || q == 0 {
			return 0, 0, fmt.Errorf("diffusion: %s is not defined at infinite noise; draw finite noise levels", p)
		}
		c0, cn = a*b/q, -q
		if p == PredTrigFlow {
			c0, cn = -c0, -cn
		}
		return c0, cn, nil
	}
	panic("diffusion: Target: unknown prediction")
}

// Boundary gives the coefficients of a consistency model's x0 = skip·x + out·F at x = x0 + sigma·n
// (Song et al. 2023, arXiv 2303.01469, eq. 25): EDM's with sigma - Min in place of sigma, so that
// at Min the model is the identity whatever the network F says.
func (p EDM) Boundary(sigma float64) (skip, out float64) {
	s, sd := sigma-p.Min, p.Data
	return sd * sd / (s*s + sd*sd), sd * s / math.Sqrt(sigma*sigma+sd*sd)
}
