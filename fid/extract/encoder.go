package extract

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

// encoderFiles have the weights that scripts/encoders trained, with the network, its heads and
// the recipe that rebuilds them in their remarks.
//
//go:embed encoders/*.safetensors
var encoderFiles embed.FS

// EncoderNote labels every result of the encoder of that name.
func EncoderNote(name string) string { return name + ": not Inception" }

// pictureEncoders are the encoders of pictures and what they are for.
var pictureEncoders = []struct{ name, summary string }{
	{"shapes-enc", "64 features of scenes of coloured objects, built in: for the set shapes"},
	{"shapes-enc-b", "as shapes-enc, trained apart: for who trains towards the other"},
	{"shapes16-enc", "64 features of single coloured objects of 16x16, built in: for the set shapes16"},
	{"digits-enc", "64 features of digits of 8x8, built in: for the set digits"},
	{"city-enc", "64 features of footprints of buildings, built in: for the set city"},
	{"city-enc-b", "as city-enc, trained apart: for who trains towards the other"},
	{"street-enc", "64 features of each view of a street, built in: for the set street"},
	{"street-enc-b", "as street-enc, trained apart: for who trains towards the other"},
	{"facade-enc", "64 features of fronts of buildings, built in: for the set facades"},
}

func init() {
	for _, e := range pictureEncoders {
		Register(Entry{
			Name: e.name, Summary: e.summary, Source: "scripts/encoders, docs/encoders.md",
			Open: func(o Options) (fid.Extractor, error) { return openPictureEncoder(e.name, o) },
		})
	}
}

// HeadKind is what a head of an encoder answers.
type HeadKind string

// The kinds of heads.
const (
	Class  HeadKind = "class"  // one of N: the outputs are logits of a softmax
	Flags  HeadKind = "flags"  // N times yes or no: the outputs are logits of a sigmoid
	Number HeadKind = "number" // N numbers, scaled to the order of 1
)

// Head is a question that an encoder was trained to answer from its features. It has N outputs.
type Head struct {
	Name string   `json:"name"`
	Kind HeadKind `json:"kind"`
	N    int      `json:"n"`
}

// EncoderSpec is what the file of an encoder of pictures says of it.
type EncoderSpec struct {
	Name    string              `json:"name"`
	Network tower.EncoderConfig `json:"network"`
	Heads   []Head              `json:"heads"`
	// Views is how many pictures of the network's size, side by side, a picture may be cut into;
	// 0: it is none.
	Views int `json:"views,omitempty"`
}

// Outputs is the number of outputs of all heads.
func Outputs(heads []Head) int {
	n := 0
	for _, h := range heads {
		n += h.N
	}
	return n
}

// Check says what is wrong with a specification.
func (s *EncoderSpec) Check() error {
	if err := s.Network.Check(); err != nil {
		return err
	}
	if c := s.Network.Channels; c != 1 && c != 3 {
		return fmt.Errorf("extract: encoder %s: %d channels, want 1 or 3", s.Name, c)
	}
	if s.Views < 0 || s.Views == 1 {
		return fmt.Errorf("extract: encoder %s: %d views, want 0 or at least 2", s.Name, s.Views)
	}
	return checkHeads(s.Name, s.Heads, s.Network.Outputs)
}

func checkHeads(name string, heads []Head, outputs int) error {
	for _, h := range heads {
		if h.Kind != Class && h.Kind != Flags && h.Kind != Number || h.N < 1 {
			return fmt.Errorf("extract: encoder %s: head %q is of kind %q with %d outputs", name, h.Name, h.Kind, h.N)
		}
	}
	if n := Outputs(heads); n != outputs {
		return fmt.Errorf("extract: encoder %s: heads have %d outputs, the network has %d", name, n, outputs)
	}
	return nil
}

// Encoder is an encoder of pictures that this project trained: a fid.Extractor whose features also
// answer its heads. Pictures go through the network one by one, so that a vector depends on its
// picture alone.
type Encoder struct {
	spec   EncoderSpec
	info   fid.ExtractorInfo
	net    *tower.Encoder
	loader *scaledLoader

	mu   sync.Mutex
	idle []*encoderScratch
}

