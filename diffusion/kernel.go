package diffusion

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// NoiseByName is the kernel of a name for data of n values: gaussian, or pfgmpp:D, which may be followed by the clip (pfgmpp:128,0.001).
// D may be any number above 0, and inf, which is the Gaussian.
func NoiseByName(name string, n int) (Noise, error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch {
	case name == "" || name == (GaussianNoise{}).Name():
		return GaussianNoise{}, nil
	case kind != pfgmpp:
		return nil, fmt.Errorf("diffusion: no kernel %q; there are gaussian and pfgmpp:D (pfgmpp:128)", name)
	}
	k := PFGMPP{N: n}
	d, clip, clipped := strings.Cut(rest, ",")
	var err, bad error
	if k.D, err = strconv.ParseFloat(d, 64); clipped {
		k.Clip, bad = strconv.ParseFloat(clip, 64)
	}
	if err != nil || bad != nil {
		return nil, fmt.Errorf("diffusion: %q: wanted pfgmpp:D or pfgmpp:D,clip (pfgmpp:128, pfgmpp:128,0.001)", name)
	}
	return k, k.Check(n)
}

// IsGaussian tells whether k draws Gaussian noise: nil, GaussianNoise, or PFGM++'s with infinitely many added dimensions.
func IsGaussian(k Noise) bool {
	p, ok := k.(PFGMPP)
	return k == nil || k == (GaussianNoise{}) || ok && p.gaussian()
}

// UnitNoise sets row i of out [B, ...] to the noise of k at sigma 1 of image first+i, for a purpose: that at any sigma is sigma times
// it. Gaussian noise is that of ops.Normals, whatever kind of kernel it comes from. Others are made in float64 on the CPU and rounded.
func UnitNoise(out *gpu.Tensor, k Noise, seed, first uint64, p rng.Purpose) {
	if IsGaussian(k) {
		ops.Normals(out, ops.ImageNoise(seed, first, p))
		return
	}
	host := out
	if out.Device().CUDA() {
		host = gpu.CPU().New(out.DType(), out.Shape()...)
	}
	n := out.Shape()[0]
	x := make([]float64, out.Len()/n)
	for i := range n {
		k.Prior(x, 1, rng.ForImage(seed, first+uint64(i), p))
		if host.Double() {
			copy(host.F64()[i*len(x):], x)
			continue
		}
		to := host.F32()[i*len(x):][:len(x)]
		for j, v := range x {
			to[j] = float32(v)
		}
	}
	if host != out {
		out.Copy(host)
	}
}
