package ops_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// needles are thin Gaussians in all directions, many of them across several
// tiles, among round and tiny ones; more than are found by testing all boxes.
func needles(seed uint64, k sceneKind) *scene {
	k.form, k.n, k.sigma = ops.SplatRS, 2050, [2]float64{0.3, 1.5}
	s := newScene(seed, k)
	unit := math.Min(2/float64(k.w-1), 2/float64(k.h-1))
	if k.grid == ops.SplatCenters {
		unit = 1
	}
	for i := range s.n {
		switch i % 40 {
		case 0:
			s.cov[3*i] = f32of(15 * unit)
		case 1:
			s.cov[3*i], s.cov[3*i+1] = f32of(40*unit), f32of(0.05*unit)
		case 2:
			s.cov[3*i], s.cov[3*i+1] = f32of(1e-4*unit), f32of(1e-4*unit)
		}
		s.opacity[i] = f32of(0.1 * s.opacity[i])
	}
	return s
}

// reach is the least q of Gaussian i over the rectangle of dx and dy: at the mean, or on an edge.
func reach(k [6]float64, x0, x1, y0, y1 float64) float64 {
	if x0 <= 0 && x1 >= 0 && y0 <= 0 && y1 >= 0 {
		return 0
	}
	q := func(x, y float64) float64 { return (k[0]*x*x+k[2]*y*y)/2 + k[1]*x*y }
	least := math.Inf(1)
	for _, x := range []float64{x0, x1} {
		least = math.Min(least, q(x, math.Min(math.Max(-k[1]*x/k[2], y0), y1)))
	}
	for _, y := range []float64{y0, y1} {
		least = math.Min(least, q(math.Min(math.Max(-k[1]*y/k[0], x0), x1), y))
	}
	return least
}

// Every tile with a pixel of a Gaussian has it in its list, by brute force over
// all pixels; and a tile that the ellipse stays away from by more than a fiftieth
// of a pixel has not.
func TestSplatTilesExact(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			t.Skip("the CPU has bands of rows, which boxes bound exactly")
		}
		for grid, gv := range splatGrids {
			for support, size := range map[string]float64{"ellipse": 3, "level": 1.0 / 255} {
				for _, side := range []int{8, 16} {
					t.Run(fmt.Sprintf("%s/%s/%d", grid, support, side), func(t *testing.T) {
						k := sceneKind{grid: gv, support: support, size: size, c: 3, h: 70, w: 83}
						s := needles(7, k)
						cfg := s.config()
						cfg.Tile = side
						counts := [2]int{}
						for loose := range 2 {
							cfg.LooseTiles = loose == 1
							_, aux, err := ops.SplatForward(cfg, params(dev, s), s.h, s.w)
							if err != nil {
								t.Fatal(err)
							}
							got, lists, err := ops.SplatTileLists(aux)
							if err != nil {
								t.Fatal(err)
							}
							if got != side {
								t.Fatalf("tiles of %d, want %d", got, side)
							}
							for _, l := range lists {
								counts[loose] += len(l)
							}
							if loose == 0 {
								checkTiles(t, s, side, lists)
							}
							aux.Free()
						}
						t.Logf("%d pairs, %d without the test of ellipses", counts[0], counts[1])
						if !(counts[0] < counts[1]*9/10) {
							t.Errorf("%d pairs of a Gaussian and a tile, %d by boxes; want a tenth fewer at least", counts[0], counts[1])
						}
					})
				}
			}
		}
	})
}

