package motion

import "math"

// Everything that shapes a clip uses + − × / and square roots of float64, and
// rounds every product before it is added, so that all processors make the same
// clips. The functions of package math for angles do not promise that.

// sines are sin(2πk/64) of the first quarter.
var sines = [17]float64{
	0, 0.0980171403295606, 0.19509032201612828, 0.2902846772544624, 0.3826834323650898, 0.47139673682599764, 0.5555702330196022, 0.6343932841636455,
	0.7071067811865476, 0.773010453362737, 0.8314696123025452, 0.8819212643483551, 0.9238795325112867, 0.9569403357322088, 0.9807852804032304, 0.9951847266721969, 1,
}

// sine is the sine of a number of whole turns, linear between the 64 steps of the
// table. Its error is at most 1.2e-3.
func sine(turns float64) float64 {
	x := float64((turns - math.Floor(turns)) * 64)
	k := math.Floor(x)
	a, b := step64(int(k)), step64(int(k)+1)
	return a + float64((x-k)*(b-a))
}

func step64(k int) float64 {
	switch k &= 63; {
	case k <= 16:
		return sines[k]
	case k <= 32:
		return sines[32-k]
	case k <= 48:
		return -sines[k-32]
	}
	return -sines[64-k]
}

// cosine is the sine a quarter of a turn ahead.
func cosine(turns float64) float64 { return sine(turns + 0.25) }

// hump rises from 0 at x = 0 to 1 at 1/2 and falls to 0 at 1: (1 − cos 2πx)/2.
func hump(x float64) float64 { return float64(0.5 * (1 - cosine(x))) }

// ramp rises smoothly from 0 at x ≤ 0 to 1 at x ≥ 1.
func ramp(x float64) float64 { return hump(float64(0.5 * min(1, max(0, x)))) }

// sincos is the sine and cosine of x radians for |x| below 100, by the series of
// Taylor after the nearest multiple of π/2 is taken off; within 1e-15.
func sincos(x float64) (sin, cos float64) {
	const (
		hi = 1.5707963267341256 // π/2 to 33 bits, so that its small multiples are exact
		lo = 6.077100506506192e-11
	)
	k := math.Floor(float64(x*0.6366197723675814) + 0.5)
	r := x - float64(k*hi)
	r -= float64(k * lo)
	r2 := float64(r * r)
	s, c := 1.0, 1.0
	for n := 16.0; n >= 2; n -= 2 {
		s = 1 - float64(r2*s)/(n*(n+1))
		c = 1 - float64(r2*c)/(n*(n-1))
	}
	s = float64(r * s)
	switch int(k) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	}
	return -c, s
}

// arcsine is the angle in [0, π/2) with the given sine, by Newton's method; it is
// used for sines up to 0.7.
func arcsine(v float64) float64 {
	a := v
	for range 8 {
		s, c := sincos(a)
		a -= (s - v) / c
	}
	return a
}

// grid is the raster of the places in a clip: 2^-16 m, 15 µm. On it the joints
// are exact in float32, and no difference in a last place can show.
const grid = 1.0 / (1 << 16)

func snap(v float64) float64 { return float64(math.Floor(float64(v*(1<<16))+0.5) * grid) }
