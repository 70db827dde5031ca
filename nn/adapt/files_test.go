package adapt

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

func TestFiles(t *testing.T) {
	s, other := newSmall(gpu.Float32, 1), newSmall(gpu.Float32, 2)
	dir := t.TempDir()
	path := filepath.Join(dir, "lora.safetensors")
	l, err := Attach(s.net, LoRAOptions{Rank: 2, Alpha: 3, Match: func(n string) bool { return strings.HasPrefix(n, "cross.") && strings.HasSuffix(n, "weight") }})
	if err != nil {
		t.Fatal(err)
	}
	shake(l.Params())
	with := s.result(nil)
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	fresh := newSmall(gpu.Float32, 1)
	m, err := LoadLoRA(path, fresh.net)
	if err != nil {
		t.Fatal(err)
	}
	if !sameBits(fresh.result(nil), with) || !slices.Equal(m.Layers(), l.Layers()) {
		t.Error("what was loaded is not what was saved")
	}
	want := func(err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
	_, err = LoadLoRA(path, other.net)
	want(err, "the adapter was trained for a network of hash")
	if !sameBits(other.result(nil), newSmall(gpu.Float32, 2).result(nil)) {
		t.Error("what was refused changed the network")
	}
	want(l.Save(path), "lora.safetensors")
	if err := l.Save(path, tensor.Overwrite); err != nil {
		t.Error(err)
	}
	if err := l.Merge(); err != nil {
		t.Fatal(err)
	}
	want(l.Save(path, tensor.Overwrite), "the changes are merged")
	l.Unmerge()
	if _, err := LoadLoRA(path, s.net); err != nil { // once more on top
		t.Error(err)
	}

	// The other kinds by the functions that all share.
	net, set, _ := adapters["image prompt"](t, fresh)
	shake(net)
	with = fresh.result(set)
	file := filepath.Join(dir, "image.safetensors")
	if err := Save(file, "image prompt", fresh.net, net, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range net.All() {
		ops.Fill(p.Value, 0)
	}
	want(Load(file, "lora", fresh.net, net), `an adapter of kind "image prompt", want "lora"`)
	want(Load(file, "image prompt", other.net, net), "load that network first")
	want(Load(filepath.Join(dir, "none"), "image prompt", fresh.net, net), "none")
	if err := Load(file, "image prompt", fresh.net, net); err != nil {
		t.Fatal(err)
	}
	if !sameBits(fresh.result(set), with) {
		t.Error("what was loaded is not what was saved")
	}
	if err := nn.Save(filepath.Join(dir, "bad"), map[string]string{metaKind: "lora", metaBase: mustHash(t, s.net), "rank": "x"}, []nn.Part{{Of: net}}); err != nil {
		t.Fatal(err)
	}
	_, err = LoadLoRA(filepath.Join(dir, "bad"), s.net)
	want(err, `rank "x" in the file's remarks`)
	if err := nn.Save(filepath.Join(dir, "worse"), map[string]string{metaKind: "lora", metaBase: mustHash(t, s.net), "rank": "2", "alpha": "2"}, []nn.Part{{Of: net}}); err != nil {
		t.Fatal(err)
	}
	_, err = LoadLoRA(filepath.Join(dir, "worse"), s.net)
	want(err, "no weight of a linear layer matches")
}

func mustHash(t *testing.T, net *nn.Params) string {
	h, err := Hash(net)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
