package cli

import (
	"fmt"
	"math"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/tensor"
)

// makeLPIPS TRUNK LINEAR writes seeded weights of AlexNet's convolutions and of LPIPS' linear layers for them.
func makeLPIPS(ts *testscript.TestScript, _ bool, args []string) {
	var trunk, linear []tensor.SafetensorsEntry
	draw := func(name string, low, high float64, shape ...int) tensor.SafetensorsEntry {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v, s := make([]float32, n), rng.New(1, uint64(len(trunk)+100*len(linear)))
		for i := range v {
			v[i] = float32(low + (high-low)*s.Float64())
		}
		return tensor.SafetensorsEntry{Name: name, Array: tensor.FromF32(v, shape...)}
	}
	for k, c := range [][4]int{{0, 64, 3, 11}, {3, 192, 64, 5}, {6, 384, 192, 3}, {8, 256, 384, 3}, {10, 256, 256, 3}} {
		high := math.Sqrt(3 / float64(c[2]*c[3]*c[3]))
		trunk = append(trunk, draw(fmt.Sprintf("features.%d.weight", c[0]), -high, high, c[1], c[2], c[3], c[3]))
		trunk = append(trunk, draw(fmt.Sprintf("features.%d.bias", c[0]), -0.1, 0.1, c[1]))
		linear = append(linear, draw(fmt.Sprintf("lin%d.model.1.weight", k), 0, 0.1, 1, c[1], 1, 1))
	}
	ts.Check(tensor.WriteSafetensors(ts.MkAbs(args[0]), trunk, nil))
	ts.Check(tensor.WriteSafetensors(ts.MkAbs(args[1]), linear, nil))
}
