package cli

import (
	"bufio"
	"math"
	"os"

	"github.com/fidlab/fidlab/imageio"
)

// pictureShape reads a sample's shape as that of a picture: [H,W], [H,W,1] or [H,W,3].
func pictureShape(shape []int) (h, w, c int, ok bool) {
	switch {
	case len(shape) == 2:
		return shape[0], shape[1], 1, true
	case len(shape) == 3 && (shape[2] == 1 || shape[2] == 3):
		return shape[0], shape[1], shape[2], true
	}
	return 0, 0, 0, false
}

// pictures reads the shape of a model's samples as that of pictures.
func (m *model) pictures() (h, w, c int, ok bool) {
	shape := m.shape
	if m.latent {
		return 0, 0, 0, false
	}
	if m.chw && len(shape) == 3 {
		shape = []int{shape[1], shape[2], shape[0]}
	}
	return pictureShape(shape)
}

// at is where the value of a pixel's channel lies in a sample.
func (k *sampleKind) at(pixel, channel int) int {
	if k.chw {
		return channel*k.h*k.w + pixel
	}
	return pixel*k.c + channel
}

// picture turns the values of one sample, lo for black and hi for white, into 8
// bits: scaled, rounded to nearest and clipped.
func (k *sampleKind) picture(x []float64) *imageio.Image {
	m := &imageio.Image{Width: k.w, Height: k.h, Pix: make([]uint8, 3*k.h*k.w)}
	for i := range m.Pix {
		v := x[k.at(i/3, i%3%k.c)]
		m.Pix[i] = uint8(math.Round(255 * min(max((v-k.lo)/(k.hi-k.lo), 0), 1)))
	}
	return m
}

// contactSheet puts pictures of one size side by side in a square of rows.
func contactSheet(pictures []*imageio.Image) *imageio.Image {
	return imageio.Grid(pictures, int(math.Ceil(math.Sqrt(float64(len(pictures))))), 2)
}

// writePNG writes a file into a folder that is not yet under its final name.
func writePNG(path string, m *imageio.Image) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := imageio.EncodePNG(w, m); err != nil {
		f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
