package extract

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/tensor"
)

// onnxWays are what a sidecar's preset may be.
var onnxWays = []pictureWay{waySquash, wayShorter, waySquare, wayTF1, wayTorchvision, wayEDM2}

func init() {
	Register(Entry{
		Name:    ONNXName,
		Summary: "any network in an ONNX file with one input of pictures, onnx:net.onnx; net.json beside it says how pictures are made its input",
		Source:  "docs/encoders.md",
		Needs:   "net.onnx, onnxruntime",
		Presets: []string{},
		CheckTap: func(tap string) error {
			if filepath.Ext(tap) != ".onnx" {
				return fmt.Errorf("want a file of ONNX, as in onnx:net.onnx")
			}
			return nil
		},
		Open: openONNX,
	})
}

// ONNXName is the name of the extractor that runs ONNX files.
const ONNXName = "onnx"

// ONNXSidecar says how pictures become the input of a network in an ONNX file, and features its output. Unknown fields are
// refused. Preset, Mean and Std are required: nothing about them is guessed.
type ONNXSidecar struct {
	// Preset is how pictures get their size: dgm-eval (squashed by Pillow's bicubic), openai (the shorter side by Pillow's bicubic,
	// then the middle), cmmd (the middle square, then bicubic), torch-fidelity (squashed by TensorFlow's bilinear),
	// torchvision (the shorter side to 256/224 of the size by Pillow's bilinear, then the middle).
	Preset string     `json:"preset"`
	Mean   [3]float64 `json:"mean"` // of the channels, of values in [0, 1]
	Std    [3]float64 `json:"std"`
	Size   int        `json:"size,omitempty"`     // pixels of a side; where the file leaves it open
	Layout string     `json:"layout,omitempty"`   // of the input: "chw" (default) or "hwc"
	Order  string     `json:"channels,omitempty"` // "rgb" (default) or "bgr"; Mean and Std are in this order

	Input  string `json:"input,omitempty"`  // the input's name; its only one
	Output string `json:"output,omitempty"` // the output's name; the first
	// Shape is the output's for one picture, where the file leaves it open.
	Shape []int `json:"output_shape,omitempty"`
	// Pool makes features of an output of more than one axis: "first" (row 0 of [tokens, width]), "mean" (over all rows but the
	// first Skip), "spatial" (over the places of [channels, height, width]); "flat" takes all values, which is what
	// outputs of one axis, and of others of size 1, need not say.
	Pool string `json:"pool,omitempty"`
	Skip int    `json:"skip,omitempty"` // rows that "mean" leaves out: a class token, registers
	Unit bool   `json:"unit,omitempty"` // features are divided by their length

	Batch int `json:"batch,omitempty"` // pictures at a time; 0 is the file's own number, or 16
}

// onnxBatch is how many pictures a network gets at a time that takes any number.
const onnxBatch = 16

// ReadONNXSidecar reads and checks the sidecar of the network at that path.
func ReadONNXSidecar(model string) (*ONNXSidecar, []byte, error) {
	path := onnx.SidecarPath(model)
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf(`%w: it says how pictures become the network's input, at least {"preset": "torchvision", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}`, err)
		}
		return nil, nil, err
	}
	s, err := ParseONNXSidecar(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, b, nil
}