// encoderScratch is the memory of one Features call in flight.
type encoderScratch struct {
	tape   *nn.Tape
	x      *gpu.Tensor // [1, C, H, W]
	resize imageio.Scratch
}

// encoderBatch is how many pictures a call takes; features do not depend on it.
const encoderBatch = 32

// readEncoder opens an embedded file and decodes what it says under a key.
func readEncoder(name string, spec any) (*tensor.Safetensors, []byte, error) {
	file := name + ".safetensors"
	b, err := encoderFiles.ReadFile("encoders/" + file)
	if err != nil {
		return nil, nil, fmt.Errorf("extract: no encoder %q is built in: %w", name, err)
	}
	f, err := tensor.NewSafetensors(file+" (embedded)", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal([]byte(f.Meta["encoder"]), spec); err != nil {
		return nil, nil, fmt.Errorf("extract: %s (embedded): remark encoder: %w", file, err)
	}
	return f, b, nil
}

// OpenEncoder makes the built-in encoder of that name, one of pictures.
func OpenEncoder(name string) (*Encoder, error) {
	var spec EncoderSpec
	f, b, err := readEncoder(name, &spec)
	if err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := tower.NewEncoder(params.At(""), spec.Network)
	params.Init(0)
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: params}); err != nil {
		return nil, err
	}
	return NewEncoder(spec, params, net, fmt.Sprintf("%x", sha256.Sum256(b))), nil
}

// NewEncoder makes an encoder of a network, for who trains one. sha256 says which weights it has.
// It panics where the specification's Check has an error.
func NewEncoder(spec EncoderSpec, params *nn.Params, net *tower.Encoder, sha256 string) *Encoder {
	if err := spec.Check(); err != nil {
		panic(err.Error())
	}
	params.Freeze(true)
	c := spec.Network
	return &Encoder{
		spec: spec, net: net, loader: newScaledLoader(c.Channels, c.Height, c.Width),
		info: fid.ExtractorInfo{
			Name: spec.Name, SHA256: sha256, Dim: c.Dim, Preset: "native", Precision: plan.F32.String(), Note: EncoderNote(spec.Name),
		},
	}
}

// refuseOptions refuses what a built-in encoder has not.
func refuseOptions(o Options) error {
	switch {
	case o.Preset != "" && o.Preset != "native":
		return fmt.Errorf("preset %q is for the Inception network; leave it out or say native", o.Preset)
	case o.Tap != "":
		return fmt.Errorf("tap %q is for the Inception network; leave it out", o.Tap)
	case o.Weights != "":
		return fmt.Errorf("%s: the weights of this extractor are built in; leave the file out", o.Weights)
	case o.Precision != plan.F32:
		return fmt.Errorf("precision %s: this extractor computes in fp32 alone", o.Precision)
	case len(o.Parts) > 0:
		return fmt.Errorf("this extractor has no part %q; the metric that needs it takes --features mnist or inception", o.Parts[0])
	}
	return nil
}

func openPictureEncoder(name string, o Options) (fid.Extractor, error) {
	if err := refuseOptions(o); err != nil {
		return nil, err
	}
	return OpenEncoder(name)
}

// Info implements fid.Extractor.
func (e *Encoder) Info() fid.ExtractorInfo { return e.info }

// Batch implements fid.Extractor.
func (e *Encoder) Batch() int { return encoderBatch }

// Spec is what the encoder was made of.
func (e *Encoder) Spec() EncoderSpec { return e.spec }

