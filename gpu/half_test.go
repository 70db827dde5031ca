package gpu

import (
	"math"
	"testing"
)

// The value of a half by its definition, in float64.
func half(h uint16, expBits, fracBits int) float64 {
	exp := int(h>>fracBits) & (1<<expBits - 1)
	frac := int(h) & (1<<fracBits - 1)
	bias := 1<<(expBits-1) - 1
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(float64(frac), 1-bias-fracBits)
	case 1<<expBits - 1:
		v = math.Inf(1)
		if frac != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(float64(frac+1<<fracBits), exp-bias-fracBits)
	}
	if h>>15 == 1 {
		v = -v
	}
	return v
}

var kinds = []struct {
	name              string
	expBits, fracBits int
	to                func(uint16) float32
	from              func(float32) uint16
}{
	{"float16", 5, 10, F16ToFloat, FloatToF16},
	{"bfloat16", 8, 7, BF16ToFloat, FloatToBF16},
}

// Every 16-bit pattern is the value of its definition, comes back as itself,
// and midpoints between neighbours go to the even one.
func TestHalfExhaustive(t *testing.T) {
	for _, k := range kinds {
		for i := range 1 << 16 {
			h := uint16(i)
			want, got := half(h, k.expBits, k.fracBits), float64(k.to(h))
			if math.IsNaN(want) {
				if back := k.from(k.to(h)); !math.IsNaN(got) || !math.IsNaN(float64(k.to(back))) {
					t.Fatalf("%s %#04x: NaN is lost: %g, back %#04x", k.name, h, got, back)
				}
				continue
			}
			if math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%s %#04x: %g, want %g", k.name, h, got, want)
			}
			if back := k.from(k.to(h)); back != h {
				t.Fatalf("%s %#04x comes back as %#04x", k.name, h, back)
			}
			next := half(h+1, k.expBits, k.fracBits)
			if math.IsInf(want, 0) || math.IsNaN(next) || h&0x7fff == 0x7fff {
				continue
			}
			if math.IsInf(next, 0) { // as if the exponents went on
				next = 2*want - half(h-1, k.expBits, k.fracBits)
			}
			even := h
			if h&1 == 1 {
				even = h + 1
			}
			mid := float32((want + next) / 2)
			for _, c := range []struct {
				f    float32
				want uint16
			}{{mid, even}, {math.Nextafter32(mid, float32(want)), h}, {math.Nextafter32(mid, float32(next)), h + 1}} {
				if got := k.from(c.f); got != c.want {
					t.Fatalf("%s: %g becomes %#04x, want %#04x", k.name, c.f, got, c.want)
				}
			}
		}
	}
}
