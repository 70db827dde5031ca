package diffusion

import (
	"fmt"
	"math"
	"sort"
)

// VP is a variance-preserving path given by a table of betas: abar_t =
// Π_{s≤t} (1-beta_s), x = √abar·x0 + √(1-abar)·n (Ho et al. 2020). Times
// between the table's integers interpolate sigma linearly; SigmaBy has other rules.
type VP struct{ sigmas []float64 }

// NewVP makes the path of a beta table of at least two entries, each in (0, 1];
// only the last may be 1 (zero terminal SNR: its sigma is +Inf).
func NewVP(betas []float64) (*VP, error) {
	if len(betas) < 2 {
		return nil, fmt.Errorf("diffusion: VP: %d betas; wanted at least 2", len(betas))
	}
	p := &VP{sigmas: make([]float64, len(betas))}
	abar := 1.0
	for t, beta := range betas {
		if !(beta > 0) || beta > 1 || beta == 1 && t < len(betas)-1 {
			return nil, fmt.Errorf("diffusion: VP: beta %d of %d is %g; wanted 0 < beta < 1 (the last may be 1)", t, len(betas), beta)
		}
		abar *= 1 - beta
		p.sigmas[t] = math.Sqrt((1 - abar) / abar)
	}
	return p, nil
}

// Name is "vp".
func (*VP) Name() string { return "vp" }

// Space is VPSpace.
func (*VP) Space() Space { return VPSpace }

// Len is the number of steps in the table.
func (p *VP) Len() int { return len(p.sigmas) }

// Sigma interpolates the table; times outside it get its ends.
func (p *VP) Sigma(t float64) float64 {
	last := len(p.sigmas) - 1
	t = min(max(t, 0), float64(last))
	i := min(int(t), last-1)
	f := t - float64(i)
	lo, hi := p.sigmas[i], p.sigmas[i+1]
	switch f {
	case 0:
		return lo
	case 1:
		return hi
	}
	if math.IsInf(hi, 1) { // linear in 1/sigma: it reaches 0 at the end
		return lo / (1 - f)
	}
	return lo + f*(hi-lo)
}

// Time is Sigma's inverse.
func (p *VP) Time(sigma float64) float64 {
	last := len(p.sigmas) - 1
	i := sort.SearchFloat64s(p.sigmas, sigma)
	switch {
	case i == 0:
		return 0
	case i > last:
		return float64(last)
	case p.sigmas[i] == sigma:
		return float64(i)
	}
	lo, hi := p.sigmas[i-1], p.sigmas[i]
	if math.IsInf(hi, 1) {
		return float64(i) - lo/sigma
	}
	return float64(i-1) + (sigma-lo)/(hi-lo)
}

// Range is the table's last and first index.
func (p *VP) Range() (most, least float64) { return float64(len(p.sigmas) - 1), 0 }

// Input is √abar and √(1-abar).
func (*VP) Input(sigma float64) (a, b float64) { return VPSpace.Scale(sigma) }

// Respace is the betas of a shorter table that visits only the given times, which
// rise: beta_i = 1 - abar[t_i]/abar[t_{i-1}], with abar = 1 before the first
// (Nichol and Dhariwal 2021, section 4). Their product keeps every chosen abar,
// which the betas of the long table at those times would not; a network is still
// told the long table's times. Solvers here need no such betas, since their steps
// go from point to point; other tools do.
func (p *VP) Respace(times []int) ([]float64, error) {
	betas := make([]float64, len(times))
	before := 1.0
	for i, t := range times {
		switch {
		case t < 0 || t >= len(p.sigmas):
			return nil, fmt.Errorf("diffusion: VP: time %d; wanted 0 to %d", t, len(p.sigmas)-1)
		case i > 0 && t <= times[i-1]:
			return nil, fmt.Errorf("diffusion: VP: time %d follows %d; wanted rising times, each once", t, times[i-1])
		}
		abar := 1 / (1 + p.sigmas[t]*p.sigmas[t])
		betas[i] = 1 - abar/before
		before = abar
	}
	return betas, nil
}

// TableOf is the table behind a path, nil where it has none: p itself, or what the
// method Unwrap of a path that changes something else about it leads to.
func TableOf(p Path) *VP {
	for {
		switch q := p.(type) {
		case *VP:
			return q
		case interface{ Unwrap() Path }:
			p = q.Unwrap()
		default:
			return nil
		}
	}
}

// LinearBetas is n betas from first to last in equal steps (Ho et al. 2020: 1000, 1e-4, 0.02).
func LinearBetas(n int, first, last float64) []float64 {
	b := make([]float64, n)
	for i := range b {
		b[i] = lerp(first, last, i, n-1)
	}
	return b
}

