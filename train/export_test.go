package train

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// finished is the checkpoint of a short run which also keeps the weights of a network that it does not train.
func finished(t *testing.T, change func(job *Job, s *Settings)) (path string, saved *Saved) {
	t.Helper()
	s := settings(6)
	tower := nn.NewParams(gpu.CPU(), gpu.Float32)
	nn.NewLinear(tower.At("in"), 3, 2)
	tower.Init(9)
	job := testJob(s, 8)
	job.State = []nn.Part{{Prefix: "tower.", Of: tower}}
	if change != nil {
		change(job, &s)
	}
	r, err := runDir(t, t.Context(), job, Config{Settings: s, Dir: t.TempDir(), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if saved, err = OpenSaved(r.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { saved.Close() })
	return r.Path, saved
}

// open reads a file of tensors.
func open(t *testing.T, path string) *tensor.Safetensors {
	t.Helper()
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t *testing.T, f *tensor.Safetensors, name string) (tensor.DType, []float32) {
	t.Helper()
	a, err := f.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return a.DType, a.F32()
}

// spoiled is a copy of a checkpoint with another value in a tensor.
func spoiled(t *testing.T, s *Saved, name string, value float32) *Saved {
	t.Helper()
	f := open(t, s.Path)
	var entries []tensor.SafetensorsEntry
	for _, n := range f.Names() {
		a, err := f.Read(n)
		if err != nil {
			t.Fatal(err)
		}
		if n == name {
			v := a.F32()
			v[len(v)-1] = value
			a = tensor.FromF32(v, a.Shape...)
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: n, Array: a})
	}
	path := filepath.Join(t.TempDir(), CheckpointName)
	if err := tensor.WriteSafetensors(path, entries, f.Meta); err != nil {
		t.Fatal(err)
	}
	out, err := OpenSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}

// An export has one average, rounded as said, what the run does not train bit for bit, and what was configured.
func TestExport(t *testing.T) {
	run, saved := finished(t, nil)
	path := filepath.Join(t.TempDir(), "circle.safetensors")
	info, err := saved.Export(path, ExportOptions{Average: 0.99, Half: true, Log: "step,loss\n5,1\n"})
	if err != nil {
		t.Fatal(err)
	}
	from, to := open(t, run), open(t, path)
	want := []string{"ema0.99.net.first.bias", "ema0.99.net.first.weight", "ema0.99.net.last.bias", "ema0.99.net.last.weight", "tower.in.bias", "tower.in.weight"}
	if got := to.Names(); !slices.Equal(got, want) {
		t.Fatalf("the export has %q, want %q", got, want)
	}
	var worst float64
	for _, n := range want {
		fromType, a := read(t, from, n)
		toType, b := read(t, to, n)
		if strings.HasPrefix(n, "tower.") {
			if toType != fromType || !slices.Equal(a, b) {
				t.Errorf("%s, which is not trained, was changed", n)
			}
			continue
		}
		if toType != tensor.F16 {
			t.Errorf("%s is %v", n, toType)
		}
		for i, v := range a {
			d := math.Abs(float64(v) - float64(b[i]))
			if d > math.Abs(float64(v))*0x1p-11 { // half a unit of 11 bits; the values are no subnormal ones
				t.Errorf("%s: %g became %g", n, v, b[i])
			}
			if d > worst {
				worst = d
			}
		}
	}
	if worst == 0 || info.Rounding != worst || info.Count != 2*8+8+8*2+2+3*2+2 || info.Tensors != 6 {
		t.Errorf("the export says %+v; the largest error is %g", info, worst)
	}
	for _, k := range []string{metaConfig, metaProgress, metaVersion} {
		if to.Meta[k] == "" || to.Meta[k] != from.Meta[k] {
			t.Errorf("%s is %q, in the run's checkpoint %q", k, to.Meta[k], from.Meta[k])
		}
	}
	again := filepath.Join(t.TempDir(), "again.safetensors")
	if _, err := saved.Export(again, ExportOptions{Average: 0.99, Half: true, Log: "step,loss\n5,1\n"}); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(path)
	b, _ := os.ReadFile(again)
	if string(a) != string(b) {
		t.Error("the same export has other bytes the second time")
	}
}

// load loads the network of testJob.
func load(s *Saved, decay float64) ([]float32, error) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	nn.NewLinear(net.At("first"), 2, 8)
	nn.NewLinear(net.At("last"), 8, 2)
	net.Init(0)
	err := s.Load(net, "net", decay)
	return net.Value().F32(), err
}

