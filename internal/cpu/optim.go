package cpu

import "math"

// Adam is one step of Adam: with d = Scale·g + L2·p,
//
//	m = Beta1·m + (1-Beta1)·d,  v = Beta2·v + (1-Beta2)·d²,  p = Keep·p - Step·m/(√v·Root + Eps)
type Adam struct {
	Scale, L2, Beta1, Beta2, Step, Root, Eps, Keep float64
}

// Run32 makes the step where it is called. All slices have one length.
func (a *Adam) Run32(p, m, v, g []float32) {
	sameLen("Adam", len(p), len(m), len(v), len(g))
	if len(p) > 0 && !nativeAdam(a, p, m, v, g) {
		runAdam(a, p, m, v, g)
	}
}

// Run64 is Run32 for float64.
func (a *Adam) Run64(p, m, v, g []float64) {
	sameLen("Adam", len(p), len(m), len(v), len(g))
	runAdam(a, p, m, v, g)
}

func runAdam[T Float](a *Adam, p, m, v, g []T) {
	b1, b2 := T(1)-T(a.Beta1), T(1)-T(a.Beta2)
	for i, d := range g {
		d = T(T(a.Scale)*d) + T(T(a.L2)*p[i])
		m[i] = T(T(a.Beta1)*m[i]) + T(b1*d)
		v[i] = T(T(a.Beta2)*v[i]) + T(b2*T(d*d))
		root := T(math.Sqrt(float64(v[i])))
		p[i] = T(T(a.Keep)*p[i]) - T(a.Step)*m[i]/(T(root*T(a.Root))+T(a.Eps))
	}
}

// Lion is one step of Lion (Chen et al. 2023, arXiv 2302.06675): with d = Scale·g,
// p = Keep·p - LR·sign(Beta1·m + (1-Beta1)·d), then m = Beta2·m + (1-Beta2)·d.
type Lion struct {
	Scale, Beta1, Beta2, LR, Keep float64
}

// Run32 makes the step where it is called. All slices have one length.
func (l *Lion) Run32(p, m, g []float32) {
	sameLen("Lion", len(p), len(m), len(g))
	if len(p) > 0 && !nativeLion(l, p, m, g) {
		runLion(l, p, m, g)
	}
}

// Run64 is Run32 for float64.
func (l *Lion) Run64(p, m, g []float64) {
	sameLen("Lion", len(p), len(m), len(g))
	runLion(l, p, m, g)
}

// RunNarrow is Run32 with the momentum in bfloat16, rounded to nearest even.
func (l *Lion) RunNarrow(p []float32, m []uint16, g []float32) {
	sameLen("Lion", len(p), len(m), len(g))
	if len(p) == 0 || nativeLionNarrow(l, p, m, g) {
		return
	}
	var mean [256]float32
	for len(p) > 0 {
		n := min(len(p), len(mean))
		for i, v := range m[:n] {
			mean[i] = math.Float32frombits(uint32(v) << 16)
		}
		runLion(l, p[:n], mean[:n], g[:n])
		for i, v := range mean[:n] {
			m[i] = uint16(math.Float32bits(RoundBF16(v)) >> 16)
		}
		p, m, g = p[n:], m[n:], g[n:]
	}
}

func runLion[T Float](l *Lion, p, m, g []T) {
	b1, b2 := T(1)-T(l.Beta1), T(1)-T(l.Beta2)
	for i, d := range g {
		d *= T(l.Scale)
		c, step := T(T(l.Beta1)*m[i])+T(b1*d), T(0)
		if c > 0 {
			step = T(l.LR)
		} else if c < 0 {
			step = -T(l.LR)
		}
		p[i] = T(T(l.Keep)*p[i]) - step
		m[i] = T(T(l.Beta2)*m[i]) + T(b2*d)
	}
}

// SumSquares32 is the sum of the squares of x in float64, in eight partial sums.
func SumSquares32(x []float32) float64 {
	if len(x) > 0 {
		if s, ok := nativeSumSquares(x); ok {
			return s
		}
	}
	return sumSquares(x)
}

// SumSquares64 is SumSquares32 for float64.
func SumSquares64(x []float64) float64 { return sumSquares(x) }

func sumSquares[T Float](x []T) float64 {
	var s [8]float64
	for i, v := range x {
		s[i&7] += float64(float64(v) * float64(v))
	}
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}
