package motion

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

// Agreement compares what a caption says with what a clip shows.
type Agreement struct {
	All    bool         // everything that is said is shown, and nothing else
	Counts []data.Count // attribute by attribute, of those that the caption has
}

// Score reads a caption and compares it with a reading.
func Score(caption string, r Reading) (Agreement, error) {
	c, err := Parse(caption)
	if err != nil {
		return Agreement{}, err
	}
	return Compare(c, r.Claim), nil
}

// Compare compares a claim with what was read.
func Compare(want, got Claim) Agreement {
	a := Agreement{All: true}
	say := func(name string, ok bool) {
		n := data.Count{Name: name, Of: 1}
		if ok {
			n.Hits = 1
		}
		a.All = a.All && ok
		a.Counts = append(a.Counts, n)
	}
	say("actions", (want.Walk == nil) == (got.Walk == nil) && (want.Jump == nil) == (got.Jump == nil) &&
		(want.Turn == nil) == (got.Turn == nil) && (want.Wave == nil) == (got.Wave == nil) && want.Stand == got.Stand)
	if w := want.Walk; w != nil {
		g := got.Walk
		say("direction", g != nil && g.Backward == w.Backward)
		say("pace", g != nil && g.Pace == w.Pace)
		say("path", g != nil && g.Path == w.Path)
	}
	if w := want.Jump; w != nil {
		g := got.Jump
		say("direction", g != nil && g.Forward == w.Forward)
		say("height", g != nil && g.High == w.High)
		say("times", g != nil && g.Times == w.Times)
	}
	if w := want.Turn; w != nil {
		g := got.Turn
		say("side", g != nil && g.Side == w.Side)
		say("angle", g != nil && g.Degrees == w.Degrees)
	}
	if w := want.Wave; w != nil {
		g := got.Wave
		say("side", g != nil && g.Side == w.Side)
		say("cycles", g != nil && g.Cycles == w.Cycles)
	}
	return a
}

// FromRows is the clip of joints of rows in the layout of their width, 263 or 67.
func FromRows(rows []float32, width int) ([]float64, error) {
	l, err := kin.LayoutOf(width)
	if err != nil {
		return nil, data.Errorf("%w", err)
	}
	if l == kin.KIT {
		return nil, data.Errorf("motion: rows of the KIT layout; the reader knows the 22 joints of rows of 263 or 67")
	}
	joints, err := kin.Recover(l, rows)
	if err != nil {
		return nil, data.Errorf("%w", err)
	}
	return joints, nil
}

// check reads rows, [T, width] of any length or [1, 64, width] padded as the set's
// tensors are, and judges them by the truth's captions where it is known. Rows of
// zeros at the end, which no body has, are padding; of a padded array so are those
// beyond the truth's length.
func check(g data.Given) (data.Check, error) {
	if g.Array == nil {
		return data.Check{}, data.Errorf("motion: no array; want rows of 263 or 67 numbers in a .npy")
	}
	shape, padded := g.Array.Shape, len(g.Array.Shape) == 3
	for len(shape) > 2 && shape[0] == 1 {
		shape = shape[1:]
	}
	if len(shape) != 2 {
		return data.Check{}, data.Errorf("motion: an array of shape %v; want [rows, 263] or [rows, 67]", g.Array.Shape)
	}
	var t Truth
	if g.Truth != nil {
		if err := json.Unmarshal(g.Truth, &t); err != nil {
			return data.Check{}, data.Errorf("motion: the truth: %w", err)
		}
		if t.Rows < 1 || len(t.Clauses) == 0 {
			return data.Check{}, data.Errorf("motion: the truth tells of %d rows and %d clauses; want one of each or more", t.Rows, len(t.Clauses))
		}
	}
	rows, n := g.Array.F32(), shape[0]
	if padded && t.Rows > 0 {
		n = min(n, t.Rows)
	}
	for n > 0 && zero(rows[(n-1)*shape[1]:n*shape[1]]) {
		n--
	}
	joints, err := FromRows(rows[:n*shape[1]], shape[1])
	if err != nil {
		return data.Check{}, err
	}
	r, err := Read(joints)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: true, Text: r.Claim.Words(0), Read: r}
	say := func(name string, v float64) { c.Errors = append(c.Errors, data.Value{Name: name, Value: v}) }
	if g.Truth == nil { // no clip of the set slides on its feet or sinks, whatever it shows
		say("skate, m/s", r.Skate)
		say("under the floor, m", r.Sunk)
		return c, nil
	}
	a := Compare(t.Claim(), r.Claim)
	c.OK, c.Counts = a.All, a.Counts
	if !a.All {
		c.Text += fmt.Sprintf("; the caption says: %s", t.Captions[0])
	}
	for _, k := range t.Clauses {
		switch {
		case k.Action == "walk":
			say("speed, m/s", math.Abs(math.Abs(r.Speed)-k.Speed))
		case k.Action == "jump":
			say("height, m", math.Abs(r.Rise-k.Height))
		case k.Action == "turn":
			say("turn, degrees", math.Abs(math.Abs(r.Turned)-float64(k.Degrees)))
		}
	}
	say("skate, m/s", r.Skate)
	say("under the floor, m", r.Sunk)
	return c, nil
}

func zero(row []float32) bool {
	for _, v := range row {
		if v != 0 {
			return false
		}
	}
	return true
}
