package extract

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// entriesOf are weights by the recipe under the names of one kind of file.
func entriesOf(s *spec, n int, salt string) (entries []tensor.SafetensorsEntry) {
	for _, p := range s.fileParams(&s.namings[n]) {
		entries = append(entries, tensor.SafetensorsEntry{Name: p.name, Array: recipeTensor(salt, p.name, p.shape)})
	}
	return entries
}

// published is the spec of a network by its name.
func published(t *testing.T, name string) *spec {
	for _, s := range specs {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("no network %s", name)
	return nil
}

func testPictures(n int) []*imageio.Image {
	var out []*imageio.Image
	for i := range n {
		w, h := 60+37*i, 200-23*i
		img := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h)}
		for k := range img.Pix {
			img.Pix[k] = uint8((k*(7+2*i))/(3+i) + k/(3*w)*i)
		}
		out = append(out, img)
	}
	return out
}

// A picture's features are the same bits alone, anywhere in a batch, on every
// worker, and from other names of the weights.
func TestDINOv2Independence(t *testing.T) {
	s := published(t, "dinov2-vits14")
	path := writeTensors(t, entriesOf(s, 0, "independence "))
	_, err := Open("dinov2-vits14:70", Options{})
	if err == nil || !strings.Contains(err.Error(), "no extractor") {
		t.Fatalf("Open takes names without taps alone, got %v", err)
	}
	open := func(o Options) fid.Extractor {
		t.Helper()
		o.Tap = "70"
		ex, err := Open("dinov2-vits14", o)
		if err != nil {
			t.Fatal(err)
		}
		return ex
	}
	ex := open(Options{Weights: path})
	info := ex.Info()
	want := fid.ExtractorInfo{Name: "dinov2-vits14:70", SHA256: info.SHA256, Dim: 384, Preset: "dgm-eval", Precision: "fp32"}
	if sha, _ := tensor.FileSHA256(path); info != want || sha != info.SHA256 {
		t.Errorf("info %+v, want %+v with the file's hash", info, want)
	}
	const n = 5
	imgs := testPictures(n)
	d := info.Dim
	alone := make([]float32, n*d)
	for i, img := range imgs {
		if err := ex.Features(nil, []*imageio.Image{img}, alone[i*d:][:d]); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Equal(alone[:d], alone[d:2*d]) {
		t.Fatal("two pictures have the same features")
	}
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 2, 0}, {3, 3, 3, 1, 0, 4, 2, 1}} {
		var batch []*imageio.Image
		for _, k := range order {
			batch = append(batch, imgs[k])
		}
		outs := make([][]float32, 2)
		cpu.Each(2, func(w *cpu.Worker, i int) {
			outs[i] = make([]float32, len(batch)*d)
			if err := ex.Features(w, batch, outs[i]); err != nil {
				panic(err)
			}
		})
		for _, out := range outs {
			for i, k := range order {
				if !slices.Equal(out[i*d:][:d], alone[k*d:][:d]) {
					t.Errorf("picture %d at place %d of %v has other features than alone", k, i, order)
				}
			}
		}
	}
}