// ScaledLinearBetas is linear in √beta (latent diffusion: 1000, 0.00085, 0.012).
func ScaledLinearBetas(n int, first, last float64) []float64 {
	b := LinearBetas(n, math.Sqrt(first), math.Sqrt(last))
	for i, r := range b {
		b[i] = r * r
	}
	return b
}

// CosineBetas makes abar follow cos²(π/2·(t+0.008)/1.008), each beta at most
// 0.999 (Nichol and Dhariwal 2021, eq. 17).
func CosineBetas(n int) []float64 {
	abar := func(i int) float64 {
		c := math.Cos((float64(i)/float64(n) + 0.008) / 1.008 * math.Pi / 2)
		return c * c
	}
	b := make([]float64, n)
	for i := range b {
		b[i] = min(1-abar(i+1)/abar(i), 0.999)
	}
	return b
}

// SigmoidBetas is n betas from first to last along the logistic function between
// -6 and 6, as GeoDiff and the diffusers library have it.
func SigmoidBetas(n int, first, last float64) []float64 {
	b := make([]float64, n)
	for i := range b {
		b[i] = first + (last-first)/(1+math.Exp(-lerp(-6, 6, i, n-1)))
	}
	return b
}

// betaTables are the tables that PathByName knows.
var betaTables = map[string]func() []float64{
	"vp":         func() []float64 { return LinearBetas(1000, 1e-4, 0.02) },
	"vp-linear":  func() []float64 { return LinearBetas(1000, 1e-4, 0.02) },
	"vp-scaled":  func() []float64 { return ScaledLinearBetas(1000, 0.00085, 0.012) },
	"vp-cosine":  func() []float64 { return CosineBetas(1000) },
	"vp-sigmoid": func() []float64 { return SigmoidBetas(1000, 1e-4, 0.02) },
}

// ZeroTerminalSNR rescales betas so that the last abar is 0 and the first keeps
// its value: r = √abar, r ← (r-r_T)·r_0/(r_0-r_T) (Lin et al. 2024, algorithm
// 1). Networks on such a path must predict x0, v or the flow's velocity.
func ZeroTerminalSNR(betas []float64) []float64 {
	r := make([]float64, len(betas))
	abar := 1.0
	for i, b := range betas {
		abar *= 1 - b
		r[i] = math.Sqrt(abar)
	}
	r0, rT := r[0], r[len(r)-1]
	out := make([]float64, len(betas))
	prev := 1.0
	for i := range r {
		s := (r[i] - rT) * r0 / (r0 - rT)
		out[i] = 1 - (s/prev)*(s/prev)
		prev = s
	}
	return out
}

// VPSDE is the continuous variance-preserving path with beta(t) = BetaMin +
// BetaD·t: sigma = √(exp(BetaD·t²/2 + BetaMin·t) - 1), t from 1 to End (Song et
// al. 2021; Karras et al. 2022, table 1).
type VPSDE struct{ BetaD, BetaMin, End float64 }

// DefaultVPSDE has BetaD 19.9, BetaMin 0.1 and ends at t = 1e-3.
func DefaultVPSDE() VPSDE { return VPSDE{19.9, 0.1, 1e-3} }

// Name is "vp-sde".
func (VPSDE) Name() string { return "vp-sde" }

// Space is VPSpace.
func (VPSDE) Space() Space { return VPSpace }

// Sigma is √(exp(BetaD·t²/2 + BetaMin·t) - 1).
func (p VPSDE) Sigma(t float64) float64 {
	return math.Sqrt(math.Expm1(p.BetaD*t*t/2 + p.BetaMin*t))
}

// Time solves the quadratic in Sigma's exponent; it is limited to [End, 1].
func (p VPSDE) Time(sigma float64) float64 {
	l := math.Log1p(sigma * sigma)
	// 2l/(b+√(b²+2dl)) keeps its digits for small l, where (√(b²+2dl)-b)/d loses them.
	t := 2 * l / (p.BetaMin + math.Sqrt(p.BetaMin*p.BetaMin+2*p.BetaD*l))
	if math.IsInf(l, 1) {
		t = 1
	}
	return min(max(t, p.End), 1)
}

// Range is 1 and End.
func (p VPSDE) Range() (most, least float64) { return 1, p.End }

// Input is the VP scaling.
func (VPSDE) Input(sigma float64) (a, b float64) { return VPSpace.Scale(sigma) }

// lerp is a + (b-a)·i/n with both ends exact; a for n = 0.
func lerp(a, b float64, i, n int) float64 {
	switch {
	case i == 0:
		return a
	case i == n:
		return b
	}
	return a + (b-a)*float64(i)/float64(n)
}
