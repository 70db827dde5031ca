package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// SplatForm says which three numbers give a covariance [[a, b], [b, c]].
type SplatForm uint8

const (
	// SplatCholesky is l11, l21, l22: a = l11², b = l11·l21, c = l21² + l22².
	// No direction of it is ever dead: the form for fitting.
	SplatCholesky SplatForm = iota
	// SplatRS is sx, sy > 0 and θ, counter-clockwise in radians:
	// a = sx²cos² + sy²sin², b = (sx² - sy²)·sin·cos, c = sx²sin² + sy²cos².
	SplatRS
	// SplatSigmaRho is σx, σy > 0 and |ρ| < 1: a = σx², b = ρσxσy, c = σy².
	SplatSigmaRho
)

// SplatMode says how Gaussians are blended at a pixel.
type SplatMode uint8

const (
	// SplatAdditive is F = bg + Σ gᵢ·fᵢ.
	SplatAdditive SplatMode = iota
	// SplatNormalised is F = (Σ gᵢ·fᵢ + ε·bg) / (Σ gᵢ + ε).
	SplatNormalised
	// SplatAlpha is front to back: αᵢ = min(0.99, gᵢ), skipped below 1/255;
	// F = Σ αᵢ·Tᵢ·fᵢ + T·bg with Tᵢ₊₁ = Tᵢ(1 - αᵢ), ended before T would fall to 1e-4.
	SplatAlpha
)

// SplatGrid says where the pixels of an axis of length n sit.
type SplatGrid uint8

const (
	// SplatCenters puts pixel k at k + 0.5; means and sigmas are in pixels.
	SplatCenters SplatGrid = iota
	// SplatCorners puts pixel k at 2k/(n-1) - 1, n >= 2; means and sigmas are in
	// half images.
	SplatCorners
)

type supportKind uint8

const (
	levelSupport supportKind = iota
	boxSupport
	ellipseSupport
)

// SplatSupport says where a Gaussian is cut off. The zero value is SplatLevel(1e-4).
type SplatSupport struct {
	kind supportKind
	size float32
}

// SplatBox keeps |dx| <= s·√a and |dy| <= s·√c. GPSToken's published weights want s = 3.
func SplatBox(s float32) SplatSupport { return SplatSupport{boxSupport, s} }

// SplatEllipse keeps what lies within s standard deviations.
func SplatEllipse(s float32) SplatSupport { return SplatSupport{ellipseSupport, s} }

// SplatLevel keeps where the Gaussian's value is at least tau. GaussianImage wants 1/255.
func SplatLevel(tau float32) SplatSupport { return SplatSupport{levelSupport, tau} }

// SplatConfig says how Gaussians become an image. The zero value is Cholesky
// factors in pixels, added up down to a value of 1e-4.
type SplatConfig struct {
	Form SplatForm
	Mode SplatMode
	Grid SplatGrid
	// RawMean and RawCov say that Mean and Cov are variables without bounds, as an
	// optimiser or a network has them; gradients are theirs. RawCov makes them into
	// the form's numbers: SplatCholesky l11 + 0.5, l21, l22 + 0.5; SplatRS
	// |sx + 0.5|, |sy + 0.5|, 2π·sigmoid(θ); SplatSigmaRho sigmoid, sigmoid,
	// 2·sigmoid - 1.
	RawMean SplatRawMean
	RawCov  bool
	Support SplatSupport
	Eps     float32 // ε of SplatNormalised; 0 is 1e-6
	// ExactFar leaves ε out of SplatNormalised: F = Σ gᵢ·fᵢ / Σ gᵢ wherever a Gaussian
	// reaches, however small its g, and bg where none does.
	ExactFar bool
	LowPass  float32 // added to a and c, in pixels²: 0.3 keeps thin Gaussians from falling between pixels
	Planar   bool    // images are [B, C, H, W] instead of [B, H, W, C]
	// Tile is the side of the tiles that a GPU sorts Gaussians into, 16 or 8; 0
	// leaves the choice: 8 for SplatAdditive and SplatNormalised of more than 2048
	// Gaussians and up to 8 features whose boxes have a mean side below 8 pixels, else
	// 16. 8 is for the same modes and features. It changes the time alone, no bit.
	Tile int
	// LooseTiles lists Gaussians in all tiles of their boxes, also in those that
	// their ellipses do not reach. It changes the time alone: for measurements.
	LooseTiles bool
	// Fast lets the GPU sum gradients of SplatAlpha with atomics, in no fixed
	// order. Everything else is reproducible bit by bit either way.
	Fast bool
	// TF32 lets a GPU draw more than eight features of SplatAdditive and
	// SplatNormalised on tensor cores, with g and the features rounded to 10 bits of
	// fraction: an image is within 2^-10·Σ g·|f| of the one without. Gradients are
	// computed in float32, those of SplatNormalised from that image. Elsewhere it
	// changes nothing.
	TF32 bool
	// Deferred leaves the check of the parameters' values to SplatAux.Check, so
	// that SplatForward need not wait for the GPU.
	Deferred bool
}

