package extract

import (
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/imageio"
)

// pictureWay is a published way from a picture to the input of a network that is
// not Inception: float32 [3, size, size].
type pictureWay struct {
	name string
	used string // by which tools
	make func(size int, mean, std [3]float64) pictureLoader
}

// pictureLoader writes img to dst.
type pictureLoader func(dst []float32, img *imageio.Image, s *imageio.Scratch)

// The means and standard deviations of the channels, of values in [0, 1], that
// networks were trained with.
var (
	imagenetMean, imagenetStd = [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
	clipMean, clipStd         = [3]float64{0.48145466, 0.4578275, 0.40821073}, [3]float64{0.26862954, 0.26130258, 0.27577711}
)

var (
	// waySquash is torchvision's Resize((S, S), BICUBIC) of a Pillow picture: the sides change each by its own factor.
	waySquash = pictureWay{"dgm-eval", "dgm-eval, EDM2's pil mode, FLD", func(size int, mean, std [3]float64) pictureLoader {
		r := imageio.NewResizer(imageio.PILU8(imageio.Bicubic), size, size)
		table := levels(mean, std)
		return func(dst []float32, img *imageio.Image, s *imageio.Scratch) {
			r.Into(dst, img, 1, 0, s)
			table.apply(dst)
		}
	}}
	// wayShorter is OpenAI's transform: Pillow's bicubic until the shorter side is S, then the S×S in the middle.
	wayShorter = pictureWay{"openai", "CLIP, clean-fid's clip_vit_b_32, CLIPScore's first code", newShorter}
	// waySquare cuts the square in the middle first, as CMMD's code does.
	waySquare = pictureWay{"cmmd", "CMMD's code and cmmd-pytorch", func(size int, mean, std [3]float64) pictureLoader {
		r := imageio.NewResizer(imageio.PILU8(imageio.Bicubic), size, size)
		table := levels(mean, std)
		return func(dst []float32, img *imageio.Image, s *imageio.Scratch) {
			side := min(img.Width, img.Height)
			r.Into(dst, cutOut(img, (img.Width-side)/2, (img.Height-side)/2, side, side), 1, 0, s)
			table.apply(dst)
		}
	}}
	// wayTF1 is torch-fidelity's, for all its networks: TensorFlow 1's bilinear on float32, no cut.
	wayTF1 = pictureWay{"torch-fidelity", "torch-fidelity", func(size int, mean, std [3]float64) pictureLoader {
		return unrounded(imageio.TF1Bilinear, size, mean, std)
	}}
	// wayEDM2 is EDM2's for DINOv2: torch's antialiased bicubic on float32, neither rounded nor clipped.
	wayEDM2 = pictureWay{"edm2", "EDM2's fd_dinov2", func(size int, mean, std [3]float64) pictureLoader {
		return unrounded(imageio.TorchBicubicAA, size, mean, std)
	}}
	// wayTorchvision is the transform of torchvision's classifiers: Pillow's bilinear until the shorter side is 256 (of 224), then the middle.
	wayTorchvision = pictureWay{"torchvision", "torchvision's weights", func(size int, mean, std [3]float64) pictureLoader {
		return middleOf(imageio.Bilinear, (size*256+112)/224, size, levels(mean, std))
	}}
)

// unrounded resizes on float32, without rounding to levels, and then scales.
func unrounded(kind imageio.ResizeKind, size int, mean, std [3]float64) pictureLoader {
	r := imageio.NewResizer(kind, size, size)
	return func(dst []float32, img *imageio.Image, s *imageio.Scratch) {
		r.Into(dst, img, 1, 0, s)
		n := len(dst) / 3
		for c := range 3 {
			m, d := float32(255*mean[c]), float32(255*std[c])
			for i, v := range dst[c*n : (c+1)*n] {
				dst[c*n+i] = (v - m) / d
			}
		}
	}
}

func newShorter(size int, mean, std [3]float64) pictureLoader {
	return middleOf(imageio.Bicubic, size, size, levels(mean, std))
}

// pickWay is the way with the given name, the first for none.
func pickWay(name string, ways ...pictureWay) (pictureWay, error) {
	if name == "" || name == "native" {
		return ways[0], nil
	}
	var names []string
	for _, w := range ways {
		if w.name == name {
			return w, nil
		}
		names = append(names, w.name)
	}
	return pictureWay{}, fmt.Errorf("no preset %q of this network; there are %s", name, strings.Join(names, ", "))
}

// levelTable has what each of 256 levels becomes, per channel.
type levelTable [3][256]float32

// levels is ToTensor and Normalize: v/255, minus the mean, over the deviation, in float32 after each.
func levels(mean, std [3]float64) *levelTable {
	t := new(levelTable)
	for c := range 3 {
		m, d := float32(mean[c]), float32(std[c])
		for v := range 256 {
			x := float32(v) / 255
			x -= m
			t[c][v] = x / d
		}
	}
	return t
}

func (t *levelTable) apply(dst []float32) {
	n := len(dst) / 3
	for c := range 3 {
		plane := dst[c*n : (c+1)*n]
		for i, v := range plane {
			plane[i] = t[c][uint8(v)]
		}
	}
}

// cutOut is a part of a picture.
func cutOut(img *imageio.Image, x, y, w, h int) *imageio.Image {
	if w == img.Width && h == img.Height {
		return img
	}
	out := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 0, 3*w*h), Facts: img.Facts}
	for r := range h {
		out.Pix = append(out.Pix, img.Pix[3*((y+r)*img.Width+x):][:3*w]...)
	}
	return out
}

