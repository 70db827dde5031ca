package extract

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/rng"
)

// encoderSHA256 pins the weights: distances measured with them stay comparable.
var encoderSHA256 = map[string]string{
	"city-enc":     "83efcea3388e76fafbc4b1b60d1c8d688d2f8c562bae946f3a1c169f02cffb0c",
	"street-enc":   "06b2ecabbe14465c37d45d26daef15ed5c2b001e416f892a37bfdee5566cf485",
	"digits-enc":   "54ea4a747a3ce9c7ae943ff111d53b15d3b5d23193123c4933c11b6a186c6e54",
	"motion-enc":   "be221c786d3cfbfd5fd608791ea1e1f82c6944d4b85184b277bbc0a0d6cdbc4f",
	"facade-enc":   "e91b0473af239949590076414e0be0c582bb81319f0e1c6a7d263c45d8b0a5e6",
	"shapes-enc-b": "a02e91fa38e7643a833a316cb01bc99d590ebf14aa4102956de13a7ac7f5bab0",
	"city-enc-b":   "00832e18fcafd9f21bc1f1efa3077a1cb7c99414d71dd3da45f1b144a64b5c88",
	"street-enc-b": "ec3ff9ebde5fc1b2b22248a31726b6c2957f69de05558234974a811fb58d37f1",
	"shapes16-enc": "4cf3ef995bcac778648a9514478de1dc4f85e4949a03a35a75ea21434bd07571",
	"shapes-enc":   "1f055d16dc8e4a936a596604be8ebbc9afe4a42dea7b70eb85e2cdbc92a9be6b",
}

// Every embedded file is pinned, small, and says how it is made; every encoder has one.
func TestEncodersPinned(t *testing.T) {
	files, err := encoderFiles.ReadDir("encoders")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".safetensors")
		b, err := encoderFiles.ReadFile("encoders/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != encoderSHA256[name] {
			t.Errorf("%s has SHA-256 %s; pinned is %q", f.Name(), got, encoderSHA256[name])
		}
		if len(b) >= 2<<20 {
			t.Errorf("%s has %d bytes; it is embedded and may have less than 2 MiB", f.Name(), len(b))
		}
		var spec struct{ Name string }
		s, _, err := readEncoder(name, &spec)
		if err != nil {
			t.Fatal(err)
		}
		var recipe struct{ Seed, Epochs, Batch int }
		if err := json.Unmarshal([]byte(s.Meta["recipe"]), &recipe); err != nil || recipe.Seed == 0 || recipe.Epochs == 0 || recipe.Batch == 0 {
			t.Errorf("%s: recipe %q: %v %v; want seed, epochs and batch", name, s.Meta["recipe"], recipe, err)
		}
		if !strings.Contains(s.Meta["rebuild"], "scripts/encoders") || !strings.HasSuffix(s.Meta["rebuild"], " "+name) || spec.Name != name || s.Meta["test"] == "" || s.Meta["arithmetic"] == "" {
			t.Errorf("%s: the file says %q of its name, %v of its making", name, spec.Name, s.Meta)
		}
	}
	for name := range encoderSHA256 {
		if !slices.ContainsFunc(List(), func(e Entry) bool { return e.Name == name && e.Open != nil }) {
			t.Errorf("no extractor %q", name)
		}
	}
	if len(files) != len(encoderSHA256) {
		t.Errorf("%d files, %d pinned", len(files), len(encoderSHA256))
	}
}

// noisePicture is a picture of noise.
func noisePicture(r *rng.Stream, w, h int) *imageio.Image {
	m := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h)}
	for i := range m.Pix {
		m.Pix[i] = uint8(r.Intn(256))
	}
	return m
}

