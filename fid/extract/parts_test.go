package extract

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// features runs an extractor on pictures; row is what it writes for each.
func rows(t *testing.T, e fid.Extractor, imgs []*imageio.Image, row int) []float32 {
	t.Helper()
	out := make([]float32, len(imgs)*row)
	for i := 0; i < len(imgs); i += e.Batch() {
		end := min(i+e.Batch(), len(imgs))
		if err := e.Features(nil, imgs[i:end], out[i*row:end*row]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func somePictures(n, side int) []*imageio.Image {
	var imgs []*imageio.Image
	for k := range n {
		m := &imageio.Image{Width: side, Height: side, Pix: make([]uint8, 3*side*side)}
		for i := range m.Pix {
			m.Pix[i] = uint8((i*(k+3))%251 + k)
		}
		imgs = append(imgs, m)
	}
	return imgs
}

// The parts come of the same pass as the features and change none of them: the
// answers are the last layer's without its bias, and sFID's map has the first
// seven channels of the whole block, whose means over the places are known by
// another way.
func TestInceptionParts(t *testing.T) {
	imgs := somePictures(1, 64)
	both, err := Open("random", Options{Parts: []string{fid.PartLogits, fid.PartSpatial}})
	if err != nil {
		t.Fatal(err)
	}
	const spatial = 7 * 17 * 17
	if p := both.(fid.PartExtractor).Parts(); len(p) != 2 || p[1].Dim != spatial || both.Info().Dim != 2048 {
		t.Fatalf("%+v", p)
	}
	row := 2048 + 1008 + spatial
	got := rows(t, both, imgs, row)
	plain, err := Open("random", Options{})
	if err != nil {
		t.Fatal(err)
	}
	features := rows(t, plain, imgs, 2048)
	weights := recipeWeights("")
	fc := weights["fc.weight"].F32()

	g := graph{weights: weights}
	g.build()
	g.average("whole", "Mixed_6d")
	p, err := plan.Compile(&plan.Net{Name: "whole", C: 3, H: inceptionSize, W: inceptionSize, Nodes: needed(g.nodes, []string{"whole"}), Outputs: []string{"whole"}}, plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := plain.(*network)
	input := make([]float32, len(imgs)*n.input)
	var scratch imageio.Scratch
	for i, m := range imgs {
		n.load(input[i*n.input:(i+1)*n.input], m, &scratch)
	}
	means := make([]float32, len(imgs)*768)
	if err := p.Run(nil, input, means); err != nil {
		t.Fatal(err)
	}
	for i := range imgs {
		r := got[i*row : (i+1)*row]
		for k, v := range r[:2048] {
			if v != features[i*2048+k] {
				t.Fatalf("feature %d is %g, without parts %g", k, v, features[i*2048+k])
			}
		}
		for k, v := range r[2048 : 2048+1008] {
			want, size := 0.0, 0.0
			for j, f := range r[:2048] {
				p := float64(f) * float64(fc[k*2048+j])
				want += p
				size += math.Abs(p)
			}
			if math.Abs(float64(v)-want) > 1e-5*size {
				t.Fatalf("answer %d is %g, of the features %g", k, v, want)
			}
		}
		for c := range 7 {
			mean := 0.0
			for _, v := range r[2048+1008+c*289 : 2048+1008+(c+1)*289] {
				mean += float64(v) / 289
			}
			if want := float64(means[i*768+c]); math.Abs(mean-want) > 1e-5*math.Max(1, want) {
				t.Errorf("channel %d has mean %g, the whole block's %g", c, mean, want)
			}
		}
	}
}

// The mnist encoder's answers are its head's, computed here in float64 from the features.
func TestMNISTLogits(t *testing.T) {
	imgs := somePictures(5, 28)
	e, err := Open("mnist", Options{Parts: []string{fid.PartLogits}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := mnistWeights()
	if err != nil {
		t.Fatal(err)
	}
	got := rows(t, e, imgs, mnistDim+mnistClass)
	for i := range imgs {
		r := got[i*(mnistDim+mnistClass):]
		for c := range mnistClass {
			want := float64(w["head.bias"][c])
			for k := range mnistDim {
				want += float64(w["head.weight"][c*mnistDim+k]) * max(float64(r[k]), 0)
			}
			if v := float64(r[mnistDim+c]); math.Abs(v-want) > 1e-4*math.Max(1, math.Abs(want)) {
				t.Errorf("picture %d, class %d: %g; wanted %g", i, c, v, want)
			}
		}
	}
}

func TestPartsRefuse(t *testing.T) {
	for _, c := range []struct{ name, part, want string }{
		{"mnist", fid.PartSpatial, `has no part "spatial"`},
		{"random", "edges", `has no part "edges"`},
		{"pixels", fid.PartLogits, "there is no network"},
	} {
		if _, err := Open(c.name, Options{Parts: []string{c.part}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v; wanted %q", c.name, c.part, err, c.want)
		}
	}
}

// pyiqa's sFID has the first seven channels of another block, whose means over the places are known by another way.
func TestSpatialOfPyiqa(t *testing.T) {
	imgs := somePictures(1, 64)
	e, err := Open("random", Options{Preset: "pyiqa", Tap: "64", Parts: []string{fid.PartSpatial}})
	if err != nil {
		t.Fatal(err)
	}
	const places = 17 * 17
	got := rows(t, e, imgs, 64+7*places)[64:]
	g := graph{weights: recipeWeights("")}
	g.build()
	g.average("whole", "Mixed_6a")
	p, err := plan.Compile(&plan.Net{Name: "whole", C: 3, H: inceptionSize, W: inceptionSize, Nodes: needed(g.nodes, []string{"whole"}), Outputs: []string{"whole"}}, plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := e.(*network)
	input, means := make([]float32, n.input), make([]float32, 768)
	var scratch imageio.Scratch
	n.load(input, imgs[0], &scratch)
	if err := p.Run(nil, input, means); err != nil {
		t.Fatal(err)
	}
	for c := range 7 {
		mean := 0.0
		for _, v := range got[c*places:][:places] {
			mean += float64(v) / places
		}
		if want := float64(means[c]); math.Abs(mean-want) > 1e-5*math.Max(1, want) {
			t.Errorf("channel %d has mean %g, the whole block's %g", c, mean, want)
		}
	}
	if d, err := Open("random", Options{Preset: "clean", Tap: "64"}); err != nil || d.Info().Preset == e.Info().Preset {
		t.Errorf("%v: sets of the two presets would be compared", err)
	}
}
