package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

func setup(*gpu.Device) (func(), error) { return func() {}, nil }

func TestCaseRefused(t *testing.T) {
	good := Case{Name: "a.b", Kernel: "a_f32", Shape: "4", Bytes: 1, Flops: 1, Peak: "f32", Goal: 0.7, Setup: setup}
	if why := good.wrong(); why != "" {
		t.Fatalf("a good case is refused: %s", why)
	}
	for want, spoil := range map[string]func(c *Case){
		"bar or a slash":  func(c *Case) { c.Name = "a|b" },
		"taken":           func(c *Case) { c.Name = "probe.triad" },
		"not one of":      func(c *Case) { c.Peak = "tf32" },
		"no bytes":        func(c *Case) { c.Bytes = 0 },
		"no operations":   func(c *Case) { c.Flops = 0 },
		"not a fraction":  func(c *Case) { c.Goal = 70 },
		"no kernel":       func(c *Case) { c.Setup = nil },
		"part \"\":":      func(c *Case) { c.Parts = []Part{{Bytes: 1, Peak: "memory"}} },
		"\"b\": no bytes": func(c *Case) { c.Parts = []Part{{Kernel: "b", Peak: "memory"}} },
		"\"b\": no oper":  func(c *Case) { c.Parts = []Part{{Kernel: "b", Bytes: 1, Peak: "f32"}} },
		"there twice":     func(c *Case) { c.Parts = []Part{{"b", 1, 0, "memory"}, {"b", 1, 0, "memory"}} },
	} {
		c := good
		spoil(&c)
		if why := c.wrong(); !strings.Contains(why, want) {
			t.Errorf("%q, want %q", why, want)
		}
	}
}

