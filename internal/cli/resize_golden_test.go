package cli

import (
	"encoding/binary"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// The command's array has the peers' pixels in the place where its help says.
func TestResizeCommandGolden(t *testing.T) {
	var golden struct {
		Images []struct {
			Image   string
			Results []struct {
				Op     string
				File   string
				Width  int `json:"out_width"`
				Height int `json:"out_height"`
				Rows   any
			}
		}
	}
	oracle.GoldenJSON(t, &golden, "resize", "cases.json")
	presets := map[string]struct {
		name       string
		unit, atol float64 // the golden scale, and its tolerance on 0..255
	}{
		"pil_float_bicubic": {"clean", 1, 1e-4}, "pil_u8_lanczos": {"pil-u8-lanczos", 1, 0},
		"torch_bilinear_ac0_unit": {"pytorch-fid", 255, 2e-5 * 255}, "tf1_bilinear_255": {"tf", 1, 5e-3},
	}
	cases := 0
	for _, img := range golden.Images[:2] {
		for _, r := range img.Results {
			p, ok := presets[r.Op]
			if !ok || r.File == "" || r.Rows != "all" && strings.HasSuffix(r.File, ".f32") {
				continue
			}
			cases++
			w, h := max(r.Width, 1), max(r.Height, 1)
			if r.Width == 0 {
				w, h = 299, 299
			}
			out := filepath.Join(t.TempDir(), "out.npy")
			a, _, stderr, _ := testApp()
			args := []string{"resize", oracle.Golden(t, "resize", img.Image), "--preset", p.name, "--size", fmt.Sprintf("%dx%d", w, h), "-o", out}
			if code := Main(args, a.env); code != 0 {
				t.Fatalf("%v: exit code %d\n%s", args, code, stderr)
			}
			got, err := tensor.ReadNPY(out)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Shape, []int{1, h, w, 3}) {
				t.Fatalf("%s: shape %v, want [1 %d %d 3]", r.File, got.Shape, h, w)
			}
			want := goldenPixels(t, oracle.Golden(t, "resize", r.File))
			if len(want) != got.Len() {
				t.Fatalf("%s: %d values, want %d", r.File, got.Len(), len(want))
			}
			worst := 0.0
			for i, v := range got.F32() {
				worst = max(worst, math.Abs(float64(v)-p.unit*want[i]))
			}
			if !(worst <= p.atol) {
				t.Errorf("%s: off by %g, want <= %g", r.File, worst, p.atol)
			}
		}
	}
	if cases < 10 {
		t.Errorf("ran %d cases, want at least 10", cases)
	}
}

// goldenPixels reads an HWC float32 file or a PNG.
func goldenPixels(t *testing.T, path string) []float64 {
	t.Helper()
	var out []float64
	if filepath.Ext(path) == ".f32" {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(b) >= 4; b = b[4:] {
			out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
		}
		return out
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			r, g, b, _ := m.At(x, y).RGBA()
			out = append(out, float64(r>>8), float64(g>>8), float64(b>>8))
		}
	}
	return out
}