// middleOf resizes a picture until its shorter side is short, the longer one
// int(short·long/shorter) as torchvision has it, and takes size×size of its middle.
func middleOf(f imageio.Filter, short, size int, table *levelTable) pictureLoader {
	m := &shorter{filter: f, short: short, size: size, table: table, to: map[[2]int]*imageio.Resizer{}}
	return m.load
}

type shorter struct {
	filter      imageio.Filter
	short, size int
	table       *levelTable
	mu          sync.Mutex
	to          map[[2]int]*imageio.Resizer // by width and height
	pool        sync.Pool                   // of *[]float32
}

// shorterKept bounds the resizers that are kept: one per shape of picture.
const shorterKept = 64

func (m *shorter) resizer(w, h int) *imageio.Resizer {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.to[[2]int{w, h}]
	if r == nil {
		if len(m.to) >= shorterKept {
			clear(m.to)
		}
		r = imageio.NewResizer(imageio.PILU8(m.filter), w, h)
		m.to[[2]int{w, h}] = r
	}
	return r
}

// resized is the size of a w×h picture whose shorter side becomes short.
func resized(w, h, short int) (int, int) {
	if w <= h {
		return short, int(float64(short) * float64(h) / float64(w))
	}
	return int(float64(short) * float64(w) / float64(h)), short
}

// middle is where the crop of size out of n begins: half the rest, a half rounded to the even number.
func middle(n, size int) int { return int(math.RoundToEven(float64(n-size) / 2)) }

func (m *shorter) load(dst []float32, img *imageio.Image, s *imageio.Scratch) {
	w, h := resized(img.Width, img.Height, m.short)
	buf, _ := m.pool.Get().(*[]float32)
	if buf == nil {
		buf = new([]float32)
	}
	defer m.pool.Put(buf)
	if cap(*buf) < 3*w*h {
		*buf = make([]float32, 3*w*h)
	}
	all := (*buf)[:3*w*h]
	m.resizer(w, h).Into(all, img, 1, 0, s)
	x0, y0 := middle(w, m.size), middle(h, m.size)
	for c := range 3 {
		for y := range m.size {
			copy(dst[(c*m.size+y)*m.size:][:m.size], all[(c*h+y0+y)*w+x0:])
		}
	}
	m.table.apply(dst)
}
