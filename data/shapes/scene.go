package shapes

import (
	"fmt"

	"github.com/fidlab/fidlab/data"
)

// Shape is the form of an object.
type Shape uint8

// The forms. r is the object's radius, x and y are measured from its centre,
// y downwards.
const (
	Circle   Shape = iota // x² + y² ≤ r²
	Square                // |x|, |y| ≤ 0.95 r
	Triangle              // apex up: y from −r to 0.75 r, half as wide as r at the base
	Cross                 // two bars of half thickness 0.36 r and half length r
	Glyph                 // a bitmap of 5×5 cells: Object.Glyph
	Unknown               // a reader's answer: none of them for certain
)

// Shapes is how many forms scenes are made of; glyphs are apart.
const Shapes = 4

var shapeNames = [...]string{"circle", "square", "triangle", "cross", "glyph", "unknown"}

func (s Shape) String() string { return nameOf(shapeNames[:], int(s)) }

// Color is a colour class: its number in label maps, 0 for background.
type Color uint8

// The colours.
const (
	NoColor Color = iota
	Red
	Yellow
	Green
	Cyan
	Blue
	Magenta
)

// Colors is how many colours there are.
const Colors = 6

var (
	colorNames = [...]string{"background", "red", "yellow", "green", "cyan", "blue", "magenta"}
	palette    = [...][3]uint8{{}, {220, 40, 40}, {230, 205, 40}, {40, 180, 60}, {40, 190, 200}, {50, 80, 220}, {200, 50, 200}}
)

func (c Color) String() string { return nameOf(colorNames[:], int(c)) }

// RGB is the colour's levels; they are chosen for distance in hue.
func (c Color) RGB() [3]uint8 { return palette[c] }

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("number %d", i)
}

// Pair is what captions bind together.
type Pair struct {
	Shape Shape
	Color Color
}

func (p Pair) String() string { return p.Color.String() + " " + p.Shape.String() }

// Heldout are the pairs that no scene of train, val and enc shows.
var Heldout = [4]Pair{{Circle, Magenta}, {Square, Cyan}, {Triangle, Yellow}, {Cross, Blue}}

// IsHeldout tells whether train, val and enc lack the pair.
func IsHeldout(p Pair) bool { return p.Shape < Shapes && Heldout[p.Shape] == p }

// Object is one thing in a scene. The unit is the pixel of the drawing board, 32
// (shapes16: 16) to a side; an integer centre lies between pixels.
type Object struct {
	Kind   Shape
	Color  Color
	Cx, Cy float64
	R      float64
	Box    [4]int // x0, y0, x1, y1 of the pixels of its mask, half-open, in pixels of the picture
	Glyph  int    // the entity of a Glyph, else −1
}

// Pair is the object's shape and colour.
func (o *Object) Pair() Pair { return Pair{o.Kind, o.Color} }

// BgKind is the pattern of a background.
type BgKind uint8

// The patterns.
const (
	Flat    BgKind = iota
	Ramp           // from −20 at the left to +20 at the right
	Stripes        // upright, +20 and −20 in turn, each half a period wide
	Checker        // squares of half a period, +20 and −20 in turn
)

var bgNames = [...]string{"flat", "ramp", "stripes", "checker"}

func (k BgKind) String() string { return nameOf(bgNames[:], int(k)) }

// Bg is a background. It is gray, which is what makes the reader exact: blending
// with gray keeps a colour's hue.
type Bg struct {
	Kind   BgKind
	Level  int // 32, 96, 160 or 224
	Period int // 4, 6 or 8 pixels; of patterns that repeat
}

// Dark tells whether captions call the background dark.
func (b Bg) Dark() bool { return b.Level < 128 }

// Rel is how the first object of a caption lies to the second.
type Rel uint8

// The relations.
const (
	NoRel Rel = iota
	LeftOf
	RightOf
	Above
	Below
)

var relNames = [...]string{"none", "left of", "right of", "above", "below"}

func (r Rel) String() string { return nameOf(relNames[:], int(r)) }

// relation is that of a centre to another one at (dx, dy) from it, on a board of
// side pixels: across when |dx| ≥ 10/32 of the side and |dy| ≤ |dx|/2, down
// likewise. slack pixels are forgiven.
func relation(dx, dy, side, slack float64) (rels [2]Rel) {
	far, half := side*10/32-slack, func(v float64) float64 { return v/2 + slack }
	ax, ay := max(dx, -dx), max(dy, -dy)
	if ax >= far && ay <= half(ax) {
		rels[0] = LeftOf
		if dx < 0 {
			rels[0] = RightOf
		}
	}
	if ay >= far && ax <= half(ay) {
		rels[1] = Above
		if dy < 0 {
			rels[1] = Below
		}
	}
	return rels
}

// NoCell stands for a caption without a position.
const NoCell = -1

// cellOf is the cell of a 3×3 grid, row by row, that a centre lies in.
func cellOf(cx, cy, side float64) int { return 3*third(cy, side) + third(cx, side) }

func third(v, side float64) int { return min(2, max(0, int(3*v/side))) }

// Scene is the truth of a picture.
type Scene struct {
	Objects  []Object // in the order of the caption
	Bg       Bg
	Caption  string
	Tokens   [Slots]uint8
	Relation Rel // that the caption tells, of object 0 to object 1
	Cell     int // that the caption tells, of object 0: 0 top left to 8 bottom right, or NoCell
}

// The splits beside those that every set has.
const (
	TestUnseen  data.Split = "test-unseen"  // scenes that show a pair of Heldout
	TestBinding data.Split = "test-binding" // two objects that no scene of train shows together; item 2k+1 is item 2k with its colours swapped
	KB          data.Split = "kb"           // a knowledge base: four pictures of each glyph
)
