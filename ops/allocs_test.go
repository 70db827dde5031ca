package ops_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// After a first call the sampler's operations take no memory of the device from
// the driver, and those that neither upload nor wait none of Go's heap.
func TestStepsAllocateNothing(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, y, z := dev.Zeros(gpu.Float32, 4, 300), dev.Zeros(gpu.Float32, 4, 300), dev.Zeros(gpu.Float32, 4, 300)
		row, four, one := dev.Zeros(gpu.Float32, 300), dev.Zeros(gpu.Float32, 4), dev.Zeros(gpu.Float32)
		c, w := []float64{1, 2, 3}, []float64{3}
		pair := []float64{0.5, 0.5}
		spread := make([]float64, 4)
		same, each := make([]float64, 8), []float64{1, 2, 3, 4, 5, 6, 7, 8}
		for name, f := range map[string]func(){
			"LinComb":     func() { ops.LinComb(x, c, x, y, z) },
			"LinCombRows": func() { ops.LinCombRows(x, same, x, y) },
			"Clamp":       func() { ops.Clamp(x, x, -1, 1) },
			"AddNoise":    func() { ops.AddNoise(x, x, pair, ops.Noise{}) },
			"Guide":       func() { ops.Guide(x, y, z, w, 0) },
			"Map":         func() { ops.Map(x, y, ops.GELU) },
			"MapBackward": func() { ops.MapBackward(x, y, z, ops.GELU, true) },
			"Affine":      func() { ops.Affine(x, 1, y, 2, z, 3, true) },
			"Fill":        func() { ops.Fill(x, 1) },
			"Mul":         func() { ops.Mul(x, y, row, true) },
			"WhereEqual":  func() { ops.WhereEqual(x, y, row, z, row, true) },
			"SumTo":       func() { ops.SumTo(row, x, y, true); ops.SumTo(one, x, nil, false) },
			"SumTo alike": func() { ops.SumTo(x, y, z, false) },
			"Squared":     func() { ops.SquaredError(four, x, y); ops.SquaredErrorBackward(x, y, z, four, 1, false) },
			"Dropout":     func() { ops.Dropout(x, y, ops.Mask{P: 0.5}, false) },
			"Adam":        func() { ops.Adam(x, y, z, x, 0, x.Len(), ops.AdamConfig{Beta1: 0.9, Beta2: 0.9, Eps: 1}) },
			"Lion":        func() { ops.Lion(x, y, z, 0, x.Len(), ops.LionConfig{}) },
			"SGD":         func() { ops.SGD(x, y, z, 0, x.Len(), ops.SGDConfig{Momentum: 0.5}) },
		} {
			f()
			if n := oracle.Allocations(20, f); n >= 1 {
				t.Errorf("%s: %v allocations on the heap per call", name, n)
			}
		}
		if !dev.CUDA() {
			if n := oracle.Allocations(20, func() { ops.RowVariance(spread, x) }); n >= 1 {
				t.Errorf("RowVariance: %v allocations on the heap per call", n)
			}
			if n := oracle.Allocations(20, func() { ops.SumSquares(x) }); n >= 1 {
				t.Errorf("SumSquares: %v allocations on the heap per call", n)
			}
			return
		}
		all := func() {
			ops.LinCombRows(x, each, x, y)
			ops.LinCombFinite(x, c, x, y, z)
			ops.Finite(x)
			ops.AddNoise(x, x, each, ops.Noise{})
			ops.Guide(x, y, z, each[:4], 0.5)
			ops.DynamicThreshold(x, x, 0.9, 1, math.Inf(1))
			ops.RowVariance(spread, x)
			ops.SumSquares(x)
			ops.SumTo(one, x, y, true)
		}
		all()
		if err := dev.Sync(); err != nil {
			t.Fatal(err)
		}
		before := dev.Stream().Dev().Memory()
		for range 10 {
			all()
		}
		after := dev.Stream().Dev().Memory()
		if after.Live != before.Live || after.Peak != before.Peak {
			t.Errorf("memory grows from %+v to %+v", before, after)
		}
		if !cuda.HostDevice() && after.Calls != before.Calls { // the host device keeps nothing, so that sanitizers see every use
			t.Errorf("the driver was asked for memory again: %+v, then %+v", before, after)
		}
	})
}