// ParseONNXSidecar reads and checks a sidecar's JSON.
func ParseONNXSidecar(b []byte) (*ONNXSidecar, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return nil, fmt.Errorf("%w; want a JSON object", err)
	}
	for _, name := range []string{"preset", "mean", "std"} {
		if _, ok := given[name]; !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	s := &ONNXSidecar{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, err
	}
	if s.Preset == "" {
		return nil, fmt.Errorf("preset is empty")
	}
	if _, err := pickWay(s.Preset, onnxWays...); err != nil {
		return nil, err
	}
	for c := range 3 {
		if !(s.Std[c] > 0) || math.IsNaN(s.Mean[c]) {
			return nil, fmt.Errorf("mean %v and std %v: want numbers, std above 0", s.Mean, s.Std)
		}
	}
	for _, f := range []struct {
		name, is string
		may      []string
	}{{"layout", s.Layout, []string{"", "chw", "hwc"}}, {"channels", s.Order, []string{"", "rgb", "bgr"}}, {"pool", s.Pool, []string{"", "first", "mean", "spatial", "flat"}}} {
		if !slices.Contains(f.may, f.is) {
			return nil, fmt.Errorf("%s is %q; there are %q", f.name, f.is, f.may[1:])
		}
	}
	if s.Size < 0 || s.Size > 4096 || s.Batch < 0 || s.Batch > 4096 || s.Skip < 0 || s.Skip > 0 && s.Pool != "mean" {
		return nil, fmt.Errorf("size %d, batch %d, skip %d: want 0 to 4096, and skip with pool mean alone", s.Size, s.Batch, s.Skip)
	}
	return s, nil
}

// onnxNetwork is an extractor that runs an ONNX file.
type onnxNetwork struct {
	info  fid.ExtractorInfo
	net   *onnx.Encoder
	side  *ONNXSidecar
	size  int
	batch int
	load  pictureLoader
	pool  sync.Pool // of *onnxScratch
}

type onnxScratch struct {
	rgb, in, out []float32
	resize       imageio.Scratch
}

func openONNX(o Options) (fid.Extractor, error) {
	path := o.Tap
	if path == "" {
		path = o.Weights
	}
	if path == "" {
		return nil, errors.New("want a file: onnx:net.onnx")
	}
	if o.Precision != plan.F32 {
		return nil, fmt.Errorf("the precision of a network in an ONNX file is its own; leave %s out", o.Precision)
	}
	if len(o.Parts) > 0 {
		return nil, fmt.Errorf("a network in an ONNX file has no part %q", o.Parts[0])
	}
	side, text, err := ReadONNXSidecar(path)
	if err != nil {
		return nil, err
	}
	sum, err := tensor.FileSHA256(path)
	if err != nil {
		return nil, err
	}
	spec := onnx.EncoderSpec{Input: side.Input, Output: side.Output, Out: side.Shape, Rows: side.Batch}
	if side.Size > 0 {
		if spec.In = []int{3, side.Size, side.Size}; side.Layout == "hwc" {
			spec.In = []int{side.Size, side.Size, 3}
		}
	}
	net, err := onnx.OpenEncoder(path, spec, onnx.Options{Getenv: o.Getenv})
	if err != nil {
		return nil, err
	}
	n := &onnxNetwork{net: net, side: side, batch: onnxBatch}
	if err := n.fit(); err != nil {
		net.Close() // the error is of the file
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	way, _ := pickWay(side.Preset, onnxWays...) // checked before
	n.load = way.make(n.size, side.Mean, side.Std)
	n.info = fid.ExtractorInfo{Name: ONNXName + ":" + filepath.Base(path), SHA256: both(sum, text), Dim: n.dim(), Preset: side.Preset, Precision: "fp32"}
	return n, nil
}

// both is the hash of the file's hash and the sidecar's text: features change with either.
func both(sum string, text []byte) string {
	h := sha256.Sum256(append([]byte(sum+"\n"), text...))
	return hex.EncodeToString(h[:])
}

// fit checks that the network takes square pictures and that its output is what Pool says.
func (n *onnxNetwork) fit() error {
	in := n.net.In
	c, h, w := in[0], in[1], in[2]
	if n.side.Layout == "hwc" {
		h, w, c = in[0], in[1], in[2]
	}
	if c != 3 || h != w {
		return fmt.Errorf("its input is %v, of %d channels, %d×%d; want 3 channels and a square (layout is %q)", in, c, h, w, cmp.Or(n.side.Layout, "chw"))
	}
	n.size = h
	if n.net.Rows > 0 {
		n.batch = n.net.Rows
	}
	out := n.net.Out
	many := 0
	for _, d := range out {
		if d > 1 {
			many++
		}
	}
	switch p := n.side.Pool; {
	case p == "" && many > 1:
		return fmt.Errorf("its output is %v for a picture: say pool: first, mean, spatial or flat", out)
	case (p == "first" || p == "mean") && (len(out) != 2 || out[0] <= n.side.Skip):
		return fmt.Errorf("its output is %v for a picture; pool %s wants [tokens, width] with more than %d tokens", out, p, n.side.Skip)
	case p == "spatial" && len(out) != 3:
		return fmt.Errorf("its output is %v for a picture; pool spatial wants [channels, height, width]", out)
	}
	return nil
}

// dim is the number of features.
func (n *onnxNetwork) dim() int {
	out := n.net.Out
	switch n.side.Pool {
	case "first", "mean":
		return out[1]
	case "spatial":
		return out[0]
	}
	d := 1
	for _, v := range out {
		d *= v
	}
	return d
}

func (n *onnxNetwork) Info() fid.ExtractorInfo { return n.info }
func (n *onnxNetwork) Batch() int              { return n.batch }

// Close ends the network's session.
func (n *onnxNetwork) Close() { n.net.Close() } // nothing was written

func (n *onnxNetwork) Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	d := n.info.Dim
	mustFit(n.info, d, n.batch, imgs, out)
	s, _ := n.pool.Get().(*onnxScratch)
	each, outs := 3*n.size*n.size, 1
	for _, v := range n.net.Out {
		outs *= v
	}
	if s == nil {
		s = &onnxScratch{rgb: make([]float32, each), in: make([]float32, n.batch*each), out: make([]float32, n.batch*outs)}
	}
	defer n.pool.Put(s)
	for i, img := range imgs {
		n.arrange(s.in[i*each:(i+1)*each], n.inOrder(img), s)
	}
	if err := n.net.Run(s.in[:len(imgs)*each], len(imgs), s.out[:len(imgs)*outs]); err != nil {
		return err
	}
	for i := range imgs {
		n.features(out[i*d:(i+1)*d], s.out[i*outs:(i+1)*outs])
	}
	return nil
}

