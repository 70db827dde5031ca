package city

import (
	"slices"
	"strings"

	"github.com/fidlab/fidlab/text"
)

// Slots is the length of a caption in tokens, <bos> and <eos> included.
const Slots = 24

// Words is the vocabulary of the captions: 41 words.
var Words = text.NewVocabulary(wordTable())

func wordTable() []string {
	w := []string{
		"<pad>", "<bos>", "<eos>", "a", "black", "and", "white", "map", "of", "city", "buildings", ",", "located", "in", "mostly", "with",
		"no", "few", "some", "many", "small", "large", "dense", "loose",
	}
	w = append(w, landNames[:]...)
	for _, p := range Places {
		w = append(w, p.Name)
	}
	return w
}

// Thresholds of the words.
const (
	someFrom  = 16    // buildings with their centre in the tile
	manyFrom  = 24    //
	largeFrom = 120.0 // median area of these, m²
	denseFrom = 0.25  // share of the tile's pixels at 4 m
)

// Summary is what a caption says of a tile.
type Summary struct {
	City     int
	Use      uint8 // the commonest land use by area, of equal ones the first
	Count    int   // of buildings with their centre in the tile
	Median   float64
	Coverage float64 // at 4 m a pixel
}

// Caption says it in words.
func (s Summary) Caption() string {
	var b strings.Builder
	b.WriteString("a black and white map of city buildings , located in " + Places[s.City].Name + " , mostly " + landNames[s.Use] + " with ")
	if s.Count == 0 {
		b.WriteString("no buildings")
		return b.String()
	}
	pick := func(yes bool, a, c string) string {
		if yes {
			return a
		}
		return c
	}
	b.WriteString(pick(s.Count < someFrom, "few", pick(s.Count < manyFrom, "some", "many")))
	b.WriteString(pick(s.Median < largeFrom, " small", " large"))
	b.WriteString(" buildings , ")
	b.WriteString(pick(s.Coverage >= denseFrom, "dense", "loose"))
	return b.String()
}

// Encode is a caption as tokens; it refuses words that the vocabulary lacks and
// captions that are too long.
func Encode(caption string) ([Slots]uint8, error) {
	var t [Slots]uint8
	if err := Words.Encode(t[:], caption); err != nil {
		return t, badCaption(err)
	}
	return t, nil
}

// summary computes what the caption says from the truth.
func (t *Tile) summary() Summary {
	s := Summary{City: t.City}
	var land [landClasses]int
	for _, v := range t.plan.rasterLand(baseSize).IDs {
		land[v]++
	}
	for k, n := range land {
		if n > land[s.Use] {
			s.Use = uint8(k)
		}
	}
	var areas []float64
	for _, p := range t.Buildings {
		low, high, _ := p.Bounds()
		if x, y := (low.X+high.X)/2, (low.Y+high.Y)/2; x >= 0 && x < Side && y >= 0 && y < Side {
			areas = append(areas, p.Area())
		}
	}
	s.Count = len(areas)
	slices.Sort(areas)
	if s.Count > 0 {
		s.Median = areas[(s.Count-1)/2]
	}
	n := 0
	for _, v := range rasterBuildings(t.Buildings, baseSize).IDs {
		n += int(v)
	}
	s.Coverage = float64(n) / (baseSize * baseSize)
	return s
}
