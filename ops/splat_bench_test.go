package ops_test

import (
	"fmt"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Bound: arithmetic. A pixel of a box costs an exp, about 12 flops and 2 C of
// them forward, 12 and 4 C backward.
func BenchmarkSplat(b *testing.B) {
	for _, c := range []struct {
		name string
		b    int
		k    sceneKind
	}{
		{"picture 256x256 n=1024 c=3", 1, sceneKind{support: "box", size: 3, n: 1024, c: 3, h: 256, w: 256, sigma: [2]float64{2, 8}}},
		{"tokens 64x64 n=128 c=16 b=8", 8, sceneKind{form: ops.SplatSigmaRho, grid: ops.SplatCorners, support: "box", size: 3, n: 128, c: 16, h: 64, w: 64}},
	} {
		for mode, mv := range splatModes {
			k := c.k
			k.mode = mv
			var scenes []*scene
			for i := range c.b {
				scenes = append(scenes, newScene(uint64(i), k))
			}
			p, cfg := params(gpu.CPU(), scenes...), scenes[0].config()
			v := gpu.CPU().Empty(c.b, k.h, k.w, k.c)
			for i := range v.F32() {
				v.F32()[i] = float32(i%7) - 3
			}
			b.Run(fmt.Sprintf("%s/%s", c.name, mode), func(b *testing.B) {
				for b.Loop() {
					_, aux, err := ops.SplatForward(cfg, p, k.h, k.w)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := ops.SplatBackward(aux, v, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
