package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// splatCase is random Gaussians of every kind: with and without a limit on q,
// clipped by the borders, empty, opaque and faint.
func splatCase(r *rand.Rand, n, w, h int) (*SplatCanvas, []Splat) {
	xs, ys := make([]float32, w), make([]float32, h)
	for i := range xs {
		xs[i] = (2*float32(i) - float32(w-1)) / float32(max(w-1, 1))
	}
	for i := range ys {
		ys[i] = (2*float32(i) - float32(h-1)) / float32(max(h-1, 1))
	}
	s := make([]Splat, n)
	for i := range s {
		p := &s[i]
		*p = Splat{
			X: r.Float32()*2.4 - 1.2, Y: r.Float32()*2.4 - 1.2, K: float32(r.NormFloat64()), P: float32(math.Exp(3 + r.NormFloat64())),
			V: float32(math.Exp(2 + r.NormFloat64())), O: r.Float32() * 1.3, QMax: infinity32,
		}
		a, b, c, d := r.IntN(w), 1+r.IntN(w), r.IntN(h), 1+r.IntN(h)
		p.X0, p.X1, p.Y0, p.Y1 = int32(min(a, b)), int32(max(a, b)), int32(min(c, d)), int32(max(c, d))
		switch i % 4 {
		case 0:
			p.QMax, p.X0, p.X1, p.Y0, p.Y1 = r.Float32()*6, 0, int32(w), 0, int32(h)
		case 1:
			p.QMax = r.Float32() * 6
		}
	}
	return NewSplatCanvas(xs, ys), s
}

func TestSplatEqualsTwin(t *testing.T) {
	before := calls.vec.Load()
	for i, size := range [][2]int{{1, 1}, {15, 3}, {16, 16}, {17, 5}, {40, 33}} {
		for _, channels := range []int{1, 2, 3, 4, 5, 17} {
			t.Run(fmt.Sprintf("%dx%d/c=%d", size[0], size[1], channels), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(i), uint64(channels)))
				const n = 37
				c, s := splatCase(r, n, size[0], size[1])
				f, ids := random32(r, n*channels), make([]int32, n)
				for i, p := range r.Perm(n) {
					ids[i] = int32(p)
				}
				y0, y1 := size[1]/4, size[1]
				band, whole := (y1-y0)*c.Stride, c.Height*c.Stride
				twin := func(what string, k int, native, pure func(x [][]float32)) {
					var x, y [][]float32
					for range k {
						v := random32(r, channels*whole+n*(SplatSums+channels))
						x, y = append(x, v), append(y, slices.Clone(v))
					}
					native(x)
					pure(y)
					for j := range x {
						sameBits(t, what, x[j], y[j])
					}
				}
				twin("Add", 2, func(x [][]float32) { c.Add(s, ids, f, channels, y0, y1, x[0], x[1]) },
					func(x [][]float32) { goSplatAdd(c, s, ids, f, channels, y0, y1, x[0], x[1]) })
				twin("Add without z", 1, func(x [][]float32) { c.Add(s, ids, f, channels, y0, y1, x[0], nil) },
					func(x [][]float32) { goSplatAdd(c, s, ids, f, channels, y0, y1, x[0], nil) })
				light := [2]*SplatLight{}
				for i := range light {
					light[i] = &SplatLight{Left: make([]float32, band), Last: make([]int32, band), Open: make([]int32, band)}
					for j := range band {
						light[i].Left[j], light[i].Open[j] = 1, -1
					}
				}
				twin("Alpha", 1, func(x [][]float32) { c.Alpha(s, ids, f, channels, y0, y1, x[0], light[0]) },
					func(x [][]float32) { goSplatAlpha(c, s, ids, f, channels, y0, y1, x[0], light[1]) })
				sameBits(t, "Alpha's light", light[0].Left, light[1].Left)
				if !slices.Equal(light[0].Last, light[1].Last) || !slices.Equal(light[0].Open, light[1].Open) {
					t.Fatal("Alpha: the last Gaussian or the open pixels differ")
				}
				v, offset, work := random32(r, channels*whole), random32(r, whole), make([]float32, 16*channels)
				for _, o := range [][]float32{nil, offset} {
					twin("Gather", 2, func(x [][]float32) {
						Do(func(w *Worker) { c.Gather(w, s, 1, n, f, channels, v, o, x[0], x[1]) })
					}, func(x [][]float32) { goSplatGather(c, s, 1, n, f, channels, v, o, work, x[0], x[1]) })
				}
				twin("AlphaBack", 1, func(x [][]float32) {
					left, behind := slices.Clone(light[0].Left), slices.Clone(offset)
					Do(func(w *Worker) { c.AlphaBack(w, s, ids, f, channels, y0, y1, v, left, behind, light[0].Last, x[0]) })
				}, func(x [][]float32) {
					left, behind := slices.Clone(light[0].Left), slices.Clone(offset)
					goSplatAlphaBack(c, s, ids, f, channels, y0, y1, v, left, behind, light[0].Last, work, x[0])
				})
				in := random32(r, channels*size[0]*size[1])
				planes, out := make([]float32, channels*whole), make([]float32, len(in))
				c.Planes(planes, in, channels, c.Height, whole)
				c.Interleave(out, planes, channels, c.Height, whole)
				sameBits(t, "Planes and Interleave", out, in)
				if k, x := channels-1, size[0]-1; planes[k*whole+x] != in[x*channels+k] {
					t.Fatal("Planes puts a value in the wrong place")
				}
			})
		}
	}
	ranNatively(t, "Splat", before, calls.vec.Load())
}

func TestSplatRefusesShortSlices(t *testing.T) {
	c, s := splatCase(rand.New(rand.NewPCG(1, 1)), 4, 8, 8)
	f, plane := make([]float32, 12), make([]float32, 3*8*c.Stride)
	for what, call := range map[string]func(){
		"rows beyond the image": func() { c.Add(s, []int32{0}, f, 3, 0, 9, plane, nil) },
		"a short accumulator":   func() { c.Add(s, []int32{0}, f, 3, 0, 8, plane[1:], nil) },
		"few features":          func() { c.Add(s, []int32{0}, f[1:], 3, 0, 8, plane, nil) },
		"no channels":           func() { c.Add(s, []int32{0}, f, 0, 0, 8, plane, nil) },
		"no pixels":             func() { NewSplatCanvas(nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			call()
		}()
	}
}
