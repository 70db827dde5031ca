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

// straight is the straight path: networks learn the velocity towards noise.
var straight = train.Diffusion{Path: "flow", Pred: "flow", Draw: "logit-normal:0,1", Weight: "one", Drop: 0.1}

// mnistUNet sees squares of 2×2 pixels, which costs half as much a step as pixels do and learns faster; the straight path takes half
// of the steps of EDM's to the same distance (docs/training.md has the figures).
func mnistUNet() denoiser[unet.Config] {
	c := pixelUNet()
	c.Patch, c.Mult, c.AttnAt = 2, []int{1, 2}, []int{2}
	c.Waves = ops.WaveConfig{Width: c.Base, CosFirst: true, Scale: 1000} // the times are from 0 to 1
	return denoiser[unet.Config]{
		Task: systems.Task{
			Name: "mnist-unet", Text: "digits of 28×28 by class, a U-Net of squares of 2×2 and 0.76 M parameters, flow matching",
			Source:   "Dhariwal and Nichol 2021 (network); Lipman et al. 2023; Esser et al. 2024 (times)",
			Settings: train.Settings{Steps: 4500, Batch: 32, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.9995}},
			LogEvery: 50, SaveEvery: 250, SampleEvery: 2500, EvalEvery: 1000,
		},
		net: c,
		build: func(s nn.Scope, c unet.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return unet.New(s, c), nil
		},
		mask:      func(net models.Net, m ops.Mask) { net.(*unet.UNet).Mask = m },
		diffusion: straight,
		data:      mnistPictures,
	}
}

// pixelUNet is the preset mnist-unet.
func pixelUNet() unet.Config {
	c, err := unet.Preset("mnist-unet")
	if err != nil {
		panic(err) // it is one of the package's
	}
	return c
}

// mnistDiT takes the straight path and says the picture itself, weighed nearly as the velocity is: of patches of 4×4, noise has many more
// dimensions than digits. Its blocks are the preset's made as LightningDiT's are. Many small batches learn faster than few large ones
// (docs/training.md has the figures).
func mnistDiT() denoiser[dit.Config] {
	c, err := dit.Preset("mnist-dit")
	if err != nil {
		panic(err)
	}
	c.Norm, c.MLP, c.QKNorm, c.Rotary, c.FinalConv = dit.RMS, dit.SwiGLU, nn.QKRMS, true, true
	how := straight
	how.Pred, how.Weight = "x0", "edm:1"
	return denoiser[dit.Config]{
		Task: systems.Task{
			Name: "mnist-dit", Text: "digits of 28×28 by class, a transformer of 49 patches and 1.1 M parameters, flow matching",
			Source:   "Peebles and Xie 2023; Yao et al. 2025 (network); Li and He 2025 (prediction); Esser et al. 2024 (times)",
			Settings: train.Settings{Steps: 8000, Batch: 16, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.9995}},
			LogEvery: 50, SaveEvery: 250, SampleEvery: 2500, EvalEvery: 1000,
		},
		net: c,
		build: func(s nn.Scope, c dit.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return dit.New(s, c), nil
		},
		diffusion: how,
		data:      mnistPictures,
	}
}

// Digits are MNIST's digits of 28×28 that are learnt and those that are not, with values from -1 to 1.
func Digits() (learn, held *train.Examples, err error) {
	return halves(mnistPictures())
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
