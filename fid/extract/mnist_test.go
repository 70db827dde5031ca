package extract

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/tensor"
)

// mnistSHA256 pins the weights: a distance measured with them stays comparable.
const mnistSHA256 = "b9202cdfb7ec559b7a1e789dde32029cdbb5388f59c92392af2f748121e770d2"

func TestMNISTWeightsPinned(t *testing.T) {
	if got := fmt.Sprintf("%x", sha256.Sum256(mnistFile)); got != mnistSHA256 {
		t.Errorf("mnist.safetensors has SHA-256 %s; pinned is %s", got, mnistSHA256)
	}
	if len(mnistFile) >= 2<<20 {
		t.Errorf("mnist.safetensors has %d bytes; it is embedded and may have less than 2 MiB", len(mnistFile))
	}
	s, err := tensor.NewSafetensors("mnist", bytes.NewReader(mnistFile), int64(len(mnistFile)))
	if err != nil {
		t.Fatal(err)
	}
	var recipe struct{ Seed, Epochs, Batch int }
	if err := json.Unmarshal([]byte(s.Meta["recipe"]), &recipe); err != nil || recipe.Seed == 0 || recipe.Epochs == 0 || recipe.Batch == 0 {
		t.Errorf("recipe %q of the file: %v %v; want seed, epochs and batch", s.Meta["recipe"], recipe, err)
	}
	if !strings.Contains(s.Meta["rebuild"], "scripts/mnistenc") {
		t.Errorf("the file does not say how to rebuild it: %v", s.Meta)
	}
}

// grey makes an RGB picture of one channel.
func grey(w, h int, at func(x, y int) uint8) *imageio.Image {
	im := &imageio.Image{Width: w, Height: h}
	for y := range h {
		for x := range w {
			v := at(x, y)
			im.Pix = append(im.Pix, v, v, v)
		}
	}
	return im
}

// TestMNISTFormula compares features and class scores with the network of
// docs/encoders.md in float64, on noise, a stroke and black; by the native and
// the pure-Go plan.
func TestMNISTFormula(t *testing.T) {
	w, err := mnistWeights()
	if err != nil {
		t.Fatal(err)
	}
	r := rng.New(1, 1)
	imgs := []*imageio.Image{
		grey(28, 28, func(_, _ int) uint8 { return uint8(r.Intn(256)) }),
		grey(28, 28, func(x, y int) uint8 { return uint8(255 * (1 - min(1, math.Abs(float64(x)-14-float64(y-14)/4)/3))) }),
		grey(28, 28, func(_, _ int) uint8 { return 0 }),
	}
	for _, pure := range []bool{false, true} {
		e, err := Open("mnist", Options{Pure: pure})
		if err != nil {
			t.Fatal(err)
		}
		if i := e.Info(); i.Dim != 64 || i.Name != "mnist" || i.Preset != "native" || i.Note != MNISTNote || i.SHA256 != mnistSHA256 {
			t.Errorf("info %+v", i)
		}
		got := make([]float32, 64*len(imgs))
		if err := e.Features(nil, imgs, got); err != nil {
			t.Fatal(err)
		}
		for k, img := range imgs {
			want := slowMNIST(w, img)
			for i, v := range want {
				if d := math.Abs(float64(got[64*k+i]) - v); !(d <= 2e-5*(1+math.Abs(v))) {
					t.Fatalf("pure %v, image %d, feature %d: %v; the formula gives %v", pure, k, i, got[64*k+i], v)
				}
			}
			z, err := MNISTLogits(got[64*k:][:64])
			if err != nil {
				t.Fatal(err)
			}
			for c := range z {
				s := float64(w["head.bias"][c])
				for i, v := range want {
					s += float64(w["head.weight"][64*c+i]) * max(v, 0)
				}
				if math.Abs(float64(z[c])-s) > 1e-4*(1+math.Abs(s)) {
					t.Errorf("image %d, class %d: score %v; the formula gives %v", k, c, z[c], s)
				}
			}
		}
	}
}

