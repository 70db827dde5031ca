package street

import (
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/text"
)

// Slots is the length of a caption in tokens, <bos> and <eos> included.
const Slots = 16

// Words is the vocabulary of the captions.
var Words = text.NewVocabulary([]string{
	"<pad>", "<bos>", "<eos>", "a", "day", "night", "street", "with", "and", ",", "no", "traffic",
	"one", "two", "three", "four", "five", "six", "seven", "eight",
	"car", "cars", "truck", "trucks", "pedestrian", "pedestrians",
})

var numbers = [most + 1]string{"no", "one", "two", "three", "four", "five", "six", "seven", "eight"}

// caption says what there is: how many of each class, from Car on.
func caption(night bool, count [Pedestrian + 1]int) string {
	s := "a day street with "
	if night {
		s = "a night street with "
	}
	var parts []string
	for cls := Car; cls <= Pedestrian; cls++ {
		switch n := count[cls]; {
		case n == 1:
			parts = append(parts, "one "+ClassNames[cls])
		case n > 1:
			parts = append(parts, numbers[n]+" "+ClassNames[cls]+"s")
		}
	}
	switch len(parts) {
	case 0:
		return s + "no traffic"
	case 1:
		return s + parts[0]
	}
	last := len(parts) - 1
	return s + strings.Join(parts[:last], " , ") + " and " + parts[last]
}

// describe is the caption of a frame: it counts the boxes that are seen.
func (f *Frame) describe() string {
	var count [Pedestrian + 1]int
	for _, b := range f.Boxes {
		if f.Visible(b.Inst) > 0 {
			count[b.Cls]++
		}
	}
	return caption(f.Night, count)
}

// Visible is how many pixels of all views show a box.
func (f *Frame) Visible(inst uint8) int {
	n := 0
	for v := range f.Views {
		n += visible(&f.Views[v], inst)
	}
	return n
}

func visible(v *View, inst uint8) (n int) {
	for _, k := range v.Inst.IDs {
		if k == inst {
			n++
		}
	}
	return n
}

// Encode is a caption as tokens; it refuses words that the vocabulary lacks and
// captions that are too long.
func Encode(caption string) ([Slots]uint8, error) {
	var t [Slots]uint8
	if err := Words.Encode(t[:], caption); err != nil {
		return t, data.Errorf("street: caption: %w", err)
	}
	return t, nil
}
