package extract

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// picture is noise over a gradient, w by h.
func picture(seed uint64, w, h int) *imageio.Image {
	r := rand.New(rand.NewPCG(seed, 7))
	img := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h)}
	for i := range img.Pix {
		img.Pix[i] = uint8(i*200/len(img.Pix)) + uint8(r.IntN(56))
	}
	return img
}

func openT(t testing.TB, name string, o Options) fid.Extractor {
	t.Helper()
	e, err := Open(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// features extracts imgs in groups, on all workers.
func features(t testing.TB, e fid.Extractor, imgs []*imageio.Image, group int) []float32 {
	t.Helper()
	d := e.Info().Dim
	out := make([]float32, len(imgs)*d)
	groups := (len(imgs) + group - 1) / group
	errs := make([]error, groups)
	cpu.Each(groups, func(w *cpu.Worker, g int) {
		part := imgs[g*group : min(g*group+group, len(imgs))]
		errs[g] = e.Features(w, part, out[g*group*d:][:len(part)*d])
	})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func sameBits(t *testing.T, what string, a, b []float32) {
	t.Helper()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: value %d is %g and %g", what, i, a[i], b[i])
		}
	}
}

// TestGroupingDoesNotMatter asks for equal bits however images are grouped,
// whichever worker runs and whatever else runs beside.
func TestGroupingDoesNotMatter(t *testing.T) {
	e := openT(t, "random", Options{Tap: "192"})
	var imgs []*imageio.Image
	for i := range 11 {
		imgs = append(imgs, picture(uint64(i), 40+7*i, 90-5*i))
	}
	want := features(t, e, imgs, 1)
	for _, group := range []int{3, 8} {
		sameBits(t, "groups", features(t, e, imgs, group), want)
	}
	alone := make([]float32, e.Info().Dim)
	if err := e.Features(nil, imgs[4:5], alone); err != nil {
		t.Fatal(err)
	}
	sameBits(t, "alone", alone, want[4*e.Info().Dim:])
}

func TestRandomInfo(t *testing.T) {
	i := openT(t, "random", Options{Preset: "clean"}).Info()
	if i.Name != "random" || i.Dim != 2048 || i.Preset != "clean" || i.Precision != "fp32" || i.Note != RandomNote || len(i.SHA256) != 64 {
		t.Errorf("info is %+v", i)
	}
	j := openT(t, "random", Options{Salt: "x", Tap: "logits"}).Info()
	if j.SHA256 == i.SHA256 || j.Dim != 1008 || j.Name != "random:logits" || j.Preset != "pytorch-fid" {
		t.Errorf("info is %+v", j)
	}
}

func TestPixels(t *testing.T) {
	img := &imageio.Image{Width: 32, Height: 32, Pix: make([]uint8, 3*32*32)}
	for y := range 32 {
		for x := range 32 {
			img.Pix[3*(32*y+x)] = uint8(x/2 + 10*(y/2)) // constant in boxes of 2x2
			img.Pix[3*(32*y+x)+2] = uint8(x % 2 * 100)  // mean 50
		}
	}
	got := features(t, openT(t, "pixels", Options{}), []*imageio.Image{img}, 1)
	for y := range 16 {
		for x := range 16 {
			for c, want := range []float64{float64(x + 10*y), 0, 50} {
				if v := got[(c*16+y)*16+x]; math.Abs(float64(v)-want/255) > 1e-6 {
					t.Fatalf("channel %d at %d,%d is %g; want %g", c, x, y, v, want/255)
				}
			}
		}
	}
}

func TestIdentity(t *testing.T) {
	e := openT(t, "identity", Options{Width: 5, Height: 3})
	img := picture(1, 5, 3)
	got := features(t, e, []*imageio.Image{img, img}, 2)
	for i, v := range got {
		if want := float32(img.Pix[i%45]) / 255; v != want {
			t.Fatalf("value %d is %g; want %g", i, v, want)
		}
	}
	if err := e.Features(nil, []*imageio.Image{picture(1, 3, 5)}, make([]float32, 45)); err == nil || !strings.Contains(err.Error(), "3x5") {
		t.Errorf("error is %v; want one that names 3x5", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for want, o := range map[string]struct {
		name string
		o    Options
	}{
		`no extractor "vgg"; there are city-enc, city-enc-b, clip-vit-b16,`: {"vgg", Options{}},
		`no preset "x"; there are pytorch-fid, clean, tf`:                   {"random", Options{Preset: "x"}},
		`no tap "5"; there are 192`:                                         {"random", Options{Tap: "5"}},
		"want the width and height":                                         {"identity", Options{}},
		"have 12288 values; want at most 4096":                              {"identity", Options{Width: 64, Height: 64}},
		`preset "clean" is for the Inception network; leave it out`:         {"pixels", Options{Preset: "clean"}},
		`tap "64" is for the Inception network`:                             {"identity", Options{Tap: "64"}},
		"w.pth: there are no weights to read":                               {"pixels", Options{Weights: "w.pth"}},
	} {
		if _, err := Open(o.name, o.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v; want one with %q", o.name, err, want)
		}
	}
}

func TestRegisterPanicsOnTakenName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Register(Entry{Name: "pixels", Open: openIdentity})
}

func TestFeaturesAllocateNothing(t *testing.T) {
	for _, name := range []string{"random", "pixels"} {
		e := openT(t, name, Options{Batch: 2, Tap: map[string]string{"random": "64"}[name]})
		imgs := []*imageio.Image{picture(1, 64, 48), picture(2, 64, 48)}
		out := make([]float32, 2*e.Info().Dim)
		cpu.Do(func(w *cpu.Worker) {
			if n := testing.AllocsPerRun(2, func() {
				if err := e.Features(w, imgs, out); err != nil {
					panic(err)
				}
			}); n != 0 {
				t.Errorf("%s: %g allocations a call; want 0", name, n)
			}
		})
	}
}
