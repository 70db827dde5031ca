package dit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// CopyFrom sets b's parameters to those of src, a dense block of a network of the same widths,
// whatever b's own kind: the queries of few tokens are the first third of what was one layer,
// keys and values the rest; the values of Pool are the last third. What src lacks stays as it
// started. Nothing has changed where there is an error.
func (b *Block) CopyFrom(src *Block) error {
	if src.Kind != Dense {
		return fmt.Errorf("dit: CopyFrom: the source is a block of kind %d, want a dense one", src.Kind)
	}
	type pair struct {
		to   *nn.Param
		from *gpu.Tensor
	}
	var all []pair
	add := func(to, from *nn.Param) {
		if to != nil && from != nil {
			all = append(all, pair{to, from.Value})
		}
	}
	third := func(to, from *nn.Param, first, n int) { // of the rows
		if to != nil && from != nil {
			d := from.Shape()[0] / 3
			all = append(all, pair{to, from.Value.Rows(first*d, (first+n)*d)})
		}
	}
	linear := func(to, from *nn.Linear) {
		if to != nil && from != nil {
			add(to.W, from.W)
			add(to.B, from.B)
		}
	}
	norms := func(to, from *norm) {
		if to == nil || from == nil {
			return
		}
		add(to.W, from.W)
		add(to.B, from.B)
		if to.time != nil && from.time != nil {
			add(to.time.A, from.time.A)
			add(to.time.B, from.time.B)
			add(to.time.W, from.time.W)
			add(to.time.R, from.time.R)
		}
	}
	qkv := src.Attn.QKV
	switch b.Kind {
	case Dense:
		linear(b.Attn.QKV, qkv)
		linear(b.Attn.Out, src.Attn.Out)
		norms(&norm{Norm: orNone(b.Attn.NormQ)}, &norm{Norm: orNone(src.Attn.NormQ)})
		norms(&norm{Norm: orNone(b.Attn.NormK)}, &norm{Norm: orNone(src.Attn.NormK)})
	case Pool:
		third(b.Value.W, qkv.W, 2, 1)
		third(b.Value.B, qkv.B, 2, 1)
		linear(b.Proj, src.Attn.Out)
	case Merge, Recover:
		kv := b.Cross.Contexts[0]
		for i, l := range []*nn.Linear{b.Cross.Q, kv.K, kv.V} {
			third(l.W, qkv.W, i, 1)
			third(l.B, qkv.B, i, 1)
		}
		linear(b.Cross.Out, src.Attn.Out)
		norms(&norm{Norm: orNone(b.Cross.NormQ)}, &norm{Norm: orNone(src.Attn.NormQ)})
		norms(&norm{Norm: orNone(kv.NormK)}, &norm{Norm: orNone(src.Attn.NormK)})
	}
	norms(b.norm1, src.norm1)
	norms(b.norm2, src.norm2)
	linear(b.Mod, src.Mod)
	linear(b.Skip, src.Skip)
	switch to := b.mlp.(type) {
	case *mlp:
		if from, ok := src.mlp.(*mlp); ok {
			linear(to.fc1, from.fc1)
			linear(to.fc2, from.fc2)
		}
	case *nn.GatedMLP:
		if from, ok := src.mlp.(*nn.GatedMLP); ok {
			linear(to.In, from.In)
			linear(to.Out, from.Out)
		}
	}
	for _, p := range all {
		if !slices.Equal(p.to.Shape(), p.from.Shape()) {
			return fmt.Errorf("dit: CopyFrom: %s has shape %v, the source %v; want a block of the same widths", p.to.Name, p.to.Shape(), p.from.Shape())
		}
	}
	for _, p := range all {
		p.to.Value.Copy(p.from)
	}
	return nil
}

// orNone is a norm, one without parameters where there is none.
func orNone(m *nn.Norm) *nn.Norm {
	if m == nil {
		return &nn.Norm{}
	}
	return m
}

// Renumber is the names of a network with fewer blocks for those of a file of a larger one: of
// the blocks keep, in order, as nn.LoadOptions.Rename takes it. Other blocks are left out.
func Renumber(keep []int) func(name string) string {
	return func(name string) string {
		rest, is := strings.CutPrefix(name, "blocks.")
		if !is {
			return name
		}
		number, part, _ := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if err != nil {
			return name
		}
		at := slices.Index(keep, i)
		if at < 0 {
			return ""
		}
		return fmt.Sprintf("blocks.%d.%s", at, part)
	}
}
