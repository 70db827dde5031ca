package bases

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/folder"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

func init() {
	imageUNet().registerImages(unetFor)
	imageDiT().registerImages(ditFor)
}

// registerImages adds the task of a network for pictures that users bring; fit makes its configuration for their size and classes of d's.
func (d denoiser[C]) registerImages(fit func(base C, size, classes int) (C, error)) {
	d.MakeFrom = func(dev *gpu.Device, s train.Settings, set *folder.Set) (*train.Job, error) {
		mine := d
		var err error
		if mine.net, err = fit(d.net, set.Size, len(set.Classes)); err != nil {
			return nil, err
		}
		if len(set.Classes) == 0 {
			mine.diffusion.Drop = 0 // there is no class to leave out
		}
		pictures, err := ownPictures(set)
		if err != nil {
			return nil, err
		}
		return mine.job(dev, s, pictures)
	}
	d.Path, d.Open = d.path, d.open
	systems.RegisterTask(d.Task)
}

// imageUNet is mnist-unet's preset of pixels on EDM's path, for coloured pictures of any size that it halves. Its times are
// logarithms between -1.6 and 1.1, which the factor spreads over the waves.
func imageUNet() denoiser[unet.Config] {
	d := mnistUNet()
	d.net = pixelUNet()
	d.net.Waves = ops.WaveConfig{Width: d.net.Base, CosFirst: true, Scale: 100}
	d.diffusion = train.Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal:-1.2,1.2", Weight: "one", Drop: 0.1}
	d.Name, d.Text = "image-unet", "pictures of one's own (--data), by class where they have some, a U-Net, EDM's loss"
	d.Source = "Karras et al. 2022; Dhariwal and Nichol 2021 (network)"
	d.Settings = train.Settings{Steps: 5000, Batch: 64, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.995, 0.999}}
	d.LogEvery, d.SaveEvery, d.SampleEvery, d.EvalEvery = 25, 100, 500, 500
	d.data = nil
	return d
}

// imageDiT is mnistDiT's, on coloured pictures of any size that 8 patches a side fill.
func imageDiT() denoiser[dit.Config] {
	d := mnistDiT()
	d.Name, d.Text = "image-dit", "pictures of one's own (--data), by class where they have some, a transformer of 64 patches, flow matching"
	d.Settings.Steps = 10000
	d.data = nil
	return d
}

// unetFor has three levels up to 32×32 and one more for each doubling; it attends on the smallest.
func unetFor(c unet.Config, size, classes int) (unet.Config, error) {
	c.Mult = slices.Clone(c.Mult)
	c.Channels, c.Height, c.Width, c.Classes, c.NoneRow = 3, size, size, classes, classes > 0
	for s := 32; s < size; s *= 2 {
		c.Mult = append(c.Mult, 2)
	}
	smallest := 1 << (len(c.Mult) - 1)
	c.AttnAt = []int{smallest}
	if size%smallest != 0 {
		return c, data.Errorf("bases: image-unet: pictures of %d×%d; want a multiple of %d, such as %d", size, size, smallest, (size+smallest-1)/smallest*smallest)
	}
	return c, nil
}

func ditFor(c dit.Config, size, classes int) (dit.Config, error) {
	const side = 8
	c.Channels, c.Height, c.Width, c.Classes, c.Patch = 3, size, size, classes, size/side
	if size%side != 0 {
		return c, data.Errorf("bases: image-dit: pictures of %d×%d; want a multiple of %d, such as %d", size, size, side, (size+side-1)/side*side)
	}
	return c, nil
}

// The pictures held out of a set that a user brings: one in so many, and no more than the loss looks at.
const (
	heldShare = 10
	splitSeed = 0x73706c6974
)

// ownPictures are the set's, some of them held out; which ones depends on their number and the order of their names alone.
func ownPictures(set *folder.Set) (*pictureSet, error) {
	n := set.Len()
	if n < 2 {
		return nil, data.Errorf("bases: %s: %d picture; want 2 at least, one to learn and one to try", set.Title, n)
	}
	held := min(heldCount, max(1, n/heldShare))
	out := &pictureSet{
		name: "images", classes: len(set.Classes),
		from: &dataConfig{Name: "images", SHA256: set.SHA256(), Size: set.Size, Fit: set.Fit, Resize: set.Resize, Classes: set.Classes},
	}
	shape, one := []int{3, set.Size, set.Size}, 3*set.Size*set.Size
	out.train, out.held = &train.Examples{Shape: shape, X: make([]float32, 0, (n-held)*one)}, &train.Examples{Shape: shape, X: make([]float32, 0, held*one)}
	isHeld := make([]bool, n)
	for _, at := range rng.ForImage(splitSeed, 0, rng.Order).Perm(n)[:held] {
		isHeld[at] = true
	}
	for i := range n {
		e := out.train
		if isHeld[i] {
			e = out.held
		}
		e.X = append(e.X, set.X[i*one:(i+1)*one]...)
		if set.Labels != nil {
			e.Labels = append(e.Labels, set.Labels[i])
		}
	}
	if out.train.Len()+out.held.Len() != n {
		return nil, fmt.Errorf("bases: %d and %d pictures of %d", out.train.Len(), out.held.Len(), n)
	}
	return out, nil
}
