package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
)

// maxImageValues bounds the pictures that images: keeps, 4 GiB of them.
const maxImageValues = 1 << 30

// openImages makes the denoiser of a set of pictures: [H,W,1] where all are gray,
// else [H,W,3], -1 for black and 1 for white.
func openImages(ctx context.Context, a *app, o opening) (*model, error) {
	arg := strings.TrimPrefix(o.model, "images:")
	src, err := imageio.OpenContext(ctx, arg, imageio.Options{Stdin: a.env.Stdin})
	if err != nil {
		return nil, err
	}
	var pix []uint8
	var h, w int
	gray, sum := true, sha256.New()
	err = src.Each(ctx, func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil {
			return err
		}
		if h == 0 {
			h, w = m.Height, m.Width
		}
		if m.Height != h || m.Width != w {
			return inputf("%s: %dx%d pixels after %dx%d; the pictures of images: have one size (fidlab resize)", it.Name, m.Width, m.Height, w, h)
		}
		for i := 0; i < len(m.Pix); i += 3 {
			gray = gray && m.Pix[i] == m.Pix[i+1] && m.Pix[i] == m.Pix[i+2]
		}
		if pix = append(pix, m.Pix...); len(pix) > maxImageValues {
			return inputf("%s: more than %d values in the pictures; take fewer or smaller ones", arg, maxImageValues)
		}
		sum.Write(m.Pix)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(pix) == 0 {
		return nil, inputf("%s: no pictures", arg)
	}
	shape, step := []int{h, w, 3}, 1
	if gray {
		shape, step = []int{h, w, 1}, 3
	}
	v := make([]float32, len(pix)/step)
	for i := range v {
		v[i] = float32(math.FMA(float64(pix[i*step])/255, 2, -1))
	}
	den, err := sampler.NewDeltaMixture(v, shape, nil, nil)
	if err != nil {
		return nil, err
	}
	return &model{name: o.model, sha256: hex.EncodeToString(sum.Sum(nil)), den: den, shape: shape, lo: -1, hi: 1, pred: diffusion.PredX0.String()}, nil
}
