package street

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
)

func newSet(t *testing.T, o Options) *Set {
	t.Helper()
	s, err := New(data.DefaultSeed, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newClips(t *testing.T) *Clips {
	t.Helper()
	s, err := NewClips(data.DefaultSeed, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The hashes were made by this package; the tests of the rules and of the pictures
// are what says that they are right.
func TestGoldenHashes(t *testing.T) {
	s, c := newSet(t, Options{}), newClips(t)
	cases := 0
	for _, set := range []struct {
		served data.Served
		want   map[data.Split]string
	}{
		{data.Serve(s, s.check), golden},
		{data.Serve(c, c.check), goldenClips},
	} {
		for _, split := range set.served.Splits() {
			got, err := data.Hash(t.Context(), set.served, split, min(data.GoldenItems, set.served.Len(split)))
			if err != nil {
				t.Fatal(err)
			}
			cases++
			if got != set.want[split] {
				t.Errorf("%s %s: %s, want %s: the generator changed; a change is a new version", set.served.Name(), split, got, set.want[split])
			}
		}
	}
	if cases != 7 {
		t.Errorf("%d splits were hashed, want 7", cases)
	}
}

// The first draws of an item again from the words of its stream, and the ground and
// the lanes that follow from them.
func TestDrawingRules(t *testing.T) {
	s := newSet(t, Options{})
	night, crossings := 0, 0
	const n = 300
	for i := range n {
		r := data.FromKey(data.Mix(data.FNV1a("street/test/v1") ^ data.Mix(1) ^ data.Mix(uint64(i))))
		unit := func() float64 { return float64(r.Uint64()>>11) / (1 << 53) }
		pick := func(lo, hi int) int { return lo + int(r.Uint64()%uint64(hi-lo+1)) }
		dark := unit() < 1.0/3
		width := pick(8, 12)
		right := pick(2, 4)
		walkR := pick(2, 3)
		walkL := pick(2, 3)
		cross, cx, cw := unit() < 0.4, 0, 0
		if cross {
			crossings++
			cw = pick(8, 10)
			if unit() < 0.5 {
				cx = pick(4, 8)
			} else {
				cx = -pick(4, 6) - cw
			}
		}
		speed := pick(0, 2)
		f := s.At(data.Test, i)
		if dark {
			night++
		}
		if f.Night != dark || s.world(data.Test, i).speed != speed {
			t.Fatalf("item %d: night %v, want %v", i, f.Night, dark)
		}
		for x := -16; x < 16; x++ {
			for y := -16; y < 16; y++ {
				want := Grass
				if y >= -right-walkR && y < width-right+walkL || cross && x >= cx-2 && x < cx+cw+2 {
					want = Sidewalk
				}
				if y >= -right && y < width-right || cross && x >= cx && x < cx+cw {
					want = Road
				}
				if got := f.Occ[x+16][y+16][0]; got != want {
					t.Fatalf("item %d: the ground at (%d, %d) is %s, want %s", i, x, y, ClassNames[got], ClassNames[want])
				}
			}
		}
		lines := [][2]float64{{-16, float64(-right)}, {-16, float64(width-2*right) / 2}, {-16, float64(width - right)}}
		if cross && cx < 16 && cx+cw > -16 {
			lines = append(lines, [2]float64{float64(cx), -16}, [2]float64{float64(cx) + float64(cw)/2, -16}, [2]float64{float64(cx + cw), -16})
		}
		if len(lines) != len(f.Lanes) {
			t.Fatalf("item %d: %d lanes, want %d", i, len(f.Lanes), len(lines))
		}
		for k, l := range f.Lanes {
			end := geom.Point{X: 16, Y: lines[k][1]}
			if k >= 3 {
				end = geom.Point{X: lines[k][0], Y: 16}
			}
			if l[0] != (geom.Point{X: lines[k][0], Y: lines[k][1]}) || l[7] != end || math.Abs(l[1].X-l[0].X+l[1].Y-l[0].Y-32.0/7) > 1e-12 {
				t.Fatalf("item %d: lane %d is %v", i, k, l)
			}
		}
	}
	for _, c := range []struct {
		what string
		got  int
		p    float64
	}{{"nights", night, 1.0 / 3}, {"crossings", crossings, 0.4}} {
		if d := math.Abs(float64(c.got)-n*c.p) / math.Sqrt(n*c.p*(1-c.p)); d > 5 {
			t.Errorf("%d of %d %s", c.got, n, c.what)
		}
	}
}

// What stands in the street, and where, by the rules.
func TestBoxes(t *testing.T) {
	s := newSet(t, Options{})
	var kind [Classes]float64
	count := map[int]int{}
	total, walking, walkers := 0.0, 0.0, 0.0
	for i := range 600 {
		f := s.At(data.Train, i)
		count[len(f.Boxes)]++
		left := f.Ids
		for k, b := range f.Boxes {
			total++
			kind[b.Cls]++
			if want := sizes[b.Cls]; [3]int{b.L, b.W, b.H} != want || int(b.Inst) != k+1 || b.Cz != float64(b.H)/2 {
				t.Fatalf("frame %d: box %+v", i, b)
			}
			if d := math.Hypot(b.Cx, b.Cy); d < 3 || d > 15 {
				t.Fatalf("frame %d: box %d is %g m away", i, k, d)
			}
			if b.Cls == Pedestrian && (b.Tint != 0 || max(b.Vx, -b.Vx)+max(b.Vy, -b.Vy) > 1) || b.Tint > 4 || max(b.Vx, -b.Vx, b.Vy, -b.Vy) > 3 {
				t.Fatalf("frame %d: box %+v", i, b)
			}
			low, high := b.Corners()
			for x := int(low.X) + 16; x < int(high.X)+16; x++ {
				for y := int(low.Y) + 16; y < int(high.Y)+16; y++ {
					under := f.Occ[x][y][0]
					if b.Cls != Pedestrian && under != Road || under == Grass {
						t.Fatalf("frame %d: a %s stands on %s", i, ClassNames[b.Cls], ClassNames[under])
					}
					for z := range NZ {
						in := z >= 1 && z <= b.H
						if (f.Ids[x][y][z] == b.Inst) != in || in && f.Occ[x][y][z] != b.Cls {
							t.Fatalf("frame %d: voxel (%d, %d, %d) of box %d is %d of %d", i, x, y, z, k, f.Occ[x][y][z], f.Ids[x][y][z])
						}
						left[x][y][z] = 0
					}
				}
			}
			if b.Cls == Pedestrian {
				walkers++
				if b.Vy == 0 {
					walking++
				}
			}
			// Right-hand traffic: the road's right half goes forward.
			middle := f.Lanes[1][0].Y
			if b.Cls != Pedestrian && b.Yaw == 0 && (b.Cy < middle && b.Vx < 0 || b.Cy > middle && b.Vx > 0 || b.Vy != 0) {
				t.Fatalf("frame %d: box %+v drives on the wrong side", i, b)
			}
		}
		if left != (Grid{}) {
			t.Fatalf("frame %d: voxels of no box carry a number", i)
		}
		for x := range NX {
			for y := range NY {
				for z := 1; z < NZ; z++ {
					cls, below := f.Occ[x][y][z], f.Occ[x][y][z-1]
					if cls == Road || cls == Sidewalk || cls == Grass || cls != Empty && z > 1 && below != cls {
						t.Fatalf("frame %d: %s above %s at (%d, %d, %d)", i, ClassNames[cls], ClassNames[below], x, y, z)
					}
					if cls == Tree && f.Occ[x][y][0] != Sidewalk || cls == Building && f.Occ[x][y][0] != Grass {
						t.Fatalf("frame %d: %s on %s", i, ClassNames[cls], ClassNames[f.Occ[x][y][0]])
					}
				}
			}
		}
	}
	for n := range count {
		if n < 2 || n > 8 {
			t.Errorf("%d frames have %d boxes", count[n], n)
		}
	}
	// Cars and trucks find a place less often than pedestrians.
	for cls, want := range map[uint8]float64{Car: 0.6, Truck: 0.15, Pedestrian: 0.25} {
		if got := kind[cls] / total; math.Abs(got-want) > 0.05 {
			t.Errorf("%.3f of the boxes are %ss, want about %.2f", got, ClassNames[cls], want)
		}
	}
	if f := walking / walkers; f < 0.75 || f > 0.98 {
		t.Errorf("%.3f of the pedestrians keep to the sidewalk", f)
	}
}

func TestClips(t *testing.T) {
	s := newClips(t)
	moved := 0
	for i := range 60 {
		c := s.At(data.Test, i)
		for k := 1; k < Frames; k++ {
			f, g := c.Frames[k-1], c.Frames[k]
			// What does not move is the same, speed columns further back.
			for x := range NX - c.Speed {
				for y := range NY {
					for z := range NZ {
						a, b := f.Occ[x+c.Speed][y][z], g.Occ[x][y][z]
						if a > Pedestrian && b > Pedestrian && a != b || a > Pedestrian && b == Empty || a == Empty && b > Pedestrian {
							t.Fatalf("clip %d, frame %d: voxel (%d, %d, %d) was %d and is %d", i, k, x, y, z, a, b)
						}
					}
				}
			}
			for _, b := range g.Boxes {
				n := slices.IndexFunc(f.Boxes, func(o Box) bool { return o.Inst == b.Inst })
				if n < 0 {
					continue
				}
				a := f.Boxes[n]
				if b.Cx != a.Cx+float64(a.Vx-c.Speed) || b.Cy != a.Cy+float64(a.Vy) || b.Vx != a.Vx || b.Tint != a.Tint {
					t.Fatalf("clip %d, frame %d: box %+v was %+v", i, k, b, a)
				}
				if a.Vx != 0 || a.Vy != 0 {
					moved++
				}
				// No two boxes meet.
				for _, o := range g.Boxes {
					l0, h0 := b.Corners()
					l1, h1 := o.Corners()
					if o.Inst < b.Inst && l0.X < h1.X && h0.X > l1.X && l0.Y < h1.Y && h0.Y > l1.Y {
						t.Fatalf("clip %d, frame %d: boxes %d and %d meet", i, k, b.Inst, o.Inst)
					}
				}
			}
			// The camera is in the open.
			for x := -1; x < 1; x++ {
				for y := -1; y < 1; y++ {
					if g.Occ[x+16][y+16][2] != Empty {
						t.Fatalf("clip %d, frame %d: %s at the camera", i, k, ClassNames[g.Occ[x+16][y+16][2]])
					}
				}
			}
		}
		// The texture stays with its voxel: one colour for voxel, face and light.
		colors := map[[5]int][3]uint8{}
		for k, f := range c.Frames {
			for v := range f.Views {
				w := &f.Views[v]
				for p, at := range w.voxel {
					if w.Cls.IDs[p] <= Pedestrian {
						continue
					}
					key := [5]int{int(at[0]) + k*c.Speed, int(at[1]), int(at[2]), int(w.axis[p]), 0}
					got := [3]uint8(w.Pix[3*p:])
					if was, ok := colors[key]; ok && was != got {
						t.Fatalf("clip %d, frame %d: voxel %v is %v, was %v", i, k, key, got, was)
					}
					colors[key] = got
				}
			}
		}
	}
	if moved < 500 {
		t.Errorf("only %d moves", moved)
	}
	first := s.At(data.Train, 0)
	if c, w := first.Frames[0], s.world(data.Train, 0).frame(0, 1); !slices.Equal(c.Bytes(), w.Bytes()) {
		t.Error("the first frame of a clip is not the frame of its world")
	}
}

// Pictures from the voxels without any walk: every solid voxel is cut with the ray,
// and the nearest entry counts.
func TestPicturesByBruteForce(t *testing.T) {
	s := newSet(t, Options{})
	for i := range 4 {
		f := s.At(data.Val, i)
		for v, c := range Cameras(1) {
			for p := range Rows * Columns {
				// The ray by hand: forward, right and down of each view.
				fwd, rgt := [4][2]float64{{1, 0}, {0, -1}, {-1, 0}, {0, 1}}[v], [4][2]float64{{0, -1}, {-1, 0}, {0, 1}, {1, 0}}[v]
				a, b := (float64(p%Columns)+0.5-16)/16, (float64(p/Columns)+0.5-8)/16
				d := [3]float64{fwd[0] + a*rgt[0], fwd[1] + a*rgt[1], -b}
				best, cls, inst := math.Inf(1), Empty, uint8(0)
				for x := range NX {
					for y := range NY {
						for z := range NZ {
							if f.Occ[x][y][z] == Empty {
								continue
							}
							enter, leave := 0.0, math.Inf(1)
							for ax, o := range [3]float64{0, 0, 1.5} {
								low := float64([3]int{x - 16, y - 16, z - 1}[ax])
								s0, s1 := (low-o)/d[ax], (low+1-o)/d[ax]
								enter, leave = max(enter, min(s0, s1)), min(leave, max(s0, s1))
							}
							if enter < leave && enter < best {
								best, cls, inst = enter, f.Occ[x][y][z], f.Ids[x][y][z]
							}
						}
					}
				}
				w := &f.Views[v]
				depth := float32(best)
				if cls == Empty {
					depth = 0
				}
				if w.Cls.IDs[p] != cls || w.Inst.IDs[p] != inst || math.Abs(float64(w.Depth[p]-depth)) > 1e-6 {
					t.Fatalf("frame %d, %s, pixel %d: class %d of box %d at %g m; want %d of %d at %g", i, ViewNames[v], p, w.Cls.IDs[p], w.Inst.IDs[p], w.Depth[p], cls, inst, depth)
				}
			}
			_ = c
		}
	}
}

// Depth of a box's pixels is the analytic distance of the box, and its pixels lie in
// the outline of its corners.
func TestBoxesInPictures(t *testing.T) {
	for _, scale := range []int{1, 4} {
		s := newSet(t, Options{Scale: scale})
		pixels := 0
		for i := range 100 / scale {
			f := s.At(data.Test, i)
			for _, b := range f.Boxes {
				low, high := b.Corners()
				for v := range f.Views {
					w, c := &f.Views[v], &f.Cams[v]
					if err := c.Check(); err != nil {
						t.Fatal(err)
					}
					outline := geom.Polygon{c.Outline(geom.Corners(low, high), 1e-3)}
					for p, k := range w.Inst.IDs {
						if k != b.Inst {
							continue
						}
						pixels++
						at := geom.Point{X: float64(p%w.W) + 0.5, Y: float64(p/w.W) + 0.5}
						if !outline.Contains(at) {
							t.Fatalf("scale %d, frame %d, %s: pixel %v of box %d is outside of its outline %v", scale, i, ViewNames[v], at, k, outline)
						}
						o, d := c.Ray(at.X, at.Y)
						enter := 0.0
						for ax := range 3 {
							if d.At(ax) != 0 {
								s0, s1 := (low.At(ax)-o.At(ax))/d.At(ax), (high.At(ax)-o.At(ax))/d.At(ax)
								enter = max(enter, min(s0, s1))
							}
						}
						if math.Abs(float64(w.Depth[p])-enter) > 1e-6*enter {
							t.Fatalf("scale %d, frame %d, %s: pixel %v of box %d is %g m deep, the box %g", scale, i, ViewNames[v], at, k, w.Depth[p], enter)
						}
					}
				}
			}
		}
		if pixels < 5000 {
			t.Errorf("scale %d: only %d pixels of boxes", scale, pixels)
		}
	}
}

// No two items of any split share their draws, and no two frames what stands in
// their street.
func TestSplitsAreApart(t *testing.T) {
	s, c := newSet(t, Options{}), newClips(t)
	seen := map[[3]uint64]string{}
	total := 0
	for _, g := range []*generator{&s.generator, &c.generator} {
		for _, split := range g.Splits() {
			for i := range g.Len(split) {
				r := data.NewStream(g.set, split, version, g.seed, uint64(i))
				k := [3]uint64{r.Uint64(), r.Uint64(), r.Uint64()}
				if was := seen[k]; was != "" {
					t.Fatalf("%s %s %d has the draws of one of %s", g.set, split, i, was)
				}
				seen[k] = g.set + string(split)
				total++
			}
		}
	}
	if total != 6824+700 {
		t.Errorf("%d items, want 7524", total)
	}
	streets := map[[2][worldX][NY]uint8]string{}
	for _, split := range s.Splits() {
		for i := range s.Len(split) {
			w := s.world(split, i)
			k := [2][worldX][NY]uint8{w.floor, w.solid}
			if was := streets[k]; was != "" {
				t.Fatalf("%s %d has the street of one of %s", split, i, was)
			}
			streets[k] = string(split)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	s, err := New(1, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		s.At(data.Train, i%3000)
	}
}
