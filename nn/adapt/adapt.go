// Package adapt adds trained parts to networks that are there: low-rank changes of linear
// layers (LoRA), inputs that a network did not have, numbers and pictures as conditions. What
// is added has parameters of its own, is saved without the network, and as long as it is
// untrained leaves every bit of the network's results.
//
//	base.Freeze(true)
//	lora, err := adapt.Attach(base, adapt.LoRAOptions{Rank: 8, Alpha: 16})
//	...
//	opt := nn.NewAdam(lora.Params(), nn.AdamOptions{})
//
// What an adapter is told for a step (Set) holds until the next Set; a Var belongs to the
// step of its tape.
package adapt

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// Hash is the SHA-256 of a network's parameters, see nn.Hash; buffers do not count.
func Hash(net *nn.Params) (string, error) {
	var list []nn.Named
	for _, p := range net.All() {
		list = append(list, nn.Named{Name: p.Name, Tensor: p.Value})
	}
	sum, err := nn.Hash(list)
	if err != nil {
		return "", fmt.Errorf("adapt: %w", err)
	}
	return sum, nil
}

// values is a copy of t's elements.
func values(t *gpu.Tensor) ([]float64, error) {
	v := make([]float64, t.Len())
	return v, t.Read64(v)
}

// put sets t's elements.
func put(t *gpu.Tensor, v []float64) {
	if t.DType() == gpu.Float64 {
		t.Copy(gpu.CPU().From64(v, t.Shape()...))
		return
	}
	f := make([]float32, len(v))
	for i, e := range v {
		f[i] = float32(e)
	}
	t.Set(f)
}

// The remarks of a file.
const (
	metaKind = "adapter"
	metaBase = "base_sha256"
)

// Save writes the parameters of an adapter of that kind, net, with the hash of the network
// that it was trained for and other remarks. An existing file is refused unless
// tensor.Overwrite is given.
func Save(path, kind string, base, net *nn.Params, meta map[string]string, opt ...tensor.FileOption) error {
	sum, err := Hash(base)
	if err != nil {
		return err
	}
	all := map[string]string{metaKind: kind, metaBase: sum}
	for k, v := range meta {
		all[k] = v
	}
	return nn.Save(path, all, []nn.Part{{Of: net}}, opt...)
}

// Load reads what Save wrote into net, the parameters of an adapter of base. It is an error
// when the file is of another kind, or was saved for another network.
func Load(path, kind string, base, net *nn.Params) error {
	f, err := open(path, kind, base)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: net})
	return err
}

func open(path, kind string, base *nn.Params) (*tensor.Safetensors, error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	if err := fits(f, kind, base); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func fits(f *tensor.Safetensors, kind string, base *nn.Params) error {
	if got := f.Meta[metaKind]; got != kind {
		return fmt.Errorf("adapt: %s: the file holds an adapter of kind %q, want %q", f.Path(), got, kind)
	}
	sum, err := Hash(base)
	if err != nil {
		return err
	}
	if got := f.Meta[metaBase]; got != sum {
		return fmt.Errorf("adapt: %s: the adapter was trained for a network of hash %.12s, this one has %.12s; load that network first", f.Path(), got, sum)
	}
	return nil
}

// NewZeroLinear registers a linear layer in s that gives zeros at first.
func NewZeroLinear(s nn.Scope, in, out int) *nn.Linear { return nn.NewLinear(s, in, out).Zero() }

// NewZeroConv registers a convolution of k×k in s that gives zeros at first (Zhang et al. 2023,
// arXiv 2302.05543).
func NewZeroConv(s nn.Scope, in, out, k int) *nn.Conv2D { return nn.NewConv2D(s, in, out, k).Zero() }
