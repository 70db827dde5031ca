package bases

import (
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// DigitsFlow is the task of a flow that a proof can train in a minute or two.
const DigitsFlow = "digits-flow"

func init() { digitsFlow().register() }

func digitsFlow() denoiser[dit.Config] {
	c, err := dit.Preset("digits-dit")
	if err != nil {
		panic(err) // it is one of the package's
	}
	c.Norm, c.MLP, c.QKNorm, c.Rotary = dit.RMS, dit.SwiGLU, nn.QKRMS, true
	return denoiser[dit.Config]{
		Task: systems.Task{
			Name: DigitsFlow, Text: "digits of 8×8 by class, a transformer of 16 patches and 0.32 M parameters, flow matching",
			Source:   "Ma et al. 2024 (SiT); Yao et al. 2025 (network); Esser et al. 2024 (times)",
			Settings: train.Settings{Steps: 6000, Batch: 64, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.9995}},
			LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
			Grid: "uniform",
		},
		net: c,
		build: func(s nn.Scope, c dit.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return dit.New(s, c), nil
		},
		diffusion: straight,
		data:      digitPictures,
		score:     digitDistance, scoreName: "frechet", scoreCount: 1000,
	}
}