// What Load gives of an export in float32 is what it gives of the run, bit for bit; in float16, the rounded values.
func TestExportLoads(t *testing.T) {
	_, saved := finished(t, nil)
	for _, c := range []struct {
		average float64
		half    bool
	}{{0.99, false}, {0.9, false}, {0, false}, {0.9, true}, {0, true}} {
		path := filepath.Join(t.TempDir(), "circle.safetensors")
		info, err := saved.Export(path, ExportOptions{Average: c.average, Half: c.half})
		if err != nil {
			t.Fatal(err)
		}
		x, err := OpenSaved(path)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if x.Job != "circle" || x.Step != 6 || x.Version != "v1" || x.Settings.Rate != saved.Settings.Rate || !slices.Equal(x.Averages(), []float64{c.average}) || x.Log() != "" {
			t.Errorf("%+v: %+v", c, x)
		}
		want, err := load(saved, c.average)
		if err != nil {
			t.Fatal(err)
		}
		got, err := load(x, c.average)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if d := math.Abs(float64(v) - float64(got[i])); d > info.Rounding || c.half != (info.Rounding > 0) {
				t.Fatalf("%+v: value %d is %g, of the run %g; rounding %g", c, i, got[i], v, info.Rounding)
			}
		}
		for _, other := range []float64{0, 0.9, 0.99} {
			if _, err := load(x, other); (err == nil) != (other == c.average) {
				t.Errorf("%+v: the average %g: %v", c, other, err)
			} else if err != nil && !strings.Contains(err.Error(), "alone") {
				t.Errorf("%+v: the average %g: %v does not say what there is", c, other, err)
			}
		}
		if _, err := x.Export(filepath.Join(t.TempDir(), "b.safetensors"), ExportOptions{}); err == nil || !strings.Contains(err.Error(), "exported already") {
			t.Errorf("an export of an export: %v", err)
		}
	}
}

// Without averages the weights are all there is, and they are rounded.
func TestExportWithoutAverages(t *testing.T) {
	_, saved := finished(t, func(_ *Job, s *Settings) { s.EMA = nil })
	if !slices.Equal(saved.Averages(), []float64{0}) {
		t.Errorf("averages %v", saved.Averages())
	}
	path := filepath.Join(t.TempDir(), "circle.safetensors")
	if _, err := saved.Export(path, ExportOptions{Half: true}); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	for _, n := range f.Names() {
		if d, _, _ := f.Shape(n); d != tensor.F16 {
			t.Errorf("%s is %v", n, d)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	run, saved := finished(t, nil)
	dir := t.TempDir()
	path := filepath.Join(dir, "circle.safetensors")
	if _, err := saved.Export(path, ExportOptions{Average: 0.5}); err == nil || !strings.Contains(err.Error(), "no average of decay 0.5; it has [0.9 0.99]") {
		t.Errorf("an average that was not kept: %v", err)
	}
	if _, err := saved.Export(filepath.Join(dir, "none", "a.safetensors"), ExportOptions{}); err == nil {
		t.Error("a folder that is not there: no error")
	}
	// Neither a value that float16 lacks nor what is no number.
	for _, bad := range []float32{70000, float32(math.NaN())} {
		_, err := spoiled(t, saved, "ema0.9.net.first.weight", bad).Export(path, ExportOptions{Average: 0.9, Half: true})
		if err == nil || !strings.Contains(err.Error(), "ema0.9.net.first.weight") || !strings.Contains(err.Error(), "float16 cannot hold") {
			t.Errorf("%g: error %v", bad, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("%q were left", left)
	}
	// It is nothing to go on from.
	to := filepath.Join(dir, CheckpointName)
	if _, err := saved.Export(to, ExportOptions{Average: 0.99}); err != nil {
		t.Fatal(err)
	}
	_, err := runDir(t, t.Context(), testJob(settings(6), 8), Config{Settings: settings(6), Dir: dir, Resume: true})
	if err == nil || !strings.Contains(err.Error(), "it was exported, without the optimiser") {
		t.Errorf("a run that goes on from an export: %v", err)
	}
	// What it says about itself can be read, or it is refused.
	f := open(t, run)
	bad := filepath.Join(dir, "bad.safetensors")
	meta := map[string]string{metaConfig: f.Meta[metaConfig], metaProgress: f.Meta[metaProgress], metaExport: "{"}
	if err := tensor.WriteSafetensors(bad, nil, meta); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSaved(bad); err == nil || !strings.Contains(err.Error(), metaExport) {
		t.Errorf("an export's remarks that are no JSON: %v", err)
	}
}
