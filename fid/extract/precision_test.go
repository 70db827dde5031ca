package extract

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// TestPrecisionShift measures how far the other precisions move the features,
// relative to their root mean square, on the recipe network. bf16 rounds weights
// and maps to one part in 2^9, bf16x3 leaves out parts of 2^18; over 48 layers
// in a row such errors grow about as the square root, which allows 1e-2 and 2e-5.
func TestPrecisionShift(t *testing.T) {
	var imgs []*imageio.Image
	for i := range 4 {
		imgs = append(imgs, picture(uint64(i), 100+20*i, 120))
	}
	var want []float32
	limits := map[plan.Precision]float64{plan.F32: 0, plan.SplitBF16: 2e-5, plan.BF16: 1e-2}
	for _, p := range []plan.Precision{plan.F32, plan.SplitBF16, plan.BF16} {
		if err := plan.Available(p); err != nil {
			t.Log(p, err)
			continue
		}
		e := openT(t, "random", Options{Precision: p})
		if e.Info().Precision != p.String() {
			t.Errorf("info says %s; want %v", e.Info().Precision, p)
		}
		got := features(t, e, imgs, 4)
		if want == nil {
			want = got
		}
		var shift, size, worst float64
		for i := range got {
			d := math.Abs(float64(got[i]) - float64(want[i]))
			shift += d * d
			size += float64(want[i]) * float64(want[i])
			worst = max(worst, d)
		}
		rms := math.Sqrt(shift / size)
		t.Log(fmt.Sprintf("%v: rms shift %.2g of the features' rms, largest %.2g", p, rms, worst))
		if !(rms <= limits[p]) || p != plan.F32 && rms == 0 {
			t.Errorf("%v: rms shift %.3g; want at most %g, and not the fp32 features themselves", p, rms, limits[p])
		}
	}
}
