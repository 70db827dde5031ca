package diffusion

import (
	"fmt"
	"math"
	"strings"
)

// Space is how states are scaled.
type Space uint8

// The scalings; the package's documentation has their formulas.
const (
	VESpace Space = iota
	VPSpace
	FlowSpace
)

func (s Space) String() string { return [...]string{"VE", "VP", "flow"}[s] }

// Scale is A and B at a noise level; sigma may be +Inf except in VESpace, where
// B is then infinite.
func (s Space) Scale(sigma float64) (a, b float64) {
	switch {
	case s == VESpace:
		return 1, sigma
	case math.IsInf(sigma, 1):
		return 0, 1
	case s == VPSpace:
		r := math.Hypot(1, sigma)
		return 1 / r, sigma / r
	}
	return 1 / (1 + sigma), sigma / (1 + sigma)
}

// Path leads from data to noise. Its time t is what a network is told; sigma
// grows along it.
type Path interface {
	Name() string
	// Space is the scaling of the states that solvers keep on this path.
	Space() Space
	// Sigma is the noise level at time t, possibly +Inf at the noisy end.
	Sigma(t float64) float64
	// Time is the inverse of Sigma; levels outside the path get its nearest end.
	Time(sigma float64) float64
	// Range is the time of the most and of the least noise that a network on this path knows.
	Range() (most, least float64)
	// Input is the scaling A, B of the x that a network on this path is fed.
	Input(sigma float64) (a, b float64)
}

// Point is a state's place on a path: x = A·x0 + B·n, and the network's time T.
type Point struct{ T, A, B float64 }

// Sigma is B/A, +Inf for pure noise.
func (p Point) Sigma() float64 { return p.B / p.A }

// At is the point of noise level sigma on p, scaled for p's space.
func At(p Path, sigma float64) Point {
	a, b := p.Space().Scale(sigma)
	return Point{T: p.Time(sigma), A: a, B: b}
}

// AtTime is the point of time t on p.
func AtTime(p Path, t float64) Point {
	a, b := p.Space().Scale(p.Sigma(t))
	return Point{T: t, A: a, B: b}
}

// VE is the variance-exploding path of Karras et al. 2022: the network's time
// is sigma itself, from Max to Min.
type VE struct{ Min, Max float64 }

// DefaultVE has the range of Karras et al. 2022, 0.002 to 80.
func DefaultVE() VE { return VE{0.002, 80} }

// Name is "ve".
func (VE) Name() string { return "ve" }

// Space is VESpace.
func (VE) Space() Space { return VESpace }

// Sigma is t.
func (VE) Sigma(t float64) float64 { return t }

// Time is sigma.
func (VE) Time(sigma float64) float64 { return sigma }

// Range is Max and Min.
func (p VE) Range() (most, least float64) { return p.Max, p.Min }

// Input is A = 1, B = sigma.
func (VE) Input(sigma float64) (a, b float64) { return 1, sigma }

// EDM is VE with the preconditioning of Karras et al. 2022 (table 1): networks
// are fed c_in·x, c_in = 1/√(sigma²+Data²), and told ln(sigma)/4.
type EDM struct{ Min, Max, Data float64 }

// DefaultEDM has sigma from 0.002 to 80 and sigma_data 0.5.
func DefaultEDM() EDM { return EDM{0.002, 80, 0.5} }

// Name is "edm".
func (EDM) Name() string { return "edm" }

// Space is VESpace.
func (EDM) Space() Space { return VESpace }

// Sigma is exp(4t).
func (EDM) Sigma(t float64) float64 { return math.Exp(4 * t) }

// Time is c_noise = ln(sigma)/4.
func (p EDM) Time(sigma float64) float64 {
	return math.Log(min(max(sigma, p.Min), p.Max)) / 4
}

// Range is the times of Max and Min.
func (p EDM) Range() (most, least float64) { return math.Log(p.Max) / 4, math.Log(p.Min) / 4 }

// Input is c_in and sigma·c_in.
func (p EDM) Input(sigma float64) (a, b float64) {
	r := math.Hypot(sigma, p.Data)
	return 1 / r, sigma / r
}

// TrigFlow is the arc of Lu and Song 2024, x = cos(t)·x0 + sin(t)·Data·n, whose
// networks are fed x/Data and told the angle t = arctan(sigma/Data), from
// arctan(Max/Data) to arctan(Min/Data). At one noise level they are fed what a
// network on EDM is. States are kept in VE scaling.
type TrigFlow struct{ Min, Max, Data float64 }

