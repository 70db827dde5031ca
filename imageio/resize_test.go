package imageio_test

import (
	"encoding/binary"
	"image/png"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
)

// readPNG reads a test's picture with the standard library.
func readPNG(t testing.TB, path string) *imageio.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	b := m.Bounds()
	out := &imageio.Image{Width: b.Dx(), Height: b.Dy(), Pix: make([]uint8, 0, 3*b.Dx()*b.Dy())}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := m.At(x, y).RGBA()
			out.Pix = append(out.Pix, uint8(r>>8), uint8(g>>8), uint8(bl>>8))
		}
	}
	return out
}

func readF32(t testing.TB, path string) []float32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

type resizeCase struct {
	Op        string  `json:"op"`
	File      *string `json:"file"`
	OutWidth  int     `json:"out_width"`
	OutHeight int     `json:"out_height"`
	Rows      any     `json:"rows"`

	Sum       *float64 `json:"sum_float64_of_all_rows"`
	SumAll    *int64   `json:"sum_of_all"`
	SumRow    *int64   `json:"sum_row_times_index"`
	Max       *float64 `json:"max"`
	Min       *float64 `json:"min"`
	tolerance float64
	unit      bool
}

var filters = []imageio.Filter{imageio.Nearest, imageio.Box, imageio.Bilinear, imageio.Bicubic, imageio.Lanczos}

func (c *resizeCase) kind(t *testing.T) imageio.ResizeKind {
	c.tolerance, c.unit = 2e-5, true
	switch c.Op {
	case "torch_bilinear_ac0_unit":
		return imageio.TorchBilinear
	case "torch_bilinear_ac0_antialias_unit":
		return imageio.TorchBilinearAA
	case "torch_bicubic_ac0_unit":
		return imageio.TorchBicubic
	case "tf1_bilinear_255":
		c.tolerance, c.unit = 5e-3, false
		return imageio.TF1Bilinear
	}
	c.tolerance, c.unit = 1e-4, false
	for _, f := range filters {
		switch c.Op {
		case "pil_float_" + f.String():
			return imageio.PILFloat(f)
		case "pil_u8_" + f.String():
			return imageio.PILU8(f)
		}
	}
	t.Fatalf("no preset for %q", c.Op)
	panic("unreachable")
}

func TestResizeGolden(t *testing.T) {
	var set struct {
		Images []struct {
			Image   string       `json:"image"`
			Results []resizeCase `json:"results"`
		} `json:"images"`
	}
	oracle.GoldenJSON(t, &set, "resize", "cases.json")
	floats, ints := 0, 0
	for _, im := range set.Images {
		img := readPNG(t, oracle.Golden(t, "resize", im.Image))
		for _, c := range im.Results {
			kind := c.kind(t)
			if c.OutWidth == 0 {
				c.OutWidth, c.OutHeight = 299, 299
			}
			r := imageio.NewResizer(kind, c.OutWidth, c.OutHeight)
			name := im.Image + " " + c.Op
			if strings.HasPrefix(c.Op, "pil_u8") {
				checkU8(t, name, r.U8(img), &c)
				ints++
			} else {
				checkFloat(t, name, r, img, &c)
				floats++
			}
		}
	}
	if ints == 0 || floats == 0 {
		t.Fatalf("%d float and %d integer cases ran; want some of each", floats, ints)
	}
	if os.Getenv("FIDLAB_GOLDEN") == "" && (floats != 75 || ints != 55) {
		t.Errorf("%d float and %d integer cases ran; the file has 75 and 55", floats, ints)
	}
}

