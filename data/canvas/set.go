package canvas

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/text"
)

const (
	side = mnist.Width // of a digit
	gap  = 4           // pixels between the ink of two digits, at least
	ink  = 64          // a digit's mask is where it is brighter
	// Slots is the number of tokens of a caption.
	Slots = 16

	version     = 1
	sayRelation = 0.9
)

// Words are the words of the captions.
var Words = text.NewVocabulary(strings.Fields("<pad> <bos> <eos> a and , left right of above below zero one two three four five six seven eight nine"))

const firstDigit = 11 // the id of zero

// DigitName is the word for a digit.
func DigitName(d int) string { return Words.Word(firstDigit + d) }

// pool is the digits of one split.
type pool struct {
	images [][]uint8
	labels []uint8
	boxes  [][4]int // of what is not black, half-open
}

// pools shares out MNIST's digits, once.
var pools = sync.OnceValues(func() (map[data.Split]*pool, error) {
	out := map[data.Split]*pool{}
	for _, split := range []mnist.Split{mnist.Train, mnist.Test} {
		m, err := mnist.Load(split)
		if err != nil {
			return nil, data.Errorf("canvas: %w", err)
		}
		for i, img := range m.Images {
			to := data.Train
			switch {
			case split == mnist.Test && i%2 == 0:
				to = data.Test
			case split == mnist.Test:
				to = data.Ref
			case i >= 55000:
				to = data.Val
			case i >= 40000:
				to = data.Enc
			}
			p := out[to]
			if p == nil {
				p = new(pool)
				out[to] = p
			}
			p.images, p.labels, p.boxes = append(p.images, img), append(p.labels, m.Labels[i]), append(p.boxes, boxOf(img))
		}
	}
	return out, nil
})

// boxOf is the box of a digit's ink.
func boxOf(img []uint8) [4]int {
	b := [4]int{side, side, 0, 0}
	for p, v := range img {
		if v > 0 {
			x, y := p%side, p/side
			b = [4]int{min(b[0], x), min(b[1], y), max(b[2], x+1), max(b[3], y+1)}
		}
	}
	return b
}

// Set is mnist32 or mnist64.
type Set struct {
	name  string
	size  int
	seed  uint64
	pools map[data.Split]*pool
	sizes map[data.Split]int
}

// New32 is the set mnist32; New64 is mnist64. They fail where the files of MNIST
// are not found or not the published ones.
func New32(seed uint64) (*Set, error) { return newSet("mnist32", 32, seed) }

// New64 is the set mnist64.
func New64(seed uint64) (*Set, error) { return newSet("mnist64", 64, seed) }

func newSet(name string, size int, seed uint64) (*Set, error) {
	p, err := pools()
	if err != nil {
		return nil, err
	}
	s := &Set{name: name, size: size, seed: seed, pools: p, sizes: map[data.Split]int{}}
	for split, q := range p {
		s.sizes[split] = len(q.labels)
	}
	if size == 64 {
		s.sizes = map[data.Split]int{data.Train: 40000, data.Val: 2000, data.Test: 4000, data.Ref: 8192, data.Enc: 20000}
	}
	return s, nil
}

// Name is mnist32 or mnist64.
func (s *Set) Name() string { return s.name }

// Splits are train, val, test, ref and enc.
func (s *Set) Splits() []data.Split {
	return []data.Split{data.Train, data.Val, data.Test, data.Ref, data.Enc}
}

// Len is the number of items of a split.
func (s *Set) Len(split data.Split) int { return s.sizes[split] }

// Digit is one digit of a picture.
type Digit struct {
	Value  int    `json:"digit"`
	Source int    `json:"source"` // its number among the split's digits
	X      int    `json:"x"`      // of the upper left corner of its 28×28 pixels
	Y      int    `json:"y"`
	Box    [4]int `json:"box"` // of what is not black, half-open, in pixels of the picture
}

// centre is the middle of the digit's box, in half pixels.
func (d *Digit) centre() (x, y int) { return d.Box[0] + d.Box[2], d.Box[1] + d.Box[3] }

// Item is a picture.
type Item struct {
	Split    data.Split
	Index    int
	Digits   []Digit // in the order of the caption
	Caption  string
	Tokens   [Slots]uint8 // of Words
	Relation string       // that the caption tells, of digit 0 to digit 1: "left of", …, or ""
	Pix      []uint8      // [size, size]
	Mask     []uint8      // [size, size]: k+1 where digit k is brighter than 64, else 0
	set      *Set
}

