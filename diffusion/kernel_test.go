package diffusion_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

func TestNoiseByName(t *testing.T) {
	for name, want := range map[string]diffusion.Noise{
		"": diffusion.GaussianNoise{}, "gaussian": diffusion.GaussianNoise{},
		"pfgmpp:128": diffusion.PFGMPP{N: 6, D: 128}, "pfgmpp:0.5,0.001": diffusion.PFGMPP{N: 6, D: 0.5, Clip: 0.001},
		"pfgmpp:inf": diffusion.PFGMPP{N: 6, D: math.Inf(1)},
	} {
		k, err := diffusion.NoiseByName(name, 6)
		if err != nil || k != want {
			t.Errorf("%q is %+v, %v; want %+v", name, k, err, want)
			continue
		}
		if again, err := diffusion.NoiseByName(k.Name(), 6); err != nil || again != want {
			t.Errorf("%q is named %q, which is %+v, %v", name, k.Name(), again, err)
		}
		if is := diffusion.IsGaussian(k); is == strings.HasPrefix(name, "pfgmpp:") != (name == "pfgmpp:inf") {
			t.Errorf("%q: Gaussian is %t", name, is)
		}
	}
	for name, want := range map[string]string{
		"pfgm": `no kernel "pfgm"`, "pfgmpp": "wanted pfgmpp:D", "pfgmpp:": "wanted pfgmpp:D", "pfgmpp:1,2,3": "wanted pfgmpp:D",
		"pfgmpp:0": "D is 0", "pfgmpp:-2": "D is -2", "pfgmpp:NaN": "D is NaN", "pfgmpp:8,0.5": "clip 0.5",
	} {
		if _, err := diffusion.NoiseByName(name, 6); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// Rows are what the kernel draws of each image's stream, whatever the batch; Gaussian ones are those of package ops.
func TestUnitNoise(t *testing.T) {
	const n, first, seed = 3, 40, 7
	for _, k := range []diffusion.Noise{diffusion.PFGMPP{N: 6, D: 8}, diffusion.GaussianNoise{}, diffusion.PFGMPP{N: 6, D: math.Inf(1)}, nil} {
		out, single := gpu.CPU().Empty(n, 1, 2, 3), gpu.CPU().Empty64(n, 6)
		diffusion.UnitNoise(out, k, seed, first, rng.Init)
		diffusion.UnitNoise(single, k, seed, first, rng.Init)
		if diffusion.IsGaussian(k) {
			want := out.Like()
			ops.Normals(want, ops.ImageNoise(seed, first, rng.Init))
			if !slices.Equal(out.F32(), want.F32()) {
				t.Errorf("%v: other noise than ops.Normals", k)
			}
			continue
		}
		for i := range n {
			want := make([]float64, 6)
			k.Prior(want, 1, rng.ForImage(seed, first+uint64(i), rng.Init))
			for j, v := range want {
				if single.F64()[6*i+j] != v || out.F32()[6*i+j] != float32(v) {
					t.Errorf("image %d value %d: %g and %g, want %g", i, j, single.F64()[6*i+j], out.F32()[6*i+j], v)
				}
			}
		}
	}
}
