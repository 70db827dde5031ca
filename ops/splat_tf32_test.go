package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Tensor cores: every pixel within 2^-10 of the sum of what it adds up, in both
// modes, at the channel counts around the kernels' limits; gradients as float32's.
func TestSplatTF32(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{9, 16, 17, 32, 34, 64, 67} {
			for _, mode := range []ops.SplatMode{ops.SplatAdditive, ops.SplatNormalised} {
				for _, asPlanes := range []bool{false, true} {
					t.Run(fmt.Sprintf("c=%d/mode %d/planar=%v", c, mode, asPlanes), func(t *testing.T) {
						s := newScene(uint64(c), sceneKind{mode: mode, support: "ellipse", size: 3, n: 45, c: c, h: 21, w: 37})
						cfg, p := s.config(), params(dev, s)
						cfg.TF32, cfg.Planar = true, asPlanes
						r := render(t, cfg, p, s.h, s.w, oracle.Normal(1, s.h*s.w*s.c))
						got := r.image
						if asPlanes {
							got = interleaved(got, s.h*s.w, s.c)
						}
						s.draw()
						size := *s // of the sums of absolute values
						size.feature, size.bg = absolute(s.feature), absolute(s.bg)
						size.draw()
						most := math.Max(1, largest(s.image))
						for i, want := range s.image {
							d := math.Abs(float64(got[i]) - want)
							if limit := 0x1p-10*size.image[i] + 1e-5*most; !s.risky[i/s.c] && !(d <= limit && d <= 2e-3*most) {
								t.Fatalf("pixel %d, channel %d: %g, want %g: off by %.3g, at most %.3g", i/s.c, i%s.c, got[i], want, d, limit)
							}
						}
						cfg.TF32 = false
						plain := render(t, cfg, p, s.h, s.w, oracle.Normal(1, s.h*s.w*s.c))
						if same := slices.Equal(plain.image, r.image); same == dev.CUDA() {
							t.Errorf("the image has the bits of float32: %v; it should on the CPU alone", same)
						}
						for j := range r.grads {
							if mode == ops.SplatAdditive && !slices.Equal(plain.grads[j], r.grads[j]) {
								t.Errorf("gradient %d differs from float32's", j)
							}
						}
					})
				}
			}
		}
	})
}

func absolute(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Abs(v)
	}
	return out
}
