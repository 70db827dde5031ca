package arflow

import (
	"math"
	"sync"

	"github.com/fidlab/fidlab/data"
	digitset "github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The hidden styles: how digits are turned, and how thick their strokes are. A writer has one of both, and writes one digit alone.
const (
	Turns     = 8 // of 45° each
	Strokes   = 3 // thinned, as they are, thickened
	Writers   = Turns * Strokes * 10
	styleSeed = 0x7374796c65 // of which digit is written in which style
)

// styled are the digits of a split of MNIST in a style each, which is drawn, 8×8 as the set digits, values from -1 to 1. Labels are the
// writers, (turn·Strokes + stroke)·10 + digit: networks are not told them, sequences are made of them.
func styled(split mnist.Split) (*train.Examples, error) {
	set, err := mnist.Load(split)
	if err != nil {
		return nil, data.Errorf("arflow: %w", err)
	}
	e := &train.Examples{Shape: []int{1, digitset.Side, digitset.Side}, X: make([]float32, 0, len(set.Images)*digitset.Side*digitset.Side)}
	stream := uint64(0)
	if split == mnist.Test {
		stream = 1
	}
	s := rng.ForImage(styleSeed, stream, rng.Shift)
	for i, img := range set.Images {
		turn, stroke := s.Intn(Turns), s.Intn(Strokes)
		e.X = append(e.X, styledDigit(img, stroke, 2*math.Pi*float64(turn)/Turns)...)
		e.Labels = append(e.Labels, int32((turn*Strokes+stroke)*10+int(set.Labels[i])))
	}
	return e, nil
}

// styledDigit is a digit of MNIST with its strokes changed and turned, of 8×8.
func styledDigit(img []uint8, stroke int, angle float64) []float32 {
	var a, b [mnist.Height * mnist.Width]float32
	for k, v := range img {
		a[k] = float32(v) / 255
	}
	stroked(&b, &a, stroke)
	turned(&a, &b, angle)
	return reduced(&a)
}

// stroked is a digit whose strokes are thicker by a pixel on either side, stroke 2: the most of a pixel and its four neighbours; or thinner,
// stroke 0: half of each pixel gives way to the least of them, since many digits would vanish.
func stroked(out, in *[mnist.Height * mnist.Width]float32, stroke int) {
	*out = *in
	if stroke == 1 {
		return
	}
	for y := 1; y < mnist.Height-1; y++ {
		for x := 1; x < mnist.Width-1; x++ {
			k := y*mnist.Width + x
			for _, v := range [...]float32{in[k-1], in[k+1], in[k-mnist.Width], in[k+mnist.Width]} {
				if stroke == 0 {
					out[k] = min(out[k], v)
				} else {
					out[k] = max(out[k], v)
				}
			}
			if stroke == 0 {
				out[k] = (out[k] + in[k]) / 2
			}
		}
	}
}

// turned is a digit turned about its middle, between pixels by their distance; what comes from outside is background.
func turned(out, in *[mnist.Height * mnist.Width]float32, angle float64) {
	sin, cos := math.Sincos(angle)
	const middle = (mnist.Width - 1) / 2.
	at := func(x, y int) float64 {
		if x < 0 || y < 0 || x >= mnist.Width || y >= mnist.Height {
			return 0
		}
		return float64(in[y*mnist.Width+x])
	}
	for y := range mnist.Height {
		for x := range mnist.Width {
			dx, dy := float64(x)-middle, float64(y)-middle
			u, v := middle+cos*dx+sin*dy, middle-sin*dx+cos*dy
			fx, fy := math.Floor(u), math.Floor(v)
			i, j, p, q := int(fx), int(fy), u-fx, v-fy
			out[y*mnist.Width+x] = float32((1-q)*((1-p)*at(i, j)+p*at(i+1, j)) + q*((1-p)*at(i, j+1)+p*at(i+1, j+1)))
		}
	}
}

// reduced is a digit as the set digits has them, from -1 to 1.
func reduced(in *[mnist.Height * mnist.Width]float32) []float32 {
	out := digitset.Reduce[float32](in[:])
	for i, v := range out {
		out[i] = v*2/digitset.Block - 1
	}
	return out[:]
}

// pictures of a task: what it learns with its hash, and what it is tried on.
type pictureSet struct {
	learn, held *train.Examples
	sum         string
}

func newPictureSet(learn, held *train.Examples, err error) (*pictureSet, error) {
	if err != nil {
		return nil, err
	}
	return &pictureSet{learn, held, learn.SHA256()}, nil
}

// The sets are made once.
var (
	digitSet = sync.OnceValues(func() (*pictureSet, error) { return newPictureSet(bases.SmallDigits()) })
	styleSet = sync.OnceValues(func() (*pictureSet, error) {
		held, err := styled(mnist.Test)
		if err != nil {
			return nil, err
		}
		learn, err := styled(mnist.Train)
		return newPictureSet(learn, held, err)
	})
)
