package extract

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// mnistFile has the weights that scripts/mnistenc trained, with the recipe and
// seed that rebuild them in its remarks.
//
//go:embed mnist.safetensors
var mnistFile []byte

// MNISTNote labels every result of the mnist extractor.
const MNISTNote = "mnist encoder: not Inception"

// The sizes of the mnist encoder.
const (
	mnistSide  = 28
	mnistDim   = 64
	mnistClass = 10
)

func init() {
	Register(Entry{
		Name:    "mnist",
		Summary: "a small digit classifier's 64 features, built in: for MNIST and other small grey pictures",
		Source:  "scripts/mnistenc, docs/encoders.md",
		Open:    openMNIST,
	})
}

// mnistParams are the weights by name.
type mnistParams map[string][]float32

// mnistWeights parses the embedded file once. An error here is a broken build;
// the test that pins the hash catches it.
var mnistWeights = sync.OnceValues(func() (mnistParams, error) {
	s, err := tensor.NewSafetensors("mnist.safetensors (embedded)", bytes.NewReader(mnistFile), int64(len(mnistFile)))
	if err != nil {
		return nil, err
	}
	out := mnistParams{}
	for name, shape := range map[string][]int{
		"conv1.weight": {16, 1, 3, 3}, "conv1.bias": {16}, "conv2.weight": {32, 16, 3, 3}, "conv2.bias": {32}, "conv3.weight": {64, 32, 3, 3}, "conv3.bias": {64},
		"feat.weight": {mnistDim, 64 * 7 * 7}, "feat.bias": {mnistDim}, "head.weight": {mnistClass, mnistDim}, "head.bias": {mnistClass},
	} {
		a, err := s.Read(name)
		if err != nil {
			return nil, err
		}
		if a.DType != tensor.F32 || !slices.Equal(a.Shape, shape) {
			return nil, fmt.Errorf("mnist.safetensors (embedded): %s is %v %v; wanted float32 %v", name, a.DType, a.Shape, shape)
		}
		out[name] = a.F32()
	}
	return out, nil
})

// mnistNet is the encoder: three convolutions and a fully connected layer whose
// values, before any rectifier, are the features.
func mnistNet(w mnistParams, logits bool) *plan.Net {
	conv := func(name, in string, out int) plan.Node {
		return plan.Node{
			Name: name, Kind: plan.Conv, In: []string{in}, Out: out, KH: 3, KW: 3, PadH: 1, PadW: 1, ReLU: true,
			Weight: w[name+".weight"], Bias: w[name+".bias"],
		}
	}
	pool := func(name, in string) plan.Node {
		return plan.Node{Name: name, Kind: plan.MaxPool, In: []string{in}, KH: 2, KW: 2, StrideH: 2, StrideW: 2}
	}
	net := &plan.Net{
		Name: "mnist", C: 1, H: mnistSide, W: mnistSide,
		Nodes: []plan.Node{
			conv("conv1", "input", 16), pool("pool1", "conv1"),
			conv("conv2", "pool1", 32), pool("pool2", "conv2"),
			conv("conv3", "pool2", 64),
			{Name: "feat", Kind: plan.Linear, In: []string{"conv3"}, Out: mnistDim, Weight: w["feat.weight"], Bias: w["feat.bias"]},
		},
		Outputs: []string{"feat"},
	}
	if logits { // of the same layer behind its rectifier
		hidden := net.Nodes[len(net.Nodes)-1]
		hidden.Name, hidden.ReLU = "hidden", true
		head := plan.Node{Name: "head", Kind: plan.Linear, In: []string{"hidden"}, Out: mnistClass, Weight: w["head.weight"], Bias: w["head.bias"]}
		net.Nodes, net.Outputs = append(net.Nodes, hidden, head), append(net.Outputs, "head")
	}
	return net
}

func openMNIST(o Options) (fid.Extractor, error) {
	switch {
	case o.Preset != "" && o.Preset != "native":
		return nil, fmt.Errorf("preset %q is for the Inception network; leave it out or say native", o.Preset)
	case o.Tap != "":
		return nil, fmt.Errorf("tap %q is for the Inception network; leave it out", o.Tap)
	case o.Weights != "":
		return nil, fmt.Errorf("%s: the weights of this extractor are built in; leave the file out", o.Weights)
	}
	weights, err := mnistWeights()
	if err != nil {
		return nil, err
	}
	var parts []networkPart
	for _, name := range o.Parts {
		if name != fid.PartLogits {
			return nil, fmt.Errorf("the mnist encoder has no part %q; there is %s", name, fid.PartLogits)
		}
		parts = []networkPart{{fid.Part{Name: name, Dim: mnistClass}, mnistClass}}
	}
	p, err := o.compile(mnistNet(weights, parts != nil))
	if err != nil {
		return nil, err
	}
	return &network{
		info: fid.ExtractorInfo{
			Name: "mnist", SHA256: fmt.Sprintf("%x", sha256.Sum256(mnistFile)), Dim: mnistDim,
			Preset: "native", Precision: o.Precision.String(), Note: MNISTNote,
		},
		on:    o.where(),
		plan:  p,
		parts: parts,
		input: mnistSide * mnistSide,
		load:  newMNISTLoader().load,
	}, nil
}

// mnistLoader is the preset "native" of the mnist encoder: a picture of another
// size is resized to 28x28 by Pillow's bilinear filter in float32 (which widens
// with the reduction, so it averages when it shrinks); then the luminance
// (299 R + 587 G + 114 B) / 1000 over 255. Grey pictures of 28x28 arrive
// exactly as they are.
type mnistLoader struct{ scaledPixels }

func newMNISTLoader() *mnistLoader { return &mnistLoader{newScaledPixels(mnistSide, mnistSide)} }

func (l *mnistLoader) load(dst []float32, img *imageio.Image, s *imageio.Scratch) {
	l.each(img, s, func(i int, r, g, b float32) { dst[i] = luminance(r, g, b) })
}

// luminance is in [0,1]. Equal channels give exactly v/255: there is no sum of
// weights to round.
func luminance(r, g, b float32) float32 {
	if r == g && g == b {
		return r / 255
	}
	return float32((299*float64(r) + 587*float64(g) + 114*float64(b)) / 255000)
}

// MNISTLogits computes the ten class scores, one per digit, from 64 features of
// the mnist extractor; its largest is the class that the encoder sees.
func MNISTLogits(features []float32) ([mnistClass]float32, error) {
	var out [mnistClass]float32
	if len(features) != mnistDim {
		panic(fmt.Sprintf("extract: MNISTLogits: %d features; want %d", len(features), mnistDim))
	}
	weights, err := mnistWeights()
	if err != nil {
		return out, fmt.Errorf("extract: mnist: %w", err)
	}
	weight, bias := weights["head.weight"], weights["head.bias"]
	for k := range out {
		s := float64(bias[k])
		for i, f := range features {
			s += float64(weight[k*mnistDim+i]) * float64(max(f, 0))
		}
		out[k] = float32(s)
	}
	return out, nil
}
