package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/tensor"
)

var toySetting = search.Setting{Prediction: "eps", Guidance: "cfg 2", Sampler: "ddim", Model: "toy", ModelHash: "abc"}

func toyPlan(t testing.TB) (*search.Plan, *search.Levels) {
	t.Helper()
	l := levels(t, "vp", 0)
	c := search.Choice{Steps: []int{60, 150, 400}, Skips: [][]int{{}, {0, 2}, {1}}}
	p, err := search.NewPlan(c, l, toyImages(t, 2).Den.(sampler.Layered).Layers(), toySetting)
	if err != nil {
		t.Fatal(err)
	}
	return p, l
}

// A plan that was written and read gives the samples of the choice it was made
// of, bit for bit; its lists begin with the noisiest step.
func TestPlanRoundTrip(t *testing.T) {
	p, l := toyPlan(t)
	if !slices.Equal(p.Steps, []int{400, 150, 60}) || !slices.Equal(p.Times, []float64{400, 150, 60}) || !slices.Equal(p.Skips[1], []string{"values.0-1", "values.4-5"}) {
		t.Errorf("steps %v, times %v, skips %v", p.Steps, p.Times, p.Skips)
	}
	p.Record = &search.Record{Reference: "R", Seed: 1, Evaluations: 300, Search: search.Measured{Distance: 0.1, N: 500, Seed: 1}}
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := search.ReadPlan(path)
	if err != nil {
		t.Fatal(err)
	}
	draw := func(den sampler.Denoiser, steps []int) []float32 {
		g, err := l.Grid(steps)
		if err != nil {
			t.Fatal(err)
		}
		r, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g, sampler.Options{N: 20, Seed: 3, Shape: []int{6}})
		if err != nil {
			t.Fatal(err)
		}
		return r.X.F32()
	}
	m := toyImages(t, 2)
	made, err := sampler.NewSkipping(m.Den.(sampler.Layered), [][]int{{1}, {0, 2}, {}})
	if err != nil {
		t.Fatal(err)
	}
	want := draw(made, []int{60, 150, 400})
	wrapped, err := back.Wrap(m.Den)
	if err != nil {
		t.Fatal(err)
	}
	g, err := back.Grid(l)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sampler.Run(context.Background(), wrapped, sampler.DDIM{}, g, sampler.Options{N: 20, Seed: 3, Shape: []int{6}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.X.F32(), want) {
		t.Error("the plan that was read draws other samples")
	}
	if slices.Equal(draw(m.Den, []int{60, 150, 400}), want) {
		t.Error("the layers make no difference")
	}
	if err := p.Write(path); err == nil {
		t.Error("a plan is overwritten without being asked to")
	}
	if err := p.Write(path, tensor.Overwrite); err != nil {
		t.Error(err)
	}
	// Lists of times are what other tools read, and what a plan without layers says alone.
	plain, err := search.NewPlan(search.Choice{Steps: []int{5, 9}, Skips: [][]int{{}, {}}}, l, []string{"a", "b"}, toySetting)
	if err != nil || plain.Layers != nil || plain.Skips != nil {
		t.Errorf("a plan that leaves out nothing: %+v, %v", plain, err)
	}
	if den, err := plain.Wrap(opaque{m.Den}); err != nil || den != (opaque{m.Den}) {
		t.Errorf("it wraps an opaque network: %v", err)
	}
}

