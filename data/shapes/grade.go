package shapes

import (
	"github.com/fidlab/fidlab/data"
)

// Grades say exactly how far detections fit a caption. What the caption does not
// ask for holds.
type Grades struct {
	Count    bool // as many objects as it names
	Pairs    bool // every object that it names is there
	NoExtra  bool // nothing else is
	Relation bool // the relation holds
	Cell     bool // the position holds
	Found    int  // objects of the caption that are there,
	Asked    int  // of so many: the binding accuracy
}

// All tells whether everything holds.
func (g Grades) All() bool { return g.Count && g.Pairs && g.NoExtra && g.Relation && g.Cell }

// Binding is the share of the caption's objects that are there.
func (g Grades) Binding() float64 { return float64(g.Found) / float64(g.Asked) }

// slack is what relations and cells forgive, in pixels of a board of 32: the
// reader's centres are up to half a pixel off on clean scenes, both of two.
const slack = 1.5

// Score compares what a picture of 32 pixels shows with a caption. Each detection
// serves one object of the caption, so that as many as possible are served;
// abstentions (Unknown) fit "shape" only. Relations and cells hold within
// 1.5 pixels of the rule that captions are made by. A caption of nouns is for
// ScoreGlyph. The error is Parse's.
func Score(caption string, dets []Detection) (Grades, error) { return scenes.grade(caption, dets) }

func (b *board) grade(caption string, dets []Detection) (Grades, error) {
	p, err := Parse(caption)
	if err != nil {
		return Grades{}, err
	}
	g := Grades{Asked: len(p.Objects), Count: len(dets) == len(p.Objects), Relation: p.Relation == NoRel, Cell: p.Cell == NoCell}
	for _, w := range p.Objects {
		if w.Shape == Glyph {
			return Grades{}, data.Errorf("%s: caption %q: %q is a glyph's name; read the picture with ReadGlyph", b.set, caption, Noun(w.Glyph))
		}
	}
	m := matching{wanted: p.Objects, dets: dets, used: make([]bool, len(dets))}
	m.extend(0, 0)
	g.Found = m.most
	serves := m.best
	g.Pairs = g.Found == g.Asked
	g.NoExtra = len(dets) <= g.Found
	tolerance := slack * float64(b.side) / 32
	if p.Relation != NoRel && serves[0] >= 0 && serves[1] >= 0 {
		from, to := dets[serves[0]], dets[serves[1]]
		rels := relation(to.Cx-from.Cx, to.Cy-from.Cy, float64(b.side), tolerance)
		g.Relation = rels[0] == p.Relation || rels[1] == p.Relation
	}
	if p.Cell != NoCell && serves[0] >= 0 {
		g.Cell = b.inCell(p.Cell, dets[serves[0]].Cx, dets[serves[0]].Cy, tolerance)
	}
	return g, nil
}

// matching finds detections for as many objects of a caption as can be; there
// are three objects at most.
type matching struct {
	wanted    []Wanted
	dets      []Detection
	used      []bool
	now, best [3]int // the detection of each object, −1 for none
	most      int
}

// extend tries all detections for object i when found objects have one.
func (m *matching) extend(i, found int) {
	if i == 0 {
		m.best, m.most = [3]int{-1, -1, -1}, 0
	}
	if found+len(m.wanted)-i <= m.most { // no better any more
		return
	}
	if i == len(m.wanted) {
		m.best, m.most = m.now, found
		return
	}
	w := m.wanted[i]
	for k, d := range m.dets {
		if !m.used[k] && (w.Shape == Unknown || w.Shape == d.Kind) && (w.Color == NoColor || w.Color == d.Color) {
			m.used[k], m.now[i] = true, k
			m.extend(i+1, found+1)
			m.used[k] = false
		}
	}
	m.now[i] = -1
	m.extend(i+1, found)
}

// inCell tells whether a centre is in the cell or at most slack outside.
func (b *board) inCell(cell int, cx, cy, slack float64) bool {
	third := float64(b.side) / 3
	x, y := third*float64(cell%3), third*float64(cell/3)
	return cx >= x-slack && cx < x+third+slack && cy >= y-slack && cy < y+third+slack
}

// ScoreGlyph compares a glyph that was read with a caption of one noun: Pairs means
// the entity and, where the caption says one, the colour. A glyph more than maxCells
// cells away from its bitmap counts as not there; 3, less than half of the least
// distance of two entities that are no siblings, is usual.
func ScoreGlyph(caption string, d GlyphDetection, maxCells int) (Grades, error) {
	p, err := Parse(caption)
	if err != nil {
		return Grades{}, err
	}
	if len(p.Objects) != 1 || p.Objects[0].Shape != Glyph {
		return Grades{}, data.Errorf("shapes-glyph: caption %q: want one noun, such as %q", caption, "a red "+Noun(0))
	}
	w := p.Objects[0]
	there := d.Entity >= 0 && d.Distance <= maxCells
	g := Grades{Asked: 1, Count: there, NoExtra: true, Relation: true, Cell: p.Cell == NoCell}
	if g.Pairs = there && d.Entity == w.Glyph && (w.Color == NoColor || d.Color == w.Color); g.Pairs {
		g.Found = 1
	}
	if p.Cell != NoCell && there {
		g.Cell = glyphs.inCell(p.Cell, d.Cx, d.Cy, slack)
	}
	return g, nil
}
