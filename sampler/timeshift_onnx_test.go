//go:build native && cgo

package sampler_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// The time shift on a network in a file, an exported U-Net of DDPM's kind with random
// weights: DDIM and F-PNDM of ten steps have the same bits with a window of 0 as
// without, other ones with a shift, the same in any batch, and tell the network times
// of its table, each image its own.
func TestONNXTimeShift(t *testing.T) {
	m := openONNX(t, "unet", nil)
	g, err := diffusion.Build(m.Path(), diffusion.Spec{Rule: "leading", Steps: 10, Offset: 1})
	if err != nil {
		t.Fatal(err)
	}
	var told []float64
	distinct := 0
	net := sampler.NetFunc(func(ctx context.Context, out, x *gpu.Tensor, times []float64, classes []int, inputs map[string]*gpu.Tensor) error {
		told = append(told, times...)
		sorted := slices.Clone(times)
		slices.Sort(sorted)
		distinct = max(distinct, len(slices.Compact(sorted)))
		return m.Forward(ctx, out, x, times, classes, inputs)
	})
	den := sampler.Adapt(net, m.Path(), m.Pred())
	// States of much too little and of much too much variance: a network of random
	// weights brings none of them near the grid.
	noise := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(8, 5*size(m.Shape())), append([]int{5}, m.Shape()...)...)
	for i := range noise.F32() {
		noise.F32()[i] *= []float32{0.2, 2, 1}[i/size(m.Shape())%3]
	}
	for _, name := range []string{"ddim", "pndm"} {
		opt := sampler.Options{Seed: 3, N: 5, Batch: 5, Shape: m.Shape(), Noise: noise}
		plain := bits(t, den, name, g, opt)
		for _, shift := range everyShift(0, 300) {
			if opt.Levels = shifting(t, shift, g, opt.Shape...); !slices.Equal(bits(t, den, name, g, opt), plain) {
				t.Errorf("%s, %s with a window of 0: other bits than without a shift", name, shift.Mode)
			}
		}
		for _, shift := range everyShift(60, 100) {
			opt.Batch = 5
			opt.Levels, told = shifting(t, shift, g, opt.Shape...), nil
			all := bits(t, den, name, g, opt)
			if slices.Equal(all, plain) {
				t.Errorf("%s, %s: the bits of no shift", name, shift.Mode)
			}
			if name == "ddim" { // F-PNDM's half steps lie between
				for _, v := range told {
					if math.Abs(v-math.Round(v)) > 1e-6 {
						t.Errorf("%s: the network was told time %v", shift.Mode, v)
					}
				}
			}
			opt.Batch = 2
			if opt.Levels = shifting(t, shift, g, opt.Shape...); !slices.Equal(bits(t, den, name, g, opt), all) {
				t.Errorf("%s, %s: batches of 2 give other bits", name, shift.Mode)
			}
		}
	}
	if distinct < 2 {
		t.Error("images of one call were always at one time")
	}
}

// size is the values of a shape.
func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
