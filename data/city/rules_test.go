package city

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
)

// The plan of a tile drawn again from the words of its stream, by the rules of the
// package documentation and nothing of its code but the tables.
func TestDrawingRules(t *testing.T) {
	s := newSet(t, 32)
	for _, c := range []struct {
		split data.Split
		n     int
	}{{data.Train, 40}, {ZeroShot, 10}, {data.Enc, 12}} {
		for i := range c.n {
			r := data.FromKey(data.Mix(data.FNV1a("city/"+string(c.split)+"/v1") ^ data.Mix(1) ^ data.Mix(uint64(i))))
			unit := func() float64 { return float64(r.Uint64()>>11) / (1 << 53) }
			place := map[data.Split]int{data.Train: i % 10, ZeroShot: 10 + i%2, data.Enc: i % 12}[c.split]
			lon := Places[place].Lon - 0.2 + 0.4*unit()
			lat := Places[place].Lat - 0.2 + 0.4*unit()
			n, east := math.Abs(lat)/60, (lon+180)/360
			pitch := 44 - 24*n
			angle := []float64{0, 7.0 / 25, 5.0 / 13, 8.0 / 17, 3.0 / 5, 21.0 / 29}[(int(math.Round(lon/30))+12)%6]
			list := func() []float64 {
				l := []float64{-92 - pitch*unit()}
				for l[len(l)-1] < 92 {
					l = append(l, l[len(l)-1]+pitch*(0.85+0.3*unit()))
				}
				return l
			}
			u := list()
			v := list()
			edge := func(n, m int) (e [][]bool) {
				for range n {
					row := []bool{}
					for range m {
						row = append(row, unit() >= 0.12)
					}
					e = append(e, row)
				}
				return e
			}
			alongV := edge(len(u), len(v)-1)
			alongU := edge(len(v), len(u)-1)
			wideU, wideV := -1, -1
			if unit() < 0.5 {
				closest := func(l []float64, at float64) int {
					best := 0
					for k := range l {
						if math.Abs(l[k]-at) < math.Abs(l[best]-at) {
							best = k
						}
					}
					return best
				}
				if unit() < 0.5 {
					wideV = closest(v, -32+64*unit())
				} else {
					wideU = closest(u, -32+64*unit())
				}
			}
			cos := math.Sqrt(1 - angle*angle)
			var want []Segment
			add := func(u0, v0, u1, v1, w float64) {
				x := func(u, v float64) float64 { return 64 + cos*u - angle*v }
				y := func(u, v float64) float64 { return 64 + angle*u + cos*v }
				g := Segment{x(u0, v0), y(u0, v0), x(u1, v1), y(u1, v1), w}
				// Its four corners, and from them its bounds.
				du, dv := w/2, 0.0
				if v0 == v1 {
					du, dv = 0, w/2
				}
				var xs, ys []float64
				for _, k := range []float64{-1, 1} {
					xs = append(xs, x(u0+k*du, v0+k*dv), x(u1+k*du, v1+k*dv))
					ys = append(ys, y(u0+k*du, v0+k*dv), y(u1+k*du, v1+k*dv))
				}
				if slices.Min(xs) < 128 && slices.Max(xs) > 0 && slices.Min(ys) < 128 && slices.Max(ys) > 0 {
					want = append(want, g)
				}
			}
			width := func(k, wide int) float64 {
				if k == wide {
					return 12
				}
				return 6
			}
			for a := range u {
				for b := range len(v) - 1 {
					if alongV[a][b] || a == wideU {
						add(u[a], v[b]-width(b, wideV)/2, u[a], v[b+1]+width(b+1, wideV)/2, width(a, wideU))
					}
				}
			}
			for b := range v {
				for a := range len(u) - 1 {
					if alongU[b][a] || b == wideV {
						add(u[a]-width(a, wideU)/2, v[b], u[a+1]+width(a+1, wideU)/2, v[b], width(b, wideV))
					}
				}
			}
			tile := s.At(c.split, i)
			if tile.City != place || math.Abs(tile.Lon-lon) > 1e-12 || math.Abs(tile.Lat-lat) > 1e-12 || len(tile.Roads) != len(want) {
				t.Fatalf("%s %d: city %d at (%g, %g) with %d roads; want city %d at (%g, %g) with %d", c.split, i, tile.City, tile.Lon, tile.Lat, len(tile.Roads), place, lon, lat, len(want))
			}
			for k, g := range tile.Roads {
				w := want[k]
				if d := math.Abs(g.X0-w.X0) + math.Abs(g.Y0-w.Y0) + math.Abs(g.X1-w.X1) + math.Abs(g.Y1-w.Y1); d > 1e-9 || g.Width != w.Width {
					t.Fatalf("%s %d: road %d is %v, want %v", c.split, i, k, g, w)
				}
			}
			// Land: theme, then of each free block its sizes, the coin of the theme and a use.
			uses := []float64{0.50, 0.18, 0.12, 0.12, 0.08}
			pick := func(w []float64) int {
				x := unit()
				for k, p := range w {
					if x -= p; x < 0 {
						return k
					}
				}
				return len(w) - 1
			}
			theme := pick([]float64{0.40, 0.25, 0.15, 0.12, 0.08})
			land := map[[2]int]int{}
			for b := range len(v) - 1 {
				for a := range len(u) - 1 {
					if _, taken := land[[2]int{a, b}]; taken {
						continue
					}
					wa, wb := 1+int(r.Uint64()%2), 1+int(r.Uint64()%2)
					themed := unit() < 0.45
					use := pick(uses)
					if themed {
						use = theme
					}
					if _, taken := land[[2]int{a + 1, b}]; taken {
						wa = 1
					}
					for da := range wa {
						for db := range wb {
							land[[2]int{a + da, b + db}] = use
						}
					}
				}
			}
			for py := range 32 {
				for px := range 32 {
					dx, dy := float64(4*px+2)-64, float64(4*py+2)-64
					at := func(l []float64, x float64) int {
						k := 0
						for l[k+1] <= x {
							k++
						}
						return k
					}
					if want := land[[2]int{at(u, cos*dx+angle*dy), at(v, cos*dy-angle*dx)}]; int(tile.Land.At(px, py)) != want {
						t.Fatalf("%s %d: pixel (%d, %d) has use %d, want %d", c.split, i, px, py, tile.Land.At(px, py), want)
					}
				}
			}
			style := tile.Style()
			if math.Abs(style.Setback-(0.5+5.5*(1-n)*(0.25+0.75*east))) > 1e-12 || math.Abs(style.Depth-(8+8*4*east*(1-east))) > 1e-12 ||
				math.Abs(style.Perimeter-(0.1+0.8*(lat+90)/180)) > 1e-12 || math.Abs(style.Courtyard-(0.3+0.6*east)) > 1e-12 || math.Abs(style.Vacancy-(0.25-0.2*east)) > 1e-12 {
				t.Fatalf("%s %d: style %+v", c.split, i, style)
			}
		}
	}
}

