package motion

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

func joint(it *Item, t, j int) vec { return vec(it.Joints[66*t+3*j : 66*t+3*j+3]) }

func distance(a, b vec) float64 { return math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2]) }

// TestBody: one skeleton, scaled; nothing under the floor; something always on it
// unless the body flies; no joint jumps.
func TestBody(t *testing.T) {
	parents := kin.HumanML3D.Skeleton.Parents
	var first []float64
	each(t, 60, func(split data.Split, i int, it *Item, truth Truth) {
		if len(it.Joints) != 66*(truth.Rows+1) {
			t.Fatalf("%s %d: %d numbers for %d rows", split, i, len(it.Joints), truth.Rows)
		}
		poses := truth.poses()
		for f := range truth.Rows + 1 {
			bones := kin.HumanML3D.Skeleton.Bones(it.Joints[66*f : 66*f+66])
			lowest := math.Inf(1)
			for j := range parents {
				bones[j] /= truth.Scale
				lowest = min(lowest, joint(it, f, j)[1])
				if f > 0 {
					if d := distance(joint(it, f, j), joint(it, f-1, j)); d > 0.3 { // 6 m/s
						t.Errorf("%s %d (%s): joint %d goes %.2f m in frame %d", split, i, truth.Captions[0], j, d, f)
					}
				}
			}
			if first == nil {
				first = bones
			}
			for j := range parents {
				if math.Abs(bones[j]-first[j]) > 1e-4 {
					t.Fatalf("%s %d frame %d: bone %d is %.5f long, want %.5f", split, i, f, j, bones[j], first[j])
				}
			}
			if lowest < 0 || lowest != 0 && !poses[f].flies {
				t.Errorf("%s %d frame %d: the lowest joint is at %v", split, i, f, lowest)
			}
		}
	})
	tall := first[4] + first[7] + ankleHeight + hipDrop + first[3] + first[6] + first[9] + first[12] + headUp
	if tall < 1.45 || tall > 1.6 { // the head's joint of a body of 1.70 m
		t.Errorf("the head is %.2f m up", tall)
	}
}

// TestFootLock: between two frames on the ground one ankle and its foot stay exactly
// where they are, and the layout's contacts say so.
func TestFootLock(t *testing.T) {
	ground := 0
	each(t, 60, func(split data.Split, i int, it *Item, truth Truth) {
		poses := truth.poses()
		rows := it.Rows(kin.HumanML3D)
		for f := range truth.Rows {
			if poses[f].flies || poses[f+1].flies {
				continue
			}
			ground++
			fixed := -1
			for side := range sides {
				if joint(it, f, 7+side) == joint(it, f+1, 7+side) && distance(joint(it, f, 10+side), joint(it, f+1, 10+side)) < 2.5*grid {
					fixed = side
				}
			}
			if fixed < 0 {
				t.Fatalf("%s %d (%s): no foot stays from frame %d on", split, i, truth.Captions[0], f)
			}
			for k := range 2 {
				if rows[263*f+kin.HumanML3D.Contacts()+2*fixed+k] != 1 {
					t.Fatalf("%s %d row %d: the contact of foot %d is not marked", split, i, f, fixed)
				}
			}
		}
	})
	if ground < 10000 {
		t.Errorf("%d steps on the ground", ground)
	}
}