func TestPublishedWeightsRefused(t *testing.T) {
	s := dinoConfig{width: 32, depth: 2, heads: 2, hidden: 128, patch: 14, grid: 5}.spec("small")
	good := entriesOf(s, 0, "")
	change := func(f func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry) []tensor.SafetensorsEntry {
		return f(slices.Clone(good))
	}
	at := func(e []tensor.SafetensorsEntry, name string) int {
		return slices.IndexFunc(e, func(x tensor.SafetensorsEntry) bool { return x.Name == name })
	}
	with := func(name string, a *tensor.Array) []tensor.SafetensorsEntry {
		return change(func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry {
			e[at(e, name)].Array = a
			return e
		})
	}
	fc1 := "blocks.1.mlp.fc1.weight"
	for _, c := range []struct {
		name    string
		entries []tensor.SafetensorsEntry
		want    []string
	}{
		{"transposed", with(fc1, recipeTensor("", fc1, []int{32, 128})), []string{
			"not the weights of small, by the names of facebookresearch/dinov2: first, blocks.1.mlp.fc1.weight is [32 128], want [128 32]: it is transposed",
			"of the network's 34 tensors 33 fit, 0 are missing, 1 are of another shape or type; 0 more are in the file"}},
		{"integers", with("norm.bias", tensor.FromI64(make([]int64, 32), 32)), []string{"norm.bias is of int64, want floats"}},
		{"missing", change(func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry { return slices.Delete(e, 5, 7) }),
			[]string{"first, " + good[5].Name + " [32] is missing", "32 fit, 2 are missing"}},
		{"more", change(func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry {
			return append(e, tensor.SafetensorsEntry{Name: "head.weight", Array: tensor.FromF32(make([]float32, 3), 3)})
		}), []string{"first, head.weight [3] is in the file, not in the network"}},
		{"another network", entriesOf(published(t, "dinov2-vits14"), 0, "")[:120], []string{"it is closest to dinov2-vits14"}},
		{"Hugging Face's of another", entriesOf(published(t, "dinov2-vits14-reg"), 1, ""), []string{"it looks like dinov2-vits14-reg", "by the names of Hugging Face", "and 34 more like that"}},
		{"nothing of it", []tensor.SafetensorsEntry{{Name: "layer1.0.bn1.weight", Array: tensor.FromF32(make([]float32, 3), 3)}},
			[]string{"not the weights of small; it looks like a convolutional network with batch norms"}},
	} {
		_, err := s.open(writeTensors(t, c.entries))
		if err == nil {
			t.Errorf("%s: taken", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error\n%v\nwants %q", c.name, err, want)
			}
		}
	}

	l, err := s.open(writeTensors(t, with("norm.bias", nan(32))))
	if err != nil {
		t.Fatal(err)
	}
	if l.get("norm.bias"); l.err == nil || !strings.Contains(l.err.Error(), "norm.bias has NaN at place 7") {
		t.Errorf("NaN: %v", l.err)
	}

	whole, err := os.ReadFile(writeTensors(t, good))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, 100, len(whole) / 2, len(whole) - 1} {
		path := filepath.Join(t.TempDir(), "cut.safetensors")
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := s.open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("cut to %d bytes: %v, want an error with the path", n, err)
		}
	}
	if _, err := s.open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a folder; want a weights file") {
		t.Errorf("a folder: %v", err)
	}
}

func nan(n int) *tensor.Array {
	v := make([]float32, n)
	var zero float32
	v[7] = zero / zero
	return tensor.FromF32(v, n)
}

// Weights of half precision are taken, with a note, and are what they are rounded to.
func TestPublishedHalfWeights(t *testing.T) {
	c := dinoConfig{width: 32, depth: 2, heads: 2, hidden: 128, patch: 14, grid: 5}
	s := c.spec("small")
	half := entriesOf(s, 0, "half ")
	rounded := slices.Clone(half)
	for i, e := range half {
		v := e.Array.F32()
		bits := make([]byte, 0, 2*len(v))
		for k, x := range v {
			h := cpu.FloatToF16(x)
			bits = append(bits, byte(h), byte(h>>8))
			v[k] = cpu.F16ToFloat(h)
		}
		half[i].Array = &tensor.Array{DType: tensor.F16, Shape: e.Array.Shape, Data: bits}
		rounded[i].Array = tensor.FromF32(v, e.Array.Shape...)
	}
	var got [2][]float32
	for i, entries := range [][]tensor.SafetensorsEntry{half, rounded} {
		l, err := s.open(writeTensors(t, entries))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"weights of float16", ""}[i]; l.note() != want {
			t.Errorf("note %q, want %q", l.note(), want)
		}
		got[i] = c.build(l, 70).runPictures(t, gpu.CPU(), "", 1)
	}
	if !slices.Equal(got[0], got[1]) {
		t.Error("float16 weights and the same values in float32 give other features")
	}
}

