package tensor

import (
	"math"
	"strings"
	"testing"
)

// Every float16 comes back, and between two neighbours a and b the middle goes to the one whose last bit is zero, what
// lies just beside it to the nearer one. That is all that rounding to nearest is.
func TestHalfRounds(t *testing.T) {
	for h := range 1 << 16 {
		f := halfToFloat(uint16(h))
		if math.IsNaN(float64(f)) {
			if got := floatToHalf(f); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
				t.Fatalf("%04x, not a number, becomes %04x", h, got)
			}
			continue
		}
		if got := floatToHalf(f); got != uint16(h) {
			t.Fatalf("%04x is %g, which becomes %04x", h, f, got)
		}
	}
	for h := range uint16(0x7c00) { // to infinity, at which 65536 would stand
		a, b := float64(halfToFloat(h)), float64(halfToFloat(h+1))
		if math.IsInf(b, 0) {
			b = 65536
		}
		middle := float32((a + b) / 2) // exact: a float16 has 11 bits
		even := h + h&1
		for x, want := range map[float32]uint16{
			middle: even, math.Nextafter32(middle, 0): h, math.Nextafter32(middle, math.MaxFloat32): h + 1,
		} {
			if got := floatToHalf(x); got != want {
				t.Fatalf("%g, between %g and %g, becomes %04x, want %04x", x, a, b, got, want)
			}
			if got := floatToHalf(-x); got != want|0x8000 {
				t.Fatalf("%g becomes %04x, want %04x", -x, got, want|0x8000)
			}
		}
	}
}

func TestFromF16(t *testing.T) {
	a, err := FromF16([]float32{0, 1, -2.5, 1.0 / 3, 65504, 1e-9}, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{0, 1, -2.5, 0.333251953125, 65504, 0}
	for i, v := range a.F32() {
		if v != want[i] {
			t.Errorf("element %d is %v, want %v", i, v, want[i])
		}
	}
	for _, bad := range []float32{65520, -1e9, float32(math.Inf(1)), float32(math.NaN())} {
		if _, err := FromF16([]float32{1, bad}, 2); err == nil || !strings.Contains(err.Error(), "element 1 of [2]") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}
