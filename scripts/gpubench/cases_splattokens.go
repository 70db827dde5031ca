package main

import (
	"math"
	"math/rand/v2"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
	"github.com/fidlab/fidlab/ops"
)

// tokens are a batch of GPSToken's maps: n Gaussians by sigma and rho on the corners grid, cut at three sigmas.
type tokens struct {
	b, n, c, side int
	least, most   float64 // sigma in half images
}

func (k tokens) params(dev *gpu.Device) ops.SplatParams {
	r := rand.New(rand.NewPCG(5, 6))
	rows := k.b * k.n
	mean, cov, feature := make([]float32, 2*rows), make([]float32, 3*rows), make([]float32, k.c*rows)
	sigma := func() float32 { return float32(k.least * math.Pow(k.most/k.least, r.Float64())) }
	for i := range rows {
		mean[2*i], mean[2*i+1] = 2*r.Float32()-1, 2*r.Float32()-1
		cov[3*i], cov[3*i+1], cov[3*i+2] = sigma(), sigma(), 1.6*r.Float32()-0.8
	}
	for i := range feature {
		feature[i] = 2*r.Float32() - 1
	}
	return ops.SplatParams{Mean: dev.From(mean, k.b, k.n, 2), Cov: dev.From(cov, k.b, k.n, 3), Feature: dev.From(feature, k.b, k.n, k.c)}
}

// pixels is how many pixels all boxes have, as expected: 9 sigma_x sigma_y side^2 each, as half an image is 1.
func (k tokens) pixels() float64 {
	mean := (k.most - k.least) / math.Log(k.most/k.least)
	side := float64(k.side)
	return float64(k.b*k.n) * min(9*mean*mean, 1) * side * side
}

func (k tokens) bytes() float64 { return 4 * float64(k.b) * float64(k.n*(5+k.c)+k.side*k.side*k.c) }

func (k tokens) shape() string { return shape(k.b, k.n, k.c) + " on " + shape(k.side, k.side) }

// The size at which a drawing is to take at most a twentieth of the plain loops' time; the same
// with Gaussians that cover the image, and on tensor cores.
func init() {
	k := tokens{b: size(64, 2), n: size(128, 9), c: 16, side: size(64, 20), least: 0.05, most: 0.25}
	wide := k
	wide.least, wide.most = 0.2, 0.6
	cfg := ops.SplatConfig{Form: ops.SplatSigmaRho, Grid: ops.SplatCorners, Support: ops.SplatBox(3), Deferred: true}
	tensor := cfg
	tensor.TF32 = true
	k.register("tokens64", "splat2d_wide16_f32", "splat2d_gather16_f32", cfg)
	k.register("tokens64.tf32", "splat2d_tensor16_tf32", "", tensor)
	wide.register("covering", "splat2d_wide16_f32", "splat2d_cover16_f32", cfg)
	k.registerPlain("tokens64")
	wide.registerPlain("covering")
}

// register adds the forward pass, and the backward one unless it is another case's.
func (k tokens) register(name, draw, back string, cfg ops.SplatConfig) {
	c := float64(k.c)
	plain := name
	if cfg.TF32 {
		plain = "tokens64"
	}
	register(Case{
		Name: "splat.forward." + name, Kernel: draw, Shape: k.shape(), Peak: "f32", Bytes: k.bytes(), Flops: (14 + 2*c) * k.pixels(), Plain: "splat.plain.forward." + plain,
		Setup: func(dev *gpu.Device) (func(), error) {
			p := k.params(dev)
			return func() {
				image, aux, err := ops.SplatForward(cfg, p, k.side, k.side)
				must(err)
				image.Free()
				aux.Free()
			}, nil
		},
	})
	if back == "" {
		return
	}
	register(Case{
		Name: "splat.backward." + name, Kernel: back, Shape: k.shape(), Peak: "f32", Bytes: 2 * k.bytes(), Flops: (20 + 4*c) * k.pixels(), Plain: "splat.plain.backward." + plain,
		Setup: func(dev *gpu.Device) (func(), error) {
			_, aux, err := ops.SplatForward(cfg, k.params(dev), k.side, k.side)
			if err != nil {
				return nil, err
			}
			v := normal(dev, gpu.Float32, k.b, k.side, k.side, k.c)
			return func() {
				g, err := ops.SplatBackward(aux, v, nil)
				must(err)
				g.Free()
			}, nil
		},
	})
}

// registerPlain adds the same two by plain loops.
func (k tokens) registerPlain(name string) {
	c, w, n := float64(k.c), int32(k.side), int32(k.n)
	pixels, all := k.b*k.side*k.side, k.b*k.n
	register(Case{
		Name: "splat.plain.forward." + name, Kernel: "splat2d_naive_f32", Shape: k.shape(), Peak: "f32", Bytes: k.bytes(), Flops: (14 + 2*c) * k.pixels(),
		Setup: func(dev *gpu.Device) (func(), error) {
			p, image := k.params(dev), dev.Empty(k.b, k.side, k.side, k.c)
			return func() {
				dev.Stream().Memset(image.Ptr(), 0, 4*image.Len())
				kernels.Splat2dNaiveF32(dev.Stream(), cuda.Grid1(pixels, 256, 256), image.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), 3, w, w, int32(k.c), n, int32(pixels))
			}, nil
		},
	})
	register(Case{
		Name: "splat.plain.backward." + name, Kernel: "splat2d_naive_backward_f32", Shape: k.shape(), Peak: "f32", Bytes: 2 * k.bytes(), Flops: (20 + 4*c) * k.pixels(),
		Setup: func(dev *gpu.Device) (func(), error) {
			p, v := k.params(dev), normal(dev, gpu.Float32, k.b, k.side, k.side, k.c)
			mean, cov, df := p.Mean.Like(), p.Cov.Like(), p.Feature.Like()
			return func() {
				dev.Stream().Memset(df.Ptr(), 0, 4*df.Len())
				kernels.Splat2dNaiveBackwardF32(dev.Stream(), cuda.Grid1(all, 128, 128), mean.Ptr(), cov.Ptr(), df.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), v.Ptr(), 3, w, w, int32(k.c), n, int32(all))
			}, nil
		},
	})
}
