package ops_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

func TestRowProducts(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, shape := range [][]int{{0, 3}, {2, 0}, {1, 1}, {3, 255}, {2, 3, 2049}, {2, 8200}} {
				a, av := linearInput(t, dev, dt, 1, shape...)
				b, bv := linearInput(t, dev, dt, 2, shape...)
				got := make([]ops.Products, shape[0])
				for i := range got {
					got[i].AA = math.NaN() // what was there is gone
				}
				ops.RowProducts(got, a, b)
				for i, g := range got {
					size := len(av) / shape[0]
					var w ops.Products
					for j := i * size; j < (i+1)*size; j++ {
						w.AA, w.AB, w.BB = w.AA+av[j]*av[j], w.AB+av[j]*bv[j], w.BB+bv[j]*bv[j]
					}
					bound := 1e-13 * (w.AA + w.BB)
					if !(math.Abs(g.AA-w.AA) <= bound && math.Abs(g.AB-w.AB) <= bound && math.Abs(g.BB-w.BB) <= bound) {
						t.Errorf("%v %v: sample %d is %v, want %v", dt, shape, i, g, w)
					}
				}
			}
		}
		defer func() {
			if r, _ := recover().(string); !strings.Contains(r, "2 results for shape [3 4]") {
				t.Errorf("panic %q", r)
			}
		}()
		ops.RowProducts(make([]ops.Products, 2), dev.Empty(3, 4), dev.Empty(3, 4))
	})
}
