package ops

import (
	"errors"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// maxSplat bounds Gaussians, pixels and tiles: kernels count them in 32 bits.
const maxSplat = math.MaxInt32

// The sides of the tiles that Gaussians are sorted into; splatSmall where their
// boxes are narrower than that on average.
const (
	splatTile  = 16
	splatSmall = 8
)

func splatError(format string, args ...any) error {
	return fmt.Errorf("ops: SplatForward: "+format, args...)
}

// checkSplat fills cfg's defaults and returns the problem's size.
func checkSplat(cfg *SplatConfig, p *SplatParams, h, w int) (splatSize, error) {
	var s splatSize
	if err := checkSplatConfig(cfg); err != nil {
		return s, err
	}
	if p.Mean == nil || p.Cov == nil || p.Feature == nil {
		return s, errors.New("ops: SplatForward: Mean, Cov and Feature must be given")
	}
	mean, feature := p.Mean.Shape(), p.Feature.Shape()
	if len(mean) != 3 || len(feature) != 3 {
		return s, splatError("Mean has shape %v and Feature %v; want [B, N, 2] and [B, N, C]", mean, feature)
	}
	if dt := p.Feature.DType(); dt != gpu.Float32 && !dt.Half() {
		return s, splatError("Feature is %v; want float32, float16 or bfloat16", dt)
	}
	s = splatSize{b: mean[0], n: mean[1], c: feature[2], h: h, w: w}
	for _, t := range []struct {
		name  string
		t     *gpu.Tensor
		dt    gpu.DType
		shape []int
	}{
		{"Mean", p.Mean, gpu.Float32, []int{s.b, s.n, 2}},
		{"Cov", p.Cov, gpu.Float32, []int{s.b, s.n, 3}},
		{"Feature", p.Feature, p.Feature.DType(), []int{s.b, s.n, s.c}},
		{"Opacity", p.Opacity, gpu.Float32, []int{s.b, s.n}},
		{"Background", p.Background, gpu.Float32, []int{s.b, s.c}},
		{"Depth", p.Depth, gpu.Float32, []int{s.b, s.n}},
	} {
		if t.t == nil {
			continue
		}
		if err := wantTensor("SplatForward", t.name, t.t, p.Mean.Device(), t.dt, t.shape); err != nil {
			return s, err
		}
	}
	if p.Depth != nil && cfg.Mode != SplatAlpha {
		return s, splatError("Depth is for SplatAlpha; the other modes have no order")
	}
	if cfg.Tile == splatSmall && !smallTiles(cfg, s) {
		return s, splatError("tiles of 8 for mode %d and %d features; they are for SplatAdditive and SplatNormalised of at most 8, without ExactFar", cfg.Mode, s.c)
	}
	least := 1
	if cfg.Grid == SplatCorners {
		least = 2
	}
	if s.c < 1 || h < least || w < least {
		return s, splatError("%d channels, %d x %d pixels; want at least 1 and %d x %d", s.c, h, w, least, least)
	}
	tiles := ceil(h, splatSmall) * ceil(w, splatSmall)
	for _, q := range []struct {
		what string
		a, b int
	}{{"Gaussians", s.b, s.n}, {"pixels of a row", w, 1}, {"pixels of a column", h, 1}, {"pixels", s.b, h * w}, {"tiles", s.b, tiles}} {
		if q.a > maxSplat || q.b > maxSplat || q.a*q.b > maxSplat {
			return s, splatError("%d x %d %s; at most 2^31-1: draw fewer images at a time", q.a, q.b, q.what)
		}
	}
	return s, nil
}

// smallTiles tells whether tiles of 8 x 8 can be drawn. They are for the modes
// whose gradients do not go by tiles; ExactFar draws by large ones again.
func smallTiles(cfg *SplatConfig, s splatSize) bool {
	return cfg.Mode != SplatAlpha && s.c <= 8 && !cfg.ExactFar
}

func checkSplatConfig(cfg *SplatConfig) error {
	if cfg.Support == (SplatSupport{}) {
		cfg.Support = SplatLevel(1e-4)
	}
	if cfg.Eps == 0 && !cfg.ExactFar {
		cfg.Eps = 1e-6
	}
	switch size := cfg.Support.size; {
	case cfg.Form > SplatSigmaRho:
		return splatError("unknown form %d", cfg.Form)
	case cfg.Mode > SplatAlpha:
		return splatError("unknown mode %d", cfg.Mode)
	case cfg.RawMean > SplatMeanSigmoid:
		return splatError("unknown raw mean %d", cfg.RawMean)
	case cfg.Grid > SplatCorners:
		return splatError("unknown grid %d", cfg.Grid)
	case cfg.Support.kind > ellipseSupport || !(size > 0) || size > math.MaxFloat32:
		return splatError("a support of %g; want > 0 and finite", size)
	case cfg.ExactFar && cfg.Mode != SplatNormalised:
		return splatError("ExactFar with mode %d; it is for SplatNormalised", cfg.Mode)
	case cfg.Tile != 0 && cfg.Tile != splatTile && cfg.Tile != splatSmall:
		return splatError("tiles of %d; want 8, 16 or 0 for a choice", cfg.Tile)
	case cfg.ExactFar && cfg.Eps != 0:
		return splatError("ExactFar with Eps %g; it has no epsilon", cfg.Eps)
	case !(cfg.Eps >= 0) || cfg.Eps > math.MaxFloat32:
		return splatError("Eps is %g; want > 0 and finite", cfg.Eps)
	case !(cfg.LowPass >= 0) || cfg.LowPass > math.MaxFloat32:
		return splatError("LowPass is %g; want >= 0 and finite", cfg.LowPass)
	}
	return nil
}

// wantTensor tells how t differs from a tensor of the dtype and shape on dev.
func wantTensor(op, name string, t *gpu.Tensor, dev *gpu.Device, dt gpu.DType, shape []int) error {
	if t.DType() != dt {
		return fmt.Errorf("ops: %s: %s is %v; want %v", op, name, t.DType(), dt)
	}
	if t.Device() != dev {
		return fmt.Errorf("ops: %s: %s is on %v, Mean on %v; move it with To", op, name, t.Device(), dev)
	}
	got := t.Shape()
	same := len(got) == len(shape)
	for i := range shape {
		same = same && got[i] == shape[i]
	}
	if !same {
		return fmt.Errorf("ops: %s: %s has shape %v; want %v", op, name, got, shape)
	}
	return nil
}

func (a *SplatAux) checkGrads(dImage, dCoverage *gpu.Tensor) error {
	const op = "SplatBackward"
	if dImage == nil {
		return errors.New("ops: SplatBackward: no gradient of the image")
	}
	s := a.size
	dev := a.p.Mean.Device()
	if err := wantTensor(op, "the gradient of the image", dImage, dev, a.p.Feature.DType(), s.imageShape(a.cfg.Planar)); err != nil {
		return err
	}
	if dCoverage == nil {
		return nil
	}
	if a.cfg.Mode != SplatAlpha {
		return errors.New("ops: SplatBackward: a gradient of the coverage; only SplatAlpha has one")
	}
	return wantTensor(op, "the gradient of the coverage", dCoverage, dev, gpu.Float32, []int{s.b, s.h, s.w})
}

// splatFault is why a Gaussian is left out; splat2d_prepare.cu has the same numbers.
type splatFault uint8

const (
	faultNone splatFault = iota
	faultMean
	faultCov
	faultOpacity
	faultFeature
	faultDepth
	faultSigma
	faultRho
	faultSize
)

func (f splatFault) String() string {
	return [...]string{
		faultNone:    "nothing",
		faultMean:    "its mean is not finite",
		faultCov:     "its covariance's numbers are not finite",
		faultOpacity: "its opacity is not finite",
		faultFeature: "a feature is not finite",
		faultDepth:   "its depth is negative or not finite",
		faultSigma:   "a sigma is not positive",
		faultRho:     "rho is not between -1 and 1",
		faultSize:    "its covariance overflows",
	}[f]
}

// splatFaults is the first Gaussian with a fault, numbered over all images, and how many there are.
type splatFaults struct {
	first, count int
	fault        splatFault
}

func (f *splatFaults) err(n int) error {
	if f.count == 0 {
		return nil
	}
	return &SplatDataError{Image: f.first / n, Gaussian: f.first % n, Count: f.count, What: f.fault.String()}
}
