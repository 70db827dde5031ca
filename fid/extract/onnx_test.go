package extract

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

const goodSidecar = `{"preset": "torchvision", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}`

func TestONNXSidecar(t *testing.T) {
	s, err := ParseONNXSidecar([]byte(goodSidecar))
	if err != nil || s.Preset != "torchvision" || s.Std[2] != 0.225 {
		t.Fatalf("%+v, %v", s, err)
	}
	with := func(field string) string { return strings.TrimSuffix(goodSidecar, "}") + ", " + field + "}" }
	for in, want := range map[string]string{
		`[]`: "want a JSON object", `{"mean": [0, 0, 0], "std": [1, 1, 1]}`: "preset is missing", `{"preset": "cmmd", "std": [1, 1, 1]}`: "mean is missing",
		`{"preset": "cmmd", "mean": [0, 0, 0]}`:                    "std is missing",
		`{"preset": "", "mean": [0, 0, 0], "std": [1, 1, 1]}`:      "preset is empty",
		`{"preset": "clean", "mean": [0, 0, 0], "std": [1, 1, 1]}`: `no preset "clean"`,
		`{"preset": "cmmd", "mean": [0, 0, 0], "std": [1, 0, 1]}`:  "std above 0",
		`{"preset": "cmmd", "mean": [0, 0, 0], "std": [1, 1]}`:     "std above 0",
		with(`"sise": 12`): "sise", with(`"layout": "nchw"`): `layout is "nchw"`, with(`"channels": "grb"`): "channels is", with(`"pool": "max"`): "pool is",
		with(`"size": -1`): "size -1", with(`"skip": 1`): "skip with pool mean alone", with(`"batch": 100000`): "batch 100000",
	} {
		if _, err := ParseONNXSidecar([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; wanted %q", in, err, want)
		}
	}
}

func FuzzONNXSidecar(f *testing.F) {
	f.Add([]byte(goodSidecar))
	for _, name := range []string{"plain", "tokens", "map"} {
		b, err := os.ReadFile(oracle.Golden(f, "onnxencoder", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseONNXSidecar(b)
		if err == nil && (s.Size < 0 || s.Batch < 0 || !(s.Std[0] > 0)) {
			t.Errorf("%+v was taken", s)
		}
	})
}

// What is wrong before the file is opened, in any flavour.
func TestONNXRefuses(t *testing.T) {
	dir := t.TempDir()
	lone := filepath.Join(dir, "lone.onnx")
	if err := os.WriteFile(lone, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	for tap, want := range map[string]string{"": "want a file", lone: `at least {"preset": `, filepath.Join(dir, "none.onnx"): "no such file"} {
		if _, err := Open(ONNXName, Options{Tap: tap}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; wanted %q", tap, err, want)
		}
	}
	if _, err := Open(ONNXName, Options{Tap: lone, Parts: []string{"logits"}}); err == nil || !strings.Contains(err.Error(), "no part") {
		t.Errorf("a part: %v", err)
	}
	e, _ := Find(ONNXName)
	if err := e.CheckTap("net.pth"); err == nil {
		t.Error("net.pth was taken")
	}
}
