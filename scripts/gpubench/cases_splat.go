package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// picture is a batch of images of Gaussians with sigmas of 2 to 8 pixels, cut at three of them.
// dt is the dtype of features and image.
type picture struct {
	b, n, c, side int
	dt            gpu.DType
	least, most   float32 // sigmas; 0: 2 to 8
}

func (p picture) params(dev *gpu.Device, depth bool) ops.SplatParams {
	r := rand.New(rand.NewPCG(3, 4))
	rows := p.b * p.n
	mean, cov, feature, opacity, z := make([]float32, 2*rows), make([]float32, 3*rows), make([]float32, p.c*rows), make([]float32, rows), make([]float32, rows)
	for i := range rows {
		mean[2*i], mean[2*i+1] = r.Float32()*float32(p.side), r.Float32()*float32(p.side)
		cov[3*i], cov[3*i+1], cov[3*i+2] = p.sigma(r), 2*r.Float32()-1, p.sigma(r)
		for k := range p.c {
			feature[i*p.c+k] = r.Float32()
		}
		opacity[i], z[i] = 0.2+0.7*r.Float32(), r.Float32()
	}
	s := ops.SplatParams{
		Mean: dev.From(mean, p.b, p.n, 2), Cov: dev.From(cov, p.b, p.n, 3), Feature: dev.FromAs(p.dt, feature, p.b, p.n, p.c), Opacity: dev.From(opacity, p.b, p.n),
	}
	background := make([]float32, p.b*p.c)
	for i := range background {
		background[i] = 0.5
	}
	s.Background = dev.From(background, p.b, p.c)
	if depth {
		s.Depth = dev.From(z, p.b, p.n)
	}
	return s
}

func (p picture) sigmas() (least, most float32) {
	if p.most == 0 {
		return 2, 8
	}
	return p.least, p.most
}

func (p picture) sigma(r *rand.Rand) float32 {
	least, most := p.sigmas()
	return least + (most-least)*r.Float32()
}

// pixels is how many pixels all Gaussians' boxes have, as expected: 36 sigma_x sigma_y each.
func (p picture) pixels() float64 {
	least, most := p.sigmas()
	sigma := float64(least+most) / 2
	return float64(p.b*p.n) * min(36*sigma*sigma, float64(p.side*p.side))
}

func init() {
	for name, p := range map[string]picture{
		"picture":    {b: 16, n: 4096, c: 3, side: 512, dt: gpu.Float32},
		"tokens":     {b: 64, n: 256, c: 16, side: 128, dt: gpu.Float32},
		"features8":  {b: 16, n: 1024, c: 8, side: 256, dt: gpu.Float32},
		"features32": {b: 16, n: 1024, c: 32, side: 256, dt: gpu.Float32},
		"features64": {b: 16, n: 1024, c: 64, side: 256, dt: gpu.Float32},
		"tokensf16":  {b: 64, n: 256, c: 16, side: 128, dt: gpu.Float16},
	} {
		if tiny {
			p.b, p.n, p.side = 1, 20, 24
		}
		registerSplat("additive."+name, p, ops.SplatAdditive, false)
		if p.dt != gpu.Float32 {
			continue
		}
		registerSplat("alpha."+name, p, ops.SplatAlpha, false)
		registerSplat("alpha.fast."+name, p, ops.SplatAlpha, true)
		if name == "picture" {
			registerSplatTiles(p)
		}
		if p.c == 3 {
			registerSplat("normalised."+name, p, ops.SplatNormalised, false)
		}
	}
}

// width is the number of features that the kernel for c of them is made for.
func (p picture) width() int {
	for _, w := range []int{4, 8, 16, 32} {
		if p.c <= w {
			return w
		}
	}
	return 64
}

func registerSplat(name string, p picture, mode ops.SplatMode, fast bool) {
	cfg := ops.SplatConfig{Form: ops.SplatCholesky, Mode: mode, Support: ops.SplatBox(3), Deferred: true, Fast: fast}
	alpha := mode == ops.SplatAlpha
	draw, back := "splat2d_sum", "splat2d_gather"
	switch {
	case fast:
		draw, back = "splat2d_alpha", "splat2d_alphafast"
	case alpha:
		draw, back = "splat2d_alpha", "splat2d_alphaback"
	}
	if p.c > 8 {
		draw = "splat2d_wide"
	}
	draw, back = fmt.Sprintf("%s%d_f32", draw, p.width()), fmt.Sprintf("%s%d_f32", back, p.width())
	registerSplatBackward(name, back, p, cfg)
	if fast { // it changes the backward pass alone
		return
	}
	register(p.forward(name, draw, cfg))
}

// forward is the case of drawing p; kernel is the one that draws.
func (p picture) forward(name, kernel string, cfg ops.SplatConfig) Case {
	return Case{
		Name: "splat.forward." + name, Kernel: kernel, Shape: p.shape(), Peak: "f32", Bytes: p.bytes(), Flops: (14 + 2*float64(p.c)) * p.pixels(),
		Setup: func(dev *gpu.Device) (func(), error) {
			params := p.params(dev, cfg.Mode == ops.SplatAlpha)
			return func() {
				image, aux, err := ops.SplatForward(cfg, params, p.side, p.side)
				must(err)
				image.Free()
				aux.Free()
			}, nil
		},
	}
}

func (p picture) shape() string { return shape(p.b, p.n, p.c) + " on " + shape(p.side, p.side) }

// bytes is what the Gaussians and the image take.
func (p picture) bytes() float64 {
	return float64(p.b) * (float64(p.n*24) + float64(p.dt.Size()*p.c*(p.n+p.side*p.side)))
}

// registerSplatTiles adds what tiles are worth: a fit of 70000 small Gaussians to a photograph in tiles of either
// side, and with Gaussians in all tiles of their boxes.
func registerSplatTiles(p picture) {
	p.b, p.n, p.side = 1, size(70000, 2060), size(614, 24) // as many pixels as 768 x 512
	p.least, p.most = 0.5, 1.5
	for name, cfg := range map[string]ops.SplatConfig{
		"8": {Tile: 8}, "16": {Tile: 16}, "loose": {Tile: 16, LooseTiles: true},
	} {
		kernel := "splat2d_sum4_f32"
		if cfg.Tile == 8 {
			kernel = "splat2d_small4_f32"
		}
		cfg.Support, cfg.Deferred = ops.SplatLevel(1./255), true
		register(p.forward("additive.photograph.tiles"+name, kernel, cfg))
	}
}

func registerSplatBackward(name, kernel string, p picture, cfg ops.SplatConfig) {
	register(Case{
		Name: "splat.backward." + name, Kernel: kernel, Shape: p.shape(), Peak: "f32", Bytes: 2 * p.bytes(), Flops: (20 + 4*float64(p.c)) * p.pixels(),
		Setup: func(dev *gpu.Device) (func(), error) {
			params := p.params(dev, cfg.Mode == ops.SplatAlpha)
			_, aux, err := ops.SplatForward(cfg, params, p.side, p.side)
			if err != nil {
				return nil, err
			}
			v := normal(dev, p.dt, p.b, p.side, p.side, p.c)
			return func() {
				g, err := ops.SplatBackward(aux, v, nil)
				must(err)
				g.Free()
			}, nil
		},
	})
}