// slowMNIST is the encoder in float64, from the pixels.
func slowMNIST(w mnistParams, img *imageio.Image) []float64 {
	x := make([]float64, 28*28)
	for i := range x {
		x[i] = float64(img.Pix[3*i]) / 255
	}
	conv := func(name string, x []float64, in, n int) []float64 {
		weight, bias := w[name+".weight"], w[name+".bias"]
		out := make([]float64, len(bias)*n*n)
		for o, b := range bias {
			for i := range n * n {
				s := float64(b)
				for c := range in {
					for k := range 9 {
						if y, z := i/n+k/3-1, i%n+k%3-1; y >= 0 && y < n && z >= 0 && z < n {
							s += float64(weight[(o*in+c)*9+k]) * x[(c*n+y)*n+z]
						}
					}
				}
				out[o*n*n+i] = max(s, 0)
			}
		}
		return out
	}
	pool := func(x []float64, c, n int) (out []float64) {
		for p := range c * n / 2 {
			for j := 0; j < n; j += 2 {
				k := 2*p*n + j
				out = append(out, max(x[k], x[k+1], x[k+n], x[k+n+1]))
			}
		}
		return out
	}
	x = pool(conv("conv1", x, 1, 28), 16, 28)
	x = pool(conv("conv2", x, 16, 14), 32, 14)
	x = conv("conv3", x, 32, 7)
	out := make([]float64, 64)
	for o := range out {
		out[o] = float64(w["feat.bias"][o])
		for i, v := range x {
			out[o] += float64(w["feat.weight"][o*len(x)+i]) * v
		}
	}
	return out
}

// TestMNISTPreset: grey pictures of 28x28 arrive as they are; colours by their
// luminance; other sizes resized, of which constant and half-and-half pictures
// are known without a formula.
func TestMNISTPreset(t *testing.T) {
	l, dst := newMNISTLoader(), make([]float32, 28*28)
	l.load(dst, grey(28, 28, func(x, y int) uint8 { return uint8(x*9 + y) }), nil)
	for i, v := range dst {
		if want := float32(uint8(i%28*9+i/28)) / 255; v != want {
			t.Fatalf("pixel %d of a grey 28x28 picture: %v; want exactly %v", i, v, want)
		}
	}
	colour := &imageio.Image{Width: 28, Height: 28}
	for range 28 * 28 {
		colour.Pix = append(colour.Pix, 200, 100, 50)
	}
	l.load(dst, colour, nil)
	if want := (0.299*200 + 0.587*100 + 0.114*50) / 255; math.Abs(float64(dst[5])-want) > 1e-7 {
		t.Errorf("luminance of (200,100,50): %v; want %v", dst[5], want)
	}
	for _, size := range [][2]int{{1, 1}, {3, 200}, {27, 29}, {640, 480}} {
		l.load(dst, grey(size[0], size[1], func(_, _ int) uint8 { return 77 }), nil)
		for i, v := range dst {
			if math.Abs(float64(v)-77.0/255) > 1e-6 {
				t.Fatalf("%dx%d picture of 77s: pixel %d is %v; want %v", size[0], size[1], i, v, 77.0/255)
			}
		}
	}
	l.load(dst, grey(280, 280, func(x, _ int) uint8 { return uint8(255 * (x / 140)) }), nil)
	if dst[10] != 0 || dst[17] != 1 || !(dst[13] > 0 && dst[13] < dst[14] && dst[14] < 1) || math.Abs(float64(dst[13]+dst[14])-1) > 1e-5 {
		t.Errorf("edge in the middle of a 280x280 picture: %v; want 0s, a symmetric rise over the middle, 1s", dst[8:20])
	}
}

func TestMNISTRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		`preset "clean"`: {Preset: "clean"}, `tap "64"`: {Tap: "64"}, "x.pth: the weights of this extractor are built in": {Weights: "x.pth"},
	} {
		if _, err := Open("mnist", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want one with %q", o, err, want)
		}
	}
	if _, err := Open("mnist", Options{Preset: "native"}); err != nil {
		t.Error(err)
	}
}

func BenchmarkMNIST(b *testing.B) {
	e, err := Open("mnist", Options{})
	if err != nil {
		b.Fatal(err)
	}
	n := e.Batch()
	var imgs []*imageio.Image
	for i := range n {
		imgs = append(imgs, grey(28, 28, func(x, y int) uint8 { return uint8(x*y + i) }))
	}
	out := make([][]float32, cpu.Workers())
	for i := range out {
		out[i] = make([]float32, 64*n)
	}
	for b.Loop() {
		cpu.Each(len(out), func(w *cpu.Worker, i int) {
			if err := e.Features(w, imgs, out[i]); err != nil {
				panic(err)
			}
		})
	}
	b.ReportMetric(float64(b.N*n*len(out))/b.Elapsed().Seconds(), "images/s")
}
