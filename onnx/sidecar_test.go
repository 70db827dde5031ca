package onnx_test

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/onnx"
)

func parse(t *testing.T, text string) *onnx.Sidecar {
	t.Helper()
	s, err := onnx.ParseSidecar([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// The paths that sidecars describe have the noise levels of their formulas.
func TestSidecarPaths(t *testing.T) {
	abar := func(betas ...float64) float64 {
		a := 1.0
		for _, b := range betas {
			a *= 1 - b
		}
		return math.Sqrt((1 - a) / a)
	}
	for text, want := range map[string]struct{ t, sigma, a float64 }{
		`"vp"`:                                  {0, math.Sqrt(1e-4 / (1 - 1e-4)), math.Sqrt(1 - 1e-4)},
		`{"name": "vp"}`:                        {0, math.Sqrt(1e-4 / (1 - 1e-4)), math.Sqrt(1 - 1e-4)},
		`{"name": "vp", "first": 0.01}`:         {0, math.Sqrt(0.01 / 0.99), math.Sqrt(0.99)},
		`{"name": "vp", "betas": [0.1, 0.2]}`:   {1, abar(0.1, 0.2), math.Sqrt(0.72)},
		`{"name": "vp-scaled", "steps": 2}`:     {1, abar(0.00085, 0.012), math.Sqrt((1 - 0.00085) * (1 - 0.012))},
		`{"name": "vp", "zero_snr": true}`:      {999, math.Inf(1), 0},
		`{"name": "vp-cosine", "steps": 10}`:    {9, math.Inf(-1), -1}, // below
		`{"name": "ve", "sigma_max": 50}`:       {50, 50, 1},
		`{"name": "edm", "sigma_data": 2}`:      {math.Log(2) / 4, 2, 1 / math.Sqrt(8)},
		`{"name": "trigflow", "sigma_data": 1}`: {math.Pi / 4, 1, math.Sqrt(0.5)},
		`"flow"`:                                {0.25, 1.0 / 3, 0.75},
		`"flow-reversed"`:                       {0.25, 3, 0.25},
	} {
		s := parse(t, `{"prediction": "x0", "path": `+text+`}`)
		p, _, err := s.Convention()
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if strings.Contains(text, "cosine") {
			// Nichol and Dhariwal's curve is 0 at the end: the last beta is the cap, 0.999.
			f := func(u float64) float64 { return math.Pow(math.Cos((u+0.008)/1.008*math.Pi/2), 2) }
			a := f(0.9) / f(0) * (1 - 0.999)
			want.sigma, want.a = math.Sqrt((1-a)/a), math.Sqrt(a)
		}
		if got := p.Sigma(want.t); !nearly(got, want.sigma) {
			t.Errorf("%s: sigma(%g) is %g, want %g", text, want.t, got, want.sigma)
		}
		if a, _ := p.Input(p.Sigma(want.t)); !nearly(a, want.a) {
			t.Errorf("%s: input scaling at %g is %g, want %g", text, want.t, a, want.a)
		}
	}
}

func nearly(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-9*math.Abs(b) }

// The scaling of the input replaces the path's.
func TestSidecarInput(t *testing.T) {
	for input, want := range map[string][2]float64{"ve": {1, 3}, "vp": {1 / math.Sqrt(10), 3 / math.Sqrt(10)}, "flow": {0.25, 0.75}, "path": {1 / math.Sqrt(10), 3 / math.Sqrt(10)}} {
		p, pred, err := parse(t, `{"prediction": "epsilon", "path": "vp", "input": "`+input+`"}`).Convention()
		if err != nil || pred != diffusion.PredEps {
			t.Fatal(pred, err)
		}
		if a, b := p.Input(3); !nearly(a, want[0]) || !nearly(b, want[1]) {
			t.Errorf("input %s: %g and %g, want %v", input, a, b, want)
		}
	}
}

func TestSidecarData(t *testing.T) {
	for text, want := range map[string][2]float64{
		``:                   {0, 1},
		`, "range": [-1, 1]`: {0, 0.5},
		`, "range": [0, 1], "mean": 0.13, "dev": 0.3`: {0.13, 0.3},
	} {
		if mean, dev := parse(t, `{"prediction": "v", "path": "vp"`+text+`}`).Data(); mean != want[0] || dev != want[1] {
			t.Errorf("%s: mean %g, deviation %g, want %v", text, mean, dev, want)
		}
	}
}

func TestSidecarRefused(t *testing.T) {
	for want, text := range map[string]string{
		`wanted {"prediction"`:           `[]`,
		"unexpected EOF":                 `{"prediction": "eps"`,
		"something follows":              `{"prediction": "eps", "path": "vp"} {}`,
		`unknown field "predicton"`:      `{"predicton": "eps", "path": "vp"}`,
		"no prediction \"noise\"":        `{"prediction": "noise", "path": "vp"}`,
		"no prediction \"\"":             `{"path": "vp"}`,
		"no path \"\"":                   `{"prediction": "eps"}`,
		"no path \"ddpm\"":               `{"prediction": "eps", "path": "ddpm"}`,
		`unknown field "beta"`:           `{"prediction": "eps", "path": {"name": "vp", "beta": 1}}`,
		"beta 1 of 2 is 3":               `{"prediction": "eps", "path": {"name": "vp", "betas": [0.1, 3]}}`,
		"the table says all":             `{"prediction": "eps", "path": {"name": "vp", "betas": [0.1, 0.2], "steps": 2}}`,
		"a table of 1 steps":             `{"prediction": "eps", "path": {"name": "vp", "steps": 1}}`,
		"has a table of betas":           `{"prediction": "eps", "path": {"name": "vp", "sigma_max": 3}}`,
		"has no first and last":          `{"prediction": "eps", "path": {"name": "vp-cosine", "first": 0.1}}`,
		"flow has no parameters":         `{"prediction": "flow", "path": {"name": "flow", "steps": 4}}`,
		"0 < sigma_min < sigma_max":      `{"prediction": "x0", "path": {"name": "ve", "sigma_max": 1e-3}}`,
		"wanted sigma_data":              `{"prediction": "edm", "path": {"name": "edm", "sigma_data": -1}}`,
		"wanted what path edm takes":     `{"prediction": "edm", "path": {"name": "trigflow", "steps": 3}}`,
		"defined for the input of":       `{"prediction": "edm", "path": "ve"}`,
		"this is path edm, input ve":     `{"prediction": "edm", "path": "edm", "input": "ve"}`,
		`input: "raw"; wanted one of`:    `{"prediction": "eps", "path": "vp", "input": "raw"}`,
		`time: kind: "t"; wanted one of`: `{"prediction": "eps", "path": "vp", "time": {"kind": "t"}}`,
		"path flow has no table":         `{"prediction": "flow", "path": "flow", "time": {"kind": "index"}}`,
		"scale 0":                        `{"prediction": "eps", "path": "vp", "time": {"scale": 0}}`,
		`layout: "nchw"`:                 `{"prediction": "eps", "path": "vp", "layout": "nchw"}`,
		"range: [1 -1]":                  `{"prediction": "eps", "path": "vp", "range": [1, -1]}`,
		"range: [1]":                     `{"prediction": "eps", "path": "vp", "range": [1]}`,
		"dev 0":                          `{"prediction": "eps", "path": "vp", "dev": 0}`,
		"shape: [3 0 8]":                 `{"prediction": "eps", "path": "vp", "shape": [3, 0, 8]}`,
		"batch -1":                       `{"prediction": "eps", "path": "vp", "batch": -1}`,
		"more than 1048576 bytes":        `{"prediction": "eps", "path": "vp"}` + strings.Repeat(" ", 1<<20),
	} {
		if _, err := onnx.ParseSidecar([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s\n\terror %v, want %q", text, err, want)
		}
	}
	if _, err := onnx.ReadSidecar(filepath.Join(t.TempDir(), "m.onnx")); err == nil || !strings.Contains(err.Error(), "m.json") || !strings.Contains(err.Error(), `"prediction": "eps"`) {
		t.Errorf("missing sidecar: %v", err)
	}
}

func FuzzParseSidecar(f *testing.F) {
	f.Add([]byte(`{"prediction": "eps", "path": {"name": "vp", "betas": [0.1, 0.2], "zero_snr": true}, "time": {"kind": "sigma", "scale": 2}}`))
	f.Add([]byte(`{"prediction": "edm", "path": "edm", "range": [0, 1], "values": {"w": 1}, "no_class": 3, "shape": [1, 2]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := onnx.ParseSidecar(b)
		if err != nil {
			return
		}
		p, _, err := s.Convention()
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if most, least := p.Range(); !(p.Sigma(least) < p.Sigma(most)) {
			t.Errorf("%s: sigma from %g to %g", b, p.Sigma(most), p.Sigma(least))
		}
	})
}

// The library is searched in order, and a name that leads nowhere is an error.
func TestFindLibrary(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"HOME": filepath.Join(dir, "home"), "VIRTUAL_ENV": filepath.Join(dir, "venv")}
	getenv := func(k string) string { return env[k] }
	put := func(path ...string) string {
		p := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		return p
	}
	name := libraryFile()
	expect := func(want string) {
		t.Helper()
		if got, err := onnx.FindLibrary(getenv); err != nil || got != want {
			t.Errorf("found %q (%v), want %q", got, err, want)
		}
	}
	expect(put("home", ".local", "lib", "python3.9", "site-packages", "onnxruntime", "capi", name))
	expect(put("home", ".local", "lib", "python3.9", "site-packages", name)) // beside is before the wheel
	expect(put("venv", "lib", "python3.12", "site-packages", "onnxruntime", "capi", name))
	named := put("elsewhere", name)
	env[onnx.LibraryEnv] = named
	expect(named)
	env[onnx.LibraryEnv] = filepath.Dir(named)
	expect(named)
	for value, want := range map[string]string{filepath.Join(dir, "none"): "wanted the library's file or a folder", filepath.Join(dir, "home"): "has no"} {
		env[onnx.LibraryEnv] = value
		if _, err := onnx.FindLibrary(getenv); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), onnx.LibraryEnv) {
			t.Errorf("%s: error %v, want %q", value, err, want)
		}
	}
}

// libraryFile is the plain name on this system.
func libraryFile() string {
	switch runtime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}