// At is item i of the split.
func (s *Set) At(split data.Split, i int) *Item {
	data.MustHave(s, split, i)
	r := data.NewStream(s.name, split, version, s.seed, uint64(i))
	p := s.pools[split]
	it := &Item{Split: split, Index: i, set: s}
	if s.size == 32 {
		it.Digits = []Digit{p.digit(i, r.Intn(5), r.Intn(5))}
	} else {
		n := 1 + r.Intn(3)
		source := make([]int, n)
		for k := range source {
			source[k] = r.Intn(len(p.labels))
		}
		for ok := false; !ok; ok = apart(it.Digits) {
			it.Digits = it.Digits[:0]
			for _, d := range source {
				it.Digits = append(it.Digits, p.digit(d, r.Intn(s.size-side+1), r.Intn(s.size-side+1)))
			}
		}
	}
	if told := r.Float64(); len(it.Digits) == 2 && told < sayRelation {
		it.Relation = relation(it.Digits, 0)
	}
	it.Caption = caption(it.Digits, it.Relation)
	if err := Words.Encode(it.Tokens[:], it.Caption); err != nil {
		panic("canvas: " + err.Error()) // a test enumerates all captions
	}
	it.draw(p)
	return it
}

// digit places digit k of the pool.
func (p *pool) digit(k, x, y int) Digit {
	b := p.boxes[k]
	return Digit{int(p.labels[k]), k, x, y, [4]int{b[0] + x, b[1] + y, b[2] + x, b[3] + y}}
}

// apart tells whether all boxes keep their distance.
func apart(d []Digit) bool {
	for i := range d {
		for j := range i {
			a, b := d[i].Box, d[j].Box
			if a[0] < b[2]+gap && b[0] < a[2]+gap && a[1] < b[3]+gap && b[1] < a[3]+gap {
				return false
			}
		}
	}
	return true
}

// relation is how digit 0 lies to digit 1, or "": across when their centres are
// 20 pixels apart or more and at most half of that up or down, down likewise. slack
// half pixels are forgiven.
func relation(d []Digit, slack int) string {
	x0, y0 := d[0].centre()
	x1, y1 := d[1].centre()
	dx, dy := x1-x0, y1-y0
	ax, ay := max(dx, -dx), max(dy, -dy)
	switch {
	case ax >= 40-slack && 2*ay <= ax+2*slack:
		if dx > 0 {
			return "left of"
		}
		return "right of"
	case ay >= 40-slack && 2*ax <= ay+2*slack:
		if dy > 0 {
			return "above"
		}
		return "below"
	}
	return ""
}

func caption(d []Digit, rel string) string {
	var w []string
	for i := range d {
		switch {
		case i == 0:
		case i < len(d)-1:
			w = append(w, ",")
		case rel != "":
			w = append(w, rel)
		default:
			w = append(w, "and")
		}
		w = append(w, "a", DigitName(d[i].Value))
	}
	return strings.Join(w, " ")
}

// draw takes the brighter of what lies on a pixel; only black margins overlap.
func (it *Item) draw(p *pool) {
	n := it.set.size
	it.Pix, it.Mask = make([]uint8, n*n), make([]uint8, n*n)
	for k, d := range it.Digits {
		for i, v := range p.images[d.Source] {
			q := (d.Y+i/side)*n + d.X + i%side
			it.Pix[q] = max(it.Pix[q], v)
			if v > ink {
				it.Mask[q] = uint8(k + 1)
			}
		}
	}
}

// Tensor is the picture in [-1,1], [1, size, size].
func (it *Item) Tensor() (x []float32, c, h, w int) {
	n := it.set.size
	return data.FromPixels(it.Pix, 1, n, n), 1, n, n
}

// Image is the picture, gray.
func (it *Item) Image() *imageio.Image {
	return imageio.FromGray(it.Pix, it.set.size, it.set.size, it.set.name)
}

// Pictures is the picture.
func (it *Item) Pictures() []data.Picture { return []data.Picture{{Image: it.Image()}} }

type truth struct {
	Set      string     `json:"set"`
	Split    data.Split `json:"split"`
	Index    int        `json:"index"`
	Seed     uint64     `json:"seed"`
	Size     int        `json:"size"`
	Caption  string     `json:"caption"`
	Tokens   []int      `json:"tokens"`
	Relation string     `json:"relation,omitempty"`
	Digits   []Digit    `json:"digits"`
}

// Truth is the digits and the caption.
func (it *Item) Truth() any {
	t := truth{it.set.name, it.Split, it.Index, it.set.seed, it.set.size, it.Caption, nil, it.Relation, it.Digits}
	for _, id := range it.Tokens {
		t.Tokens = append(t.Tokens, int(id))
	}
	return t
}

// Bytes are Pix, Mask and the truth in words.
func (it *Item) Bytes() []byte {
	b := append(append([]byte(nil), it.Pix...), it.Mask...)
	return fmt.Appendf(b, "%s %d %q %v %v", it.Split, it.Index, it.Caption, it.Tokens, it.Digits)
}
