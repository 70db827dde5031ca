package diffusion

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/rng"
)

// Noise is a kernel: how data x0 are perturbed at a noise level, x = x0 + n in
// the variance-exploding scaling, for n of N values. The probability-flow ODE in
// sigma, dx/dsigma = (x - D)/sigma, and with it every deterministic solver and
// grid, is the same for all of them; the start and the exact denoiser are not.
type Noise interface {
	Name() string
	// Check refuses parameters that are out of range or made for other data.
	Check(n int) error
	// Perturb sets x to x0 + n, in float64 whatever becomes of it. x may be x0.
	Perturb(x, x0 []float64, sigma float64, s *rng.Stream)
	// Prior sets x to noise alone: where a sampler starts, at its largest sigma.
	Prior(x []float64, sigma float64, s *rng.Stream)
	// LogWeight is ln p(x|x0) up to what is the same for all x0, for x of N values
	// with |x|² = norm and |x - x0|² = norm + excess. Split so, the differences
	// between x0 keep their digits where x is far from all of them.
	LogWeight(n int, norm, excess, sigma float64) float64
}

// GaussianNoise is n = sigma·z with z standard normal, the kernel of diffusion.
type GaussianNoise struct{}

// Name is "gaussian".
func (GaussianNoise) Name() string { return "gaussian" }

// Check accepts all.
func (GaussianNoise) Check(int) error { return nil }

// Perturb implements Noise.
func (GaussianNoise) Perturb(x, x0 []float64, sigma float64, s *rng.Stream) {
	for i := range x {
		x[i] = x0[i] + sigma*s.Normal()
	}
}

// Prior implements Noise.
func (GaussianNoise) Prior(x []float64, sigma float64, s *rng.Stream) {
	clear(x)
	GaussianNoise{}.Perturb(x, x, sigma, s)
}

// LogWeight is -|x-x0|²/(2·sigma²), less -|x|²/(2·sigma²).
func (GaussianNoise) LogWeight(_ int, _, excess, sigma float64) float64 {
	return -excess / (2 * sigma * sigma)
}

// PFGMPP is the heavy-tailed kernel of Xu et al. 2023 (PFGM++, 2302.04265), data
// of N values embedded in N + D dimensions, with r = sigma·√D:
//
//	p(x|x0) ∝ (|x-x0|² + r²)^(-(N+D)/2)
//
// D = 1 is PFGM, and D = +Inf is GaussianNoise. n = R·u with u uniform on the
// sphere, R = r·√(B/(1-B)) and B ~ Beta(N/2, D/2), drawn as r·√(G1/G2) with G1 ~
// Gamma(N/2) and G2 ~ Gamma(D/2), which keeps its digits for large N and D. For D >
// 2, E[R²] = r²·N/(D-2); for D <= 2 it is infinite.
type PFGMPP struct {
	N    int     // values of one x0
	D    float64 // added dimensions, any number above 0
	Clip float64 // B is kept in [Clip, 1-Clip]: 0, as in the formula, or 1e-3, as the authors' code has it for training
}

// Name is "pfgmpp:D", or "pfgmpp:D,clip": by it NoiseByName finds the kernel.
func (k PFGMPP) Name() string {
	if k.Clip > 0 {
		return pfgmpp + ":" + number(k.D) + "," + number(k.Clip)
	}
	return pfgmpp + ":" + number(k.D)
}

const pfgmpp = "pfgmpp"

// Check refuses D <= 0, clips outside [0, 0.5) and another N.
func (k PFGMPP) Check(n int) error {
	switch {
	case !(k.D > 0):
		return fmt.Errorf("diffusion: pfgmpp: D is %g; wanted a number above 0 (128 and 2048 are usual)", k.D)
	case !(k.Clip >= 0 && k.Clip < 0.5):
		return fmt.Errorf("diffusion: pfgmpp: clip %g; wanted 0 for none, or less than 0.5", k.Clip)
	case k.N != n:
		return fmt.Errorf("diffusion: pfgmpp: made for data of %d values; these have %d", k.N, n)
	}
	return nil
}

// gaussian tells that the added dimensions are infinitely many.
func (k PFGMPP) gaussian() bool { return math.IsInf(k.D, 1) }

// Perturb implements Noise.
func (k PFGMPP) Perturb(x, x0 []float64, sigma float64, s *rng.Stream) {
	if k.gaussian() {
		GaussianNoise{}.Perturb(x, x0, sigma, s)
		return
	}
	g1, g2 := s.Gamma(float64(k.N)/2), s.Gamma(k.D/2)
	odds := g1 / g2
	if k.Clip > 0 {
		odds = min(max(odds, k.Clip/(1-k.Clip)), (1-k.Clip)/k.Clip)
	}
	radius := sigma * math.Sqrt(k.D*odds)
	// The direction's normals are drawn twice, for their length and for themselves,
	// so that x may be x0 and nothing is allocated.
	from := s.State()
	var norm float64
	for range x {
		z := s.Normal()
		norm += z * z
	}
	*s = *rng.Restore(from)
	scale := radius / math.Sqrt(norm)
	for i := range x {
		x[i] = x0[i] + scale*s.Normal()
	}
}

// Prior implements Noise.
func (k PFGMPP) Prior(x []float64, sigma float64, s *rng.Stream) {
	clear(x)
	k.Perturb(x, x, sigma, s)
}

// LogWeight is -(N+D)/2·ln(|x-x0|² + r²), less the same at x0 = 0.
func (k PFGMPP) LogWeight(n int, norm, excess, sigma float64) float64 {
	if k.gaussian() {
		return GaussianNoise{}.LogWeight(n, norm, excess, sigma)
	}
	return -(float64(n) + k.D) / 2 * math.Log1p(excess/(norm+sigma*sigma*k.D))
}
