package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// SplatRawMean says what SplatParams.Mean holds.
type SplatRawMean uint8

const (
	// SplatMeanGiven is the mean itself, in the grid's unit.
	SplatMeanGiven SplatRawMean = iota
	// SplatMeanTanh is a variable whose tanh is the mean in half images, -1 at one
	// edge and 1 at the other: GaussianImage's.
	SplatMeanTanh
	// SplatMeanSigmoid is the same by 2·sigmoid - 1: GPSToken's.
	SplatMeanSigmoid
)

// A sigma and a |ρ| that are not refused, but held by their limits: raw variables
// are not told off for being far out. splat2d_raw.cu has the same.
const (
	rawSigmaLeast = 1e-30
	rawRhoMost    = 1 - 0x1p-23
)

func (c *SplatConfig) raw() bool { return c.RawMean != SplatMeanGiven || c.RawCov }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// rawMean is the mean on an axis from a raw variable, and the derivative. Half an
// image is n/2 pixels with SplatCenters and the unit itself with SplatCorners.
func rawMean(raw SplatRawMean, v float32, x *splatAxis) (mean float32, slope float64) {
	if raw == SplatMeanGiven || !finite32(v) {
		return v, 1
	}
	k := 1.0 // tanh(v) is 2·sigmoid(2v) - 1
	if raw == SplatMeanTanh {
		k = 2
	}
	s := sigmoid(k * float64(v))
	return float32(x.half*(2*s-1) + x.centre), 2 * x.half * k * s * sigmoid(-k*float64(v))
}

// rawCov is number k of a form from a raw variable, and the derivative.
func rawCov(form SplatForm, k int, v float32) (value float32, slope float64) {
	if !finite32(v) {
		return v, 1
	}
	switch {
	case form == SplatCholesky && k == 1:
		return v, 1
	case form == SplatCholesky:
		return v + 0.5, 1
	case form == SplatRS && k < 2:
		return max(abs32(v+0.5), rawSigmaLeast), math.Copysign(1, float64(v+0.5))
	}
	s, slope := sigmoid(float64(v)), sigmoid(float64(v))*sigmoid(-float64(v))
	switch {
	case form == SplatRS:
		return float32(2 * math.Pi * s), 2 * math.Pi * slope
	case k < 2:
		return max(float32(s), rawSigmaLeast), slope
	}
	return max(-rawRhoMost, min(rawRhoMost, float32(2*s-1))), 2 * slope
}

// activateCPU makes raw variables into the values that are drawn.
func (a *SplatAux) activateCPU() {
	s := a.cpu
	s.mean, s.cov = a.p.Mean.F32(), a.p.Cov.F32()
	if a.cfg.RawMean != SplatMeanGiven {
		raw := s.mean
		s.mean = make([]float32, len(raw))
		for i, v := range raw {
			s.mean[i], _ = rawMean(a.cfg.RawMean, v, s.axis(i))
		}
	}
	if a.cfg.RawCov {
		raw := s.cov
		s.cov = make([]float32, len(raw))
		for i, v := range raw {
			s.cov[i], _ = rawCov(a.cfg.Form, i%3, v)
		}
	}
}

// axis is that of element i of [.., 2].
func (s *splatCPU) axis(i int) *splatAxis {
	if i%2 == 0 {
		return &s.x
	}
	return &s.y
}

// slopeCPU makes gradients of the values into those of the raw variables. Of what
// is not drawn they are 0.
func (a *SplatAux) slopeCPU(g *SplatGrads) {
	dMean, dCov := g.Mean.F32(), g.Cov.F32()
	for i, v := range a.p.Mean.F32() {
		if _, slope := rawMean(a.cfg.RawMean, v, a.cpu.axis(i)); dMean[i] != 0 {
			dMean[i] = float32(float64(dMean[i]) * slope)
		}
	}
	for i, v := range a.p.Cov.F32() {
		if _, slope := rawCov(a.cfg.Form, i%3, v); a.cfg.RawCov && dCov[i] != 0 {
			dCov[i] = float32(float64(dCov[i]) * slope)
		}
	}
}

// rawCUDA launches one of the two kernels of raw variables.
func (a *SplatAux) rawCUDA(launch func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32, int32, int32), mean, cov *gpu.Tensor) {
	n := a.size.b * a.size.n
	launch(a.p.Mean.Device().Stream(), cuda.Grid1(5*n, 128, 128), mean.Ptr(), cov.Ptr(), a.p.Mean.Ptr(), a.p.Cov.Ptr(),
		int32(a.cfg.Form), int32(a.cfg.RawMean), bit(a.cfg.RawCov), bit(a.cfg.Grid == SplatCorners), int32(a.size.w), int32(a.size.h), int32(n))
}

// activateCUDA is activateCPU.
func (a *SplatAux) activateCUDA() {
	g := a.gpu
	g.mean, g.cov = a.p.Mean, a.p.Cov
	if a.cfg.raw() {
		g.mean, g.cov = a.p.Mean.Like(), a.p.Cov.Like()
		a.rawCUDA(kernels.Splat2dActivateF32, g.mean, g.cov)
	}
}