// Buildings by the rules, in the frame of the grid: each in the lot of its block,
// of a size that its use allows, and as many missing as the style says.
func TestBuildingRules(t *testing.T) {
	s := newSet(t, 32)
	var lots, vacant, expected float64
	for i := range 400 {
		tile := s.At(data.Ref, i)
		p, style := tile.plan, tile.Style()
		type key struct{ i, j int }
		boxes := map[key][]block{}
		holes := map[key]int{}
		for _, poly := range tile.Buildings {
			b := block{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)}
			frame := func(q geom.Point) (u, v float64) {
				return style.Cos*(q.X-64) + style.Sin*(q.Y-64), style.Cos*(q.Y-64) - style.Sin*(q.X-64)
			}
			for k, q := range poly[0] {
				u, v := frame(q)
				b = block{min(b.u0, u), min(b.v0, v), max(b.u1, u), max(b.v1, v)}
				u2, v2 := frame(poly[0][(k+1)%len(poly[0])])
				if math.Abs(u-u2) > 1e-9 && math.Abs(v-v2) > 1e-9 {
					t.Fatalf("tile %d: a wall runs askew", i)
				}
			}
			at := key{cell(p.u, (b.u0+b.u1)/2), cell(p.v, (b.v0+b.v1)/2)}
			boxes[at] = append(boxes[at], b)
			if len(poly) == 2 {
				holes[at]++
			}
		}
		for at, list := range boxes {
			front := func(half float64, road bool) float64 {
				if road {
					return half + style.Setback
				}
				return half
			}
			lot := block{
				p.u[at.i] + front(p.uHalf[at.i], p.uRoad[at.i][at.j]), p.v[at.j] + front(p.vHalf[at.j], p.vRoad[at.j][at.i]),
				p.u[at.i+1] - front(p.uHalf[at.i+1], p.uRoad[at.i+1][at.j]), p.v[at.j+1] - front(p.vHalf[at.j+1], p.vRoad[at.j+1][at.i]),
			}
			use := p.land[at.i][at.j]
			for k, b := range list {
				if b.u0 < lot.u0-1e-9 || b.v0 < lot.v0-1e-9 || b.u1 > lot.u1+1e-9 || b.v1 > lot.v1+1e-9 {
					t.Fatalf("tile %d: building %v leaves its lot %v", i, b, lot)
				}
				for _, o := range list[:k] {
					apart := max(o.u0-b.u1, b.u0-o.u1, o.v0-b.v1, b.v0-o.v1)
					if apart < 2-1e-9 {
						t.Fatalf("tile %d: buildings %v and %v are %g m apart", i, b, o, apart)
					}
				}
				if len(list) > 1 && use == Residential {
					w, d := b.u1-b.u0, b.v1-b.v0
					if lot.u1-lot.u0 < lot.v1-lot.v0 {
						w, d = d, w
					}
					if w < 7 || w > 13 || d > style.Depth+1e-9 || d < minSide {
						t.Fatalf("tile %d: a house of %g m by %g m", i, w, d)
					}
				}
			}
			if use == Park || use == Water || use == Industrial && len(list) > 2 || use == Commercial && (len(list) > 1 || holes[at] > 1) {
				t.Fatalf("tile %d: %d buildings in a block for %s", i, len(list), landNames[use])
			}
		}
		// Commercial blocks in the middle of the tile are built on or vacant as a whole.
		for a := range len(p.u) - 1 {
			for b := range len(p.v) - 1 {
				l := p.lot(a, b)
				if p.land[a][b] == Commercial && l.u1-l.u0 > 6 && l.v1-l.v0 > 6 && math.Hypot(max(-l.u0, l.u1), max(-l.v0, l.v1)) < 64 {
					lots++
					expected += style.Vacancy
					if len(boxes[key{a, b}]) == 0 {
						vacant++
					}
				}
			}
		}
	}
	if d := math.Abs(vacant-expected) / math.Sqrt(expected); d > 5 || lots < 500 {
		t.Errorf("%g of %g commercial blocks are vacant, want about %.0f", vacant, lots, expected)
	}
}

// Shares of many tiles, against the rules' chances by five standard errors.
func TestChances(t *testing.T) {
	s := newSet(t, 32)
	var gone, edges, major float64
	const n = 400
	for i := range n {
		p := s.At(data.Train, i).plan
		wide := false
		for _, line := range p.uRoad {
			for _, there := range line {
				edges++
				if !there {
					gone++
				}
			}
		}
		for _, h := range append(slices.Clone(p.uHalf), p.vHalf...) {
			wide = wide || h == 6
		}
		if wide {
			major++
		}
		for k := range p.u[1:] {
			if d := (p.u[k+1] - p.u[k]) / p.style.Pitch; d < 0.85 || d > 1.15 {
				t.Fatalf("tile %d: a pitch of %g times the style's", i, d)
			}
		}
	}
	// The major road restores the edges of one line in half of the tiles.
	if f := gone / edges; f < 0.105 || f > 0.121 {
		t.Errorf("%.4f of the edges along v are missing; want a little less than 0.12", f)
	}
	if d := math.Abs(major-n/2) / math.Sqrt(n/4); d > 5 {
		t.Errorf("%g of %d tiles have a major road", major, n)
	}
}
