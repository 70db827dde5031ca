package rng

import "math"

// Brownian lays out one Brownian path of every image over noise levels, for
// solvers of stochastic equations. The solution of such an equation with
// constant denoised x and churn Rate carries, over a step from sigma to sigma',
// the noise
//
//	sigma'^(1+Rate)·(W(u') - W(u)),   u = sigma^(-2·Rate),
//
// with one Brownian motion W in the clock u. Z(v) = W(u)/√u is the same path
// scaled to unit variance; in v = ln sigma it is stationary, with covariance
// exp(-Rate·|v-v'|) (an Ornstein-Uhlenbeck process), and is what is stored.
//
// Z is found at any v without knowing it elsewhere, by halving [BrownianMin,
// BrownianMax] towards v: Lévy's construction of Brownian motion. Value e of a
// knot takes normal Knot.ID<<32 + e of the image's stream of purpose Bridge, so
// the path does not depend on the order of questions, on the step count or on
// the batch.
//
// The halving stops at intervals of 2^-10. In the last one a point takes the
// interval's own normal, with the variance that is right for it: any levels of
// which no two share an interval have exactly the joint law of the path; within
// one interval the path is smooth.
type Brownian struct{ Rate float64 }

// The range of ln sigma that a path covers.
const (
	BrownianMin = -16
	BrownianMax = 16

	brownianLevels = 15 // halvings: 32/2^15 = 2^-10
)

// BrownianKnots is the length of what Knots returns.
const BrownianKnots = 2 + brownianLevels + 1

// Knot is the value of a path at one place, from the values at two others and a
// standard normal n of its own: Left·Z[L] + Right·Z[R] + Dev·n, where L and R
// count in the list of knots that this one is in.
type Knot struct {
	ID               uint64
	L, R             int
	Left, Right, Dev float64
}

// Knots appends to buf what leads to Z(v), the last of them. Lists of nearby v
// begin with the same knots. v must be in [BrownianMin, BrownianMax].
func (b Brownian) Knots(buf []Knot, v float64) []Knot {
	lo, hi := float64(BrownianMin), float64(BrownianMax)
	across := math.Exp(-b.Rate * (hi - lo))
	at := len(buf)
	buf = append(buf,
		Knot{ID: 0, Dev: 1},
		Knot{ID: 1, Left: across, Dev: math.Sqrt(1 - across*across)})
	left, right := 0, 1
	cell := uint64(0)
	for level := range brownianLevels {
		mid := (lo + hi) / 2
		buf = append(buf, b.between(2+(1<<level-1)+cell, left, right, mid-lo, hi-mid))
		if cell *= 2; v < mid {
			hi, right = mid, len(buf)-1-at
		} else {
			lo, left, cell = mid, len(buf)-1-at, cell+1
		}
	}
	return append(buf, b.between(2+(1<<brownianLevels-1)+cell, left, right, v-lo, hi-v))
}

// between is the bridge at distances p and q from the knots to its left and right:
//
//	E = (sinh(Rate·q)·Z[L] + sinh(Rate·p)·Z[R]) / sinh(Rate·(p+q))
//	V = 2·sinh(Rate·p)·sinh(Rate·q) / sinh(Rate·(p+q))
func (b Brownian) between(id uint64, left, right int, p, q float64) Knot {
	ep, eq, all := -math.Expm1(-2*b.Rate*p), -math.Expm1(-2*b.Rate*q), -math.Expm1(-2*b.Rate*(p+q))
	return Knot{
		ID: id, L: left, R: right,
		Left: math.Exp(-b.Rate*p) * eq / all, Right: math.Exp(-b.Rate*q) * ep / all,
		Dev: math.Sqrt(ep * eq / all),
	}
}

// Increment gives the coefficients of the unit normal (W(u')-W(u))/√(u'-u) =
// from·Z(v) + to·Z(v') of a step that lowers ln sigma by fall = v-v' > 0.
func (b Brownian) Increment(fall float64) (from, to float64) {
	dev := math.Sqrt(-math.Expm1(-2 * b.Rate * fall))
	return -math.Exp(-b.Rate*fall) / dev, 1 / dev
}