// SplatParams are B images of N Gaussians with C features each.
type SplatParams struct {
	Mean       *gpu.Tensor // [B, N, 2]: x, y in the grid's unit, or as RawMean says
	Cov        *gpu.Tensor // [B, N, 3]: as SplatForm says, in the grid's unit, or as RawCov says
	Feature    *gpu.Tensor // [B, N, C], float32, float16 or bfloat16, as the image will be
	Opacity    *gpu.Tensor // [B, N]; nil is 1
	Background *gpu.Tensor // [B, C]; nil is 0
	Depth      *gpu.Tensor // [B, N] >= 0, SplatAlpha alone: nearest first, ties in list order; nil is list order
}

// SplatGrads are the gradients of SplatParams, in their shapes and dtypes; Opacity and
// Background are nil where the parameter was. The order by depth has none.
type SplatGrads struct {
	Mean, Cov, Feature, Opacity, Background *gpu.Tensor
}

// Free gives the gradients' memory back.
func (g *SplatGrads) Free() { freeAll(g.Mean, g.Cov, g.Feature, g.Opacity, g.Background) }

// SplatAux is what SplatForward keeps for SplatBackward.
type SplatAux struct {
	cfg   SplatConfig
	p     SplatParams
	image *gpu.Tensor // SplatNormalised: F
	size  splatSize
	cpu   *splatCPU
	gpu   *splatGPU
}

// splatSize is the shape of a problem.
type splatSize struct{ b, n, c, h, w int }

func (s splatSize) imageShape(planar bool) []int {
	if planar {
		return []int{s.b, s.c, s.h, s.w}
	}
	return []int{s.b, s.h, s.w, s.c}
}

// SplatDataError says which values of the parameters cannot be drawn. Such
// Gaussians are left out of the image and get no gradient.
type SplatDataError struct {
	Image, Gaussian int    // the first one's place
	Count           int    // how many there are
	What            string // what is wrong with the first
}

func (e *SplatDataError) Error() string {
	return fmt.Sprintf("ops: SplatForward: %d Gaussians cannot be drawn and are left out; the first is number %d of image %d: %s", e.Count, e.Gaussian, e.Image, e.What)
}