// DefaultTrigFlow has sigma from 0.002 to 80 and data of deviation 0.5.
func DefaultTrigFlow() TrigFlow { return TrigFlow{0.002, 80, 0.5} }

// Name is "trigflow".
func (TrigFlow) Name() string { return "trigflow" }

// Space is VESpace.
func (TrigFlow) Space() Space { return VESpace }

// Sigma is Data·tan(t).
func (p TrigFlow) Sigma(t float64) float64 { return p.Data * math.Tan(t) }

// Time is arctan(sigma/Data).
func (p TrigFlow) Time(sigma float64) float64 { return math.Atan2(sigma, p.Data) }

// Range is the angles of Max and Min.
func (p TrigFlow) Range() (most, least float64) { return p.Time(p.Max), p.Time(p.Min) }

// Input is cos(t)/Data and sin(t).
func (p TrigFlow) Input(sigma float64) (a, b float64) {
	return EDM{Data: p.Data}.Input(sigma)
}

// Flow is the straight path x = (1-τ)x0 + τn with the noise fraction τ in [0,1]
// and data at τ = 0. Its network is told τ, or 1-τ when DataAtOne is set (the
// direction of SiT and its kin).
type Flow struct{ DataAtOne bool }

// Name is "flow" or "flow-reversed".
func (p Flow) Name() string {
	if p.DataAtOne {
		return "flow-reversed"
	}
	return "flow"
}

// Space is FlowSpace.
func (Flow) Space() Space { return FlowSpace }

// Sigma is τ/(1-τ).
func (p Flow) Sigma(t float64) float64 {
	if p.DataAtOne {
		return (1 - t) / t
	}
	return t / (1 - t)
}

// Time is τ = sigma/(1+sigma), or 1-τ.
func (p Flow) Time(sigma float64) float64 {
	a, b := FlowSpace.Scale(sigma)
	if p.DataAtOne {
		return a
	}
	return b
}

// Range is from pure noise to pure data.
func (p Flow) Range() (most, least float64) {
	if p.DataAtOne {
		return 0, 1
	}
	return 1, 0
}

// Input is 1-τ and τ.
func (Flow) Input(sigma float64) (a, b float64) { return FlowSpace.Scale(sigma) }

// Shift moves a noise fraction towards noise for larger pictures:
// τ' = sτ/(1+(s-1)τ) (Esser et al. 2024, eq. 23). Shift(Shift(τ,a),b) = Shift(τ,ab).
// Pure noise stays pure noise, whatever (s-1)+1 is rounded to.
func Shift(tau, s float64) float64 {
	if tau == 1 {
		return 1
	}
	return s * tau / (1 + (s-1)*tau)
}

// PathByName makes the path of that name with its usual parameters: vp (linear
// betas, 1e-4 to 0.02), vp-scaled (0.00085 to 0.012, linear in the root),
// vp-cosine, vp-sigmoid, each of these with "-zt" for zero terminal SNR, vp-sde,
// ve, edm, trigflow, flow and flow-reversed.
func PathByName(name string) (Path, error) {
	if table, zt := strings.CutSuffix(name, "-zt"); betaTables[table] != nil {
		betas := betaTables[table]()
		if zt {
			betas = ZeroTerminalSNR(betas)
		}
		return NewVP(betas)
	}
	switch name {
	case "vp-sde":
		return DefaultVPSDE(), nil
	case "ve":
		return DefaultVE(), nil
	case "edm":
		return DefaultEDM(), nil
	case "trigflow":
		return DefaultTrigFlow(), nil
	case "flow":
		return Flow{}, nil
	case "flow-reversed":
		return Flow{DataAtOne: true}, nil
	}
	return nil, fmt.Errorf("diffusion: no path %q; there are vp, vp-scaled, vp-cosine, vp-sigmoid (each also with -zt), vp-sde, ve, edm, trigflow, flow and flow-reversed", name)
}

// VEPoints are the points of noise levels in the variance-exploding scaling, without a time.
func VEPoints(sigma []float64) []Point {
	at := make([]Point, len(sigma))
	for i, s := range sigma {
		at[i] = Point{A: 1, B: s}
	}
	return at
}