// All that differs from what a plan was found for is named.
func TestPlanFits(t *testing.T) {
	p, _ := toyPlan(t)
	if err := p.Fits(p.Setting); err != nil {
		t.Error(err)
	}
	cosine := levels(t, "vp-cosine", 0)
	for want, change := range map[string]func(s *search.Setting){
		"the schedule is vp " + cosine.Hash()[:8]:               func(s *search.Setting) { s.Schedule = cosine.Hash() },
		"the schedule is flow ":                                 func(s *search.Setting) { s.Path, s.Schedule = "flow", "x" },
		"the number of levels is 999, the plan's 1000":          func(s *search.Setting) { s.T = 999 },
		"the network's prediction is v, the plan's eps":         func(s *search.Setting) { s.Prediction = "v" },
		"guidance is none, the plan's cfg 2":                    func(s *search.Setting) { s.Guidance = "" },
		"the sampler is dpm++2m, the plan's ddim":               func(s *search.Setting) { s.Sampler = "dpm++2m" },
		"the model is other def, the plan's toy abc":            func(s *search.Setting) { s.Model, s.ModelHash = "other", "def" },
		"prediction is x0, the plan's eps; guidance is cfg 3, ": func(s *search.Setting) { s.Prediction, s.Guidance = "x0", "cfg 3" },
	} {
		s := p.Setting
		change(&s)
		if err := p.Fits(s); !errors.Is(err, search.ErrOther) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPlanRefused(t *testing.T) {
	p, l := toyPlan(t)
	path := filepath.Join(t.TempDir(), "plan.json")
	read := func(change func(f map[string]any)) error {
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		f := map[string]any{}
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		change(f)
		if b, err = json.Marshal(f); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		_, err = search.ReadPlan(path)
		return err
	}
	if err := read(func(map[string]any) {}); err != nil {
		t.Fatal(err)
	}
	type list = []any
	for want, change := range map[string]func(f map[string]any){
		`its format is "plan 7"`:                          func(f map[string]any) { f["format"] = "plan 7" },
		"level 150 is visited twice":                      func(f map[string]any) { f["steps"] = list{150, 150, 60} },
		"level 1000; wanted 0 to 999":                     func(f map[string]any) { f["steps"] = list{1000, 150, 60} },
		"level -1;":                                       func(f map[string]any) { f["steps"] = list{400, 150, -1} },
		"levels [400 150 400]; wanted the noisiest first": func(f map[string]any) { f["steps"] = list{400, 150, 400} },
		"3 steps of 2 levels":                             func(f map[string]any) { f["T"] = 2 },
		"0 steps of 1000 levels":                          func(f map[string]any) { f["steps"] = list{} },
		"2 times for 3 steps":                             func(f map[string]any) { f["times"] = list{1, 2} },
		"leave out in 1 steps of 3":                       func(f map[string]any) { f["skips"] = list{list{}} },
		`leaves out layer "attn.9", which is not`:         func(f map[string]any) { f["skips"] = list{list{}, list{"attn.9"}, list{}} },
		`leaves out layer "values.0-1" twice`:             func(f map[string]any) { f["skips"] = list{list{}, list{"values.0-1", "values.0-1"}, list{}} },
		`unknown field "skip"`:                            func(f map[string]any) { f["skip"] = 1 },
		`its start is "low"`:                              func(f map[string]any) { f["start"] = "low" },
		"cannot unmarshal":                                func(f map[string]any) { f["steps"] = "all" },
	} {
		if err := read(change); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want %q and the file's name", err, want)
		}
	}
	if err := os.WriteFile(path, []byte("{}{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := search.ReadPlan(path); err == nil || !strings.Contains(err.Error(), "something follows") {
		t.Errorf("two values: %v", err)
	}
	if _, err := search.ReadPlan(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}

	m := toyImages(t, 2)
	if _, err := p.Wrap(opaque{m.Den}); err == nil || !strings.Contains(err.Error(), "opaque, as networks in ONNX files are") {
		t.Errorf("an opaque network: %v", err)
	}
	two, err := sampler.NewBlockMixture(toySpec(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wrap(two); err == nil || !strings.Contains(err.Error(), "a network of 3, from values.0-1 to values.4-5; this one has 2") {
		t.Errorf("a network of other layers: %v", err)
	}
	for want, c := range map[string]search.Choice{
		"level 4 follows 5":              {Steps: []int{5, 4}},
		"step 1 leaves out layer 3 of 3": {Steps: []int{4, 5}, Skips: [][]int{{}, {3}}},
		"to leave out in 1 steps of 2":   {Steps: []int{4, 5}, Skips: [][]int{{1}}},
	} {
		if _, err := search.NewPlan(c, l, p.Layers, toySetting); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