// Features and answers are those of the network in float64, whose formula package tower's tests have.
func TestEncodersInDouble(t *testing.T) {
	for _, known := range pictureEncoders {
		e, err := OpenEncoder(known.name)
		if err != nil {
			t.Fatal(err)
		}
		c, d := e.Spec().Network, e.Info().Dim
		if i := e.Info(); i.Name != known.name || i.Preset != "native" || i.Precision != "fp32" || i.SHA256 != encoderSHA256[known.name] || i.Note != known.name+": not Inception" || i.Dim != 64 {
			t.Errorf("info %+v", i)
		}
		params := nn.NewParams(gpu.CPU(), gpu.Float64)
		net := tower.NewEncoder(params.At(""), c)
		params.Init(0)
		f, _, err := readEncoder(known.name, new(struct{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: params}); err != nil {
			t.Fatal(err)
		}
		r := rng.New(2, 2)
		imgs := []*imageio.Image{
			noisePicture(r, c.Width, c.Height), grey(c.Width, c.Height, func(x, y int) uint8 { return uint8(9*x + 4*y) }), grey(c.Width, c.Height, func(_, _ int) uint8 { return 0 }),
		}
		got := make([]float32, d*len(imgs))
		if err := e.Features(nil, imgs, got); err != nil {
			t.Fatal(err)
		}
		x := gpu.CPU().New(gpu.Float64, len(imgs), c.Channels, c.Height, c.Width)
		for k, m := range imgs {
			for i := range c.Height * c.Width {
				p := m.Pix[3*i:][:3]
				at := x.F64()[k*c.Channels*c.Height*c.Width:]
				if c.Channels == 1 {
					at[i] = (299*float64(p[0])+587*float64(p[1])+114*float64(p[2]))/127500 - 1
					continue
				}
				for ch := range 3 {
					at[ch*c.Height*c.Width+i] = float64(p[ch])/127.5 - 1
				}
			}
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		features := net.Forward(tape.Input(x))
		answers := net.Heads(features).Value().F64()
		for i, v := range features.Value().F64() {
			if !(math.Abs(float64(got[i])-v) <= 2e-5*(1+math.Abs(v))) {
				t.Fatalf("%s: picture %d, feature %d: %v; in float64 %v", known.name, i/d, i%d, got[i], v)
			}
		}
		for k := range imgs {
			for i, v := range e.Answers(got[k*d : (k+1)*d]) {
				if want := answers[k*c.Outputs+i]; !(math.Abs(float64(v)-want) <= 1e-4*(1+math.Abs(want))) {
					t.Fatalf("%s: picture %d, answer %d: %v; in float64 %v", known.name, k, i, v, want)
				}
			}
		}
	}
}

// A vector is a function of its picture alone, to the last bit: of any batch, on any worker, by
// one caller or by many at once.
func TestEncodersAlone(t *testing.T) {
	for _, known := range pictureEncoders {
		e, err := OpenEncoder(known.name)
		if err != nil {
			t.Fatal(err)
		}
		c, d := e.Spec().Network, e.Info().Dim
		r := rng.New(3, 3)
		const n = 40
		var imgs []*imageio.Image
		for range n {
			imgs = append(imgs, noisePicture(r, c.Width, c.Height))
		}
		extracted := func(batch int) []float32 {
			out := make([]float32, n*d)
			cpu.Each((n+batch-1)/batch, func(w *cpu.Worker, i int) {
				lo, hi := i*batch, min((i+1)*batch, n)
				if err := e.Features(w, imgs[lo:hi], out[lo*d:hi*d]); err != nil {
					panic(err)
				}
			})
			return out
		}
		want := make([]float32, n*d)
		for i := range imgs { // outside of any worker
			if err := e.Features(nil, imgs[i:i+1], want[i*d:(i+1)*d]); err != nil {
				t.Fatal(err)
			}
		}
		for _, batch := range []int{1, 7, encoderBatch} {
			if got := extracted(batch); !slices.Equal(got, want) {
				t.Errorf("%s: features by %d pictures at a time are not those of single ones", known.name, batch)
			}
		}
	}
}

// 8-bit pictures of the right size arrive exactly; others are resized, of which constant ones are
// known without a formula; colour becomes luminance where one channel is wanted.
func TestEncoderLoader(t *testing.T) {
	r := rng.New(4, 4)
	for _, c := range []int{1, 3} {
		l, dst := newScaledLoader(c, 16, 32), make([]float32, c*16*32)
		m := noisePicture(r, 32, 16)
		l.load(dst, m, nil)
		for i := range 16 * 32 {
			p := m.Pix[3*i:][:3]
			if c == 1 {
				want := (299*float64(p[0])+587*float64(p[1])+114*float64(p[2]))/127500 - 1
				if math.Abs(float64(dst[i])-want) > 1e-6 {
					t.Fatalf("pixel %d: luminance %v, want %v", i, dst[i], want)
				}
				continue
			}
			for ch := range 3 {
				if want := float32(float64(p[ch])/127.5 - 1); dst[ch*16*32+i] != want {
					t.Fatalf("pixel %d of channel %d: %v, want exactly %v", i, ch, dst[ch*16*32+i], want)
				}
			}
		}
		l.load(dst, grey(32, 16, func(x, y int) uint8 { return uint8(3*x + y) }), nil)
		for i := range 16 * 32 {
			if want := float32(float64(3*(i%32)+i/32)/127.5 - 1); dst[i] != want {
				t.Fatalf("%d channels, pixel %d of a grey picture: %v, want exactly %v", c, i, dst[i], want)
			}
		}
		for _, size := range [][2]int{{1, 1}, {16, 32}, {31, 17}, {640, 480}} {
			l.load(dst, grey(size[0], size[1], func(_, _ int) uint8 { return 77 }), nil)
			for i, v := range dst {
				if math.Abs(float64(v)-(77/127.5-1)) > 1e-6 {
					t.Fatalf("%dx%d picture of 77s: value %d is %v", size[0], size[1], i, v)
				}
			}
		}
	}
}

func TestEncodersRefuse(t *testing.T) {
	for want, o := range map[string]Options{
		`preset "clean"`: {Preset: "clean"}, `tap "64"`: {Tap: "64"}, "built in; leave the file out": {Weights: "x.pth"},
		"bf16": {Precision: plan.BF16}, `no part "logits"`: {Parts: []string{fid.PartLogits}},
	} {
		if _, err := Open("shapes-enc", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want one with %q", o, err, want)
		}
	}
	if _, err := Open("shapes-enc", Options{Preset: "native"}); err != nil {
		t.Error(err)
	}
	if _, err := OpenEncoder("shapes"); err == nil || !strings.Contains(err.Error(), `no encoder "shapes"`) {
		t.Errorf("error %v for an unknown name", err)
	}
	for want, change := range map[string]func(s *EncoderSpec){
		"2 channels":           func(s *EncoderSpec) { s.Network.Channels = 2 },
		"heads have 3":         func(s *EncoderSpec) { s.Network.Outputs = 4 },
		`of kind "other"`:      func(s *EncoderSpec) { s.Heads[0].Kind = "other" },
		"with 0 outputs":       func(s *EncoderSpec) { s.Heads[0].N = 0 },
		"1 views":              func(s *EncoderSpec) { s.Views = 1 },
		"nothing, it is right": nil,
	} {
		s := EncoderSpec{
			Name: "x", Heads: []Head{{"a", Class, 3}},
			Network: tower.EncoderConfig{Channels: 1, Height: 8, Width: 8, Widths: []int{8}, Steps: []int{1}, Dim: 2, Outputs: 3},
		}
		if change == nil {
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			continue
		}
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want one with %q", s, err, want)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	e, err := OpenEncoder("shapes-enc")
	if err != nil {
		b.Fatal(err)
	}
	r := rng.New(5, 5)
	var imgs []*imageio.Image
	for range encoderBatch {
		imgs = append(imgs, noisePicture(r, 32, 32))
	}
	out := make([]float32, encoderBatch*e.Info().Dim)
	for b.Loop() {
		if err := e.Features(nil, imgs, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*encoderBatch)/b.Elapsed().Seconds(), "images/s")
}
