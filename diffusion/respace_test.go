package diffusion_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

// abars are the running products of 1-beta.
func abars(betas []float64) []float64 {
	out, abar := make([]float64, len(betas)), 1.0
	for i, b := range betas {
		abar *= 1 - b
		out[i] = abar
	}
	return out
}

// Respaced betas have the long table's abar at the times that they visit. The
// naive ones, the long table's betas at those times, do not, unless they are all
// of them: a check of the full list alone lets them pass.
func TestRespaceKeepsAbar(t *testing.T) {
	all := make([]int, 1000)
	for i := range all {
		all[i] = i
	}
	for name, betas := range map[string][]float64{
		"linear": diffusion.LinearBetas(1000, 1e-4, 0.02), "cosine": diffusion.CosineBetas(1000),
	} {
		vp, err := diffusion.NewVP(betas)
		if err != nil {
			t.Fatal(err)
		}
		long := abars(betas)
		off := func(betas []float64, times []int) (far float64) {
			for i, a := range abars(betas) {
				far = max(far, math.Abs(a-long[times[i]]))
			}
			return far
		}
		for _, times := range [][]int{all, {64, 151, 253, 400}, {0, 998}, {998}} {
			short, err := vp.Respace(times)
			if err != nil {
				t.Fatal(err)
			}
			if far := off(short, times); far > 1e-13 {
				t.Errorf("%s, %d times: abar is off by %.3g", name, len(times), far)
			}
			naive := make([]float64, len(times))
			for i, at := range times {
				naive[i] = betas[at]
			}
			if caught := off(naive, times) > 1e-3; caught != (len(times) < 1000) {
				t.Errorf("%s, %d times: the long table's betas are caught: %t", name, len(times), caught)
			}
		}
	}
}

func TestRespaceRefused(t *testing.T) {
	vp, err := diffusion.NewVP(diffusion.LinearBetas(10, 1e-4, 0.02))
	if err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string][]int{
		"time 10; wanted 0 to 9": {3, 10}, "time -1;": {-1}, "time 3 follows 3": {1, 3, 3}, "time 2 follows 5": {5, 2},
	} {
		if _, err := vp.Respace(times); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", times, err, want)
		}
	}
}
