package imageio_test

import (
	"image"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// wavy is a 256² picture of waves with noise of 12 levels.
func wavy() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, 256, 256))
	seed := uint32(1)
	noise := func() float64 { // twelve uniforms: variance one
		var sum float64
		for range 12 {
			seed = seed*1664525 + 1013904223
			sum += float64(seed>>8) / (1 << 24)
		}
		return sum - 6
	}
	for y := range 256 {
		for x := range 256 {
			for c := range 3 {
				v := 127 + 90*math.Sin(float64(x*(c+2)+y*(4-c))/50) + 12*noise()
				m.Pix[m.PixOffset(x, y)+c] = uint8(min(max(v, 0), 255))
			}
			m.Pix[m.PixOffset(x, y)+3] = 255
		}
	}
	return m
}

// BenchmarkDecodeResize decodes and resizes 256² to 299² as clean-fid does, one
// picture an operation on one core. FIDLAB_BENCH_DIR names a folder of .png and
// .jpg files that scripts/bench/decode.py times the peers with.
func BenchmarkDecodeResize(b *testing.B) {
	data := map[string][][]byte{"png": {pngBytes(b, wavy())}, "jpg": {jpegBytes(b, wavy())}}
	if dir := os.Getenv("FIDLAB_BENCH_DIR"); dir != "" {
		for ext := range data {
			files, err := filepath.Glob(filepath.Join(dir, "*."+ext))
			if err != nil || len(files) == 0 {
				b.Fatalf("no .%s files in %s (%v)", ext, dir, err)
			}
			data[ext] = nil
			for _, f := range files {
				d, err := os.ReadFile(f)
				if err != nil {
					b.Fatal(err)
				}
				data[ext] = append(data[ext], d)
			}
		}
	}
	r := imageio.NewResizer(imageio.PILFloat(imageio.Bicubic), 299, 299)
	dst := make([]float32, 3*299*299)
	var s imageio.Scratch
	for _, ext := range []string{"png", "jpg"} {
		b.Run(ext, func(b *testing.B) {
			cpu.Do(func(w *cpu.Worker) {
				for i := 0; b.Loop(); i++ {
					m, err := imageio.DecodeOn(w, data[ext][i%len(data[ext])], imageio.DecodeOptions{})
					if err != nil {
						b.Error(err)
						return
					}
					r.Into(dst, m, 1./128, -1, &s)
				}
			})
		})
	}
}
