package models

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

func TestTakesCheck(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	zeros := func(shape ...int) *nn.Var { return tape.Const(0, shape...) }
	ids := func(v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, len(v)) }
	all := Takes{Channels: 3, Multiple: 4, Classes: 10, Tokens: map[string]int{"text": 8}, Vectors: map[string]int{"size": 2}, Extra: 1, Skips: []int{4, 4}}
	good := func() Inputs {
		return Inputs{
			Classes: ids(0, 10),
			Tokens:  map[string]Tokens{"text": {States: zeros(2, 5, 8), Lens: ids(5, 1)}},
			Vectors: map[string]*nn.Var{"size": zeros(2, 2)},
			Extra:   zeros(2, 1, 8, 4),
			Control: &Residuals{Skips: make([]*nn.Var, 2)},
		}
	}
	if err := all.Check([]int{2, 3, 8, 4}, good()); err != nil {
		t.Error(err)
	}
	if err := (Takes{Channels: 1}).Check([]int{2, 1, 5, 3}, Inputs{}); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(in *Inputs){
		"wants classes":          func(in *Inputs) { in.Classes = nil },
		"3 classes for 2":        func(in *Inputs) { in.Classes = ids(1, 2, 3) },
		"class 11 of picture 1":  func(in *Inputs) { in.Classes = ids(1, 11) },
		`wants tokens "text"`:    func(in *Inputs) { in.Tokens = nil },
		`"image" are unknown`:    func(in *Inputs) { in.Tokens["image"] = Tokens{States: zeros(2, 1, 1)} },
		`[2 5 7], want [2, len`:  func(in *Inputs) { in.Tokens["text"] = Tokens{States: zeros(2, 5, 7)} },
		"lengths of tokens":      func(in *Inputs) { in.Tokens["text"] = Tokens{States: zeros(2, 5, 8), Lens: ids(5)} },
		`wants a vector "size"`:  func(in *Inputs) { in.Vectors = nil },
		`vector "age" is unkn`:   func(in *Inputs) { in.Vectors["age"] = zeros(2, 2) },
		`"size" of shape [2 3]`:  func(in *Inputs) { in.Vectors["size"] = zeros(2, 3) },
		"wants 1 extra channels": func(in *Inputs) { in.Extra = nil },
		"[2 1 8 5], want [2 1 8": func(in *Inputs) { in.Extra = zeros(2, 1, 8, 5) },
		"control of 1 skips":     func(in *Inputs) { in.Control.Skips = in.Control.Skips[:1] },
	} {
		in := good()
		change(&in)
		if err := all.Check([]int{2, 3, 8, 4}, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, x := range map[string][]int{
		"[2 3 8]": {2, 3, 8}, "[2 1 8 4]": {2, 1, 8, 4}, "8×6, want multiples of 4": {2, 3, 8, 6},
	} {
		if err := all.Check(x, good()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", x, err, want)
		}
	}
	fixed := Takes{Channels: 1, Height: 28, Width: 28}
	if err := fixed.Check([]int{1, 1, 28, 32}, Inputs{}); err == nil || !strings.Contains(err.Error(), "want 28×28") {
		t.Error(err)
	}
	if err := fixed.Check([]int{1, 1, 28, 28}, Inputs{Extra: zeros(1, 1, 28, 28)}); err == nil || !strings.Contains(err.Error(), "takes none") {
		t.Error(err)
	}
	in, x := good(), []int{2, 3, 8, 4}
	if n := oracle.Allocations(10, func() { _ = all.Check(x, in) }); n > 0 {
		t.Errorf("%v allocations where nothing is wrong", n)
	}
	if err := fixed.Check([]int{1, 1, 28, 28}, Inputs{Classes: ids(1)}); err == nil || !strings.Contains(err.Error(), "knows no classes") {
		t.Error(err)
	}
}