// Cut implements fid.Cutter: a picture as wide as all views and no higher than one is cut into
// them from left to right; any other is one view.
func (e *Encoder) Cut(img *imageio.Image) []*imageio.Image {
	n, c := e.spec.Views, e.spec.Network
	if n == 0 || img.Width%n != 0 || img.Width/n*c.Height != img.Height*c.Width {
		return []*imageio.Image{img}
	}
	w := img.Width / n
	out := make([]*imageio.Image, n)
	for k := range out {
		v := &imageio.Image{Width: w, Height: img.Height, Pix: make([]uint8, 0, 3*w*img.Height), Facts: img.Facts}
		for y := range img.Height {
			v.Pix = append(v.Pix, img.Pix[3*(y*img.Width+k*w):][:3*w]...)
		}
		out[k] = v
	}
	return out
}

// Features implements fid.Extractor.
func (e *Encoder) Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	mustFit(e.info, e.info.Dim, encoderBatch, imgs, out)
	if w == nil {
		var err error
		cpu.Do(func(w *cpu.Worker) { err = e.Features(w, imgs, out) })
		return err
	}
	s := e.take()
	defer e.give(s)
	d := e.info.Dim
	for i, img := range imgs {
		e.loader.load(s.x.F32(), img, &s.resize)
		s.tape.Run(func() {
			s.tape.NoGrad(func() { copy(out[i*d:(i+1)*d], e.net.Forward(s.tape.Input(s.x)).Value().F32()) })
		})
	}
	return nil
}

// Answers are the outputs of the heads, one after another, for one vector of features.
func (e *Encoder) Answers(features []float32) []float32 {
	if len(features) != e.info.Dim {
		panic(fmt.Sprintf("extract: %s: Answers: %d features; want %d", e.info.Name, len(features), e.info.Dim))
	}
	s := e.take()
	defer e.give(s)
	out := make([]float32, e.spec.Network.Outputs)
	s.tape.Run(func() {
		s.tape.NoGrad(func() {
			copy(out, e.net.Heads(s.tape.Input(gpu.CPU().From(features, 1, len(features)))).Value().F32())
		})
	})
	return out
}

// Load writes a picture as the network's input [C, H, W] to dst: see docs/encoders.md.
func (e *Encoder) Load(dst []float32, img *imageio.Image) { e.loader.load(dst, img, nil) }

func (e *Encoder) take() *encoderScratch {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := len(e.idle); k > 0 {
		s := e.idle[k-1]
		e.idle = e.idle[:k-1]
		return s
	}
	c := e.spec.Network
	return &encoderScratch{tape: nn.NewTape(gpu.CPU(), gpu.Float32), x: gpu.CPU().New(gpu.Float32, 1, c.Channels, c.Height, c.Width)}
}

func (e *Encoder) give(s *encoderScratch) {
	e.mu.Lock()
	e.idle = append(e.idle, s)
	e.mu.Unlock()
}

// scaledLoader is the preset "native" of the encoders of pictures: a picture of another size is
// resized by Pillow's bilinear filter in float32 (which widens with the reduction, so it averages
// when it shrinks); one channel is the luminance (299 R + 587 G + 114 B)/1000; then v/127.5 − 1.
// 8-bit pictures of the right size arrive as data.FromPixels makes them.
type scaledLoader struct {
	c int
	scaledPixels
}

func newScaledLoader(c, h, w int) *scaledLoader {
	return &scaledLoader{c: c, scaledPixels: newScaledPixels(h, w)}
}

func (l *scaledLoader) load(dst []float32, img *imageio.Image, s *imageio.Scratch) {
	n := l.h * l.w
	l.each(img, s, func(i int, r, g, b float32) { l.put(dst, n, i, r, g, b) })
}

func (l *scaledLoader) put(dst []float32, n, i int, r, g, b float32) {
	if l.c == 1 {
		if r != g || g != b { // equal ones have no sum of weights to round
			r = float32((299*float64(r) + 587*float64(g) + 114*float64(b)) / 1000)
		}
		dst[i] = centred(r)
		return
	}
	dst[i], dst[n+i], dst[2*n+i] = centred(r), centred(g), centred(b)
}

// centred takes 0..255 to [-1,1], as package data does.
func centred(v float32) float32 { return float32(float64(v)/127.5 - 1) }
