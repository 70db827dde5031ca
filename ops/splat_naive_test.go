package ops_test

import (
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/kernels"
	"github.com/fidlab/fidlab/ops"
)

// The plain loops that the benchmark holds SplatForward and SplatBackward to
// compute the same, by the oracle.
func TestSplatNaive(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			t.Skip("the loops are kernels")
		}
		const b = 2
		k := sceneKind{form: ops.SplatSigmaRho, grid: ops.SplatCorners, support: "box", size: 3, n: 9, c: 5, h: 14, w: 19}
		var scenes []*scene
		var v []float32
		for i := range b {
			s := newScene(uint64(60+i), k)
			for j := range s.opacity {
				s.opacity[j] = 1
			}
			clear(s.bg)
			up, vc := s.upstream(t, uint64(i))
			s.back(up, vc)
			scenes, v = append(scenes, s), append(v, f32s(up)...)
		}
		p, s := params(dev, scenes...), dev.Stream()
		image, df := dev.Zeros(gpu.Float32, b, k.h, k.w, k.c), dev.Zeros(gpu.Float32, b, k.n, k.c)
		dMean, dCov, up := p.Mean.Like(), p.Cov.Like(), dev.From(v, b, k.h, k.w, k.c)
		kernels.Splat2dNaiveF32(s, cuda.Grid1(b*k.h*k.w, 256, 256), image.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), 3, int32(k.w), int32(k.h), int32(k.c), int32(k.n), int32(b*k.h*k.w))
		kernels.Splat2dNaiveBackwardF32(s, cuda.Grid1(b*k.n, 128, 128), dMean.Ptr(), dCov.Ptr(), df.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), up.Ptr(), 3,
			int32(k.w), int32(k.h), int32(k.c), int32(k.n), int32(b*k.n))
		got := [4][]float32{floats(t, image), floats(t, dMean), floats(t, dCov), floats(t, df)}
		for i, s := range scenes {
			part := func(j int) []float32 { return got[j][i*len(got[j])/b:][:len(got[j])/b] }
			drawn := part(0)
			for j, risky := range s.risky {
				if risky {
					for c := range s.c {
						drawn[j*s.c+c] = float32(s.image[j*s.c+c])
					}
				}
			}
			closeBy(t, "image", drawn, s.image, 1, 1e-5)
			closeBy(t, "mean", part(1), s.dMean, 1, 1e-4)
			closeBy(t, "cov", part(2), s.dCov, 3, 1e-4)
			closeBy(t, "feature", part(3), s.dFeature, 1, 1e-4)
		}
	})
}
