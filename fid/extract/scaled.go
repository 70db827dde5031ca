package extract

import (
	"sync"

	"github.com/fidlab/fidlab/imageio"
)

// scaledPixels are pictures as h×w pixels of 0 to 255: those of another size are resized by Pillow's
// bilinear filter in float32, the others are taken as they are.
type scaledPixels struct {
	h, w   int
	resize *imageio.Resizer
	pool   *sync.Pool // of *[]float32, [3, h, w]
}

func newScaledPixels(h, w int) scaledPixels {
	return scaledPixels{h, w, imageio.NewResizer(imageio.PILFloat(imageio.Bilinear), w, h), new(sync.Pool)}
}

// each calls f with every pixel of a picture, by rows.
func (l *scaledPixels) each(img *imageio.Image, s *imageio.Scratch, f func(i int, r, g, b float32)) {
	n := l.h * l.w
	if img.Width == l.w && img.Height == l.h {
		for i := range n {
			p := img.Pix[3*i:][:3]
			f(i, float32(p[0]), float32(p[1]), float32(p[2]))
		}
		return
	}
	rgb, _ := l.pool.Get().(*[]float32)
	if rgb == nil {
		rgb = new([]float32)
		*rgb = make([]float32, 3*n)
	}
	defer l.pool.Put(rgb)
	v := *rgb
	l.resize.Into(v, img, 1, 0, s)
	for i := range n {
		f(i, v[i], v[n+i], v[2*n+i])
	}
}
