package ops_test

import (
	"encoding/binary"
	"image/png"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var resizeFilters = []imageio.Filter{imageio.Nearest, imageio.Box, imageio.Bilinear, imageio.Bicubic, imageio.Lanczos}

// resizeKind is the way that the golden files call op, and the scale of its values.
func resizeKind(t *testing.T, op string) (kind imageio.ResizeKind, scale float32, tolerance float64) {
	switch op {
	case "torch_bilinear_ac0_unit":
		return imageio.TorchBilinear, 1. / 255, 2e-5
	case "torch_bilinear_ac0_antialias_unit":
		return imageio.TorchBilinearAA, 1. / 255, 2e-5
	case "torch_bicubic_ac0_unit":
		return imageio.TorchBicubic, 1. / 255, 2e-5
	case "tf1_bilinear_255":
		return imageio.TF1Bilinear, 1, 5e-3
	}
	for _, f := range resizeFilters {
		switch op {
		case "pil_float_" + f.String():
			return imageio.PILFloat(f), 1, 1e-4
		case "pil_u8_" + f.String():
			return imageio.PILU8(f), 1, 0
		}
	}
	t.Fatalf("no preset for %q", op)
	panic("unreachable")
}

func goldenPicture(t *testing.T, name string) (pix []uint8, w, h int) {
	t.Helper()
	f, err := os.Open(oracle.Golden(t, "resize", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := m.At(x, y).RGBA()
			pix = append(pix, uint8(r>>8), uint8(g>>8), uint8(bl>>8))
		}
	}
	return pix, b.Dx(), b.Dy()
}

// The peers' own results: every preset, enlarged and shrunk.
func TestResizerGolden(t *testing.T) {
	var set struct {
		Images []struct {
			Image   string `json:"image"`
			Results []struct {
				Op        string  `json:"op"`
				File      *string `json:"file"`
				OutWidth  int     `json:"out_width"`
				OutHeight int     `json:"out_height"`
				Rows      any     `json:"rows"`
			} `json:"results"`
		} `json:"images"`
	}
	oracle.GoldenJSON(t, &set, "resize", "cases.json")
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		floats, bytes := 0, 0
		for _, im := range set.Images {
			pix, w, h := goldenPicture(t, im.Image)
			for _, c := range im.Results {
				if c.File == nil {
					continue // only sums are known; package imageio's test has them
				}
				if c.OutWidth == 0 {
					c.OutWidth, c.OutHeight = 299, 299
				}
				kind, scale, tolerance := resizeKind(t, c.Op)
				r := ops.NewResizer(dev, kind, w, h, c.OutWidth, c.OutHeight)
				in := dev.FromUint8(slices.Concat(make([]uint8, len(pix)), pix), 2, h, w, 3) // a black one before it
				name := im.Image + " " + c.Op
				if strings.HasPrefix(c.Op, "pil_u8") {
					out := dev.New(gpu.Uint8, 2, c.OutHeight, c.OutWidth, 3)
					r.U8(out, in)
					want, _, _ := goldenPicture(t, *c.File)
					got, err := out.Rows(1, 2).Floats()
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range want {
						if got[i] != float32(v) {
							t.Errorf("%s: value %d is %g, want %d", name, i, got[i], v)
							break
						}
					}
					bytes++
					continue
				}
				out := dev.Empty(2, 3, c.OutHeight, c.OutWidth)
				r.Float(out, in, scale, 0)
				got, err := out.Rows(1, 2).Floats()
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(oracle.Golden(t, "resize", *c.File))
				if err != nil {
					t.Fatal(err)
				}
				rows := make([]int, c.OutHeight)
				for i := range rows {
					rows[i] = i
				}
				if list, ok := c.Rows.([]any); ok {
					rows = rows[:0]
					for _, y := range list {
						rows = append(rows, int(y.(float64)))
					}
				}
				worst := 0.0
				for i := range len(b) / 4 {
					ch, x, y := i%3, i/3%c.OutWidth, rows[i/3/c.OutWidth]
					want := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
					d := math.Abs(float64(got[(ch*c.OutHeight+y)*c.OutWidth+x]) - float64(want))
					if !(d <= worst) {
						worst = d
					}
				}
				if !(worst <= tolerance) {
					t.Errorf("%s: off by %.3g, tolerance %.3g", name, worst, tolerance)
				}
				floats++
			}
		}
		if floats == 0 || bytes == 0 {
			t.Errorf("%d cases in floats and %d in bytes ran; want some of each", floats, bytes)
		}
	})
}

// Both pass orders, tiles' edges, wide windows: the bits of package imageio.
func TestResizerBits(t *testing.T) {
	kinds := []imageio.ResizeKind{imageio.TorchBilinear, imageio.TorchBilinearAA, imageio.TorchBicubic, imageio.TF1Bilinear}
	for _, f := range resizeFilters {
		kinds = append(kinds, imageio.PILFloat(f), imageio.PILFloat(f).Pillow13(), imageio.PILU8(f), imageio.PILU8(f).Pillow13())
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, kind := range kinds {
			for _, c := range [][4]int{{1, 1, 3, 2}, {33, 7, 31, 33}, {20, 90, 19, 11}, {70, 5, 3, 40}} {
				w, h, ow, oh := c[0], c[1], c[2], c[3]
				pix := make([]uint8, 2*3*w*h)
				for i := range pix {
					pix[i] = uint8(i * i >> 3)
				}
				r := ops.NewResizer(dev, kind, w, h, ow, oh)
				out := dev.Empty(2, 3, oh, ow)
				r.Float(out, dev.FromUint8(slices.Clone(pix), 2, h, w, 3), 1./127, -0.75)
				got, err := out.Floats()
				if err != nil {
					t.Fatal(err)
				}
				want := make([]float32, len(got))
				host := imageio.NewResizer(kind, ow, oh)
				for b := range 2 {
					host.Into(want[b*3*ow*oh:][:3*ow*oh], &imageio.Image{Width: w, Height: h, Pix: pix[b*3*w*h:][:3*w*h]}, 1./127, -0.75, nil)
				}
				for i := range want {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Errorf("%v %v: value %d is %v, want %v", kind, c, i, got[i], want[i])
						break
					}
				}
			}
		}
	})
}

func TestResizerRefuses(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := ops.NewResizer(dev, imageio.PILFloat(imageio.Bicubic), 4, 3, 2, 2)
		pix := dev.New(gpu.Uint8, 2, 3, 4, 3)
		r.Float(dev.Empty(0, 3, 2, 2), dev.New(gpu.Uint8, 0, 3, 4, 3), 1, 0) // no pictures are fine
		mustPanic(t, "size", "imageio: Plan", func() { ops.NewResizer(dev, imageio.TorchBilinear, 0, 3, 2, 2) })
		mustPanic(t, "no 8-bit result", "ops: Resizer: U8", func() { r.U8(dev.New(gpu.Uint8, 2, 2, 2, 3), pix) })
		mustPanic(t, "pictures", "ops: Resizer: Float: the pictures", func() { r.Float(dev.Empty(2, 3, 2, 2), dev.New(gpu.Uint8, 2, 4, 3, 3), 1, 0) })
		mustPanic(t, "output", "ops: Resizer: Float: the output", func() { r.Float(dev.Empty(2, 2, 2, 3), pix, 1, 0) })
		if dev.CUDA() {
			mustPanic(t, "device", "ops: Resizer", func() { r.Float(gpu.CPU().Empty(2, 3, 2, 2), gpu.CPU().New(gpu.Uint8, 2, 3, 4, 3), 1, 0) })
		}
	})
}
