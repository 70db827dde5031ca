package extract

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
)

// Latents between two at known angles, in closed form.
func TestBetween(t *testing.T) {
	a, b := []float32{2, 0, 0}, []float32{0, 6, 0}
	const at = 0.25
	c, s := math.Cos(at*math.Pi/2), math.Sin(at*math.Pi/2)
	length := math.Hypot(2*c, 6*s)
	for how, want := range map[string][3]float64{
		"lerp": {1.5, 1.5, 0}, "slerp": {c, s, 0}, "slerp-any": {2 * c, 6 * s, 0}, "slerp-unit": {2 * c / length, 6 * s / length, 0},
	} {
		got := make([]float32, 3)
		between(how, got, a, b, at)
		for i, v := range got {
			if math.Abs(float64(v)-want[i]) > 1e-6 {
				t.Errorf("%s: %v, want %v", how, got, want)
			}
		}
	}
	// Ends of one direction, and none, have no angle: torch-fidelity's ways take the line.
	got := make([]float32, 3)
	between("slerp-any", got, a, []float32{4, 0, 0}, 0.5)
	if !slices.Equal(got, []float32{3, 0, 0}) {
		t.Errorf("%v", got)
	}
	between("slerp-any", got, a, make([]float32, 3), 0.5)
	if !slices.Equal(got, []float32{1, 0, 0}) {
		t.Errorf("%v", got)
	}
	between("slerp", got, a, []float32{4, 0, 0}, 0.5)
	if !(math.Abs(float64(got[0])-1) < 1e-4) {
		t.Errorf("slerp of one direction: %v", got)
	}
}

// Pictures come to the size of the rule: whole factors are means of blocks; 8 bits are cut, not rounded; a crop has its place.
func TestPrepare(t *testing.T) {
	const h, w = 6, 8
	x := make([]float32, 6*h*w)
	for i := range x {
		x[i] = float32(i%97)/48 - 1
	}
	blocks := areas(x, h, w, 3, 4)
	for c := range 6 {
		for y := range 3 {
			for k := range 4 {
				want := float32(0)
				for _, at := range []int{0, 1, w, w + 1} {
					want += x[(c*h+2*y)*w+2*k+at] / 4
				}
				if got := blocks[(c*3+y)*4+k]; math.Abs(float64(got-want)) > 1e-6 {
					t.Fatalf("block %d %d %d: %g, want %g", c, y, k, got, want)
				}
			}
		}
	}
	// A plane that is linear in its place stays so inside under bilinear enlarging, at half-pixel centres.
	for i := range x {
		x[i] = float32(i%w) + 10*float32(i/w%h)
	}
	big := bilinear(x, h, w, 32)
	for y := 8; y < 24; y++ {
		for k := 8; k < 24; k++ {
			want := (float64(k)+0.5)*w/32 - 0.5 + 10*((float64(y)+0.5)*h/32-0.5)
			if got := float64(big[y*32+k]); math.Abs(got-want) > 1e-4 {
				t.Fatalf("at %d %d: %g, want %g", y, k, got, want)
			}
		}
	}
	rule, _ := fid.FindPPLRule("torch-fidelity")
	levels, _, _ := (&PathOptions{Rule: rule}).prepare(slices.Repeat([]float32{0.5, 3, -3, -0.999}, 6*64*64/4), 64, 64, false)
	level := float32(191) // (0.5+1)·127.5 = 191.25
	if got, want := levels[:4], []float32{level/127.5 - 1, 1, -1, -1}; !slices.Equal(got, want) {
		t.Errorf("levels %v, want %v", got, want)
	}
	rule, _ = fid.FindPPLRule("stylegan")
	x = make([]float32, 6*16*16)
	for i := range x {
		x[i] = float32(i % 256)
	}
	cut, ch, cw := (&PathOptions{Rule: rule, Crop: true}).prepare(x, 16, 16, false)
	if ch != 8 || cw != 8 || cut[0] != 6*16+4 || cut[63] != 13*16+11 {
		t.Errorf("crop of %d×%d from %g to %g", cw, ch, cut[0], cut[63])
	}
	x = make([]float32, 6*512*768)
	small, sh, sw := (&PathOptions{Rule: rule}).prepare(x, 512, 768, false)
	if sh != 256 || sw != 384 || len(small) != 6*256*384 {
		t.Errorf("%d×%d", sw, sh)
	}
}

func TestGeneratorRange(t *testing.T) {
	if _, err := OpenGenerator("x.onnx", GeneratorOptions{Range: "percent"}); err == nil || !strings.Contains(err.Error(), `no range "percent" of a generator's pictures; there are signed, unit, levels`) {
		t.Errorf("%v", err)
	}
}
