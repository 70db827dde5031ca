package extract

import (
	"math"
	"strings"
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
	limits := map[plan.Precision]float64{plan.SplitBF16: 2e-5, plan.BF16: 1e-2}
	for p, limit := range limits {
		if why := plan.Available(p); why != nil {
			_, err := Open("random", Options{Precision: p})
			if err == nil || !strings.Contains(err.Error(), why.Error()) || !strings.Contains(err.Error(), "use fp32") {
				t.Errorf("%v: error is %v; want one with %q", p, err, why)
			}
			continue
		}
		if want == nil {
			want = features(t, openT(t, "random", Options{}), imgs, 4)
		}
		e := openT(t, "random", Options{Precision: p})
		if e.Info().Precision != p.String() {
			t.Errorf("info says %s; want %v", e.Info().Precision, p)
		}
		got := features(t, e, imgs, 4)
		var shift, size, worst float64
		for i := range got {
			d := math.Abs(float64(got[i]) - float64(want[i]))
			shift += d * d
			size += float64(want[i]) * float64(want[i])
			worst = max(worst, d)
		}
		rms := math.Sqrt(shift / size)
		t.Logf("%v: rms shift %.2g of the features' rms, largest %.2g", p, rms, worst)
		if !(rms <= limit) || rms == 0 {
			t.Errorf("%v: rms shift %.3g; want at most %g, and not the fp32 features themselves", p, rms, limit)
		}
	}
}

// TestInceptionChain asks that the native network is a chain of generated code:
// no reference code, nothing converted or copied between layers.
func TestInceptionChain(t *testing.T) {
	p, err := plan.Compile(inceptionNet(recipeWeights(""), "2048"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	convs, macs := 0, int64(0)
	for _, s := range p.Steps() {
		if s.MACs > 0 {
			convs++
			macs += s.MACs
		}
		if s.Impl == "go" && p.Engine() == "go" || s.Impl == "average" || strings.HasPrefix(s.Impl, "jit") || strings.HasPrefix(s.Impl, "brg") {
			continue
		}
		t.Errorf("%s runs as %q", s.Node, s.Impl)
	}
	if convs != 94 || math.Abs(float64(2*macs)/1e9-11.42) > 0.01 {
		t.Errorf("%d convolutions of %.2f GFLOP; want 94 of 11.42", convs, float64(2*macs)/1e9)
	}
}
