package all

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

// small are networks of the shipped ones' kinds that are quick to train and to ask.
func small(t *testing.T, name string) (config any, build func(s nn.Scope) models.Net, d train.Diffusion) {
	t.Helper()
	switch name {
	case bases.MNISTUNet:
		c, err := unet.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Base, c.Mult, c.AttnAt, c.HeadWidth, c.Groups, c.Embed = 4, []int{1, 1, 1}, []int{4}, 4, 2, 16
		c.Waves = ops.WaveConfig{Width: c.Base, CosFirst: true, Scale: 1000}
		return c, func(s nn.Scope) models.Net { return unet.New(s, c) }, train.Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal:0,1", Weight: "one", Drop: 0.1}
	case bases.MNISTDiT:
		c, err := dit.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Patch, c.Dim, c.Depth, c.Heads = 7, 16, 2, 2
		return c, func(s nn.Scope) models.Net { return dit.New(s, c) }, train.Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal:0,1", Weight: "one", Drop: 0.1}
	}
	t.Fatalf("no stand-in for %s", name)
	return nil, nil, d
}

// standIn trains a small network for a moment and exports it as a shipped one is, to a folder of assets.
func standIn(t *testing.T, dir, name string) assets.Entry {
	t.Helper()
	config, build, diffusion := small(t, name)
	set, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	e := &train.Examples{Shape: []int{1, mnist.Height, mnist.Width}}
	for i := range 64 {
		e.X = append(e.X, data.FromPixels(set.Images[i], 1, mnist.Height, mnist.Width)...)
		e.Labels = append(e.Labels, int32(set.Labels[i]))
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := build(params.At(""))
	params.Init(1)
	s := train.Settings{Steps: 12, Batch: 8, Rate: 2e-3, Clip: 1, EMA: []float64{0.8}, Seeds: train.SeedsOf(1)}
	loss, err := diffusion.NewDenoising(net, s.Batch)
	if err != nil {
		t.Fatal(err)
	}
	feed := train.NewFeed(e, gpu.CPU(), gpu.Float32, s.Batch)
	job := &train.Job{
		Name: name, Nets: []*train.Network{{Name: "net", Params: params}},
		Config: map[string]any{"net": config, "diffusion": diffusion, "data": map[string]string{"name": "mnist"}},
		Loss: func(b *train.Batch) *nn.Var {
			x, labels := feed.Next(b)
			return loss.Loss(b, x, labels, models.Inputs{})
		},
	}
	run := t.TempDir()
	if _, err := train.Run(t.Context(), job, train.Config{Settings: s, Dir: run}); err != nil {
		t.Fatal(err)
	}
	saved, err := train.OpenSaved(filepath.Join(run, train.CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	path := filepath.Join(dir, name+".safetensors")
	if _, err := saved.Export(path, train.ExportOptions{Average: 0.8, Half: true}); err != nil {
		t.Fatal(err)
	}
	sum, err := tensor.FileSHA256(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	floor := 0.5
	return assets.Entry{
		Name: name, Kind: assets.Generator, Text: "a stand-in", File: filepath.Base(path), SHA256: sum, Size: st.Size(), Commands: []string{"fidlab train " + name},
		Job: name, Steps: s.Steps, Data: assets.Data{Name: "mnist:train"},
		Figures: []assets.Figure{{Name: "fid", Value: 123, Floor: &floor, N: 1000, Against: "mnist:test", Encoder: "mnist", Sampler: "heun", Steps: 18}},
	}
}

// shipping makes the assets of a folder the program's, until the test ends.
func shipping(t *testing.T, dir string, entries ...assets.Entry) {
	t.Helper()
	before := assets.Default()
	assets.SetDefault(assets.Finder{
		Dir: dir, Getenv: func(string) string { return "" }, Program: filepath.Join(dir, "bin", "fidlab"), Working: dir,
		Index: &assets.Index{Schema: 1, Entries: entries},
	})
	t.Cleanup(func() { assets.SetDefault(before) })
}

// withParts are the recipes that have something to show on trained networks, without the rest of their plans.
func withParts(t *testing.T) []systems.Recipe {
	t.Helper()
	var out []systems.Recipe
	for _, r := range systems.Recipes() {
		if len(r.Parts) > 0 {
			r.Needs, r.Plan = nil, func(context.Context, *systems.Env, systems.Tier) ([]systems.Experiment, error) { return nil, nil }
			out = append(out, r)
		}
	}
	if len(out) < 1 {
		t.Fatal("no recipe has parts on networks")
	}
	return out
}

// Every part runs on stand-ins of the shipped networks; the record says on which ones, what they cost, and how far real digits are.
func TestPartsOnNetworks(t *testing.T) {
	dir := t.TempDir()
	var entries []assets.Entry
	for _, name := range networks() {
		entries = append(entries, standIn(t, dir, name))
	}
	shipping(t, dir, entries...)
	env := &systems.Env{}
	for _, r := range withParts(t) {
		r.Parts = slices.DeleteFunc(slices.Clone(r.Parts), func(p systems.Part) bool { return !slices.Contains(networks(), p.Fixture) })
		t.Run(r.Name, func(t *testing.T) {
			p, err := systems.Prove(t.Context(), env, r, systems.Tiny)
			if err != nil {
				t.Fatal(err)
			}
			rec := p.Record
			if len(rec.NotRun) != 0 || len(r.Lacks(rec)) != 0 {
				t.Errorf("not run: %v", rec.NotRun)
			}
			on := map[string]int{}
			for _, e := range rec.Experiments {
				on[e.On]++
				examine(t, e)
			}
			for _, part := range r.Parts {
				i := slices.IndexFunc(entries, func(e assets.Entry) bool { return e.Name == part.Fixture })
				if on[part.Fixture] == 0 || rec.Fixtures[part.Fixture] != entries[i].SHA256 {
					t.Errorf("%s: %d experiments, hash %q", part.Fixture, on[part.Fixture], rec.Fixtures[part.Fixture])
				}
				for _, words := range []string{"12 steps of training", entries[i].SHA256[:12], "FID 123 (as many real pictures: 0.5)"} {
					if !strings.Contains(rec.Described[part.Fixture], words) {
						t.Errorf("%s is described by %q, without %q", part.Fixture, rec.Described[part.Fixture], words)
					}
				}
			}
			var text strings.Builder
			if err := rec.WriteText(&text); err != nil || !strings.Contains(text.String(), "GFLOP a sample") {
				t.Errorf("%v:\n%s", err, text.String())
			}
			t.Logf("\n%s", text.String())
		})
	}
}

// examine checks what every experiment on a network must have.
func examine(t *testing.T, e systems.ExperimentRecord) {
	t.Helper()
	var floor []float64
	for _, a := range e.Arms {
		for _, p := range a.Points {
			for name, values := range p.Values {
				for _, v := range values {
					if math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%s, %s: %s is %g", e.Name, a.Name, name, v)
					}
				}
			}
			if p.Values["fid"] == nil {
				continue
			}
			if floor == nil {
				floor = p.Values["floor"]
			}
			if !slices.Equal(floor, p.Values["floor"]) || !(floor[0] > 0) {
				t.Errorf("%s, %s: the floor is %v, of the first arm %v", e.Name, a.Name, p.Values["floor"], floor)
			}
			if p.Values["blocks"] == nil && !(p.Cost.NFE > 0 && p.Cost.FLOPs > 1e5*p.Cost.NFE) { // else blocks are counted
				t.Errorf("%s, %s: cost %+v", e.Name, a.Name, p.Cost)
			}
		}
	}
	if floor != nil && !slices.ContainsFunc(e.Notes, func(n string) bool {
		return strings.Contains(n, fmt.Sprintf("%d pictures", e.N)) && strings.Contains(n, "raise every FID")
	}) {
		t.Errorf("%s: notes %q do not say what few pictures do", e.Name, e.Notes)
	}
}

// Without the networks their parts are not run, and the record says so in every form.
func TestPartsWithoutNetworks(t *testing.T) {
	dir := t.TempDir()
	for name, entries := range map[string][]assets.Entry{
		"unknown": nil,
		"missing": {{Name: bases.MNISTDiT, File: "mnist-dit.safetensors", Commands: []string{"x"}}, {Name: bases.MNISTUNet, File: "mnist-unet.safetensors", Commands: []string{"x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			shipping(t, dir, entries...)
			for _, r := range withParts(t) {
				p, err := systems.Prove(t.Context(), &systems.Env{}, r, systems.Tiny)
				if err != nil {
					t.Fatal(err)
				}
				rec := p.Record
				if len(rec.NotRun) != len(r.Parts) || len(rec.Experiments) != 0 || rec.Verdict == systems.Pass || len(r.Lacks(rec)) != len(r.Parts) {
					t.Errorf("%s: %+v", r.Name, rec)
				}
				var text strings.Builder
				if err := rec.WriteText(&text); err != nil {
					t.Fatal(err)
				}
				for _, part := range r.Parts {
					if !strings.Contains(text.String(), "not run: "+part.Fixture+" is not here: "+part.Text) {
						t.Errorf("%s: the text says\n%s", r.Name, text.String())
					}
				}
			}
		})
	}
}

// A file of another hash under a network's name ends the proof with the error of package assets.
func TestPartsOnAnotherNetwork(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mnist-unet.safetensors"), []byte("another"), 0o666); err != nil {
		t.Fatal(err)
	}
	shipping(t, dir, assets.Entry{Name: bases.MNISTUNet, File: "mnist-unet.safetensors", SHA256: strings.Repeat("0", 64), Size: 7, Commands: []string{"x"}})
	var hash *assets.HashError
	if _, err := systems.Prove(t.Context(), &systems.Env{}, withParts(t)[0], systems.Tiny); !errors.As(err, &hash) {
		t.Errorf("error %v, want a HashError", err)
	}
}
