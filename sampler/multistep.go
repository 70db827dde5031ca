package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
)

// What multistep methods have in common. All are of the form
//
//	x' = (B'/B)·x + (A' - A·B'/B)·Σ_j w_j·D_j   or   x' = (A'/A)·x + (B' - B·A'/A)·Σ_j w_j·N_j
//
// with weights of sum 1 on the denoised x, or the predicted noise, of this step
// and earlier ones: exact for data, or noise, that does not change on the way.
// Methods that interpolate by a polynomial through p of them have the weights
// for which Σ_j w_j·r_j^i is the mean of r^i over the step, i = 0 to p-1, in a
// variable r that is 0 at its start and 1 at its end.

// onePerStep is what such solvers of one evaluation a step share.
type onePerStep struct{}

// Rises is true: the formulas have no direction.
func (onePerStep) Rises() bool { return true }

// NFE is one per step.
func (onePerStep) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Noisy is false.
func (onePerStep) Noisy() bool { return false }

// needOrder refuses orders that a solver does not have, and fewer steps than its order.
func needOrder(s Solver, g *diffusion.Grid, order, least, most int) error {
	if order < least || order > most {
		return fmt.Errorf("sampler: %s: order %d; wanted %d to %d", s.Name(), order, least, most)
	}
	return needSteps(s, g, order)
}

// maxWeights is how many there may be.
const maxWeights = 7

// weights of a step, those of the latest in front.
type weights [maxWeights]float64

// gain is the factors of x and of the weighted mean in a step of the form, on
// noise or on the denoised x.
func gain(from, to diffusion.Point, noise bool) (x, mean float64) {
	if noise {
		x = to.A / from.A
		return x, to.B - from.B*x
	}
	x = to.B / from.B
	return x, to.A - from.A*x
}

// step writes a step's coefficients, with as many weights as its order. From
// pure noise, where the order is 1, x' = A'·D_0 + B'·N_0.
func (w *weights) step(c []float64, h *History, order int, noise bool) {
	if noise && h.At[0].A == 0 {
		c[1], c[1+len(h.At)] = h.To.B, h.To.A
		return
	}
	x, mean := gain(h.At[0], h.To, noise)
	c[0] = x
	for j := range order {
		c[1+j] = mean * w[j]
	}
}

// mend adds to a step's coefficients that the state is corrected before it: that
// the previous step's mean differs by Σ_j w_j·m_j from what the step was made of.
func (w *weights) mend(c []float64, h *History, noise bool) {
	if h.At[1].A == 0 {
		return
	}
	_, mean := gain(h.At[1], h.At[0], noise)
	for j := range h.At {
		c[1+j] += c[0] * mean * w[j]
	}
}

// mendStart mends the first step, which is of first order, by the evaluation at
// its end, so that it does not leave an error of second order to a method of
// higher order: by the half of the change on the way, or what the method has for a half.
func mendStart(c []float64, h *History, half float64, noise bool) {
	w := weights{half, -half}
	w.mend(c, h, noise)
}

// before is where the previous step stood.
func (h *History) before() History {
	return History{At: h.At[1:], To: h.At[0], Step: h.Step - 1, Steps: h.Steps}
}

// interpolate sets w to the weights of a polynomial through points at r, from
// the means of 1, r, r², … in w: the primal algorithm of Björck and Pereyra 1970
// for Vandermonde systems.
func (w *weights) interpolate(r []float64) {
	n := len(r) - 1
	for k := range n {
		for i := n; i > k; i-- {
			w[i] -= r[k] * w[i-1]
		}
	}
	for k := n - 1; k >= 0; k-- {
		for i := k + 1; i <= n; i++ {
			w[i] /= r[i] - r[i-k-1]
		}
		for i := k; i < n; i++ {
			w[i] -= w[i+1]
		}
	}
}

// exponential sets w to the means of 1, r, r², … up to r^(order-1) with r linear
// in λ = ln(A/B), under the weight that the solution has there: e^(h·r) on the
// denoised x, e^(-h·r) on noise. They are i!·φ_{i+1}(z)/φ_1(z).
func (w *weights) exponential(h *History, order int, noise bool) {
	z := h.z(noise)
	f := 1 / phi(1, z)
	for i := range order {
		w[i] = f * phi(i+1, z)
		f *= float64(i + 1)
	}
}

