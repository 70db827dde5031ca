//go:build native && cgo

package extract

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/tensor"
)

// withRuntime finds the library that make setup installs, or another that is here.
func withRuntime(t testing.TB) func(string) string {
	t.Helper()
	getenv := func(name string) string {
		if v := os.Getenv(name); v != "" || name != onnx.LibraryEnv {
			return v
		}
		if at, err := filepath.Abs(filepath.Join("..", "..", ".onnx")); err == nil {
			if _, err := os.Stat(at); err == nil {
				return at
			}
		}
		return ""
	}
	if _, _, err := onnx.Library(getenv); err != nil {
		t.Skipf("%v (make setup installs it where pip is)", err)
	}
	return getenv
}

// Features of three encoders are those of onnxruntime in Python behind torchvision's transforms: features as they are, tokens of
// channels-last pictures of a size that the file leaves open, maps of two pictures at a time in half precision. They do not depend on
// how pictures are grouped.
func TestONNXGolden(t *testing.T) {
	getenv := withRuntime(t)
	var want map[string][][]float64
	oracle.GoldenJSON(t, &want, "onnxencoder", "features.json")
	raw, err := tensor.ReadNPY(oracle.Golden(t, "onnxencoder", "pictures.npy"))
	if err != nil {
		t.Fatal(err)
	}
	h, w := raw.Shape[1], raw.Shape[2]
	var pictures []*imageio.Image
	for i := range raw.Shape[0] {
		pictures = append(pictures, &imageio.Image{Width: w, Height: h, Pix: raw.Data[i*h*w*3 : (i+1)*h*w*3]})
	}
	for name, tol := range map[string]float64{"plain": 1e-6, "tokens": 1e-6, "map": 1e-3} { // half precision rounds to 5e-4
		x, err := Open(ONNXName, Options{Tap: oracle.Golden(t, "onnxencoder", name+".onnx"), Getenv: getenv})
		if err != nil {
			t.Fatal(err)
		}
		d := x.Info().Dim
		if d != len(want[name][0]) || x.Info().Name != "onnx:"+name+".onnx" || len(x.Info().SHA256) != 64 {
			t.Fatalf("%s: %+v, want %d features", name, x.Info(), len(want[name][0]))
		}
		for _, group := range []int{1, 2, x.Batch()} {
			group = min(group, x.Batch())
			for i := 0; i < len(pictures); i += group {
				part := pictures[i:min(i+group, len(pictures))]
				out := make([]float32, len(part)*d)
				if err := x.Features(nil, part, out); err != nil {
					t.Fatal(err)
				}
				for k, v := range out {
					if w := want[name][i+k/d][k%d]; math.Abs(float64(v)-w) > tol {
						t.Errorf("%s in groups of %d: picture %d, feature %d is %g, want %g", name, group, i+k/d, k%d, v, w)
					}
				}
			}
		}
		x.(interface{ Close() }).Close()
	}
}

// A sidecar that does not fit the file is refused with what the file has.
func TestONNXDoesNotFit(t *testing.T) {
	getenv := withRuntime(t)
	base := `"preset": "dgm-eval", "mean": [0, 0, 0], "std": [1, 1, 1]`
	for _, c := range []struct{ model, fields, want string }{
		{"tokens", ``, "leaves open what the input x"},
		{"tokens", `, "size": 12, "layout": "hwc"`, "leaves open what the output tokens"},
		{"tokens", `, "size": 12, "layout": "hwc", "output_shape": [9, 7]`, "say pool"},
		{"tokens", `, "size": 12, "layout": "hwc", "output_shape": [9, 7], "pool": "spatial"`, "pool spatial wants"},
		{"tokens", `, "size": 12, "layout": "hwc", "output_shape": [9, 7], "pool": "mean", "skip": 9`, "more than 9 tokens"},
		{"tokens", `, "size": 12, "output_shape": [9, 7], "pool": "mean"`, "[3 12 12] was asked for"},
		{"plain", `, "size": 32`, "[3 32 32] was asked for"},
		{"plain", `, "layout": "hwc"`, "want 3 channels and a square"},
		{"plain", `, "output": "z"`, `no output "z"; its inputs are [x float32[-1 3 16 16]]`},
		{"plain", `, "output_shape": [9]`, "[9] was asked for"},
		{"map", `, "batch": 3, "pool": "spatial"`, "is of 2 pictures, and 3 are to be given"},
		{"map", `, "pool": "first"`, "pool first wants"},
	} {
		dir := t.TempDir()
		b, err := os.ReadFile(oracle.Golden(t, "onnxencoder", c.model+".onnx"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "net.onnx")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "net.json"), []byte("{"+base+c.fields+"}"), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(ONNXName, Options{Tap: path, Getenv: getenv}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v; wanted %q", c.model, c.fields, err, c.want)
		}
	}
	// Another network than encoders.
	if _, err := onnx.OpenEncoder(oracle.Golden(t, "onnx", "unet.onnx"), onnx.EncoderSpec{}, onnx.Options{Getenv: getenv}); err == nil || !strings.Contains(err.Error(), "want one input") {
		t.Errorf("a denoiser: %v", err)
	}
}

var _ fid.Extractor = (*onnxNetwork)(nil)
