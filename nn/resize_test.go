package nn_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

func TestGoldenResize(t *testing.T) {
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "nn", "resize.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kinds := map[string]nn.ResizeKind{"nearest": nn.ResizeNearest, "area": nn.ResizeArea, "bilinear": nn.ResizeBilinear, "bicubic": nn.ResizeBicubic}
	cases := 0
	for _, name := range f.Names() {
		name, ok := strings.CutPrefix(name, "in.")
		if !ok {
			continue
		}
		part := strings.Split(name, ".")
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(part[i+1])
		}
		x, err := f.Read("in." + name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := f.Read("out." + name)
		if err != nil {
			t.Fatal(err)
		}
		r := nn.NewResize(gpu.CPU(), gpu.Float64, kinds[part[0]], n[0], n[1], n[2], n[3])
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		tape.Run(func() {
			y := r.Forward(tape.Input(gpu.CPU().From64(x.F64(), 2, 2, n[0], n[1]))).Value().F64()
			for i, w := range want.F64() {
				if math.Abs(y[i]-w) > 1e-12 {
					t.Fatalf("%s: element %d is %v, the peer has %v", name, i, y[i], w)
				}
			}
			cases++
		})
	}
	if cases != 20 {
		t.Errorf("%d cases, want 20", cases)
	}
}

func TestResize(t *testing.T) {
	for kind := nn.ResizeNearest; kind <= nn.ResizeBicubic; kind++ {
		made := map[gpu.DType]*nn.Resize{}
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			made[dt] = nn.NewResize(gpu.CPU(), dt, kind, 4, 3, 3, 7)
		}
		c := opCase{shapes: [][]int{{2, 2, 4, 3}}, f: func(tape *nn.Tape, x vars) *nn.Var { return made[tape.DType()].Forward(x[0]) }}
		t.Run(fmt.Sprint("kind ", kind), c.check)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	same := nn.NewResize(gpu.CPU(), gpu.Float32, nn.ResizeArea, 2, 3, 2, 3)
	if x := tape.Const(1, 1, 1, 2, 3); same.Forward(x) != x {
		t.Error("the same size is made anew")
	}
	oracle.Refuses(t, map[string]func(){
		"nn: NewResize: 0×2 to 1×1": func() { nn.NewResize(gpu.CPU(), gpu.Float32, nn.ResizeArea, 0, 2, 1, 1) },
		"of kind 4":                 func() { nn.NewResize(gpu.CPU(), gpu.Float32, 4, 1, 2, 1, 1) },
		"maps of shape [1 1 3 3]":   func() { same.Forward(tape.Const(0, 1, 1, 3, 3)) },
	})
}