func checkTiles(t *testing.T, s *scene, side int, lists [][]int32) {
	t.Helper()
	conics, across := s.conics(), (s.w+side-1)/side
	_, px := s.pos(0, s.w)
	_, py := s.pos(0, s.h)
	for i := range s.n {
		limit := s.size * s.size / 2
		if s.support == "level" {
			limit = math.Log(s.opacity[i] / s.size)
		}
		k := conics[i]
		if i%40 == 2 { // held at a thousandth of a pixel: round
			m := 1e-3 * math.Min(px, py)
			k = [6]float64{1 / (m * m), 0, 1 / (m * m), m * m, m * m, 0}
		}
		for tile, list := range lists {
			tx, ty := tile%across*side, tile/across*side
			x1, y1 := min(tx+side, s.w)-1, min(ty+side, s.h)-1
			at := func(p, n int, mean float64) float64 { x, _ := s.pos(p, n); return x - mean }
			mx, my := s.mean[2*i], s.mean[2*i+1]
			listed := slices.Contains(list, int32(i))
			needed := false
			for y := ty; y <= y1; y++ {
				for x := tx; x <= x1; x++ {
					dx, dy := at(x, s.w, mx), at(y, s.h, my)
					needed = needed || (k[0]*dx*dx+k[2]*dy*dy)/2+k[1]*dx*dy <= limit
				}
			}
			if needed && !listed {
				t.Fatalf("Gaussian %d is missing in the tile at %d, %d", i, tx, ty)
			}
			far := reach(k, at(tx, s.w, mx)-px/50, at(x1, s.w, mx)+px/50, at(ty, s.h, my)-py/50, at(y1, s.h, my)+py/50)
			if listed && far > limit*1.001 {
				t.Fatalf("Gaussian %d is in the tile at %d, %d, where q is %g at least and its limit %g", i, tx, ty, far, limit)
			}
		}
	}
}

// Neither the tiles' side nor the test of ellipses changes a bit, with few
// Gaussians or a sorted list, of the image or of any gradient.
func TestSplatTilesChangeNoBit(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for mode, mv := range splatModes {
			for _, of := range []struct {
				c, n    int
				support string
				size    float64
			}{{3, 2050, "ellipse", 3}, {7, 200, "level", 1e-2}, {12, 200, "ellipse", 3}} {
				t.Run(fmt.Sprintf("%s/c=%d/n=%d/%s", mode, of.c, of.n, of.support), func(t *testing.T) {
					k := sceneKind{mode: mv, support: of.support, size: of.size, c: of.c, h: 21, w: 36}
					s := needles(9, k)
					s.keep(of.n)
					p, v := params(dev, s), oracle.Normal(3, k.h*k.w*k.c)
					cfg := s.config()
					cfg.Tile, cfg.LooseTiles = 16, true
					want := render(t, cfg, p, k.h, k.w, v)
					for _, tile := range []int{0, 8} {
						if tile == 8 && (mv == ops.SplatAlpha || k.c > 8) {
							continue
						}
						cfg.Tile, cfg.LooseTiles = tile, false
						if !want.equal(render(t, cfg, p, k.h, k.w, v)) {
							t.Errorf("tiles of %d, where ellipses reach, differ from tiles of 16 in boxes", tile)
						}
					}
				})
			}
		}
	})
}

// The choice of the side: by the boxes' mean, in the whole batch.
func TestSplatTilesChosen(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			t.Skip("the CPU has no tiles")
		}
		for sigma, want := range map[float64]int{0.5: 8, 1.2: 8, 2: 16, 4: 16} { // boxes of about 6 sigma
			k := sceneKind{support: "ellipse", size: 3, n: 2100, c: 3, h: 64, w: 64, sigma: [2]float64{sigma, sigma * 1.01}}
			s := newScene(4, k)
			_, aux, err := ops.SplatForward(s.config(), params(dev, s), k.h, k.w)
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := ops.SplatTileLists(aux); got != want || err != nil {
				t.Errorf("sigma %g: tiles of %d (%v), want %d", sigma, got, err, want)
			}
			aux.Free()
		}
	})
}

func TestSplatTilesRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  ops.SplatConfig
		want string
	}{
		{ops.SplatConfig{Tile: 7}, "tiles of 7"},
		{ops.SplatConfig{Tile: 8, Mode: ops.SplatAlpha}, "tiles of 8 for mode 2"},
	} {
		if _, _, err := ops.SplatForward(c.cfg, one(gpu.CPU(), 3), 8, 8); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v; want %q", c.cfg, err, c.want)
		}
	}
}
