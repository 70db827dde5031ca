package motion

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	kin "github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/tensor"
)

// TestReaderOnTruth: every clip of the set is read as its captions say, from the
// rows that a model sees, and measured as drawn.
func TestReaderOnTruth(t *testing.T) {
	n := 8000
	if testing.Short() {
		n = 300
	}
	var speed, height, turn, skate, skateWalk, sunk float64
	clips := 0
	each(t, n, func(split data.Split, i int, it *Item, truth Truth) {
		clips++
		l := kin.Small // it holds all that Recover takes; the long rows take longer
		if i%10 == 0 {
			l = kin.HumanML3D
		}
		joints, err := FromRows(it.Rows(l), l.Width)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(joints)
		if err != nil {
			t.Fatalf("%s %d: %v", split, i, err)
		}
		for style, caption := range truth.Captions {
			if a, err := Score(caption, r); err != nil || !a.All {
				t.Fatalf("%s %d: caption %d, %q: %+v, %v; read %s", split, i, style, caption, a.Counts, err, r.Claim.Words(0))
			}
		}
		sunk = max(sunk, r.Sunk)
		walks := false
		for _, c := range truth.Clauses {
			switch c.Action {
			case "walk":
				walks = true
				speed = max(speed, math.Abs(math.Abs(r.Speed)-c.Speed)/c.Speed)
			case "jump":
				height = max(height, math.Abs(r.Rise-c.Height))
				if math.Abs(r.Leap-c.Distance) > 0.05+0.15*c.Distance { // the last frame on the rows is one short
					t.Errorf("%s %d: a leap of %.2f m, want %.2f", split, i, r.Leap, c.Distance)
				}
			case "turn":
				turn = max(turn, math.Abs(math.Abs(r.Turned)-float64(c.Degrees)))
			}
		}
		if walks {
			skateWalk = max(skateWalk, r.Skate)
		} else {
			skate = max(skate, r.Skate)
		}
	})
	if !testing.Short() && clips != 15548 {
		t.Errorf("%d clips, want 15548", clips)
	}
	t.Logf("%d clips: speed within %.3f, height %.4f m, turn %.2f°, skating %.3f m/s walking and %.3f else, %.2g m under the floor", clips, speed, height, turn, skateWalk, skate, sunk)
	if speed > 0.05 || height > 0.005 || turn > 3 || skateWalk > 0.15 || skate > 0.15 || sunk > 1e-4 {
		t.Error("that is off")
	}
}

// TestReaderOnNoise: noise of 1 cm on every coordinate changes no answer in 98 of 100 clips,
// as samples of a model want it.
func TestReaderOnNoise(t *testing.T) {
	right, n := 0, 0
	each(t, 100, func(split data.Split, i int, it *Item, truth Truth) {
		s := data.FromKey(uint64(i) + 1000)
		joints := slices.Clone(it.Joints)
		for k := range joints {
			joints[k] += 0.01 * s.Normal()
		}
		r, err := Read(joints)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if Compare(truth.Claim(), r.Claim).All {
			right++
		}
	})
	t.Logf("%d of %d right at 1 cm", right, n)
	if n != 500 || right < 490 {
		t.Errorf("%d of %d clips are read right with noise of 1 cm; want 490", right, n)
	}
}

// puppet is a standing body whose joints a test moves by hand: rigid but for what f
// does to each frame.
func puppet(frames int, f func(t int, joints []vec)) []float64 {
	p := pose{elbow: [2]float64{0.25, 0.25}}
	var out []float64
	for t := range frames {
		j := p.joints(vec{0, standing, 0}, [2]float64{}, 1)
		f(t, j[:])
		for _, v := range j {
			out = append(out, v[:]...)
		}
	}
	return out
}