func checkU8(t *testing.T, name string, got *imageio.Image, c *resizeCase) {
	t.Helper()
	var sum, byRow int64
	for i, v := range got.Pix {
		sum += int64(v)
		byRow += int64(v) * int64(i/(3*got.Width)+1)
	}
	if c.SumAll != nil && sum != *c.SumAll {
		t.Errorf("%s: sum %d, want %d", name, sum, *c.SumAll)
	}
	if c.SumRow != nil && byRow != *c.SumRow {
		t.Errorf("%s: sum by row %d, want %d", name, byRow, *c.SumRow)
	}
	if c.File == nil {
		if c.SumAll == nil || c.SumRow == nil {
			t.Errorf("%s: nothing to compare with", name)
		}
		return
	}
	want := readPNG(t, oracle.Golden(t, "resize", *c.File))
	bad := 0
	for i, v := range want.Pix {
		if got.Pix[i] != v {
			bad++
		}
	}
	if bad > 0 {
		t.Errorf("%s: %d of %d values differ", name, bad, len(want.Pix))
	}
}

func checkFloat(t *testing.T, name string, r *imageio.Resizer, img *imageio.Image, c *resizeCase) {
	t.Helper()
	w, h := c.OutWidth, c.OutHeight
	dst := make([]float32, 3*w*h)
	scale := float32(1)
	if c.unit {
		scale = 1. / 255
	}
	r.Into(dst, img, scale, 0, nil)
	rows := make([]int, 0, h)
	if list, ok := c.Rows.([]any); ok {
		for _, y := range list {
			rows = append(rows, int(y.(float64)))
		}
	} else {
		for y := range h {
			rows = append(rows, y)
		}
	}
	want := readF32(t, oracle.Golden(t, "resize", *c.File))
	if len(want) != len(rows)*w*3 {
		t.Fatalf("%s: %d golden values for %d rows of %d", name, len(want), len(rows), w)
	}
	worst := 0.0
	for i, y := range rows {
		for x := range w {
			for ch := range 3 {
				g, v := dst[ch*w*h+y*w+x], want[(i*w+x)*3+ch]
				worst = max(worst, math.Abs(float64(g)-float64(v)))
			}
		}
	}
	if !(worst <= c.tolerance) {
		t.Errorf("%s: off by %.3g, tolerance %.3g", name, worst, c.tolerance)
	}
	if c.Sum == nil {
		return
	}
	sum, lo, hi := 0.0, math.Inf(1), math.Inf(-1)
	for _, v := range dst {
		sum += float64(v)
		lo, hi = min(lo, float64(v)), max(hi, float64(v))
	}
	if d := math.Abs(sum-*c.Sum) / float64(len(dst)); d > c.tolerance {
		t.Errorf("%s: mean is off by %.3g, tolerance %.3g", name, d, c.tolerance)
	}
	if math.Abs(lo-*c.Min) > c.tolerance || math.Abs(hi-*c.Max) > c.tolerance {
		t.Errorf("%s: range [%g, %g], want [%g, %g]", name, lo, hi, *c.Min, *c.Max)
	}
}

// The pass order of Pillow 13 and, on the same pictures, that it matters.
func TestResizePillow13Golden(t *testing.T) {
	var set struct {
		Results []struct {
			Image         string `json:"image"`
			Filter        string `json:"filter"`
			OutWidth      int    `json:"out_width"`
			OutHeight     int    `json:"out_height"`
			File          string `json:"file"`
			VerticalFirst bool   `json:"vertical_first"`
		} `json:"results"`
	}
	oracle.GoldenJSON(t, &set, "resize", "pillow13.json")
	if len(set.Results) == 0 {
		t.Fatal("no cases")
	}
	differ := 0
	for _, c := range set.Results {
		var filter imageio.Filter
		for _, f := range filters {
			if f.String() == c.Filter {
				filter = f
			}
		}
		img := readPNG(t, oracle.Golden(t, "resize", c.Image))
		want := readPNG(t, oracle.Golden(t, "resize", c.File))
		old := imageio.PILU8(filter)
		got := imageio.NewResizer(old.Pillow13(), c.OutWidth, c.OutHeight).U8(img)
		if string(got.Pix) != string(want.Pix) {
			t.Errorf("%s to %dx%d %s differs", c.Image, c.OutWidth, c.OutHeight, c.Filter)
		}
		before := imageio.NewResizer(old, c.OutWidth, c.OutHeight).U8(img)
		if string(before.Pix) != string(want.Pix) {
			differ++
			if !c.VerticalFirst {
				t.Errorf("%s %s: horizontal first, yet the older order differs", c.Image, c.Filter)
			}
		}
		// In floats both orders agree with the formula, so with each other.
		a := make([]float32, 3*c.OutWidth*c.OutHeight)
		b := make([]float32, len(a))
		imageio.NewResizer(imageio.PILFloat(filter), c.OutWidth, c.OutHeight).Into(a, img, 1, 0, nil)
		imageio.NewResizer(imageio.PILFloat(filter).Pillow13(), c.OutWidth, c.OutHeight).Into(b, img, 1, 0, nil)
		for i := range a {
			if math.Abs(float64(a[i]-b[i])) > 1e-4 {
				t.Errorf("%s %s: float orders differ by %g", c.Image, c.Filter, a[i]-b[i])
				break
			}
		}
	}
	if differ == 0 {
		t.Error("the pass order changed no result: the cases test nothing")
	}
}

