package main

import (
	"fmt"
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

func (k tokens) params(dev *gpu.Device, raw bool) ops.SplatParams {
	r := rand.New(rand.NewPCG(5, 6))
	rows := k.b * k.n
	mean, cov, feature := make([]float32, 2*rows), make([]float32, 3*rows), make([]float32, k.c*rows)
	sigma := func() float32 { return float32(k.least * math.Pow(k.most/k.least, r.Float64())) }
	for i := range rows {
		mean[2*i], mean[2*i+1] = 2*r.Float32()-1, 2*r.Float32()-1
		cov[3*i], cov[3*i+1], cov[3*i+2] = sigma(), sigma(), 1.6*r.Float32()-0.8
	}
	if raw { // the same by the variables: logarithms of odds
		odds := func(v []float32, unit func(float32) float32) {
			for i, x := range v {
				p := float64(unit(x))
				v[i] = float32(math.Log(p / (1 - p)))
			}
		}
		half := func(x float32) float32 { return (min(max(x, -0.99), 0.99) + 1) / 2 }
		odds(mean, half)
		for i := range rows {
			odds(cov[3*i:][:2], func(x float32) float32 { return x })
			odds(cov[3*i+2:][:1], half)
		}
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

// The size at which a drawing is to take at most a twentieth of the plain loops' time; the same with Gaussians that
// cover the image, on tensor cores, of raw variables, and with every option that has kernels of its own.
func init() {
	k := tokens{b: size(64, 2), n: size(128, 9), c: 16, side: size(64, 20), least: 0.05, most: 0.25}
	wide := k
	wide.least, wide.most = 0.2, 0.6
	cfg := ops.SplatConfig{Form: ops.SplatSigmaRho, Grid: ops.SplatCorners, Support: ops.SplatBox(3), Deferred: true}
	k.register("tokens64", "splat2d_wide16_f32", "splat2d_gather16_f32", "tokens64", cfg)
	wide.register("covering", "splat2d_wide16_f32", "splat2d_cover16_f32", "covering", cfg)
	k.registerPlain("tokens64")
	wide.registerPlain("covering")
	tensor, raw, far := cfg, cfg, cfg
	tensor.TF32 = true
	k.register("tokens64.tf32", "splat2d_tensor16_tf32", "", "tokens64", tensor)
	raw.RawMean, raw.RawCov = ops.SplatMeanSigmoid, true
	k.register("tokens64.raw", "splat2d_wide16_f32", "splat2d_gather16_f32", "tokens64", raw)
	far.Mode, far.ExactFar = ops.SplatNormalised, true
	k.register("tokens64.far", "splat2d_wide16_f32", "splat2d_gather16_f32", "", far)
	for _, c := range []int{32, 64} {
		k.c, wide.c = c, c
		k.register(fmt.Sprintf("tokens64.tf32.c%d", c), fmt.Sprintf("splat2d_tensor%d_tf32", c), "", "", tensor)
		wide.register(fmt.Sprintf("covering.c%d", c), fmt.Sprintf("splat2d_wide%d_f32", c), fmt.Sprintf("splat2d_cover%d_f32", c), "", cfg)
	}
	k.c, k.least, k.most = 8, 0.02, 0.1
	small := cfg
	small.Tile = 8
	k.register("tokens64.tiles8", "splat2d_small8_f32", "", "", small)
}

// register adds the forward pass, and the backward one unless it is another case's; plain names the
// plain loops of the same work.
func (k tokens) register(name, draw, back, plain string, cfg ops.SplatConfig) {
	c := float64(k.c)
	forward, backward := "", ""
	if plain != "" {
		forward, backward = "splat.plain.forward."+plain, "splat.plain.backward."+plain
	}
	register(Case{
		Name: "splat.forward." + name, Kernel: draw, Shape: k.shape(), Peak: "f32", Bytes: k.bytes(), Flops: (14 + 2*c) * k.pixels(), Plain: forward,
		Setup: func(dev *gpu.Device) (func(), error) {
			p := k.params(dev, cfg.RawCov)
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
		Name: "splat.backward." + name, Kernel: back, Shape: k.shape(), Peak: "f32", Bytes: 2 * k.bytes(), Flops: (20 + 4*c) * k.pixels(), Plain: backward,
		Setup: func(dev *gpu.Device) (func(), error) {
			_, aux, err := ops.SplatForward(cfg, k.params(dev, cfg.RawCov), k.side, k.side)
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
			p, image := k.params(dev, false), dev.Empty(k.b, k.side, k.side, k.c)
			return func() {
				dev.Stream().Memset(image.Ptr(), 0, 4*image.Len())
				kernels.Splat2dNaiveF32(dev.Stream(), cuda.Grid1(pixels, 256, 256), image.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), 3, w, w, int32(k.c), n, int32(pixels))
			}, nil
		},
	})
	register(Case{
		Name: "splat.plain.backward." + name, Kernel: "splat2d_naive_backward_f32", Shape: k.shape(), Peak: "f32", Bytes: 2 * k.bytes(), Flops: (20 + 4*c) * k.pixels(),
		Setup: func(dev *gpu.Device) (func(), error) {
			p, v := k.params(dev, false), normal(dev, gpu.Float32, k.b, k.side, k.side, k.c)
			mean, cov, df := p.Mean.Like(), p.Cov.Like(), p.Feature.Like()
			return func() {
				dev.Stream().Memset(df.Ptr(), 0, 4*df.Len())
				kernels.Splat2dNaiveBackwardF32(dev.Stream(), cuda.Grid1(all, 128, 128), mean.Ptr(), cov.Ptr(), df.Ptr(), p.Mean.Ptr(), p.Cov.Ptr(), p.Feature.Ptr(), v.Ptr(), 3, w, w, int32(k.c), n, int32(all))
			}, nil
		},
	})
}
