package canvas

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// Classifier tells which digit 28×28 gray pixels show, 0 black, and how sure it is.
// It must be safe for several goroutines.
type Classifier func(pix []uint8) (digit int, sure float64, err error)

// Found is a digit that the reader found.
type Found struct {
	Value int     `json:"digit"`
	Sure  float64 `json:"sure"` // as the classifier says
	Box   [4]int  `json:"box"`  // of its ink, half-open
	Cx    float64 `json:"cx"`   // the middle of the box
	Cy    float64 `json:"cy"`
	Cells int     `json:"cells"` // pixels of its ink
}

// The reader's limits.
const (
	minInk  = 12 // pixels; less is no digit
	maxSize = 28 // pixels a side; more is not one
)

// Read finds the digits of a picture of at least 28×28 pixels, from the top left.
// Pixels brighter than 64 (the mean of the channels) that lie within 4 pixels of each
// other across and down belong to one digit, as pieces of one are nearer than two
// digits of this package; groups of fewer than 12 pixels, or more than 28 pixels
// wide or high, are none. The classifier gets the group alone, its centre of
// mass in the middle, as MNIST has it.
func Read(m *imageio.Image, classify Classifier) ([]Found, error) {
	if m == nil || m.Width < side || m.Height < side || len(m.Pix) != 3*m.Width*m.Height {
		return nil, data.Errorf("canvas: no picture of 28×28 pixels or more with three channels")
	}
	w, h := m.Width, m.Height
	gray := make([]uint8, w*h)
	for i := range gray {
		gray[i] = uint8((int(m.Pix[3*i]) + int(m.Pix[3*i+1]) + int(m.Pix[3*i+2])) / 3)
	}
	group := make([]int, w*h)
	var out []Found
	id := 0
	for start, v := range gray {
		if v <= ink || group[start] != 0 {
			continue
		}
		id++
		f := Found{Box: [4]int{w, h, 0, 0}}
		group[start] = id
		for stack := []int{start}; len(stack) > 0; {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			x, y := i%w, i/w
			f.Cells++
			f.Box = [4]int{min(f.Box[0], x), min(f.Box[1], y), max(f.Box[2], x+1), max(f.Box[3], y+1)}
			for v := max(0, y-gap); v <= min(h-1, y+gap); v++ {
				for u := max(0, x-gap); u <= min(w-1, x+gap); u++ {
					if j := v*w + u; gray[j] > ink && group[j] == 0 {
						group[j] = id
						stack = append(stack, j)
					}
				}
			}
		}
		b := f.Box
		if f.Cells < minInk || b[2]-b[0] > maxSize || b[3]-b[1] > maxSize {
			continue
		}
		f.Cx, f.Cy = float64(b[0]+b[2])/2, float64(b[1]+b[3])/2
		var err error
		if f.Value, f.Sure, err = classify(crop(gray, group, w, h, id, b)); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// crop is a group's 28×28 pixels around its centre of mass. Of its own pixels and
// dark ones beside them: pixels of other groups are left out.
func crop(gray []uint8, group []int, w, h, id int, b [4]int) []uint8 {
	const near = 2 // pixels of faint edge around the ink
	out := make([]uint8, side*side)
	each := func(do func(x, y int, v uint8)) {
		for y := max(0, b[1]-near); y < min(h, b[3]+near); y++ {
			for x := max(0, b[0]-near); x < min(w, b[2]+near); x++ {
				if g := group[y*w+x]; g == id || g == 0 && gray[y*w+x] <= ink {
					do(x, y, gray[y*w+x])
				}
			}
		}
	}
	var sum, sx, sy float64
	each(func(x, y int, v uint8) {
		sum += float64(v)
		sx += float64(v) * (float64(x) + 0.5)
		sy += float64(v) * (float64(y) + 0.5)
	})
	x0, y0 := int(math.Round(sx/sum-side/2)), int(math.Round(sy/sum-side/2))
	each(func(x, y int, v uint8) {
		if u, t := x-x0, y-y0; u >= 0 && t >= 0 && u < side && t < side {
			out[t*side+u] = v
		}
	})
	return out
}

// Check reads a picture by the classifier and, where the truth is known, judges it:
// scene, all digits right and no other; digits, those of the truth found within 3
// pixels of their place; caption, its digits and its relation hold.
func (s *Set) Check(g data.Given, classify Classifier) (data.Check, error) {
	if len(g.Pictures) != 1 {
		return data.Check{}, data.Errorf("%s: %d pictures; want one", s.name, len(g.Pictures))
	}
	m := g.Pictures[0].Image
	if err := data.CheckImage(s.name, m, s.size, s.size); err != nil {
		return data.Check{}, err
	}
	found, err := Read(m, classify)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: len(found) > 0, Text: say(found), Read: found}
	if g.Truth == nil {
		return c, nil
	}
	var t truth
	if err := json.Unmarshal(g.Truth, &t); err != nil {
		return data.Check{}, data.Errorf("%s: the truth is no JSON object of this set: %w", s.name, err)
	}
	if t.Set != s.name || len(t.Digits) < 1 || len(t.Digits) > 3 {
		return data.Check{}, data.Errorf("%s: the truth is of the set %q with %d digits; want this set and 1 to 3", s.name, t.Set, len(t.Digits))
	}
	const near = 3.0
	used := make([]bool, len(found))
	hits := 0
	held := make([]Digit, 0, 3) // the digits as they were read, in the caption's order
	for i := range t.Digits {
		d := &t.Digits[i]
		x, y := d.centre()
		k := slices.IndexFunc(found, func(f Found) bool {
			return math.Abs(f.Cx-float64(x)/2) <= near && math.Abs(f.Cy-float64(y)/2) <= near
		})
		if k < 0 || used[k] {
			continue
		}
		used[k] = true
		c.Errors = append(c.Errors, data.Value{Name: "centre, pixels", Value: math.Hypot(found[k].Cx-float64(x)/2, found[k].Cy-float64(y)/2)})
		if found[k].Value == d.Value {
			hits++
			held = append(held, Digit{Value: d.Value, Box: found[k].Box})
		}
	}
	n := len(t.Digits)
	c.OK = hits == n && len(found) == n
	says := c.OK && (t.Relation == "" || len(held) == 2 && relation(held, 6) == t.Relation)
	c.Counts = []data.Count{{Name: "scene", Hits: bit(c.OK), Of: 1}, {Name: "digits", Hits: hits, Of: n}, {Name: "caption", Hits: bit(says), Of: 1}}
	return c, nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func say(found []Found) string {
	if len(found) == 0 {
		return "nothing"
	}
	var s []string
	for _, f := range found {
		s = append(s, fmt.Sprintf("%d at %.1f,%.1f", f.Value, f.Cx, f.Cy))
	}
	return strings.Join(s, "; ")
}

// Entries are the two sets on the command line, read by the classifier, of which
// note says how far it errs.
func Entries(classify Classifier, note string) []data.Entry {
	entry := func(name, about string, open func(seed uint64) (*Set, error)) data.Entry {
		return data.Entry{
			Name: name, About: about, Note: note, Golden: golden[name],
			Open: func(seed uint64, options map[string]string) (data.Served, error) {
				for k := range options {
					return nil, data.Unknown(name, "option", k, []string{"n", "from", "seed"})
				}
				s, err := open(seed)
				if err != nil {
					return nil, err
				}
				check := func(g data.Given) (data.Check, error) { return s.Check(g, classify) }
				if s.size == 32 {
					return data.Serve(data.Set[*Item](classed{s}), check), nil
				}
				return data.Serve(data.Set[*Item](s), check), nil
			},
		}
	}
	return []data.Entry{
		entry("mnist32", "MNIST's digits somewhere on 32×32 gray pixels", New32),
		entry("mnist64", "one to three of MNIST's digits on 64×64 gray pixels, with captions and masks", New64),
	}
}

// classed is mnist32 with its classes.
type classed struct{ *Set }

// Classes are the names of the digits.
func (classed) Classes() []string { return strings.Fields("0 1 2 3 4 5 6 7 8 9") }

// Label is the digit of item i.
func (c classed) Label(split data.Split, i int) int { return int(c.pools[split].labels[i]) }

// golden are the hashes of the first 256 items of every split (fidlab data hash).
var golden = map[string]map[data.Split]string{
	"mnist32": {
		data.Train: "338630cccdf56702419a3d007279e79ab1b82ac48511ba2c49e3b2ca9eb66070",
		data.Val:   "e593941bb26495cae0c30f19e09df66f8923cace4a9fa69d6576c08506787f95",
		data.Test:  "b52a66e72ff51ac74794e613f096036bd4a6d654eb7d548d0061aed671e0b3db",
		data.Ref:   "93c77d99dc95a9c5836042f62e8cd67fc6f8530fe1ac4d859d5a10bfb8137405",
		data.Enc:   "98ec39f65dbc13d1a37a9e7542acb3eef63f0aa9e4087020b98b8ed7b155de08",
	},
	"mnist64": {
		data.Train: "c429f4b5d2bdff132f8393b9c405bf78804b4ad5cd9eef9c6eff86191087a03f",
		data.Val:   "a8e62344ccb1a35018e80123762081abc22e620b0bf4f1a3a65ed1c58f0664fb",
		data.Test:  "a9e08f4aaa81f14bc0fc89054795f787bd349bfbd952dd8029112948b3c05237",
		data.Ref:   "6b47a41a8c6c677d8d4b5c1ef0a58ca5fd05dc5efb0709ca7a321171b2c54ec0",
		data.Enc:   "c8e10abe03b3ade6ddaebc5290e9a138a9a5b187dbde0dafcc448a2040325373",
	},
}