// TestFlight: in the air the root's height has the second difference of gravity,
// its highest point over standing is the height (sampled: at most g·(1/40)²/2 less),
// and it goes the distance along the heading.
func TestFlight(t *testing.T) {
	jumps := 0
	each(t, 120, func(split data.Split, i int, it *Item, truth Truth) {
		c := truth.Clauses[len(truth.Clauses)-1]
		if c.Action != "jump" {
			return
		}
		poses := truth.poses()
		top, flights := 0.0, 0
		for f := range truth.Rows {
			if poses[f].flies && !poses[max(0, f-1)].flies {
				flights++
				from := f - 1
				to := f
				for poses[to].flies {
					to++
				}
				a, b := joint(it, from, 0), joint(it, to, 0)
				sin, cos := math.Sincos(poses[f].yaw)
				ahead, aside := (b[0]-a[0])*sin+(b[2]-a[2])*cos, (b[0]-a[0])*cos-(b[2]-a[2])*sin
				if math.Abs(ahead-c.Distance) > 1e-4 || math.Abs(aside) > 1e-4 {
					t.Errorf("%s %d: the jump goes %.4f m ahead and %.4f aside; want %.4f and 0", split, i, ahead, aside, c.Distance)
				}
				for k := from + 1; k < to-1; k++ {
					second := joint(it, k-1, 0)[1] - 2*joint(it, k, 0)[1] + joint(it, k+1, 0)[1]
					if math.Abs(second+9.81/400) > 4*grid {
						t.Errorf("%s %d frame %d: second difference %v, want −g/400", split, i, k, second)
					}
				}
			}
			top = max(top, joint(it, f, 0)[1]-0.93*truth.Scale)
		}
		if flights != c.Times || top > c.Height+2*grid || top < c.Height-9.81/2/1600-2*grid {
			t.Errorf("%s %d: %d flights of %.4f m; want %d of %.4f", split, i, flights, top, c.Times, c.Height)
		}
		jumps += flights
	})
	if jumps < 100 {
		t.Errorf("%d jumps", jumps)
	}
}

// TestGait: steps are as long and as frequent as drawn, by the places where ankles
// stand; curves have their radius; turns their angle.
func TestGait(t *testing.T) {
	steps, turns := 0, 0
	var total [2]float64 // of the ways of two steps, and as drawn
	each(t, 200, func(split data.Split, i int, it *Item, truth Truth) {
		c := truth.Clauses[0]
		heading, err := kin.HumanML3D.Skeleton.Headings(it.Joints, kin.Options{})
		if err != nil {
			t.Fatal(err)
		}
		turned := 0.0
		for f := 1; f < len(heading); f++ {
			turned += math.Remainder(heading[f]-heading[f-1], 2*math.Pi)
		}
		switch {
		case c.Action == "turn":
			turns++
			want := float64(c.Degrees) * math.Pi / 180
			if c.Side == "right" {
				want = -want
			}
			if math.Abs(turned-want) > 1e-3 {
				t.Errorf("%s %d: turns by %v, want %v", split, i, turned, want)
			}
		case c.Action == "walk" && len(truth.Clauses) == 1:
			want := 0.0
			if c.Radius > 0 {
				want = c.Speed / c.Radius * float64(truth.Rows) / 20
			}
			if c.Path == "right" {
				want = -want
			}
			if math.Abs(turned-want) > 1e-3 {
				t.Errorf("%s %d: turns by %v on its way, want %v", split, i, turned, want)
			}
			// From the first full stand of each foot on: the next stand of the same foot
			// is two steps further, and as much later.
			for side := range sides {
				var at []vec
				var when []int
				for f := range truth.Rows {
					a := joint(it, f, 7+side)
					if a == joint(it, f+1, 7+side) && (len(at) == 0 || at[len(at)-1] != a) {
						at, when = append(at, a), append(when, f)
					}
				}
				for k := 2; k < len(at); k++ { // the first stand may have begun before the clip
					steps++
					if frames := float64(when[k] - when[k-1]); math.Abs(frames-40/c.Cadence) > 1 {
						t.Errorf("%s %d: two steps take %v frames, want %.1f", split, i, frames, 40/c.Cadence)
					}
					if c.Path == "straight" {
						way := distance(at[k], at[k-1])
						total[0], total[1] = total[0]+way, total[1]+2*c.Speed/c.Cadence
						// Feet exchange up to half a frame from the legs' widest, where x steps are gone.
						x := math.Pi * c.Cadence / 40
						lost := 1 - (math.Cos(x)+math.Cos(3*x)/9+math.Cos(5*x)/25)/(1+1.0/9+1.0/25)
						if want := 2 * c.Speed / c.Cadence; math.Abs(way-want) > (lost+0.002)*want {
							t.Errorf("%s %d: two steps are %.3f m long, want %.3f", split, i, way, want)
						}
						if ahead := at[k][2] > at[k-1][2]; ahead == c.Backward {
							t.Errorf("%s %d: walks the wrong way", split, i)
						}
					}
				}
			}
		}
	})
	if steps < 300 || turns < 50 {
		t.Errorf("%d steps and %d turns were seen", steps, turns)
	}
	if r := total[0] / total[1]; math.Abs(r-1) > 0.003 {
		t.Errorf("steps are %.4f of the length drawn, in the mean", r)
	}
}

