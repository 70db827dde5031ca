package cpu

import (
	"math"
	"testing"
)

// Every float16 comes back from float32, and every float32 between two
// neighbours goes to the nearer one, to the even one from the middle.
func TestHalf(t *testing.T) {
	for u := range 1 << 16 {
		h := uint16(u)
		x := F16ToFloat(h)
		if e, m := h>>10&31, h&0x3ff; e == 31 && m != 0 {
			if x == x || FloatToF16(x)&0x7e00 != 0x7e00 {
				t.Fatalf("%#04x is NaN and became %g, then %#04x", h, x, FloatToF16(x))
			}
			continue
		} else if want := math.Ldexp(float64(m), -24); e == 0 && math.Abs(float64(x)) != want {
			t.Fatalf("%#04x is %g, want %g", h, x, want)
		} else if want := math.Ldexp(1+float64(m)/1024, int(e)-15); e > 0 && e < 31 && math.Abs(float64(x)) != want {
			t.Fatalf("%#04x is %g, want %g", h, x, want)
		}
		if math.Signbit(float64(x)) != (h>>15 == 1) || FloatToF16(x) != h {
			t.Fatalf("%#04x became %g, then %#04x", h, x, FloatToF16(x))
		}
		if h&0x7fff >= 0x7bff { // the largest finite one and infinity
			continue
		}
		next := F16ToFloat(h + 1)
		middle := (x + next) / 2 // exact: float32 has 13 bits more
		even := h + h&1
		for _, c := range []struct {
			x    float32
			want uint16
		}{{middle, even}, {math.Nextafter32(middle, x), h}, {math.Nextafter32(middle, next), h + 1}} {
			if got := FloatToF16(c.x); got != c.want {
				t.Fatalf("%g became %#04x, want %#04x", c.x, got, c.want)
			}
		}
	}
	for x, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, -65520: 0xfc00, 1e-10: 0, -1e-10: 0x8000, 0x1p-25: 0, 0x1.8p-25: 1} {
		if got := FloatToF16(x); got != want {
			t.Errorf("%g became %#04x, want %#04x", x, got, want)
		}
	}
}