func TestPeaks(t *testing.T) {
	for name, want := range map[string]string{
		"NVIDIA H100 80GB HBM3": "H100 SXM", "NVIDIA H100 PCIe": "H100 PCIe", "NVIDIA H200": "H200 SXM",
		"NVIDIA A100-SXM4-80GB": "A100 80 GB", "NVIDIA A100-SXM4-40GB": "A100 SXM 40 GB", "Host": "",
	} {
		if got, p := peaksOf(name); got != want || (p == nil) != (want == "") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// On an H100: 3.35 MB take 1 us; 989 GFLOP in bf16 take 1 ms.
	memory := Part{Peak: "memory", Bytes: 3.35e6, Flops: 1e15}
	if got := h100.roofline(memory); math.Abs(got-1e-6) > 1e-18 {
		t.Errorf("memory: %g s", got)
	}
	units := Part{Peak: "bf16", Bytes: 3.35e6, Flops: 989e9}
	if got := h100.roofline(units); math.Abs(got-1e-3) > 1e-15 {
		t.Errorf("units: %g s", got)
	}
	units.Bytes = 2 * 3.35e9 // now the bytes take longer
	if got := h100.roofline(units); math.Abs(got-2e-3) > 1e-15 {
		t.Errorf("units with many bytes: %g s", got)
	}
	if got := (peaks{"memory": 1}).roofline(units); got != 0 {
		t.Errorf("without a figure: %g s", got)
	}
}

func TestMedianAndSpread(t *testing.T) {
	if got := median([]float64{1, 2, 10}); got != 2 {
		t.Errorf("odd: %g", got)
	}
	if got := median([]float64{1, 2, 4, 10}); got != 3 {
		t.Errorf("even: %g", got)
	}
	// Of ten, one at each end is left out: (9 - 2) / 5.5.
	if got := spread([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 100}); math.Abs(got-7/5.5) > 1e-12 {
		t.Errorf("spread: %g", got)
	}
}

func TestComparison(t *testing.T) {
	p := &peer{Torch: "2", Rows: map[string]peerRow{"eigh b=1 n=2": {Cold: 40, Hot: 30, Best: "linalg.eigh"}, "sort n=1": {Error: "no"}}}
	for _, c := range []struct {
		r     result
		ratio float64
		peer  string
	}{
		{result{Torch: "eigh b=1 n=2", Peak: "memory", Cold: 20, Hot: 10}, 2, "linalg.eigh"},
		{result{Torch: "eigh b=1 n=2", Peak: "f32", Cold: 20, Hot: 10}, 3, "linalg.eigh"},
		{result{Torch: "sort n=1", Peak: "memory", Cold: 20}, 0, "no"},
		{result{Torch: "", Peak: "memory", Cold: 20}, 0, ""},
		{result{Torch: "cdist n=1", Peak: "memory", Cold: 20}, 0, ""},
	} {
		r := c.r
		p.compare(&r)
		if r.Ratio != c.ratio || r.Peer != c.peer {
			t.Errorf("%q: ratio %g, peer %q; want %g, %q", r.Torch, r.Ratio, r.Peer, c.ratio, c.peer)
		}
	}
}

func TestMarkdown(t *testing.T) {
	r := &report{Device: "NVIDIA H100 80GB HBM3", Figures: "H100 SXM", Peaks: h100, Limits: peaks{"memory": 3e12}, Reps: 30, Results: []result{
		{Name: "a", Shape: "4x5", Peak: "memory", Bytes: 3.35e9, Cold: 2000, Hot: 1500, Reached: 0.5, Limit: 0.558, Goal: 0.8},
		{Name: "b", Shape: "6", Peak: "bf16", Bytes: 1, Flops: 989e9, Cold: 1, Hot: 1250, Reached: 0.8, Goal: 0.7, TorchUS: 1000, Ratio: 0.8, Peer: "flash", Plain: "a"},
		{Name: "c", Error: "it broke"},
	}}
	got := r.markdown()
	for _, want := range []string{
		"Roofline by the figures of H100 SXM: 3.35 TB/s, 989 TFLOP/s",
		"| a | 4x5 | 2000.0 | 1500.0 | 1.68e+03 |  | memory | 50.0 % | 55.8 % | 80 % missed |  |  |  |\n",
		"| b | 6 | 1.0 | 1250.0 | 8e-07 | 791 | bf16 | 80.0 % |  | 70 % | 1000.0 | 0.80 | flash |\n",
		"- b is 1.6 times as fast as a\n",
		"- c: it broke\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// The logs of three programs: one good, one with a failed test, one that died.
func TestSumUp(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("ops.log", `=== RUN   TestA
--- PASS: TestA (0.10s)
    --- PASS: TestA/cpu (0.00s)
    --- PASS: TestA/cuda (0.00s)
        --- PASS: TestA/cuda/n=4 (0.00s)
--- SKIP: TestB (0.00s)
    b_test.go:7: needs two GPUs
PASS
`)
	write("ops.rc", "0\n")
	sum := func() (summary, error) {
		err := sumUp(dir, filepath.Join(dir, "s.json"), filepath.Join(dir, "s.md"))
		b, e := os.ReadFile(filepath.Join(dir, "s.json"))
		if e != nil {
			t.Fatal(e)
		}
		var s summary
		if e := json.Unmarshal(b, &s); e != nil {
			t.Fatal(e)
		}
		return s, err
	}
	s, err := sum()
	if err != nil || s.Passed != 4 || s.OnDevice != 2 || s.Skipped != 1 || s.Programs[0].Skips[0] != "TestB: b_test.go:7: needs two GPUs" {
		t.Errorf("good: %+v, %v", s, err)
	}
	write("gpu.log", "--- FAIL: TestC (0.00s)\n    --- FAIL: TestC/host (0.00s)\nFAIL\n")
	write("gpu.rc", "1\n")
	write("cuda.log", "=== RUN   TestD\nfatal error: unexpected signal\n")
	write("cuda.rc", "2\n")
	s, err = sum()
	if err == nil || !strings.Contains(err.Error(), "2 programs and 2 tests failed") || s.Failed != 2 || !strings.Contains(s.Programs[0].Tail, "unexpected signal") {
		t.Errorf("bad: %+v, %v", s, err)
	}
	for _, f := range []string{"gpu.log", "gpu.rc", "cuda.log", "cuda.rc"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	write("ops.log", "--- PASS: TestA (0.10s)\n    --- PASS: TestA/cpu (0.00s)\n")
	if _, err = sum(); err == nil || !strings.Contains(err.Error(), "no test ran on a device") {
		t.Errorf("without a device: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "ops.log")); err != nil {
		t.Fatal(err)
	}
	if err := sumUp(dir, "", ""); err == nil {
		t.Error("a folder without logs is no error")
	}
}

// The kernels of the last run alone, each summed up, in the order of their first launch.
func TestReadTrace(t *testing.T) {
	text := "fidlab: early_f32 9.0 us  x\n" + runMark + "fidlab: a_f32                            99.0 us  1x1\n" +
		runMark + "fidlab: a_f32                            10.5 us  1x1\nfidlab: b_f32 2.0 us  1x1\nother\nfidlab: a_f32 1.0 us  1x1\n"
	got := readTrace(text)
	if want := []launch{{"a_f32", 2, 11.5, 0}, {"b_f32", 1, 2, 0}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r := &report{Results: []result{{Name: "case", Launches: got}}}
	if table := r.byKernel(); !strings.Contains(table, "| case | a_f32 | 2 | 11.5 | 85 % |  |\n| case | b_f32 | 1 | 2.0 | 15 % |  |\n") {
		t.Error(table)
	}
}

// On an H100 3.35 MB take 1 us and 67 MFLOP of f32 as well.
func TestHold(t *testing.T) {
	parts := []Part{{"a_f32", 3.35e6, 0, "memory"}, {"b_f32", 1, 134e6, "f32"}}
	list := []launch{{"a_f32", 3, 12, 0}, {"b_f32", 1, 4, 0}, {"c_f32", 1, 1, 0}}
	if missing := hold(Case{Kernel: "a_f32", Bytes: 1, Peak: "memory", Parts: parts}, list, h100); missing != "" {
		t.Errorf("%s is missing", missing)
	}
	for i, want := range []float64{0.25, 0.5, 0} {
		if got := list[i].Reached; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s reached %g, want %g", list[i].Kernel, got, want)
		}
	}
	if missing := hold(Case{Parts: parts}, list[:1], h100); missing != "b_f32" {
		t.Errorf("missing is %q, want b_f32", missing)
	}
	one := []launch{{"a_f32", 1, 4, 0}}
	if hold(Case{Kernel: "a_f32", Bytes: 3.35e6, Peak: "memory"}, one, h100); math.Abs(one[0].Reached-0.25) > 1e-12 {
		t.Errorf("the one kernel of a case reached %g, want 0.25", one[0].Reached)
	}
	r := &report{Results: []result{{Name: "case", Launches: list}}}
	if table := r.byKernel(); !strings.Contains(table, "| case | b_f32 | 1 | 4.0 | 24 % | 50.0 % |\n") {
		t.Error(table)
	}
}