// Scale and offset, a shared scratch and a pooled one: the same bits.
func TestResizeScaleAndScratch(t *testing.T) {
	img := readPNG(t, oracle.Golden(t, "resize", "img0_37x53.png"))
	for _, kind := range []imageio.ResizeKind{
		imageio.PILFloat(imageio.Bicubic), imageio.PILFloat(imageio.Lanczos).Pillow13(),
		imageio.PILU8(imageio.Bilinear), imageio.PILU8(imageio.Lanczos).Pillow13(), imageio.TF1Bilinear,
	} {
		var s imageio.Scratch
		for _, size := range [][2]int{{9, 70}, {70, 9}, {53, 37}, {1, 1}} {
			r := imageio.NewResizer(kind, size[0], size[1])
			plain := make([]float32, 3*size[0]*size[1])
			fused := make([]float32, len(plain))
			r.Into(plain, img, 1, 0, nil)
			r.Into(fused, img, 1./128, -1, &s)
			for i, v := range plain {
				if want := float32(v*(1./128)) - 1; fused[i] != want {
					t.Fatalf("%v %v: value %d is %v, want %v", kind, size, i, fused[i], want)
				}
			}
			if n := testing.AllocsPerRun(5, func() { r.Into(fused, img, 1, 0, &s) }); n > 2 {
				t.Errorf("%v %v: %v allocations a picture", kind, size, n)
			}
		}
	}
}

func TestResizeOnePixel(t *testing.T) {
	img := &imageio.Image{Width: 1, Height: 1, Pix: []uint8{7, 100, 255}}
	for _, kind := range []imageio.ResizeKind{
		imageio.PILFloat(imageio.Lanczos), imageio.PILU8(imageio.Bicubic), imageio.TorchBilinear,
		imageio.TorchBilinearAA, imageio.TorchBicubic, imageio.TorchBicubicAA, imageio.TF1Bilinear,
	} {
		dst := make([]float32, 3*5*4)
		imageio.NewResizer(kind, 5, 4).Into(dst, img, 1, 0, nil)
		for i, v := range dst {
			if want := float32(img.Pix[i/20]); math.Abs(float64(v-want)) > 2e-5 {
				t.Fatalf("%v: value %d = %v, want %v", kind, i, v, want)
			}
		}
	}
}

func BenchmarkResize(b *testing.B) {
	for _, size := range []int{256, 512} {
		img := &imageio.Image{Width: size, Height: size, Pix: make([]uint8, 3*size*size)}
		for i := range img.Pix {
			img.Pix[i] = uint8(i * 7 >> 2)
		}
		for _, kind := range []imageio.ResizeKind{
			imageio.PILFloat(imageio.Bicubic), imageio.PILU8(imageio.Bicubic), imageio.TorchBilinear,
		} {
			b.Run(kind.String()+"/"+map[int]string{256: "256to299", 512: "512to299"}[size], func(b *testing.B) {
				r := imageio.NewResizer(kind, 299, 299)
				dst := make([]float32, 3*299*299)
				var s imageio.Scratch
				for b.Loop() {
					r.Into(dst, img, 1, 0, &s)
				}
			})
		}
	}
}
