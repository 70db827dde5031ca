package bases

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

func init() {
	mnistUNet().register()
	mnistDiT().register()
}

// mnistUNet takes EDM's path: its times are logarithms between -1.6 and 1.1, which the factor spreads over the waves.
func mnistUNet() denoiser[unet.Config] {
	c, err := unet.Preset("mnist-unet")
	if err != nil {
		panic(err) // it is one of the package's
	}
	c.Waves = ops.WaveConfig{Width: c.Base, CosFirst: true, Scale: 100}
	return denoiser[unet.Config]{
		Task: systems.Task{
			Name: "mnist-unet", Text: "digits of 28×28 by class, a U-Net of 1.2 M parameters, EDM's loss",
			Source:   "Karras et al. 2022; Dhariwal and Nichol 2021 (network)",
			Settings: train.Settings{Steps: 1000, Batch: 64, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.995, 0.999}},
			LogEvery: 25, SaveEvery: 100, SampleEvery: 500, EvalEvery: 500,
		},
		net: c,
		build: func(s nn.Scope, c unet.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return unet.New(s, c), nil
		},
		mask:      func(net models.Net, m ops.Mask) { net.(*unet.UNet).Mask = m },
		diffusion: train.Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal:-1.2,1.2", Weight: "one", Drop: 0.1},
		data:      mnistPictures,
	}
}

// mnistDiT takes the straight path and learns the velocity towards noise.
func mnistDiT() denoiser[dit.Config] {
	c, err := dit.Preset("mnist-dit")
	if err != nil {
		panic(err)
	}
	return denoiser[dit.Config]{
		Task: systems.Task{
			Name: "mnist-dit", Text: "digits of 28×28 by class, a transformer of 49 patches and 1.1 M parameters, flow matching",
			Source:   "Peebles and Xie 2023 (network); Esser et al. 2024 (times)",
			Settings: train.Settings{Steps: 3000, Batch: 64, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.995, 0.999}},
			LogEvery: 25, SaveEvery: 100, SampleEvery: 500, EvalEvery: 500,
		},
		net: c,
		build: func(s nn.Scope, c dit.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return dit.New(s, c), nil
		},
		diffusion: train.Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal:0,1", Weight: "one", Drop: 0.1},
		data:      mnistPictures,
	}
}

// mnistPictures are the digits of 28×28. They are read once.
var mnistPictures = sync.OnceValues(func() (*pictureSet, error) {
	out := &pictureSet{name: "mnist", classes: 10}
	for split, to := range map[mnist.Split]**train.Examples{mnist.Train: &out.train, mnist.Test: &out.held} {
		s, err := mnist.Load(split)
		if err != nil {
			return nil, data.Errorf("bases: %w", err)
		}
		e := &train.Examples{Shape: []int{1, mnist.Height, mnist.Width}, X: make([]float32, 0, len(s.Images)*mnist.Height*mnist.Width)}
		for i, img := range s.Images {
			e.X = append(e.X, data.FromPixels(img, 1, mnist.Height, mnist.Width)...)
			e.Labels = append(e.Labels, int32(s.Labels[i]))
		}
		*to = e
	}
	if out.train.Len() != 60000 || out.held.Len() != 10000 {
		return nil, fmt.Errorf("bases: MNIST has %d and %d digits, want 60000 and 10000", out.train.Len(), out.held.Len())
	}
	return out, nil
})
