//go:build native && cgo

package sampler_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/onnx"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// openONNX opens a model of testdata, with its own sidecar for nil, and the runtime that make setup installs.
func openONNX(t testing.TB, name string, side *onnx.Sidecar) *onnx.Model {
	t.Helper()
	getenv := func(key string) string {
		if v := os.Getenv(key); v != "" || key != onnx.LibraryEnv {
			return v
		}
		if lib := filepath.Join("..", ".onnx"); exists(lib) {
			return lib
		}
		return ""
	}
	if _, err := onnx.FindLibrary(getenv); err != nil {
		t.Skipf("%v (make setup installs it where pip is)", err)
	}
	m, err := onnx.Open(oracle.Golden(t, "onnx", name+".onnx"), onnx.Options{Getenv: getenv, Sidecar: side})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// goldenArrays are those of testdata's runs.
func goldenArrays(t testing.TB) func(name string) *gpu.Tensor {
	t.Helper()
	z, err := tensor.OpenNPZ(oracle.Golden(t, "onnx", "runs.npz"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.Close() })
	return func(name string) *gpu.Tensor {
		a, err := z.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		v := a.F64()
		x := gpu.CPU().Empty(a.Shape...)
		for i := range v {
			x.F32()[i] = float32(v[i])
		}
		return x
	}
}

// Ten steps over exported U-Nets follow diffusers' pipelines to 1e-4 of the
// largest value of each state, in float32.
func TestDiffusersPipelines(t *testing.T) {
	read := goldenArrays(t)
	cases := 0
	for _, c := range []struct{ model, run, noise, solver, rule string }{
		{"unet", "unet_ddim", "noise3", "ddim", "trailing"},
		{"unet", "unet_dpmpp2m", "noise3", "dpm++2m", "linspace-drop"},
		{"text", "text_ddim", "noise4", "ddim", "trailing"},
		{"text", "text_dpmpp2m", "noise4", "dpm++2m", "linspace-drop"},
	} {
		m := openONNX(t, c.model, nil)
		var den sampler.Denoiser = sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred())
		opt := sampler.Options{N: 2, Shape: m.Shape(), State: read(c.noise)} // the pipelines start from n itself, not from B·n
		if c.model == "text" {
			den = &sampler.Guided{Den: den, Weight: 3, Null: sampler.Cond{Inputs: map[string]*gpu.Tensor{"encoder_hidden_states": read("empty").Rows(0, 1)}}}
			opt.Cond.Inputs = map[string]*gpu.Tensor{"encoder_hidden_states": read("text")}
		}
		g, err := diffusion.Build(m.Path(), diffusion.Spec{Rule: c.rule, Steps: 10})
		if err != nil {
			t.Fatal(err)
		}
		want := read(c.run)
		size := want.Len() / 11
		var worst float64
		opt.Trajectory = func(e sampler.Event) error {
			w := want.F32()[e.Step*size : (e.Step+1)*size]
			var far, largest float64
			for i, v := range e.X.F32() {
				far = max(far, math.Abs(float64(v-w[i])))
				largest = max(largest, math.Abs(float64(w[i])))
			}
			worst = max(worst, far/largest)
			return nil
		}
		if _, err := sampler.Run(context.Background(), den, solver(t, c.solver), g, opt); err != nil {
			t.Fatalf("%s: %v", c.run, err)
		}
		t.Logf("%s: at most %.2g off", c.run, worst)
		if !(worst < 1e-4) {
			t.Errorf("%s: %.3g of the largest value off, want less than 1e-4", c.run, worst)
		}
		cases++
	}
	if cases != 4 {
		t.Errorf("%d pipelines, want 4", cases)
	}
}

// Images of an ONNX model do not depend on the batch.
func TestONNXImagesDoNotDependOnBatches(t *testing.T) {
	m := openONNX(t, "unet", nil)
	g, err := diffusion.Build(m.Path(), diffusion.Spec{Rule: "trailing", Steps: 3})
	if err != nil {
		t.Fatal(err)
	}
	den := sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred())
	opt := sampler.Options{Seed: 3, N: 9, Batch: 9, Shape: m.Shape()}
	all := bits(t, den, "dpm++2m", g, opt)
	for _, batch := range []int{1, 4} {
		opt.Batch = batch
		if !slices.Equal(bits(t, den, "dpm++2m", g, opt), all) {
			t.Errorf("batches of %d give other bits", batch)
		}
	}
}

// A network that is perfect for N(0, 0.5²) draws what the closed form does.
func TestONNXGaussian(t *testing.T) {
	m := openONNX(t, "gauss", nil)
	g, err := diffusion.Build(m.Path(), diffusion.Spec{Rule: "trailing", Steps: 20})
	if err != nil {
		t.Fatal(err)
	}
	den := sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred())
	opt := sampler.Options{Seed: 1, N: 7, Shape: m.Shape(), Double: true}
	for _, name := range []string{"ddim", "dpm++2m", "euler-a"} {
		got, err := sampler.Run(context.Background(), den, solver(t, name), g, opt)
		if err != nil {
			t.Fatal(err)
		}
		want, err := sampler.Run(context.Background(), gaussian{0, 0.5}, solver(t, name), g, opt)
		if err != nil {
			t.Fatal(err)
		}
		// x, the factor and their product are rounded to 24 bits; B/A, 157 at the first level, weighs that in x0, of
		// which the next states take less than half. |x| < 4.
		for i, v := range got.X.F64() {
			if w := want.X.F64()[i]; math.Abs(v-w) > 4*3*0x1p-24*157/2 {
				t.Errorf("%s: value %d is %g, want %g", name, i, v, w)
			}
		}
	}
}

// Of a network in a file, a wrong sidecar is refused and the right one named.
func TestONNXProbe(t *testing.T) {
	for text, want := range map[string]string{
		`{"prediction": "eps", "path": "vp"`:                            "",
		`{"prediction": "eps", "path": "vp", "time": {"kind": "index"}`: "",
		`{"prediction": "x0", "path": "vp"`:                             "prediction eps on path vp",
		`{"prediction": "v", "path": "vp"`:                              "prediction eps on path vp",
		`{"prediction": "flow", "path": "vp"`:                           "prediction eps on path vp",
		`{"prediction": "eps", "path": "vp", "time": {"kind": "sigma"}`: "prediction eps on path vp, time kind path",
		`{"prediction": "eps", "path": "vp", "input": "ve"`:             "prediction eps on path vp, input path",
		`{"prediction": "eps", "path": "vp", "time": {"scale": 0.001}`:  "prediction eps on path vp, time kind path",
	} {
		side, err := onnx.ParseSidecar([]byte(text + `, "range": [-1, 1]}`))
		if err != nil {
			t.Fatal(err)
		}
		m := openONNX(t, "gauss", side)
		o := sampler.ProbeOptions{Shape: m.Shape()}
		o.Mean, o.Dev = side.Data()
		for _, v := range m.Variants() {
			o.Others = append(o.Others, sampler.Convention{Name: v.Name, Net: sampler.NetFunc(v.Forward), Path: v.Path(), Pred: v.Pred()})
		}
		err = sampler.Probe(context.Background(), sampler.Convention{Net: sampler.NetFunc(m.Forward), Path: m.Path(), Pred: m.Pred()}, o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), "; what fits is "+want)) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}
