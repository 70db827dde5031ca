package facades

import (
	"hash/fnv"
	"math"
	"testing"

	"github.com/fidlab/fidlab/data"
)

// plain is a facade and a crop as TestDrawingRules draws them.
type plain struct {
	wall, window, door                                   Color
	sky                                                  [2]Color
	py, px, k, ww, wh, phy, phx, roof, ground, bay, y, x int
}

// redraw draws a facade that belongs to a split from the words of a stream, and the
// place of a crop.
func redraw(r *data.Stream, number uint64, random bool) (p plain) {
	pick := func(lo, hi int) int { return lo + int(r.Uint64()%uint64(hi-lo+1)) }
	choose := func(ok func(v int) bool) int {
		var all []int
		for v := -200; v < 200; v++ {
			if ok(v) {
				all = append(all, v)
			}
		}
		return all[pick(0, len(all)-1)]
	}
	for {
		p.wall, p.window, p.door, p.sky = walls[pick(0, 7)], windows[pick(0, 5)], doors[pick(0, 3)], skies[pick(0, 3)]
		p.py = pick(4, 8)
		p.px = pick(4, 8)
		p.k = pick(1, 2)
		p.ww = pick(p.px-2, p.px-1)
		p.wh = pick(p.py-3, p.py-2)
		p.phy = pick(0, p.k*p.py-1)
		p.phx = pick(0, p.k*p.px-1)
		boundary := func(y int) bool { return (y-p.phy+100*p.k*p.py)%(p.k*p.py) == 0 }
		p.roof = choose(func(y int) bool { return boundary(y) && y >= 4 && y < 20 })
		p.ground = choose(func(y int) bool { return boundary(y) && y >= 76 && y < 92 })
		p.bay = choose(func(n int) bool { x := p.phx + n*p.k*p.px; return x >= 24 && x+p.ww*p.k <= 72 })
		h := fnv.New64a()
		for _, c := range []Color{p.wall, p.window, p.door} {
			h.Write(c[:])
		}
		h.Write([]byte{byte(p.py), byte(p.px), byte(p.phy), byte(p.phx), byte(p.ww), byte(p.wh), byte(p.bay), byte(p.roof), byte(p.ground)})
		h.Write(p.sky[0][:])
		h.Write(p.sky[1][:])
		h.Write([]byte{byte(p.k)})
		if h.Sum64()%5 == number {
			break
		}
	}
	p.y, p.x = 32, 32
	if random {
		p.y = pick(0, 64)
		p.x = pick(0, 64)
	}
	return p
}

// The canvas from −48 to 143, layer over layer instead of pixel by pixel: sky, wall,
// windows storey by storey, door, pavement.
const side, off = 192, 48

func (p *plain) paint() *[side][side]Color {
	var img [side][side]Color
	fill := func(ya, xa, yb, xb int, c func(y int) Color) {
		for y := max(-off, ya); y < min(side-off, yb); y++ {
			for x := max(-off, xa); x < min(side-off, xb); x++ {
				img[y+off][x+off] = c(y)
			}
		}
	}
	flat := func(c Color) func(int) Color { return func(int) Color { return c } }
	fill(-off, -off, side, side, func(y int) (c Color) {
		f := float64(y+48) / 68
		for ch := range c {
			c[ch] = uint8(math.Floor(float64(p.sky[0][ch])*(1-f) + float64(p.sky[1][ch])*f + 0.5 + 1e-9))
		}
		return c
	})
	dy, dx := p.k*p.py, p.k*p.px
	door := p.phx + p.bay*dx
	fill(p.roof, -off, p.ground, side, flat(p.wall))
	for y := p.roof; y < p.ground; y += dy {
		for x := p.phx - 30*dx; x < side; x += dx {
			fill(y+p.k, x, y+p.k+p.k*p.wh, x+p.k*p.ww, flat(p.window))
		}
	}
	fill(p.ground-dy, door, p.ground, door+dx, flat(p.wall))
	fill(p.ground-dy+p.k, door, p.ground, door+p.k*p.ww, flat(p.door))
	fill(p.ground, -off, side, side, flat(pavement))
	return &img
}

// Items drawn again from the words of their streams.
func TestDrawingRules(t *testing.T) {
	s := New(data.DefaultSeed)
	for number, split := range s.Splits() {
		if split == data.Val || split == data.Ref {
			continue
		}
		for i := range 150 {
			r := data.FromKey(data.Mix(data.FNV1a("facades/"+string(split)+"/v1") ^ data.Mix(1) ^ data.Mix(uint64(i))))
			var p plain
			var img *[side][side]Color
			for belongs := false; !belongs; {
				p = redraw(&r, uint64(number), split != data.Test)
				img = p.paint()
				h := fnv.New64a()
				for y := range Crop {
					for x := range Crop {
						h.Write(img[off+p.y+y][off+p.x+x][:])
					}
				}
				belongs = h.Sum64()%5 == uint64(number)
			}
			it := s.At(split, i)
			f := it.Facade
			if f.Py != p.py || f.Px != p.px || f.Scale != p.k || f.WinW != p.ww || f.WinH != p.wh || f.PhY != p.phy || f.PhX != p.phx || f.RoofY != p.roof || f.GroundY != p.ground || f.DoorCol != p.bay || it.X != p.x || it.Y != p.y {
				t.Fatalf("%s %d: %+v at (%d, %d), want %+v", split, i, f, it.X, it.Y, p)
			}
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			whole := f.Draw(Origin, Origin, Wide, Wide)
			for y := range side {
				for x := range side {
					if got := Color(whole.Pix[3*(y*side+x):]); got != img[y][x] {
						t.Fatalf("%s %d: pixel (%d, %d) is %v, want %v", split, i, x-off, y-off, got, img[y][x])
					}
				}
			}
			for q := range Crop * Crop {
				if got := Color(it.Pix[3*q:]); got != img[off+p.y+q/Crop][off+p.x+q%Crop] {
					t.Fatalf("%s %d: pixel %d of the crop is %v", split, i, q, got)
				}
			}
		}
	}
}