// The peers are torchvision on Pillow's pictures, torch-fidelity and torch: what reaches the network, in float32.
func TestPictureWaysGolden(t *testing.T) {
	ways := map[string]pictureWay{}
	for _, w := range []pictureWay{waySquash, wayShorter, waySquare, wayTF1, wayTorchvision, wayEDM2} {
		ways[w.name] = w
	}
	cases := goldenNets(t, "ways.json")
	for _, g := range cases {
		f, err := os.ReadFile(oracle.Golden(t, "resize", g.File))
		if err != nil {
			t.Fatal(err)
		}
		img, err := imageio.Decode(f, imageio.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mean, std := imagenetMean, imagenetStd
		if g.Norm == "clip" {
			mean, std = clipMean, clipStd
		}
		got := make([]float32, 3*g.Size*g.Size)
		ways[g.Preset].make(g.Size, mean, std)(got, img, new(imageio.Scratch))
		tol := 2e-7 // the same 8 bits, then float32 arithmetic
		switch g.Preset {
		case wayTF1.name:
			tol = 1e-6
		case wayEDM2.name:
			tol = 3e-6 // torch adds up to 170 taps in float32
		}
		closeRows(t, g.Preset+" "+g.File, got, g.Features, tol)
	}
	if len(cases) != 18 {
		t.Errorf("%d cases, want 18", len(cases))
	}
}

// Sizes and places of torchvision's Resize and CenterCrop.
func TestPictureWays(t *testing.T) {
	for _, c := range []struct{ w, h, short, wantW, wantH int }{{300, 500, 224, 224, 373}, {500, 300, 224, 373, 224}, {7, 7, 5, 5, 5}, {1000, 3, 224, 74666, 224}} {
		if w, h := resized(c.w, c.h, c.short); w != c.wantW || h != c.wantH {
			t.Errorf("resized(%d, %d, %d) is %dx%d, want %dx%d", c.w, c.h, c.short, w, h, c.wantW, c.wantH)
		}
	}
	for _, c := range []struct{ n, want int }{{224, 0}, {225, 0}, {226, 1}, {227, 2}, {229, 2}, {231, 4}} { // Python's round
		if got := middle(c.n, 224); got != c.want {
			t.Errorf("middle(%d) is %d, want %d", c.n, got, c.want)
		}
	}
	if _, err := pickWay("clean", waySquash, wayTF1); err == nil || fmt.Sprint(err) != `no preset "clean" of this network; there are dgm-eval, torch-fidelity` {
		t.Errorf("another network's preset: %v", err)
	}
}

// A text's vector is the same bits alone and among longer ones.
func TestCLIPTextIndependence(t *testing.T) {
	one := clipTower{512, 2, 8}
	c := clipConfig{image: clipTower{64, 1, 1}, text: one, patch: 8, size: 16, embed: 512, vocab: 99, context: 40}
	var entries []tensor.SafetensorsEntry
	for _, p := range append(c.imageParams(), c.textParams()...) {
		entries = append(entries, tensor.SafetensorsEntry{Name: p.name, Array: recipeTensor("", p.name, p.shape)})
	}
	text, err := c.openText("small", writeTensors(t, entries))
	if err != nil {
		t.Fatal(err)
	}
	var ids [][]int32
	for i := range textBatch + 3 {
		ids = append(ids, append(make([]int32, i), int32(i+1), 98))
	}
	d := c.embed
	all := make([]float32, len(ids)*d)
	if err := text.Features(ids, all); err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		alone := make([]float32, d)
		if err := text.Features(ids[i:i+1], alone); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone, all[i*d:][:d]) {
			t.Errorf("text %d of %d ids has other features alone", i, len(ids[i]))
		}
	}
	for _, want := range []string{"want 1 to 40", "the id 99, want 0 to 98"} {
		err := text.Features([][]int32{map[bool][]int32{true: nil, false: {99}}[strings.Contains(want, "40")]}, make([]float32, d))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := OpenCLIPText("inception", Options{}); err == nil || !strings.Contains(err.Error(), "there are clip-vit-b32") {
		t.Errorf("another network's text tower: %v", err)
	}
}