// inOrder is the picture with its channels in the network's order.
func (n *onnxNetwork) inOrder(img *imageio.Image) *imageio.Image {
	if n.side.Order != "bgr" {
		return img
	}
	turned := *img
	turned.Pix = slices.Clone(img.Pix)
	for i := 0; i < len(turned.Pix); i += 3 {
		turned.Pix[i], turned.Pix[i+2] = turned.Pix[i+2], turned.Pix[i]
	}
	return &turned
}

// arrange writes a picture as the network takes it.
func (n *onnxNetwork) arrange(dst []float32, img *imageio.Image, s *onnxScratch) {
	if n.side.Layout != "hwc" {
		n.load(dst, img, &s.resize)
		return
	}
	n.load(s.rgb, img, &s.resize)
	plane := n.size * n.size
	for i := range plane {
		for c := range 3 {
			dst[3*i+c] = s.rgb[c*plane+i]
		}
	}
}

// features makes a picture's features of the network's output.
func (n *onnxNetwork) features(dst, out []float32) {
	d := len(dst)
	switch n.side.Pool {
	case "mean":
		sums := make([]float64, d)
		rows := out[n.side.Skip*d:]
		for i, v := range rows {
			sums[i%d] += float64(v)
		}
		for j, v := range sums {
			dst[j] = float32(v * float64(d) / float64(len(rows)))
		}
	case "spatial":
		places := len(out) / d
		for j := range dst {
			sum := 0.0
			for _, v := range out[j*places : (j+1)*places] {
				sum += float64(v)
			}
			dst[j] = float32(sum / float64(places))
		}
	default:
		copy(dst, out)
	}
	if !n.side.Unit {
		return
	}
	length := 0.0
	for _, v := range dst {
		length += float64(v) * float64(v)
	}
	for j := range dst {
		dst[j] = float32(float64(dst[j]) / max(math.Sqrt(length), math.SmallestNonzeroFloat64))
	}
}
