package symmflow

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"sync"

	"github.com/fidlab/fidlab/data"
	digitset "github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// set is pictures and the classes of their labels, as bytes.
type set struct {
	shape []int   // of a picture, [C, H, W]
	pix   []uint8 // [n, C, H, W]
	ids   []uint8 // [n, classes of a label]
}

func (s *set) size() int   { return s.shape[0] * s.shape[1] * s.shape[2] }
func (s *set) len() int    { return len(s.pix) / s.size() }
func (s *set) labels() int { return len(s.ids) / s.len() }

// label is that of picture i.
func (s *set) label(i int) []uint8 {
	n := s.labels()
	return s.ids[i*n : (i+1)*n : (i+1)*n]
}

// picture writes picture i to x, values from -1 to 1.
func (s *set) picture(x []float32, i int) {
	for k, v := range s.pix[i*s.size():][:s.size()] {
		x[k] = float32(v)/127.5 - 1
	}
}

// part is pictures lo to hi.
func (s *set) part(lo, hi int) *set {
	n := s.labels()
	return &set{s.shape, s.pix[lo*s.size() : hi*s.size()], s.ids[lo*n : hi*n]}
}

// sha256 is the hash of pictures and labels.
func (s *set) sha256() string {
	h := sha256.New()
	h.Write(s.pix)
	h.Write(s.ids)
	return hex.EncodeToString(h.Sum(nil))
}

// feed hands out batches of a set, as train.Feed does.
type feed struct {
	of    *set
	order *train.Order
	x     *train.Staged
	ids   []uint8
}

func newFeed(of *set, x *train.Staged, batch int) *feed {
	return &feed{of: of, order: train.NewOrder(of.len()), x: x, ids: make([]uint8, batch*of.labels())}
}

// next is the pictures and the labels of a batch, valid until the next call.
func (f *feed) next(b *train.Batch) (x []float32, ids []uint8) {
	size, n := f.of.size(), f.of.labels()
	for i := range b.Size {
		at := f.order.At(b.Seeds.Data, b.First+uint64(i))
		f.of.picture(f.x.Values[i*size:(i+1)*size], at)
		copy(f.ids[i*n:], f.of.label(at))
	}
	return f.x.Values, f.ids
}

// Forms is the palette of scenes of shapes: the background in one corner of the cube of colours, the forms in the opposite one and its
// neighbours. What a network says of a form that it is unsure of lies between forms, and so nearer to one of them than to the background.
var Forms = label.Palette{
	{Name: "background"},
	{Name: shapes.Circle.String(), Color: [3]uint8{255, 255, 0}},
	{Name: shapes.Square.String(), Color: [3]uint8{255, 0, 255}},
	{Name: shapes.Triangle.String(), Color: [3]uint8{0, 255, 255}},
	{Name: shapes.Cross.String(), Color: [3]uint8{255, 255, 255}},
}

// How many scenes are learned, and where those lie that pictures are compared with: the same split, so that they follow the same law.
const (
	learnedScenes = 20000
	otherScenes   = 4000
	sceneSide     = 32
)

// scenes are scenes of a split with the masks of their forms.
func scenes(split data.Split, lo, n int) *set {
	from := shapes.New(data.DefaultSeed)
	out := &set{shape: []int{3, sceneSide, sceneSide}}
	pixels := sceneSide * sceneSide
	for i := lo; i < lo+n; i++ {
		it := from.At(split, i)
		for c := range 3 {
			for p := range pixels {
				out.pix = append(out.pix, it.Pix[3*p+c])
			}
		}
		out.ids = append(out.ids, it.Forms()...)
	}
	return out
}

var (
	learnScenes = sync.OnceValue(func() *set { return scenes(data.Train, 0, learnedScenes) })
	heldScenes  = sync.OnceValue(func() *set { return scenes(data.Val, 0, 2000) })
)

// digits are MNIST's of a split, those to be tried in an order that mixes its writers.
func digits(split mnist.Split) (*set, error) {
	s, err := mnist.Load(split)
	if err != nil {
		return nil, data.Errorf("symmflow: %w", err)
	}
	out := &set{shape: []int{1, mnist.Height, mnist.Width}}
	order := rng.ForImage(digitSeed, 0, rng.Order).Perm(len(s.Images))
	for _, i := range order {
		out.pix, out.ids = append(out.pix, s.Images[i]...), append(out.ids, s.Labels[i])
	}
	return out, nil
}

const digitSeed = 0x646967697473

// small are the digits of 8×8 of a split.
func small(split data.Split) (*set, error) {
	from, err := digitset.New()
	if err != nil {
		return nil, err
	}
	out := &set{shape: []int{1, digitset.Side, digitset.Side}}
	order := rng.ForImage(digitSeed, 0, rng.Order).Perm(from.Len(split))
	for _, i := range order {
		it := from.At(split, i)
		x, _, _, _ := it.Tensor()
		for _, v := range x {
			out.pix = append(out.pix, uint8(math.Round(127.5*(float64(v)+1)))) // as files of them have it
		}
		out.ids = append(out.ids, uint8(it.Label))
	}
	return out, nil
}

var (
	learnSmall  = sync.OnceValues(func() (*set, error) { return small(data.Train) })
	heldSmall   = sync.OnceValues(func() (*set, error) { return small(data.Test) })
	learnDigits = sync.OnceValues(func() (*set, error) { return digits(mnist.Train) })
	heldDigits  = sync.OnceValues(func() (*set, error) { return digits(mnist.Test) })
)