// uniform sets w to the means of 1, r, r², … over the step, all of it of one weight.
func (w *weights) uniform(order int) {
	for i := range order {
		w[i] = 1 / float64(i+1)
	}
}

// phi is φ_k(z) of exponential integrators: φ_0 = e^z, φ_{k+1} = (φ_k - 1/k!)/z.
func phi(k int, z float64) float64 {
	if math.Abs(z) < 2 { // there the recursion loses digits: Σ_n z^n/(n+k)!
		term := 1.0
		for i := 2; i <= k; i++ {
			term /= float64(i)
		}
		sum := 0.0
		for n := k + 1; math.Abs(term) > 1e-18*math.Abs(sum); n++ {
			sum += term
			term *= z / float64(n)
		}
		return sum
	}
	if k == 0 {
		return math.Exp(z)
	}
	p, f := math.Expm1(z)/z, 1.0
	for i := 1; i < k; i++ {
		f /= float64(i)
		p = (p - f) / z
	}
	return p
}

// logStep is h = λ'-λ, +Inf in a step from pure noise or to none.
func (h *History) logStep() float64 { return math.Log(h.At[0].Sigma() / h.To.Sigma()) }

// z is the exponential integrators' argument: -h on the denoised x, h on noise.
func (h *History) z(noise bool) float64 {
	if noise {
		return h.logStep()
	}
	return -h.logStep()
}

// ramp is the mean of a ramp from 0 to 1 over the step, as exponential has it.
func (h *History) ramp(noise bool) float64 {
	z := h.z(noise)
	return phi(2, z) / phi(1, z)
}

// logNodes writes where in this step's λ, 0 at its start and 1 at its end, the
// latest n points are.
func (h *History) logNodes(r []float64, n int) []float64 {
	step := h.logStep()
	for j := range n {
		r[j] = -math.Log(h.At[j].Sigma()/h.At[0].Sigma()) / step
	}
	return r[:n]
}

// nodes writes where in this step's sigma the latest n points are.
func (h *History) nodes(r []float64, n int) []float64 {
	from := h.At[0].Sigma()
	for j := range n {
		r[j] = (h.At[j].Sigma() - from) / (h.To.Sigma() - from)
	}
	return r[:n]
}

// order limits a method's order to the points there are. Pure noise, infinitely far
// from the others, is the oldest of them, and gets no weight from interpolate.
func (h *History) order(most int) int { return min(most, len(h.At)) }

// LowerFinal says which of the last steps are of lower order than their method:
// steps towards little noise are long in ln sigma, and extrapolation grows wild.
type LowerFinal uint8

// The rules. The last step is of first order, the one before it at most of
// second, and so on.
const (
	Never  LowerFinal = iota
	Short             // on grids of fewer than 15 steps, as in diffusers
	Always            // on all
	Last              // the last step only
)

// lowerFinals is the option with its words; rules of another default list theirs first.
var lowerFinals = [...]string{"never", "short", "always", "last"}

func (l LowerFinal) String() string { return lowerFinals[l] }

// lowerFinal reads the option.
func (v values) lowerFinal() LowerFinal {
	for l, name := range lowerFinals {
		if v.word("lower-final") == name {
			return LowerFinal(l)
		}
	}
	return Never
}

// limit applies the rule to an order.
func (l LowerFinal) limit(order int, h *History) int {
	left := h.Steps - h.Step
	if l == Always || l == Short && h.Steps < 15 || l == Last && left == 1 {
		return min(order, left)
	}
	return order
}

// startOption says what multistep methods of third order and more do about their
// first step.
const startOption = "start=corrected|plain"

func start(plain bool) string {
	if plain {
		return "plain"
	}
	return "corrected"
}

// halfway is the point half way between two levels in g's path's time, or in ln
// sigma where the path has no time for one of them.
func halfway(g *diffusion.Grid, from, to diffusion.Point) diffusion.Point {
	known := func(p diffusion.Point) bool {
		return g.Path != nil && math.Abs(g.Path.Sigma(p.T)-p.Sigma()) <= 1e-6*p.Sigma()
	}
	t, sigma := (from.T+to.T)/2, math.Sqrt(from.Sigma()*to.Sigma())
	if known(from) && known(to) {
		sigma = g.Path.Sigma(t)
	}
	a, b := g.Space.Scale(sigma)
	return diffusion.Point{T: t, A: a, B: b}
}
