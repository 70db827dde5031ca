package report

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// colours reads the custom properties of a theme from the style: those of the first block, changed by the dark one.
func colours(t *testing.T, dark bool) map[string][3]float64 {
	t.Helper()
	light, rest, ok := strings.Cut(pageStyle, "@media screen and (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("the style has no dark theme")
	}
	end := strings.Index(rest, "\n}")
	text := light
	if dark {
		text += rest[:end]
	}
	out := map[string][3]float64{}
	for _, m := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		out[m[1]] = [3]float64{float64(v >> 16), float64(v >> 8 & 255), float64(v & 255)}
	}
	return out
}

// luminance is that of WCAG 2, of an sRGB colour.
func luminance(c [3]float64) (l float64) {
	for i, w := range []float64{0.2126, 0.7152, 0.0722} {
		v := c[i] / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		l += w * v
	}
	return l
}

func contrast(a, b [3]float64) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// Text has a contrast of 4.5 at least against what is behind it, lines and marks that carry meaning 3 (WCAG 2, AA), in both themes.
func TestContrast(t *testing.T) {
	if c := contrast([3]float64{255, 255, 255}, [3]float64{}); math.Abs(c-21) > 1e-9 { // of black and white
		t.Fatalf("contrast of black and white is %g", c)
	}
	for _, dark := range []bool{false, true} {
		c := colours(t, dark)
		need := func(least float64, ground string, on ...string) {
			for _, name := range on {
				a, ok := c[name]
				b, known := c[ground]
				if !ok || !known {
					t.Fatalf("no colour %s or %s", name, ground)
				}
				if got := contrast(a, b); got < least {
					t.Errorf("dark %v: %s on %s has a contrast of %.2f; want %g", dark, name, ground, got, least)
				}
			}
		}
		need(4.5, "paper", "ink", "soft", "accent", "warn")
		need(4.5, "card", "ink", "soft")
		need(4.5, "warn-bg", "ink", "warn")
		need(3, "paper", "mark", "accent", "c0", "c1", "c2")
	}
}
