//go:build native && cgo

package extract

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/oracle"
)

func testGenerator(t *testing.T, name, mapping string, getenv func(string) string) *Generator {
	t.Helper()
	o := GeneratorOptions{Getenv: getenv}
	if mapping != "" {
		o.Mapping = oracle.Golden(t, "ppl", mapping)
	}
	g, err := OpenGenerator(oracle.Golden(t, "ppl", name+".onnx"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// The peers are torch-fidelity, torchmetrics, and a transcription of StyleGAN2-ADA's metric (scripts/golden/ppl.py): the same
// generator, latents and weights. The peers' float32 networks see steps of 1e-4 with an error of their own.
func TestPPLGolden(t *testing.T) {
	getenv := withRuntime(t)
	var want struct {
		Ends  []float32
		Times []float64
		Cases []struct {
			Rule, Model, Space, Interpolate string
			Epsilon, Value                  float64
			Full, Crop                      bool
		}
	}
	oracle.GoldenJSON(t, &want, "ppl", "lengths.json")
	worst := 0.0
	for _, c := range want.Cases {
		what := fmt.Sprintf("%s, %s, %s, %s, ε %g, full %t, crop %t", c.Rule, c.Model, c.Space, c.Interpolate, c.Epsilon, c.Full, c.Crop)
		rule, err := fid.FindPPLRule(c.Rule)
		if err != nil {
			t.Fatal(err)
		}
		mapping := ""
		if c.Rule == "stylegan" {
			mapping = "mapping.onnx"
		}
		l := openTestLPIPS(t, "vgg", rule.LPIPS, 1, false)
		o := PathOptions{Rule: rule, Epsilon: c.Epsilon, Space: c.Space, Interpolate: c.Interpolate, Full: c.Full, Crop: c.Crop, Ends: want.Ends}
		if c.Full {
			o.Times = want.Times
		}
		models := []string{c.Model}
		if c.Model == "levels" {
			models = append(models, "generator") // whose pictures are cut to 8 bits here
		}
		for _, model := range models {
			d, err := PathLengths(context.Background(), testGenerator(t, model, mapping, getenv), l, o)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			v, err := fid.PPL(d, rule, fid.IntervalOptions{Replicates: 20})
			if err != nil {
				t.Fatal(err)
			}
			off := math.Abs(v.Value-c.Value) / c.Value
			t.Logf("%s: %.9g, want %.9g: off by %.1e", what, v.Value, c.Value, off)
			if worst = max(worst, off); !(off <= 1e-4) {
				t.Errorf("%s: %.9g, want %.9g: off by %.1e", what, v.Value, c.Value, off)
			}
		}
	}
	if len(want.Cases) != 12 {
		t.Errorf("%d cases, want 12", len(want.Cases))
	}
	t.Logf("off by %.1e at most", worst)
}

// A path's length depends on the seed and its number alone, not on how many there are; other seeds are other paths.
func TestPathLengthsAlone(t *testing.T) {
	getenv := withRuntime(t)
	g, l := testGenerator(t, "small", "", getenv), openTestLPIPS(t, "alex", "", 1, false)
	rule, _ := fid.FindPPLRule("torchmetrics")
	of := func(n int, seed uint64, full bool) []float64 {
		d, err := PathLengths(context.Background(), g, l, PathOptions{Rule: rule, N: n, Epsilon: 0.1, Seed: seed, Full: full})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	many := of(pathsAtOnce+3, 5, true)
	if few := of(3, 5, true); !slices.Equal(few, many[:3]) {
		t.Errorf("%v of three, %v of more", few, many[:3])
	}
	if other := of(3, 6, true); other[0] == many[0] {
		t.Error("two seeds have one path")
	}
	if end := of(3, 5, false); end[0] == many[0] {
		t.Error("the beginning of a path is its middle")
	}
}

func TestPathRefuses(t *testing.T) {
	getenv := withRuntime(t)
	g, mapped := testGenerator(t, "generator", "", getenv), testGenerator(t, "generator", "mapping.onnx", getenv)
	l := openTestLPIPS(t, "alex", "", 1, false)
	rule, _ := fid.FindPPLRule("")
	for want, c := range map[string]struct {
		g *Generator
		o PathOptions
	}{
		"needs a mapping":           {g, PathOptions{Space: "w"}},
		`no space "v"`:              {mapped, PathOptions{Space: "v"}},
		`no interpolation "spline"`: {g, PathOptions{Interpolate: "spline"}},
		"a step of -1":              {g, PathOptions{Epsilon: -1}},
		"-3 paths":                  {g, PathOptions{N: -3}},
		"5 values of latents":       {g, PathOptions{N: 2, Ends: make([]float32, 5)}},
		"1 times of 2 steps":        {g, PathOptions{N: 2, Full: true, Times: make([]float64, 1)}},
	} {
		c.o.Rule = rule
		if _, err := PathLengths(context.Background(), c.g, l, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := PathLengths(ctx, g, l, PathOptions{Rule: rule, N: 2}); err != context.Canceled {
		t.Errorf("%v", err)
	}
	for want, files := range map[string][2]string{
		"want a picture, [3 or 1, height, width]": {"mapping.onnx", ""},
		"and [3 72 72] was asked for":             {"generator.onnx", "generator.onnx"},
		"no-such.onnx":                            {"../ppl/no-such.onnx", ""},
	} {
		o := GeneratorOptions{Getenv: getenv}
		dir := strings.TrimSuffix(oracle.Golden(t, "ppl", "mapping.onnx"), "mapping.onnx")
		if files[1] != "" {
			o.Mapping = dir + files[1]
		}
		if _, err := OpenGenerator(dir+files[0], o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := OpenGenerator(oracle.Golden(t, "ppl", "levels.onnx"), GeneratorOptions{Range: "unit", Getenv: getenv}); err == nil || !strings.Contains(err.Error(), "8-bit levels") {
		t.Errorf("%v", err)
	}
}
