// Package digits is MNIST reduced to 8×8: the outermost two pixels of each side
// left out, the mean of every 3×3 of the rest. Values are in [0,1] (0 is
// background), multiples of 1/2295; nothing is rounded to 8 bits but in pictures.
// The splits are those of MNIST, train and test.
//
//	set, err := digits.New() // reads MNIST, see package mnist
//	it := set.At(data.Test, 0)
//	it.Values, it.Label
//
// The reader takes the nearest of the training digits. It is not exact, as no
// reader of handwriting is: on the test split it is right in 96.5 %, which is to be
// shown beside what it says of generated digits.
package digits

import (
	"encoding/binary"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/imageio"
)

// Side is the width and height of a digit.
const Side = 8

const (
	margin = 2 // pixels of MNIST that are left out on each side
	block  = 3 // a side of what is averaged
	full   = Block * 255
)

// Set is the digits of both splits.
type Set struct{ train, test part }

type part struct {
	sums   [][Side * Side]uint16 // of nine pixels each
	labels []uint8
}

// load reads MNIST once and reduces it. The error is that of package mnist.
var load = sync.OnceValues(func() (*Set, error) {
	s := new(Set)
	for split, p := range map[mnist.Split]*part{mnist.Train: &s.train, mnist.Test: &s.test} {
		m, err := mnist.Load(split)
		if err != nil {
			return nil, data.Errorf("digits: %w", err)
		}
		p.labels = m.Labels
		p.sums = make([][Side * Side]uint16, len(m.Images))
		for i, img := range m.Images {
			p.sums[i] = Reduce[uint16](img)
		}
	}
	return s, nil
})

// New is the set. It fails where the files of MNIST are not found or not the
// published ones.
func New() (*Set, error) { return load() }

// Block is how many pixels of MNIST, 3×3, one of a digit is made of.
const Block = block * block

// Reduce sums the 3×3 pixels of each of the digit's, of 28×28 row by row.
func Reduce[Sum, Pixel uint8 | uint16 | float32](img []Pixel) (out [Side * Side]Sum) {
	for y := range Side * block {
		for x := range Side * block {
			out[y/block*Side+x/block] += Sum(img[(y+margin)*mnist.Width+x+margin])
		}
	}
	return out
}

// Name is digits.
func (s *Set) Name() string { return "digits" }

// Splits are train and test.
func (s *Set) Splits() []data.Split { return []data.Split{data.Train, data.Test} }

// Len is 60,000 or 10,000.
func (s *Set) Len(split data.Split) int {
	if p := s.part(split); p != nil {
		return len(p.labels)
	}
	return 0
}

func (s *Set) part(split data.Split) *part {
	switch split {
	case data.Train:
		return &s.train
	case data.Test:
		return &s.test
	}
	return nil
}

// Classes are the names of the digits.
func (s *Set) Classes() []string {
	return []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
}

// Label is the digit that item i shows.
func (s *Set) Label(split data.Split, i int) int { return int(s.part(split).labels[i]) }

// At is item i of the split, in the order of MNIST.
func (s *Set) At(split data.Split, i int) *Item {
	data.MustHave(s, split, i)
	p := s.part(split)
	return &Item{Split: split, Index: i, Label: int(p.labels[i]), sums: &p.sums[i]}
}

// Item is a digit.
type Item struct {
	Split data.Split
	Index int
	Label int
	sums  *[Side * Side]uint16
}

// Values are the means, in [0,1], row by row.
func (it *Item) Values() []float32 {
	v := make([]float32, Side*Side)
	for i, s := range it.sums {
		v[i] = float32(float64(s) / full)
	}
	return v
}

// Tensor is 2·Values − 1, [1, 8, 8], the range of all sets.
func (it *Item) Tensor() (x []float32, c, h, w int) {
	x = make([]float32, Side*Side)
	for i, s := range it.sums {
		x[i] = float32(2*float64(s)/full - 1)
	}
	return x, 1, Side, Side
}

// Image is the digit with its means rounded to 8 bits, halves up, gray.
func (it *Item) Image() *imageio.Image {
	levels := make([]uint8, len(it.sums))
	for i, s := range it.sums {
		levels[i] = uint8((2*int(s) + Block) / (2 * Block))
	}
	return imageio.FromGray(levels, Side, Side, "digits")
}

// Pictures is the picture.
func (it *Item) Pictures() []data.Picture { return []data.Picture{{Image: it.Image()}} }

type truth struct {
	Set   string     `json:"set"`
	Split data.Split `json:"split"`
	Index int        `json:"index"`
	Digit int        `json:"digit"`
}

// Truth is the digit.
func (it *Item) Truth() any { return truth{"digits", it.Split, it.Index, it.Label} }

// Bytes are the sums of nine pixels, 16 bits each, little-endian, and the digit.
func (it *Item) Bytes() []byte {
	var b []byte
	for _, s := range it.sums {
		b = binary.LittleEndian.AppendUint16(b, s)
	}
	return append(b, uint8(it.Label))
}
