package nn

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

// Matrices take at most 2^bits - 1 values, whole multiples of one step, each the nearest; vectors stay.
func TestRoundWeights(t *testing.T) {
	for _, bits := range []int{2, 4, 8} {
		p := NewParams(gpu.CPU(), gpu.Float32)
		w, b := p.At("l").Param("weight", Normal(0.3), 40, 30), p.At("l").Param("bias", Normal(0.3), 40)
		p.Init(3)
		was, bias := slices.Clone(w.Value.F32()), slices.Clone(b.Value.F32())
		if err := RoundWeights(p, bits); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.Value.F32(), bias) {
			t.Errorf("%d bits: the bias changed", bits)
		}
		var most float64
		for _, v := range was {
			most = math.Max(most, math.Abs(float64(v)))
		}
		levels := math.Pow(2, float64(bits-1)) - 1
		step := most / levels
		seen := map[float32]bool{}
		for i, v := range w.Value.F32() {
			seen[v] = true
			if off := math.Abs(float64(v) - float64(was[i])); off > step/2*(1+1e-6) {
				t.Fatalf("%d bits: %g became %g, a step is %g", bits, was[i], v, step)
			}
			if k := float64(v) / step; math.Abs(k-math.Round(k)) > 1e-5*levels {
				t.Fatalf("%d bits: %g is %g steps", bits, v, k)
			}
		}
		if len(seen) > 1<<bits-1 || bits < 8 && len(seen) < 1<<bits-1 {
			t.Errorf("%d bits: %d values, want %d", bits, len(seen), 1<<bits-1)
		}
	}
	for _, bits := range []int{1, 17} {
		if err := RoundWeights(NewParams(gpu.CPU(), gpu.Float32), bits); err == nil || !strings.Contains(err.Error(), "want 2 to 16") {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}
