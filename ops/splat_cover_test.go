package ops_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Gaussians whose boxes cover more than a quarter of the image, among others:
// their gradients are products of matrices from 16 to 64 features on.
func TestSplatCovering(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{15, 16, 18, 31, 33, 64, 65} {
			for _, mode := range []ops.SplatMode{ops.SplatAdditive, ops.SplatNormalised} {
				for support, size := range map[string]float64{"box": 3, "level": 1e-2} {
					t.Run(fmt.Sprintf("c=%d/mode %d/%s", c, mode, support), func(t *testing.T) {
						k := sceneKind{mode: mode, support: support, size: size, n: 37, c: c, h: 35, w: 50, sigma: [2]float64{2, 14}}
						compare(t, dev, 1, nil, newScene(uint64(c), k), newScene(uint64(c+1), k))
					})
				}
			}
		}
	})
}

// A batch of five is five single runs bit by bit where Gaussians cover the image.
func TestSplatCoveringBatch(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		k := sceneKind{form: ops.SplatSigmaRho, grid: ops.SplatCorners, support: "box", size: 3, n: 20, c: 16, h: 24, w: 24, sigma: [2]float64{3, 9}}
		var scenes []*scene
		for i := range 5 {
			scenes = append(scenes, newScene(uint64(i), k))
		}
		size := k.h * k.w * k.c
		v := oracle.Normal(2, len(scenes)*size)
		batch := render(t, scenes[0].config(), params(dev, scenes...), k.h, k.w, v)
		for i, s := range scenes {
			single := render(t, s.config(), params(dev, s), k.h, k.w, v[i*size:][:size])
			for j, g := range batch.grads {
				if !slices.Equal(g[i*len(g)/5:][:len(g)/5], single.grads[j]) {
					t.Fatalf("image %d, gradient %d: the batch differs from a run of its own", i, j)
				}
			}
		}
	})
}
