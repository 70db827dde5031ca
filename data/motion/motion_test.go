package motion

import (
	"crypto/sha256"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	kin "github.com/fidlab/fidlab/motion"
)

var splits = []data.Split{data.Train, data.Val, data.Test, data.Ref, data.Enc}

func TestGoldenHashes(t *testing.T) {
	s, err := Entry.Open(data.DefaultSeed, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for i, split := range splits {
		runtime.GOMAXPROCS(1 + i) // the hash is the same on any number of threads
		got, err := data.Hash(t.Context(), s, split, data.GoldenItems)
		if err != nil || got != Entry.Golden[split] {
			t.Errorf("%s: %s, %v; want %s: a change of the generator is a new version", split, got, err, Entry.Golden[split])
		}
	}
}

// each runs f on the first n items of every split, or on all.
func each(t *testing.T, n int, f func(split data.Split, i int, it *Item, truth Truth)) {
	t.Helper()
	s := New(data.DefaultSeed)
	for _, split := range splits {
		for i := range min(n, s.Len(split)) {
			it := s.At(split, i)
			f(split, i, it, it.Known())
		}
	}
}

// TestDrawingRules: ranges of every parameter, bands that are never drawn, and
// shares within five standard errors, over the whole of the set.
func TestDrawingRules(t *testing.T) {
	kinds, n := map[string]int{}, 0
	shares := map[string][3]float64{} // hits, of, chance
	share := func(name string, hit bool, chance float64) {
		v := shares[name]
		if hit {
			v[0]++
		}
		shares[name] = [3]float64{v[0], v[1] + 1, chance}
	}
	within := func(name string, v, lo, hi float64) {
		if !(v >= lo && v <= hi) {
			t.Errorf("%s is %v, want %v to %v", name, v, lo, hi)
		}
	}
	lengths := map[int]int{}
	for _, split := range splits {
		for i := range sizes[split] {
			stream := data.NewStream("motion", split, 1, data.DefaultSeed, uint64(i))
			d := draw(&stream)
			n++
			lengths[d.Rows]++
			within("scale", d.Scale, 0.95, 1.05)
			within("rows", float64(d.Rows), 40, 64)
			if d.Rows%4 != 0 {
				t.Errorf("%d rows", d.Rows)
			}
			kind := ""
			for _, c := range d.Clauses {
				kind += c.Action + " "
				alone := len(d.Clauses) == 1
				switch c.Action {
				case "walk":
					within("speed", c.Speed, 0.6, 1.4)
					within("cadence", c.Cadence, 1.6, 2.2)
					within("swing", c.Swing, 0.2, 0.6)
					if math.Abs(c.Speed-0.85) < 0.06 || math.Abs(c.Speed-1.15) < 0.06 {
						t.Errorf("speed %v is in the band", c.Speed)
					}
					share("backward", c.Backward, 0.3)
					share("straight", c.Path == "straight", 0.4)
					share("left", c.Path == "left", 0.3)
					share("slow", c.Speed < 0.85, 0.19/0.56) // of [0.6,1.4] without the bands
					share("quick", c.Speed > 1.15, 0.19/0.56)
					if c.Path == "straight" {
						within("radius", c.Radius, 0, 0)
					} else {
						within("radius", c.Radius, 1.5, 4)
						share("tight", c.Radius < 2.75, 0.5)
					}
					if !alone {
						within("walked", float64(d.Walked), 20, 64)
					}
				case "jump":
					within("height", c.Height, 0.15, 0.45)
					if math.Abs(c.Height-0.3) < 0.02 {
						t.Errorf("height %v is in the band", c.Height)
					}
					share("high", c.Height > 0.3, 0.5)
					share("forward", c.Forward, 0.5)
					if c.Forward {
						within("distance", c.Distance, 0.3, 0.8)
					} else {
						within("distance", c.Distance, 0, 0)
					}
					if alone {
						share("twice", c.Times == 2, 0.5)
					} else {
						within("times", float64(c.Times), 1, 1)
					}
				case "turn":
					share("turn left", c.Side == "left", 0.5)
					for _, a := range []int{90, 180, 360} {
						share("turn by "+string(rune('0'+a/90)), c.Degrees == a, 1.0/3)
					}
				case "wave":
					for _, s := range []string{"left", "right", "both"} {
						share("hand "+s, c.Side == s, 1.0/3)
					}
					if alone {
						within("cycles", float64(c.Cycles), 2, 5)
						share("five cycles", c.Cycles == 5, 0.25)
					} else {
						within("cycles", float64(c.Cycles), 2, 3)
					}
					within("reach", c.Reach, 0.5, 0.8)
					within("period", float64(c.Period), 7, 14)
				}
			}
			kinds[kind]++
		}
	}
	for kind, p := range map[string]float64{
		"walk ": 0.25, "jump ": 0.15, "turn ": 0.15, "wave ": 0.15, "stand ": 0.05, "walk wave ": 0.125, "walk jump ": 0.125,
	} {
		shares[kind] = [3]float64{float64(kinds[kind]), float64(n), p}
	}
	for name, v := range shares {
		if d := math.Abs(v[0]-v[1]*v[2]) / math.Sqrt(v[1]*v[2]*(1-v[2])); !(d < 5) {
			t.Errorf("%s: %v of %v, %.1f standard errors from %v", name, v[0], v[1], d, v[2])
		}
	}
	if n != 15548 || len(kinds) != 7 || len(shares) != 24 {
		t.Errorf("%d items of %d kinds, %d shares", n, len(kinds), len(shares))
	}
	for rows := 40; rows <= 64; rows += 4 {
		if lengths[rows] < n/20 {
			t.Errorf("%d of %d items have %d rows", lengths[rows], n, rows)
		}
	}
}

// TestStreams: the first draws of an item by the rules of the stream, written out:
// the kind's share, the scale and the sway come first.
func TestStreams(t *testing.T) {
	s := New(7)
	for i := range 200 {
		raw := data.FromKey(data.Mix(data.FNV1a("motion/val/v1") ^ data.Mix(7) ^ data.Mix(uint64(i))))
		u := func() float64 { return float64(raw.Uint64()>>11) / (1 << 53) }
		kind, at := u()*100, 0.0
		want := ""
		for k, w := range []float64{25, 15, 15, 15, 5, 12.5, 12.5} {
			if kind >= at {
				want = []string{"walk", "jump", "turn", "wave", "stand", "walk wave", "walk jump"}[k]
			}
			at += w
		}
		truth := s.At(data.Val, i).Known()
		got := truth.Clauses[0].Action
		if len(truth.Clauses) == 2 {
			got += " " + truth.Clauses[1].Action
		}
		if scale, sway := 0.95+u()*(1.05-0.95), u(); got != want || math.Abs(truth.Scale-scale) > 1e-15 || truth.Sway != sway {
			t.Fatalf("item %d: %s, scale %v, sway %v; want %s, %v, %v", i, got, truth.Scale, truth.Sway, want, scale, sway)
		}
	}
}

// TestSplitsApart: no clip is in the set twice, across all splits, whatever its
// parameters and captions are: the joints themselves are hashed.
func TestSplitsApart(t *testing.T) {
	n := 8000
	if testing.Short() {
		n = 200
	}
	seen := map[[sha256.Size]byte]string{}
	each(t, n, func(split data.Split, i int, it *Item, truth Truth) {
		b := it.Bytes()
		h := sha256.Sum256(b[:4*len(it.Joints)])
		name := fmt.Sprint(split, i)
		if other := seen[h]; other != "" {
			t.Errorf("%s moves as %s does", name, other)
		}
		seen[h] = name
	})
	if !testing.Short() && len(seen) != 15548 {
		t.Errorf("%d clips", len(seen))
	}
}

// TestRoundTrip: rows of float32 give the joints back to 1e-4 m over the clip, in
// both layouts; the clips are prepared already.
func TestRoundTrip(t *testing.T) {
	worst := 0.0
	each(t, 40, func(split data.Split, i int, it *Item, truth Truth) {
		for _, l := range []*kin.Layout{kin.HumanML3D, kin.Small} {
			rows := it.Rows(l)
			if len(rows) != truth.Rows*l.Width || it.Len() != truth.Rows {
				t.Fatalf("%s %d: %d numbers for %d rows", split, i, len(rows), truth.Rows)
			}
			joints, err := kin.Recover(l, rows)
			if err != nil {
				t.Fatal(err)
			}
			for k := range joints {
				worst = max(worst, math.Abs(joints[k]-it.Joints[k]))
			}
		}
		prepared, err := kin.HumanML3D.Skeleton.Prepare(it.Joints)
		if err != nil {
			t.Fatal(err)
		}
		for k := range prepared {
			if math.Abs(prepared[k]-it.Joints[k]) > 1e-3 {
				t.Fatalf("%s %d: Prepare moves number %d from %v to %v", split, i, k, it.Joints[k], prepared[k])
			}
		}
	})
	if !(worst < 1e-4) {
		t.Errorf("round trip is %.2g m off, want 1e-4", worst)
	}
	t.Logf("round trip within %.2g m", worst)
}

func TestTensor(t *testing.T) {
	s, err := New(3).WithLayout(kin.Small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		it := s.At(data.Val, i)
		x, c, h, w := it.Tensor()
		if c != 1 || h != 64 || w != 67 || len(x) != 64*67 {
			t.Fatalf("tensor [%d,%d,%d] of %d", c, h, w, len(x))
		}
		mask := it.Mask()
		for r := range 64 {
			if still := zero(x[67*r : 67*r+67]); still == (mask[r] == 1) || (mask[r] == 1) != (r < it.Len()) {
				t.Fatalf("row %d of %d: padding %v, mask %d", r, it.Len(), still, mask[r])
			}
		}
		if !slices.Equal(x[:67*it.Len()], it.Rows(kin.Small)) {
			t.Fatal("the tensor does not begin with the rows")
		}
	}
}

func BenchmarkAt(b *testing.B) {
	s := New(data.DefaultSeed)
	for i := range b.N {
		s.At(data.Train, i%8000)
	}
}

func BenchmarkRows(b *testing.B) {
	it := New(data.DefaultSeed).At(data.Train, 0)
	for range b.N {
		it.Rows(kin.HumanML3D)
	}
}

func BenchmarkRead(b *testing.B) {
	it := New(data.DefaultSeed).At(data.Train, 0)
	for range b.N {
		if _, err := Read(it.Joints); err != nil {
			b.Fatal(err)
		}
	}
}