// TestStop: the last step of a walk before something else goes on in its direction by
// half a step, and then the feet are side by side and stay.
func TestStop(t *testing.T) {
	stops := map[bool]int{}
	each(t, 120, func(split data.Split, i int, it *Item, truth Truth) {
		if len(truth.Clauses) < 2 {
			return
		}
		c := truth.Clauses[0]
		stops[c.Backward]++
		end := truth.Walked + int(math.Round(20/c.Cadence))
		a, b := joint(it, truth.Walked, 0), joint(it, end, 0)
		turn, more := 0.0, 0.0 // up to the stop, and in it, where the rate falls to 0
		if c.Radius > 0 {
			turn = c.Speed / c.Radius * float64(truth.Walked) / 20
			more = c.Speed / c.Radius * float64(end-truth.Walked) / 40
		}
		if c.Path == "right" {
			turn = -turn
		}
		way := (b[0]-a[0])*math.Sin(turn) + (b[2]-a[2])*math.Cos(turn)
		want := c.Speed / c.Cadence / 2
		if c.Backward {
			want = -want
		}
		// A turn about a foot that stands to the side carries the root along or back.
		if d := math.Abs(way - want); d > 0.02*math.Abs(want)+hipSide*truth.Scale*more+math.Abs(want)*more*more/2 {
			t.Errorf("%s %d (%s): the stop goes %.3f m, want %.3f", split, i, truth.Captions[0], way, want)
		}
		left, right := joint(it, end, 7), joint(it, end, 8)
		if d := distance(left, right) / truth.Scale; math.Abs(d-2*hipSide) > 1e-4 || left[1] != right[1] {
			t.Errorf("%s %d: the feet are %.4f m apart after the stop", split, i, d)
		}
	})
	if stops[true] < 20 || stops[false] < 50 {
		t.Errorf("stops %v", stops)
	}
}

// TestArith: against package math.
func TestArith(t *testing.T) {
	for k := range sines {
		if math.Abs(sines[k]-math.Sin(math.Pi*float64(k)/32)) > 1.2e-16 {
			t.Errorf("sine %d of the table is %v", k, sines[k])
		}
	}
	for i := -4000; i <= 4000; i++ {
		x := float64(i) / 137
		s, c := sincos(x)
		if math.Abs(s-math.Sin(x)) > 1e-14 || math.Abs(c-math.Cos(x)) > 1e-14 {
			t.Fatalf("sincos(%v) = %v, %v; want %v, %v", x, s, c, math.Sin(x), math.Cos(x))
		}
		if d := math.Abs(sine(x) - math.Sin(2*math.Pi*x)); d > 1.3e-3 {
			t.Fatalf("sine(%v) is %.2g off", x, d)
		}
		if k := float64(i) / 64; math.Abs(sine(k)-math.Sin(2*math.Pi*k)) > 1e-13 {
			t.Fatalf("sine(%v) = %v, which is in the table", k, sine(k))
		}
	}
	for _, v := range []float64{0, 0.1, 0.5, 0.7} {
		if math.Abs(arcsine(v)-math.Asin(v)) > 1e-14 {
			t.Errorf("arcsine(%v) = %v", v, arcsine(v))
		}
	}
	for _, v := range []float64{0, 1.3, -0.7, -1e-6} {
		if s := snap(v); math.Abs(s-v) > grid/2 || s*(1<<16) != math.Round(s*(1<<16)) {
			t.Errorf("snap(%v) = %v", v, s)
		}
	}
}
