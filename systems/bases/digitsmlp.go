package bases

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/data"
	digitset "github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

func init() { digitsMLP().register() }

func digitsMLP() denoiser[mlp.Config] {
	return denoiser[mlp.Config]{
		Task: systems.Task{
			Name: "digits-mlp", Text: "digits of 8×8 by class, a residual network of 1.2 M parameters, EDM's loss",
			Source:   "Karras et al. 2022",
			Settings: train.Settings{Steps: 6000, Batch: 128, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.999, 0.99}},
			LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 500,
		},
		net: mlp.Config{Channels: 1, Height: digitset.Side, Width: digitset.Side, Hidden: 192, Blocks: 4, Classes: 10, TimeFactor: 100},
		build: func(s nn.Scope, c mlp.Config) (models.Net, error) {
			if err := c.Check(); err != nil {
				return nil, err
			}
			return mlp.New(s, c), nil
		},
		diffusion: train.Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal:-1.2,1.2", Weight: "one", Drop: 0.1},
		data:      digitPictures,
		score:     digitDistance, scoreName: "frechet", scoreCount: 1000,
	}
}

// digitPictures are the digits of 8×8. They are read once.
var digitPictures = sync.OnceValues(func() (*pictureSet, error) {
	s, err := digitset.New()
	if err != nil {
		return nil, err
	}
	of := func(split data.Split) *train.Examples {
		e := &train.Examples{Shape: []int{1, digitset.Side, digitset.Side}}
		for i := range s.Len(split) {
			it := s.At(split, i)
			x, _, _, _ := it.Tensor()
			e.X, e.Labels = append(e.X, x...), append(e.Labels, int32(it.Label))
		}
		return e
	}
	return &pictureSet{name: s.Name(), train: of(data.Train), held: of(data.Test), classes: 10}, nil
})

// digitDistance is the Fréchet distance of drawn digits to the test digits, of their 64 pixels. That of as many training
// digits is 0.16.
func digitDistance(set *pictureSet, x *gpu.Tensor) (float64, error) {
	return SmallDistance(x, set.held)
}

// pixelDistance is the Fréchet distance of two sets of vectors of d values, pixels or features, by their own moments.
func pixelDistance(a, b []float32, d int) (float64, error) {
	if len(a) <= d*d || len(b) <= d*d {
		return 0, fmt.Errorf("bases: %d and %d vectors of %d values; want more than values", len(a)/d, len(b)/d, d)
	}
	mean, cov := MomentsOf(gpu.CPU().From(a, len(a)/d, d))
	return FrechetTo(mean, cov, gpu.CPU().From(b, len(b)/d, d))
}

// SmallDigits are the digits of 8×8 that are learnt and those that are not, with values from -1 to 1.
func SmallDigits() (learn, held *train.Examples, err error) {
	return halves(digitPictures())
}

// SmallDistance is the Fréchet distance of drawn digits of 8×8 to others, of their 64 pixels.
func SmallDistance(x *gpu.Tensor, to *train.Examples) (float64, error) {
	v, err := x.Floats()
	if err != nil {
		return 0, err
	}
	return pixelDistance(v, to.X, digitset.Side*digitset.Side)
}

// SmallPictures are digits of 8×8, enlarged.
func SmallPictures(v []float32) []*imageio.Image {
	list := Pictures(v, []int{1, digitset.Side, digitset.Side})
	for i, m := range list {
		list[i] = Enlarged(m, 4)
	}
	return list
}
