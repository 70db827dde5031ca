package ops

import (
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// The limits that keep a covariance from degenerating, in splat2d.h too.
const (
	splatSigmaLeast = 1e-3     // of a pixel
	splatRhoMost    = 1 - 1e-4 // of |ρ|
	splatDetLeast   = 1e-12    // of a·c
)

// splatAxis is one axis of the pixel grid.
type splatAxis struct {
	at      []float32 // pixels' positions
	step    float64
	lowPass float64 // variance to add

	half, centre float64 // half an image and its middle, in the grid's unit
}

func newSplatAxis(grid SplatGrid, n int, lowPass float32) splatAxis {
	x := splatAxis{at: make([]float32, n), step: 1, half: float64(n) / 2, centre: float64(n) / 2}
	if grid == SplatCorners {
		x.step, x.half, x.centre = 2/float64(n-1), 1, 0
	}
	for i := range x.at {
		if grid == SplatCorners {
			x.at[i] = float32(2*i-(n-1)) / float32(n-1)
		} else {
			x.at[i] = float32(i) + 0.5
		}
	}
	x.lowPass = float64(lowPass) * x.step * x.step
	return x
}

// within is the range of pixels no further than ext from mean.
func (x *splatAxis) within(mean, ext float32) (lo, hi int32) {
	n := len(x.at)
	at := func(v float64) int { return int(max(0, min(float64(n), (v-float64(x.at[0]))/x.step))) }
	// A pixel early and a pixel late: rounding decides as the drawing would.
	a, b := max(0, at(float64(mean)-float64(ext))-1), min(n, at(float64(mean)+float64(ext))+2)
	for a < b && !(abs32(x.at[a]-mean) <= ext) {
		a++
	}
	for b > a && !(abs32(x.at[b-1]-mean) <= ext) {
		b--
	}
	return int32(a), int32(b)
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// splatCov is a covariance with its guards applied; a raised or lowered value has no gradient.
type splatCov struct {
	a, b, c, det   float64
	fixed0, fixed1 bool // the form's first, second number is held by a limit; SplatCholesky: a, c
	fixed2         bool
}

// splatCovariance evaluates a form. The determinant is never a difference of
// products, so needles keep their digits.
func splatCovariance(form SplatForm, v [3]float64, x, y *splatAxis) (s splatCov, fault splatFault) {
	minX, minY := splatSigmaLeast*x.step, splatSigmaLeast*y.step
	switch form {
	case SplatCholesky:
		l11, l21, l22 := v[0], v[1], v[2]
		s.a, s.b, s.c, s.det = l11*l11, l11*l21, l21*l21+l22*l22, l11*l22*l11*l22
		if s.a < minX*minX {
			s.a, s.fixed0 = minX*minX, true
		}
		if s.c < minY*minY {
			s.c, s.fixed1 = minY*minY, true
		}
	case SplatRS:
		if !(v[0] > 0) || !(v[1] > 0) {
			return s, faultSigma
		}
		sx, sy := v[0], v[1]
		if m := min(minX, minY); sx < m {
			sx, s.fixed0 = m, true
		}
		if m := min(minX, minY); sy < m {
			sy, s.fixed1 = m, true
		}
		sin, cos := math.Sincos(v[2])
		s.a, s.c = sx*sx*cos*cos+sy*sy*sin*sin, sx*sx*sin*sin+sy*sy*cos*cos
		s.b, s.det = (sx-sy)*(sx+sy)*sin*cos, sx*sx*sy*sy
	case SplatSigmaRho:
		if !(v[0] > 0) || !(v[1] > 0) {
			return s, faultSigma
		}
		if !(math.Abs(v[2]) < 1) {
			return s, faultRho
		}
		sx, sy, rho := v[0], v[1], v[2]
		if sx < minX {
			sx, s.fixed0 = minX, true
		}
		if sy < minY {
			sy, s.fixed1 = minY, true
		}
		if math.Abs(rho) > splatRhoMost {
			rho, s.fixed2 = math.Copysign(splatRhoMost, rho), true
		}
		s.a, s.b, s.c, s.det = sx*sx, rho*sx*sy, sy*sy, sx*sx*sy*sy*(1-rho)*(1+rho)
	}
	s.det += s.a*y.lowPass + s.c*x.lowPass + x.lowPass*y.lowPass
	s.a += x.lowPass
	s.c += y.lowPass
	s.det = max(s.det, splatDetLeast*s.a*s.c)
	if !(s.det <= math.MaxFloat32) || !(s.a <= math.MaxFloat32) || !(s.c <= math.MaxFloat32) {
		return s, faultSize
	}
	return s, faultNone
}

// splatReady makes a Gaussian ready to draw; its rectangle is empty where it has a fault.
func splatReady(cfg *SplatConfig, mean [2]float32, cov [3]float32, opacity float32, x, y *splatAxis) (p cpu.Splat, fault splatFault) {
	switch {
	case !finite32(mean[0]) || !finite32(mean[1]):
		return p, faultMean
	case !finite32(cov[0]) || !finite32(cov[1]) || !finite32(cov[2]):
		return p, faultCov
	case !finite32(opacity):
		return p, faultOpacity
	}
	s, fault := splatCovariance(cfg.Form, [3]float64{float64(cov[0]), float64(cov[1]), float64(cov[2])}, x, y)
	if fault != faultNone {
		return p, fault
	}
	p = cpu.Splat{X: mean[0], Y: mean[1], K: float32(-s.b / s.c), P: float32(s.c / (2 * s.det)), V: float32(1 / (2 * s.c)), O: opacity}
	size := float64(cfg.Support.size)
	switch cfg.Support.kind {
	case boxSupport:
		p.QMax = float32(math.Inf(1))
	case ellipseSupport:
		p.QMax = float32(size * size / 2)
	case levelSupport:
		if !(float64(opacity) > size) {
			return p, faultNone // nowhere that bright
		}
		q := math.Log(float64(opacity) / size)
		p.QMax, size = float32(q), math.Sqrt(2*q)
	}
	if cfg.Support.kind != boxSupport {
		size *= 1 + 1e-5 // q decides; the box only has to hold the ellipse
	}
	p.X0, p.X1 = x.within(p.X, float32(size*math.Sqrt(s.a)))
	p.Y0, p.Y1 = y.within(p.Y, float32(size*math.Sqrt(s.c)))
	if p.X0 >= p.X1 || p.Y0 >= p.Y1 {
		p.X0, p.X1, p.Y0, p.Y1 = 0, 0, 0, 0
	}
	return p, faultNone
}

func finite32(x float32) bool { return x-x == 0 }

// splatChain takes the six sums of a Gaussian (cpu.SplatSums) to the gradients
// of its mean, its form's three numbers and its opacity, in float64.
//
// With m = dL/dq, T = ∂q/∂dx = 2P·u and R = ∂q/∂dy = K·T + 2V·dy, the gradients of
// a, b and c are -ΣmT²/2, -ΣmTR and -ΣmR²/2, since dq/dΣ = -(Σ⁻¹d)(Σ⁻¹d)ᵀ/2.
func splatChain(cfg *SplatConfig, p *cpu.Splat, cov [3]float32, sums []float32, x, y *splatAxis) (dMean [2]float32, dCov [3]float32, dOpacity float32) {
	o, k, pp, v := float64(p.O), float64(p.K), float64(p.P), float64(p.V)
	s0, su, sy, suu, suy, syy := float64(sums[0]), float64(sums[1]), float64(sums[2]), float64(sums[3]), float64(sums[4]), float64(sums[5])
	dMean = [2]float32{float32(o * 2 * pp * su), float32(o * (2*pp*k*su + 2*v*sy))}
	tt := -o * 4 * pp * pp * suu
	tr := -o * (4*pp*pp*k*suu + 4*pp*v*suy)
	rr := -o * (4*pp*pp*k*k*suu + 8*pp*k*v*suy + 4*v*v*syy)
	ga, gb, gc := -tt/2, -tr, -rr/2
	c0, c1, c2 := float64(cov[0]), float64(cov[1]), float64(cov[2])
	cv, _ := splatCovariance(cfg.Form, [3]float64{c0, c1, c2}, x, y)
	var d [3]float64
	switch minX, minY := splatSigmaLeast*x.step, splatSigmaLeast*y.step; cfg.Form {
	case SplatRS:
		c0, c1 = max(c0, min(minX, minY)), max(c1, min(minX, minY))
	case SplatSigmaRho:
		c0, c1 = max(c0, minX), max(c1, minY)
	}
	switch cfg.Form {
	case SplatCholesky:
		if cv.fixed0 {
			ga = 0
		}
		if cv.fixed1 {
			gc = 0
		}
		d = [3]float64{2*c0*ga + c1*gb, c0*gb + 2*c1*gc, 2 * c2 * gc}
	case SplatRS:
		sin, cos := math.Sincos(c2)
		d = [3]float64{
			2 * c0 * (cos*cos*ga + sin*cos*gb + sin*sin*gc),
			2 * c1 * (sin*sin*ga - sin*cos*gb + cos*cos*gc),
			(c0 - c1) * (c0 + c1) * (2*sin*cos*(gc-ga) + (cos*cos-sin*sin)*gb),
		}
	case SplatSigmaRho:
		// aT + bR = dx and bT + cR = dy, so that no large terms cancel.
		tx := -o * 2 * pp * (suu - k*suy)
		ry := -o * (2*pp*k*suy + 2*v*syy)
		d = [3]float64{-(tx - x.lowPass*tt) / c0, -(ry - y.lowPass*rr) / c1, -c0 * c1 * tr}
	}
	for i, fixed := range [3]bool{cv.fixed0 && cfg.Form != SplatCholesky, cv.fixed1 && cfg.Form != SplatCholesky, cv.fixed2} {
		if fixed {
			d[i] = 0
		}
		dCov[i] = float32(d[i])
	}
	return dMean, dCov, float32(s0)
}
