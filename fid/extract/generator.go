package extract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/onnx"
)

// Ranges are what a generator's pictures may run over; 8-bit outputs are levels by themselves.
var Ranges = []string{"signed", "unit", "levels"}

// GeneratorOptions of OpenGenerator.
type GeneratorOptions struct {
	Mapping string // the file of a network from z to w; "" for none
	Range   string // of Ranges: [-1, 1] (default), [0, 1], [0, 255]
	Getenv  func(string) string
}

// Generator makes pictures of latents: a network in an ONNX file with one input of latents [n, ...] and pictures [n, 3 or 1, height,
// width] as its output, and perhaps a second file that makes the first one's latents w of others, z [n, d].
type Generator struct {
	mapping, net *onnx.Encoder
	scale, shift float32 // to [-1, 1]
	levels       bool    // its pictures are 8-bit
}

// OpenGenerator opens and checks the files.
func OpenGenerator(path string, o GeneratorOptions) (*Generator, error) {
	g := &Generator{scale: 1}
	switch o.Range {
	case "", "signed":
	case "unit":
		g.scale, g.shift = 2, -1
	case "levels":
		g.scale, g.shift = 1/127.5, -1
	default:
		return nil, fmt.Errorf("extract: no range %q of a generator's pictures; there are %s", o.Range, strings.Join(Ranges, ", "))
	}
	run := onnx.Options{Getenv: o.Getenv}
	spec := onnx.EncoderSpec{Generator: true}
	var err error
	if o.Mapping != "" {
		if g.mapping, err = onnx.OpenEncoder(o.Mapping, spec, run); err != nil {
			return nil, err
		}
		spec.In = g.mapping.Out
	}
	if g.net, err = onnx.OpenEncoder(path, spec, run); err != nil {
		if o.Mapping != "" {
			err = errors.Join(err, g.mapping.Close())
		}
		return nil, err
	}
	if s := g.net.Out; len(s) != 3 || s[0] != 3 && s[0] != 1 {
		err = fmt.Errorf("extract: %s: the output %s of a sample is %v; want a picture, [3 or 1, height, width]", path, g.net.Output.Name, s)
	}
	if g.net.Output.DType == "uint8" {
		if g.levels = true; o.Range != "" && o.Range != "levels" {
			err = fmt.Errorf("extract: %s: its pictures are 8-bit levels, and the range %s was asked for", path, o.Range)
		}
		g.scale, g.shift = 1/127.5, -1
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Latent is how many values a z has, and Inner how many a w.
func (g *Generator) Latent() int {
	if g.mapping != nil {
		return product(g.mapping.In)
	}
	return product(g.net.In)
}

// Inner is how many values the network's own latent has: a w, or where there is no mapping a z.
func (g *Generator) Inner() int { return product(g.net.In) }

// Mapped tells whether there is a w.
func (g *Generator) Mapped() bool { return g.mapping != nil }

// Size is the pictures' height and width.
func (g *Generator) Size() (height, width int) { return g.net.Out[1], g.net.Out[2] }

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Map makes w of z; it is z itself without a mapping.
func (g *Generator) Map(z []float32) ([]float32, error) {
	if g.mapping == nil {
		return z, nil
	}
	w := make([]float32, len(z)/g.Latent()*g.Inner())
	return w, inParts(g.mapping, z, w)
}

// Pictures makes [n, 3, height, width] in [-1, 1] of latents w [n, ...].
func (g *Generator) Pictures(w []float32) ([]float32, error) {
	n, places := len(w)/g.Inner(), g.net.Out[1]*g.net.Out[2]
	raw := make([]float32, n*product(g.net.Out))
	if err := inParts(g.net, w, raw); err != nil {
		return nil, err
	}
	for i, v := range raw {
		if g.scale != 1 || g.shift != 0 {
			raw[i] = v*g.scale + g.shift
		}
	}
	if g.net.Out[0] == 3 {
		return raw, nil
	}
	out := make([]float32, 0, 3*len(raw))
	for i := range n {
		for range 3 {
			out = append(out, raw[i*places:(i+1)*places]...)
		}
	}
	return out, nil
}

// inParts runs a network that may take a fixed number of samples only.
func inParts(e *onnx.Encoder, x, y []float32) error {
	in, out := product(e.In), product(e.Out)
	n := len(x) / in
	step := n
	if e.Rows > 0 {
		step = e.Rows
	}
	for i := 0; i < n; i += step {
		k := min(step, n-i)
		if err := e.Run(x[i*in:(i+k)*in], k, y[i*out:(i+k)*out]); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the networks' sessions.
func (g *Generator) Close() error {
	err := g.net.Close()
	if g.mapping != nil {
		err = errors.Join(err, g.mapping.Close())
	}
	return err
}