// SplatForward draws Gaussians: at the pixel at (x, y), with (dx, dy) its
// distance from a mean, a Gaussian's value is
//
//	g = o·exp(-q),  q = (A·dx² + D·dy²)/2 + B·dx·dy,  [[A, B], [B, D]] = [[a, b], [b, c]]⁻¹
//
// within its support and 0 beyond, and cfg.Mode makes the image [B, H, W, C] of
// the values and features. All tensors are on one device, where the image will
// be, and float32, but that features and image may both be float16 or bfloat16:
// sums are float32 and rounded once. sigma below a thousandth of a pixel and |ρ| above 1 - 1e-4 are
// raised or lowered to that.
//
// The image and aux come with a *SplatDataError when parameters are not finite,
// a σ is not positive, |ρ| >= 1 or a depth is negative; with any other error
// (shapes, devices, sizes beyond 2³¹) they are nil. The parameters, and in
// SplatNormalised the image, must not change before SplatBackward; aux.Free
// gives back what is kept for it.
func SplatForward(cfg SplatConfig, p SplatParams, h, w int) (*gpu.Tensor, *SplatAux, error) {
	size, err := checkSplat(&cfg, &p, h, w)
	if err != nil {
		return nil, nil, err
	}
	aux := &SplatAux{cfg: cfg, p: p, size: size}
	dev := p.Mean.Device()
	image := dev.New(p.Feature.DType(), size.imageShape(cfg.Planar)...)
	aux.image = image
	if dev.CUDA() {
		err = aux.forwardCUDA(image)
	} else {
		err = aux.forwardCPU(image)
	}
	if err != nil {
		image.Free()
		aux.Free()
		return nil, nil, err
	}
	if cfg.Deferred {
		return image, aux, nil
	}
	return image, aux, aux.Check()
}

// Check tells what SplatForward found wrong with the parameters' values. On a
// GPU it waits for the drawing.
func (a *SplatAux) Check() error {
	if a.gpu != nil {
		return a.checkCUDA()
	}
	if a.cpu == nil {
		return errSplatFreed
	}
	return a.cpu.bad.err(a.size.n)
}

// Coverage is 1 - T of every pixel, [B, H, W], how much of the background
// SplatAlpha has covered; nil in the other modes.
func (a *SplatAux) Coverage() *gpu.Tensor {
	if a.cfg.Mode != SplatAlpha || a.cpu == nil && a.gpu == nil {
		return nil
	}
	if a.gpu != nil {
		return a.coverageCUDA()
	}
	return a.coverageCPU()
}

// Free gives back what a keeps; it is of no use after that.
func (a *SplatAux) Free() {
	if a.gpu != nil {
		a.gpu.free()
		if a.cfg.raw() {
			freeAll(a.gpu.mean, a.gpu.cov)
		}
	}
	a.cpu, a.gpu, a.image = nil, nil, nil
}

var errSplatFreed = fmt.Errorf("ops: SplatBackward: the aux was freed; keep it until the gradients are there")

// SplatBackward is the gradient of the parameters from that of the image, and
// in SplatAlpha of the coverage [B, H, W], which may be nil. Pixels at the edge
// of a support count as inside or outside, as they were drawn: the cut-off
// itself has no gradient. A value at a limit (σ of a thousandth of a pixel, |ρ|,
// α = 0.99) has gradient 0 where the limit holds it. aux can be used again.
func SplatBackward(aux *SplatAux, dImage, dCoverage *gpu.Tensor) (*SplatGrads, error) {
	if aux == nil || aux.cpu == nil && aux.gpu == nil {
		return nil, errSplatFreed
	}
	if err := aux.checkGrads(dImage, dCoverage); err != nil {
		return nil, err
	}
	dev, s := aux.p.Mean.Device(), aux.size
	g := &SplatGrads{Mean: dev.Empty(s.b, s.n, 2), Cov: dev.Empty(s.b, s.n, 3), Feature: dev.New(aux.p.Feature.DType(), s.b, s.n, s.c)}
	if aux.p.Opacity != nil {
		g.Opacity = dev.Empty(s.b, s.n)
	}
	if aux.p.Background != nil {
		g.Background = dev.Empty(s.b, s.c)
	}
	if dev.CUDA() {
		if err := aux.backwardCUDA(g, dImage, dCoverage); err != nil {
			g.Free()
			return nil, err
		}
		return g, nil
	}
	return g, aux.backwardCPU(g, dImage, dCoverage)
}

// freeAll frees the tensors that are there.
func freeAll(ts ...*gpu.Tensor) {
	for _, t := range ts {
		if t != nil {
			t.Free()
		}
	}
}
