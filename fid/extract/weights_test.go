package extract

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// writePth writes weights as torch.save does, in protocol 2 and the zip form.
func writePth(t *testing.T, path string, weights map[string]*tensor.Array) {
	t.Helper()
	var p, file bytes.Buffer
	text := func(s string) {
		p.WriteByte('X')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
		p.WriteString(s)
	}
	number := func(n int) {
		p.WriteByte('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	z := zip.NewWriter(&file)
	member := func(name string, b []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.WriteString("\x80\x02ccollections\nOrderedDict\n)R(")
	for i, q := range inceptionParams() {
		a := weights[q.name]
		if a == nil {
			continue
		}
		text(q.name)
		p.WriteString("ctorch._utils\n_rebuild_tensor_v2\n((")
		text("storage")
		p.WriteString("ctorch\nFloatStorage\n")
		text(fmt.Sprint(i))
		text("cpu")
		number(a.Len())
		p.WriteString("tQK\x00(")
		for _, d := range a.Shape {
			number(d)
		}
		p.WriteString("t(")
		for k := range a.Shape {
			stride := 1
			for _, d := range a.Shape[k+1:] {
				stride *= d
			}
			number(stride)
		}
		p.WriteString("t\x89ccollections\nOrderedDict\n)RtR")
		member(fmt.Sprintf("data/%d", i), a.Data)
	}
	p.WriteString("u.")
	member("data.pkl", p.Bytes())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// env is an environment of only the given names.
func env(kv ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1]
			}
		}
		return ""
	}
}

// TestWeightsFromFileToFeatures goes the user's way: a .pth is refused for its
// hash, verified by force, imported and loaded, with the features of the
// weights that were saved.
func TestWeightsFromFileToFeatures(t *testing.T) {
	dir := t.TempDir()
	pth := filepath.Join(dir, InceptionFile)
	writePth(t, pth, recipeWeights(""))
	sha, err := tensor.FileSHA256(pth)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Getenv: env("FIDLAB_CACHE", filepath.Join(dir, "cache"), "FIDLAB_WEIGHTS", dir, "TORCH_HOME", dir), Tap: "64"}
	if _, err := Open("inception", o); err == nil || !strings.Contains(err.Error(), sha) || !strings.Contains(err.Error(), "begins with 6726825d") {
		t.Fatalf("error is %v; want one with both hashes", err)
	}
	if _, err := ImportWeights(pth, "", o); err == nil || !strings.Contains(err.Error(), sha) {
		t.Fatalf("error of the import is %v; want one with the hash", err)
	}
	o.Force = true
	copied, err := ImportWeights(pth, "", o)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "cache", "weights", "inception-"+sha[:8]+".safetensors"); copied != want {
		t.Errorf("the forced copy is %s; want %s", copied, want)
	}
	img := []*imageio.Image{picture(3, 50, 60)}
	want := features(t, openT(t, "random", Options{Tap: "64"}), img, 1)
	for _, path := range []string{pth, copied} {
		o.Weights = path
		e := openT(t, "inception", o)
		if i := e.Info(); i.SHA256 != sha || i.Name != "inception:64" || !strings.Contains(i.Note, "not the published") {
			t.Errorf("%s: info is %+v", path, i)
		}
		sameBits(t, path, features(t, e, img, 1), want)
	}

	// as the published file, under its own hash
	s := source{stem: "published", prefix: sha[:8]}
	o = Options{Getenv: o.Getenv}
	copied, err = s.importFile(pth, "", o)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := s.find(o); err != nil || found != copied {
		t.Errorf("found %s, %v; want %s", found, err, copied)
	}
	if _, got, err := s.load(copied, false); err != nil || got != sha {
		t.Errorf("the copy has the hash %s, %v; want %s", got, err, sha)
	}
	b, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-5] ^= 1
	if err := os.WriteFile(copied, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.load(copied, false); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a flipped bit: %v", err)
	}
}

func TestWeightsMissing(t *testing.T) {
	dir := t.TempDir()
	o := Options{Getenv: env("FIDLAB_CACHE", dir+"/c", "FIDLAB_WEIGHTS", dir+"/w", "XDG_CACHE_HOME", dir+"/x")}
	_, err := Open("inception", o)
	if !errors.Is(err, ErrNoWeights) {
		t.Fatalf("error is %v; want ErrNoWeights", err)
	}
	for _, part := range []string{InceptionFile, "begins with " + InceptionHash, dir + "/c/weights", dir + "/w", dir + "/x/torch/hub/checkpoints", "fidlab weights import", "--weights", "--features random"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message lacks %q: %v", part, err)
		}
	}
	for _, w := range WeightsList(o) {
		if w.Found || w.Err != nil {
			t.Errorf("found %+v", w)
		}
	}
	o.Weights = dir
	if _, err := Open("inception", o); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder as weights: %v", err)
	}
}

func TestWeightsOfAnotherNetwork(t *testing.T) {
	dir := t.TempDir()
	weights := recipeWeights("")
	delete(weights, "fc.bias")
	weights["fc.weight"] = tensor.FromF32(make([]float32, 2048*1000), 1000, 2048)
	pth := filepath.Join(dir, "x.pth")
	writePth(t, pth, weights)
	o := Options{Weights: pth, Getenv: env("FIDLAB_CACHE", dir), Force: true}
	_, err := Open("inception", o)
	if err == nil || !strings.Contains(err.Error(), "fc.weight is [1000 2048], want [1008 2048]; fc.bias [1008] is missing") {
		t.Errorf("error is %v; want one that names both tensors", err)
	}
	list := WeightsList(o)
	if !list[0].Found || list[0].Path != pth || list[0].Err == nil {
		t.Errorf("list begins with %+v", list[0])
	}
	junk := filepath.Join(dir, "junk.pth")
	if err := os.WriteFile(junk, []byte("<html>404 not found</html>"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyWeights(junk, o); err == nil || !strings.Contains(err.Error(), "not a torch file") {
		t.Errorf("a web page: %v", err)
	}
}