func read(t *testing.T, joints []float64) Reading {
	t.Helper()
	r, err := Read(joints)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReaderOnPuppets: motions that the generator did not make.
func TestReaderOnPuppets(t *testing.T) {
	all := func(j []vec, d vec) {
		for i := range j {
			j[i] = plus(j[i], d)
		}
	}
	// A body that glides along without stepping walks, as its root does, and skates.
	r := read(t, puppet(41, func(f int, j []vec) { all(j, vec{0, 0, 0.04 * float64(f)}) }))
	if r.Claim.Words(0) != "a person walks forward slowly" || math.Abs(r.Speed-0.8) > 1e-9 || math.Abs(r.Skate-0.8) > 1e-9 || math.Abs(r.Forward-1.6) > 1e-9 {
		t.Errorf("a glide is read as %+v", r)
	}
	// To the side is no walking.
	if r = read(t, puppet(41, func(f int, j []vec) { all(j, vec{0.04 * float64(f), 0, 0}) })); !r.Claim.Stand || math.Abs(r.Left-1.6) > 1e-9 {
		t.Errorf("a glide to the left is read as %+v", r)
	}
	// Three parabolas of 20 cm.
	r = read(t, puppet(61, func(f int, j []vec) {
		if x := float64(f%20) / 10; x < 1 {
			all(j, vec{0, 0.8 * x * (1 - x), 0})
		}
	}))
	if r.Flights != 3 || r.Claim.Words(0) != "a person jumps low in place three times" || r.Claim.Words(1) != "someone makes three low jumps in place" || math.Abs(r.Rise-0.2) > 1e-9 || r.Claim.Walk != nil {
		t.Errorf("three hops are read as %+v", r)
	}
	// One foot in the air is no jump.
	if r = read(t, puppet(41, func(f int, j []vec) { j[7][1] += 0.2; j[10][1] += 0.2 })); r.Flights != 0 || !r.Claim.Stand {
		t.Errorf("standing on one leg is read as %+v", r)
	}
	// The left wrist swings by 2 cm, then 10 cm; the right one below its shoulder.
	swing := func(width, height float64) []float64 {
		return puppet(61, func(f int, j []vec) {
			for side := range sides {
				h := height
				if side == right {
					h = -0.1
				}
				j[20+side] = plus(j[16+side], vec{width * math.Sin(2*math.Pi*float64(f)/20), h, 0.3})
			}
		})
	}
	if r = read(t, swing(0.01, 0.2)); r.Waves != [2]int{} {
		t.Errorf("a tremble waves %v", r.Waves)
	}
	if r = read(t, swing(0.1, 0.2)); r.Waves != [2]int{3, 0} || r.Claim.Words(2) != "the person waves the left hand three times" {
		t.Errorf("three swings are %v, %s", r.Waves, r.Claim.Words(2))
	}
	// A turn to the left, about y, is positive; below 45° it is standing.
	for _, c := range []struct {
		degrees float64
		want    string
	}{{90, "a person turns left by a quarter turn"}, {-200, "a person turns right by a half turn"}, {350, "a person turns left by a full turn"}, {30, "a person stands still"}} {
		r = read(t, puppet(61, func(f int, j []vec) {
			sin, cos := math.Sincos(c.degrees / 180 * math.Pi * float64(f) / 60)
			for i := range j {
				j[i] = facing(j[i], sin, cos)
			}
		}))
		if r.Claim.Words(0) != c.want || math.Abs(r.Turned-c.degrees) > 1e-6 {
			t.Errorf("a turn by %v is read as %s, %v", c.degrees, r.Claim.Words(0), r.Turned)
		}
	}
	// Everything at once is read at once, though no caption says so.
	r = read(t, puppet(61, func(f int, j []vec) {
		y := 0.0
		if f < 10 {
			y = 0.08 * float64(f) * (1 - float64(f)/10)
		}
		all(j, vec{0, y, 0.05 * float64(max(0, f-10))})
		j[20] = plus(j[16], vec{0.1 * math.Sin(2*math.Pi*float64(f)/10), 0.2, 0.3})
	}))
	if r.Claim.Words(0) != "a person walks forward and jumps low in place once and waves with the left hand 6 times" {
		t.Errorf("everything at once is read as %s", r.Claim.Words(0))
	}
	// 4 cm into the floor.
	if r = read(t, puppet(20, func(f int, j []vec) { all(j, vec{0, -0.04, 0}) })); math.Abs(r.Sunk-0.04) > 1e-9 {
		t.Errorf("sunk by %v", r.Sunk)
	}
}

// TestDisagreement: wrong captions are found wrong, attribute by attribute.
func TestDisagreement(t *testing.T) {
	wrong, pairs := 0, 0
	s := New(data.DefaultSeed)
	var claims []Claim
	for i := range 60 {
		claims = append(claims, s.At(data.Test, i).Known().Claim())
	}
	for i := range claims {
		r := read(t, s.At(data.Test, i).Joints)
		for j := range claims {
			a, err := Score(claims[j].Words(j%3), r)
			if err != nil {
				t.Fatal(err)
			}
			same := claims[i].Words(0) == claims[j].Words(0)
			pairs++
			if a.All != same {
				wrong++
			}
			hits := 0
			for _, c := range a.Counts {
				hits += c.Hits
			}
			if (hits == len(a.Counts)) != a.All {
				t.Errorf("counts %v, all %v", a.Counts, a.All)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d pairs of clip and caption are judged wrong", wrong, pairs)
	}
	c := Compare(Claim{Walk: &WalkClaim{true, "slow", "left"}}, Claim{Walk: &WalkClaim{true, "quick", "left"}})
	if want := []data.Count{{Name: "actions", Hits: 1, Of: 1}, {Name: "direction", Hits: 1, Of: 1}, {Name: "pace", Hits: 0, Of: 1}, {Name: "path", Hits: 1, Of: 1}}; c.All || !slices.Equal(c.Counts, want) {
		t.Errorf("counts %v, want %v", c.Counts, want)
	}
}

// TestCheck: what the command line sees.
func TestCheck(t *testing.T) {
	for _, layout := range []string{"263", "67"} {
		s, err := Entry.Open(data.DefaultSeed, map[string]string{"layout": layout})
		if err != nil {
			t.Fatal(err)
		}
		var tot data.Totals
		for i := range 100 {
			it, err := s.Item(data.Test, i)
			if err != nil {
				t.Fatal(err)
			}
			g, err := data.Give(it)
			if err != nil {
				t.Fatal(err)
			}
			c, err := s.Check(g)
			if err != nil || !c.OK {
				t.Errorf("layout %s, item %d: %+v, %v", layout, i, c, err)
			}
			tot.Add(c)
			// Without the truth the padding is found by itself and the reading is the same.
			known := g.Truth
			g.Truth = nil
			blind, err := s.Check(g)
			if err != nil || blind.Text != c.Text || len(blind.Counts) != 0 {
				t.Errorf("without truth: %+v, %v; want %s", blind, err, c.Text)
			}
			// A truth of another clip is not met.
			var other Truth
			if err := json.Unmarshal(known, &other); err != nil {
				t.Fatal(err)
			}
			other.Clauses = []Clause{{Action: "turn", Side: "left", Degrees: 90}}
			if other.Claim().Words(0) == c.Text {
				continue
			}
			g.Truth, _ = json.Marshal(other)
			other.Rows = 12 // only this much of a padded array is the clip's
			cut := g
			cut.Truth, _ = json.Marshal(other)
			if c, err := s.Check(cut); err != nil || c.Read.(Reading).Frames != 12 {
				t.Errorf("a truth of 12 rows: %+v, %v", c, err)
			}
			if c, err = s.Check(g); err != nil || c.OK || !strings.Contains(c.Text, "; the caption says: ") {
				t.Errorf("another truth: %+v, %v", c, err)
			}
		}
		if tot.OK != 100 || tot.Counts()[0].Name != "actions" || tot.Counts()[0].Hits != 100 {
			t.Errorf("totals %+v", tot)
		}
	}
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
		t.Errorf("%s: error %v, want an input error with %q", what, err, want)
	}
}

func TestBadInput(t *testing.T) {
	open := func(k, v string) error { _, err := Entry.Open(1, map[string]string{k: v}); return err }
	wantError(t, "option", open("layuot", "67"), "did you mean layout")
	wantError(t, "layout", open("layout", "251"), "want 263 or 67")
	_, err := New(1).WithLayout(kin.KIT)
	wantError(t, "KIT", err, "22 joints")
	_, err = New(1).WithLayout(nil)
	wantError(t, "no layout", err, "layout none")
	_, err = data.Get(New(1), "tset", 0)
	wantError(t, "split", err, "did you mean test")
	_, err = data.Get(New(1), data.Val, 500)
	wantError(t, "index", err, "no item 500")
	_, err = Read(make([]float64, 66*9))
	wantError(t, "short", err, "9 frames; want at least 10")
	_, err = Read(make([]float64, 65))
	wantError(t, "ragged", err, "65 numbers")
	_, err = Read(make([]float64, 66*20))
	wantError(t, "a point", err, "faces nowhere")
	clip := New(1).At(data.Val, 0).Joints
	bad := slices.Clone(clip)
	bad[700] = math.NaN()
	_, err = Read(bad)
	wantError(t, "NaN", err, "NaN")
	for k := range bad {
		bad[k] = clip[k] * 100
	}
	_, err = Read(bad)
	wantError(t, "centimetres", err, "want a body in metres")
	_, err = FromRows(make([]float32, 251), 251)
	wantError(t, "KIT rows", err, "KIT")
	_, err = FromRows(make([]float32, 100), 100)
	wantError(t, "width", err, "rows of 100")
	_, err = FromRows(make([]float32, 100), 67)
	wantError(t, "part of a row", err, "100 numbers")
	array := func(truth string, shape ...int) error {
		n := 1
		for _, d := range shape {
			n *= d
		}
		g := data.Given{Array: tensor.FromF32(make([]float32, n), shape...)}
		if truth != "" {
			g.Truth = json.RawMessage(truth)
		}
		_, err := check(g)
		return err
	}
	_, err = check(data.Given{})
	wantError(t, "no array", err, "no array")
	wantError(t, "vector", array("", 263), "shape [263]")
	wantError(t, "batch", array("", 2, 64, 263), "shape [2 64 263]")
	wantError(t, "zeros", array("", 1, 64, 263), "0 numbers")
	wantError(t, "truth", array("{", 64, 263), "the truth")
	wantError(t, "rows", array(`{"rows":0,"clauses":[{"action":"stand"}]}`, 64, 263), "0 rows and 1 clauses")
	odd := data.Given{Array: tensor.FromF32(New(1).At(data.Val, 0).Rows(kin.Small), New(1).At(data.Val, 0).Len(), 67)}
	odd.Truth = json.RawMessage(`{"rows":40,"clauses":[{"action":"jump","times":-1},{"action":"wave","cycles":-7},{"action":"turn","degrees":1},{"action":"x"}]}`)
	if c, err := check(odd); err != nil || c.OK {
		t.Errorf("an odd truth: %+v, %v", c, err)
	}
	wantError(t, "clauses", array(`{"rows":64}`, 64, 263), "0 clauses")
}
