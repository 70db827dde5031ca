package city

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

func newSet(t *testing.T, size int) *Set {
	t.Helper()
	s, err := New(data.DefaultSeed, size)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The hashes were made by this package; TestDrawingRules and the tests of the
// truth are what says that they are right.
func TestGoldenHashes(t *testing.T) {
	s := newSet(t, 32)
	served := data.Serve(s, s.check)
	if len(golden) != len(splits) {
		t.Errorf("%d hashes, %d splits", len(golden), len(splits))
	}
	for _, split := range s.Splits() {
		got, err := data.Hash(t.Context(), served, split, data.GoldenItems)
		if err != nil {
			t.Fatal(err)
		}
		if got != golden[split] {
			t.Errorf("%s: %s, want %s: the generator changed; a change is a new version", split, got, golden[split])
		}
	}
}

func TestRanges(t *testing.T) {
	for _, p := range Places {
		if err := CheckPlace(p.Lon, p.Lat); err != nil {
			t.Error(err)
		}
		// No tile of a city lies across a step of the angle.
		if d := math.Abs(p.Lon/30 - math.Round(p.Lon/30)); d > 0.4 {
			t.Errorf("%s is %.2f of 30° from its angle", p.Name, d)
		}
		s := StyleAt(p.Lon, p.Lat)
		if s.Pitch < 20 || s.Pitch > 44 || s.Depth < 8 || s.Depth > 16 || s.Setback < 0 || s.Setback > 6 || s.Vacancy < 0.05 || s.Vacancy > 0.25 ||
			s.Perimeter < 0 || s.Perimeter > 1 || s.Courtyard < 0 || s.Courtyard > 1 || math.Abs(s.Cos*s.Cos+s.Sin*s.Sin-1) > 1e-15 {
			t.Errorf("%s: style %+v out of range", p.Name, s)
		}
	}
	if a, b := StyleAt(10, 20).Pitch, StyleAt(10, -50).Pitch; a <= b {
		t.Errorf("pitch %g at 20°, %g at −50°: it falls with |lat|", a, b)
	}
	for i, want := range []float64{0, 16.3, 22.6, 28.1, 36.9, 46.4} {
		if got := StyleAt(float64(30*i), 0).Angle(); math.Abs(got-want) > 0.05 {
			t.Errorf("angle %d is %.2f°, want %.1f°", i, got, want)
		}
	}
	if StyleAt(-60, 0).Angle() != StyleAt(120, 0).Angle() {
		t.Error("round(lon/30) mod 6 of a negative longitude")
	}
}

func TestTruth(t *testing.T) {
	for size, n := range map[int]int{32: 300, 256: 6} {
		s := newSet(t, size)
		buildings, holes, ells := 0, 0, 0
		for i := range n {
			tile := s.At(data.Test, i)
			for k, v := range tile.Building.IDs {
				if v == 0 {
					continue
				}
				if tile.Road.IDs[k] != NoRoad {
					t.Fatalf("size %d, tile %d: pixel %d is building and road", size, i, k)
				}
				if use := tile.Land.IDs[k]; use == Park || use == Water {
					t.Fatalf("size %d, tile %d: pixel %d is building in a %s", size, i, k, landNames[use])
				}
			}
			for k, p := range tile.Buildings {
				if err := p.Check(); err != nil {
					t.Fatalf("tile %d, building %d: %v", i, k, err)
				}
				if p.Area() < 30-1e-9 {
					t.Fatalf("tile %d, building %d has %g m²", i, k, p.Area())
				}
				buildings++
				if len(p) == 2 {
					holes++
				}
				if len(p[0]) == 6 {
					ells++
				}
				for _, r := range tile.Roads {
					road := r.Poly()
					for _, q := range p[0] {
						if shrunk(road).Contains(q) {
							t.Fatalf("tile %d: building %d reaches into the road %v", i, k, r)
						}
					}
					for _, q := range road[0] {
						if shrunk(p).Contains(q) && !(len(p) == 2) {
							t.Fatalf("tile %d: the road %v reaches into building %d", i, r, k)
						}
					}
				}
			}
			for _, p := range append(slices.Clone(tile.Parcels), tile.LandUse[0].Poly) {
				if err := p.Check(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if size == 32 && (holes < buildings/200 || ells < buildings/20) {
			t.Errorf("of %d buildings %d have a courtyard, %d are an L", buildings, holes, ells)
		}
	}
}

// shrunk moves the points of the outline a little towards their mean, so that
// touching does not count.
func shrunk(p geom.Polygon) geom.Polygon {
	var m geom.Point
	for _, q := range p[0] {
		m.X += q.X / float64(len(p[0]))
		m.Y += q.Y / float64(len(p[0]))
	}
	r := make(geom.Ring, len(p[0]))
	for i, q := range p[0] {
		r[i] = geom.Point{X: q.X + (m.X-q.X)*1e-9, Y: q.Y + (m.Y-q.Y)*1e-9}
	}
	return geom.Polygon{r}
}

// The raster at 4 m against that at 0.5 m of the same buildings: pixels that no
// edge crosses agree, and the areas differ by less than half a pixel an edge pixel.
func TestRasterAtEightTimes(t *testing.T) {
	coarse := newSet(t, 32)
	for i := range 30 {
		tile := coarse.At(data.Val, i)
		fine := rasterBuildings(tile.Buildings, 256)
		edge := 0.0
		for _, p := range tile.Buildings {
			for _, r := range p {
				for k, a := range r {
					b := r[(k+1)%len(r)]
					edge += math.Hypot(a.X-b.X, a.Y-b.Y) / 4
				}
			}
		}
		off := 0.0
		for y := range 32 {
			for x := range 32 {
				n := 0
				for k := range 64 {
					n += int(fine.At(8*x+k%8, 8*y+k/8))
				}
				v := tile.Building.At(x, y)
				off += math.Abs(float64(n)/64 - float64(v))
				if n == 0 && v == 1 || n == 64 && v == 0 {
					t.Fatalf("tile %d: pixel (%d, %d) is %d, of its 64 parts %d are building", i, x, y, v, n)
				}
			}
		}
		if off > edge/2 {
			t.Errorf("tile %d: %g pixels off over %g pixels of edge", i, off, edge)
		}
	}
}

func TestAgain(t *testing.T) {
	s := newSet(t, 32)
	for i := range 20 {
		tile := s.At(data.Test, i)
		same, other := tile.Again(0), tile.Again(1)
		if !slices.Equal(same.Bytes(), tile.Bytes()) {
			t.Fatalf("tile %d: layout 0 is another", i)
		}
		if !slices.Equal(other.Road.IDs, tile.Road.IDs) || !slices.Equal(other.Land.IDs, tile.Land.IDs) || len(other.Roads) != len(tile.Roads) {
			t.Fatalf("tile %d: layout 1 has another plan", i)
		}
		if len(tile.Buildings) > 3 && slices.Equal(other.Building.IDs, tile.Building.IDs) {
			t.Errorf("tile %d: layout 1 has the same buildings", i)
		}
	}
}

// No two tiles of any split share a plan.
func TestSplitsAreApart(t *testing.T) {
	s := newSet(t, 32)
	seen := map[[4]float64]string{}
	total := 0
	for _, split := range s.Splits() {
		for i := range s.Len(split) {
			r := data.NewStream(name, split, version, s.seed, uint64(i))
			k := [4]float64{r.Float64(), r.Float64(), r.Float64(), r.Float64()}
			if was := seen[k]; was != "" {
				t.Fatalf("%s %d has the draws of one of %s", split, i, was)
			}
			seen[k] = string(split)
			total++
		}
	}
	if total != 28096 {
		t.Errorf("%d tiles in all splits, want 28096", total)
	}
	// And what is drawn differs too, over the items that a proof of the set uses.
	maps := map[string]string{}
	for _, split := range s.Splits() {
		for i := range 300 {
			tile := s.At(split, i)
			key := string(tile.Road.IDs) + string(tile.Land.IDs) + string(tile.Building.IDs)
			if was := maps[key]; was != "" {
				t.Fatalf("%s %d draws the same as one of %s", split, i, was)
			}
			maps[key] = string(split)
		}
	}
	other, err := New(2, 32)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(other.At(data.Test, 0).Bytes(), s.At(data.Test, 0).Bytes()) {
		t.Error("seeds 1 and 2 draw the same tile")
	}
}

func TestItem(t *testing.T) {
	s := newSet(t, 32)
	tile := s.At(data.Test, 3)
	x, c, h, w := tile.Tensor()
	if c != 1 || h != 32 || w != 32 {
		t.Fatalf("tensor [%d, %d, %d]", c, h, w)
	}
	for i, v := range x {
		if v != float32(2*int(tile.Building.IDs[i])-1) {
			t.Fatalf("value %d is %g", i, v)
		}
	}
	pics := tile.Pictures()
	back, err := Read(pics[0].Image, Threshold)
	if err != nil || !slices.Equal(back.IDs, tile.Building.IDs) {
		t.Errorf("footprints come back otherwise (%v)", err)
	}
	road, err := RoadLegend.Read(pics[1].Image)
	if err != nil || !slices.Equal(road.IDs, tile.Road.IDs) || pics[1].Name != "road" {
		t.Errorf("roads come back otherwise (%v)", err)
	}
	land, err := LandLegend.Read(pics[2].Image)
	if err != nil || !slices.Equal(land.IDs, tile.Land.IDs) || pics[2].Name != "land" {
		t.Errorf("land use comes back otherwise (%v)", err)
	}
	for i := range 24 {
		if s.Label(data.Train, i) >= Seen || s.Label(ZeroShot, i) < Seen || s.Label(data.Enc, i) != i%12 {
			t.Errorf("item %d: cities %d, %d, %d", i, s.Label(data.Train, i), s.Label(ZeroShot, i), s.Label(data.Enc, i))
		}
	}
	big := newSet(t, 256).At(data.Test, 3)
	if big.Caption != tile.Caption || len(big.Buildings) != len(tile.Buildings) || big.Building.W != 256 {
		t.Error("the truth depends on the size")
	}
}

func TestBadInput(t *testing.T) {
	for _, size := range []int{0, 16, 33, 512} {
		if _, err := New(1, size); err == nil || !strings.Contains(err.Error(), "want") || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	for _, c := range [][2]float64{{180.1, 0}, {0, -90.5}, {math.NaN(), 0}, {0, math.Inf(1)}} {
		if err := CheckPlace(c[0], c[1]); err == nil || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("place %v: %v", c, err)
		}
	}
	for o, want := range map[string]string{"size=48": "size 48", "size=big": "size=big", "size=32x": "size=32x", "sise=32": "did you mean size"} {
		k, v, _ := strings.Cut(o, "=")
		if _, err := Entry.Open(1, map[string]string{k: v}); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%s: error %v, want one with %q", o, err, want)
		}
	}
	if s, err := Entry.Open(1, map[string]string{"size": "64"}); err != nil || s.Len(ZeroShot) != 1000 {
		t.Errorf("size=64: %v", err)
	}
	s := newSet(t, 32)
	if _, err := data.Get[*Tile](s, "zeroshot", 0); err == nil || !strings.Contains(err.Error(), "zero-shot") {
		t.Errorf("split: %v", err)
	}
	if _, err := data.Get[*Tile](s, ZeroShot, 1000); err == nil {
		t.Error("index 1000 of zero-shot: no error")
	}
	small := label.New(16, 16)
	if _, err := Measure(small, label.New(32, 32)); err == nil {
		t.Error("maps of two sizes: no error")
	}
}

func BenchmarkTile(b *testing.B) {
	s, err := New(1, 32)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		s.At(data.Train, i%12000)
	}
}
