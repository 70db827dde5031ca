package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// ExactFar: where Σ g of a pixel is below splatFarthest, of which float32 keeps
// too few digits, it is drawn again with weights relative to the nearest
// Gaussian's, w = o·exp(near - q). There are few such pixels, so this is a pass of
// its own that leaves the others alone, and plain loops do. splat2d.h has the same
// limit.
const splatFarthest = 1e-30

// farthest is the sum below which a pixel is far: none without ExactFar.
func (a *SplatAux) farthest() float32 {
	if a.cfg.ExactFar {
		return splatFarthest
	}
	return 0
}

// farPixel is the least q of a far pixel, +Inf where no Gaussian reaches, and its
// sum of weights; zero where a pixel is not far.
type farPixel struct{ near, sum float32 }

func (p farPixel) none() float32 {
	if math.IsInf(float64(p.near), 1) {
		return 1
	}
	return 0
}

// weight is o·exp(near - q). Only a Gaussian with o = 0 can be nearer than near;
// what it would weigh is kept finite.
func (p farPixel) weight(o, q float32) float32 {
	return o * float32(math.Exp(float64(min(p.near-q, 60))))
}

// reached is q and u of a Gaussian at a pixel, and dy; false where it does not reach.
func (s *splatCPU) reached(p *cpu.Splat, x, y int) (q, u, dy float32, ok bool) {
	if x < int(p.X0) || x >= int(p.X1) || y < int(p.Y0) || y >= int(p.Y1) {
		return 0, 0, 0, false
	}
	dy = s.y.at[y] - p.Y
	u = s.x.at[x] - p.X + float32(p.K*dy)
	q = float32(float32(u*p.P)*u) + float32(float32(p.V*dy)*dy)
	return q, u, dy, q <= p.QMax
}

// drawFar draws the far pixels of the rows [y0, y1) of an image into the planes acc.
func (a *SplatAux) drawFar(acc, z []float32, far []farPixel, image, y0, y1 int, ids []int32) {
	s, size, stride := a.cpu, a.size, a.cpu.canvas.Stride
	splats, plane, bg := s.splats[image*size.n:][:size.n], (y1-y0)*stride, a.background(image)
	f := s.f[image*size.n*size.c:]
	for j, sum := range z[:plane] {
		y, x := y0+j/stride, j%stride
		if !(sum < splatFarthest) || x >= size.w {
			continue
		}
		p := farPixel{near: float32(math.Inf(1))}
		for _, id := range ids {
			if q, _, _, ok := s.reached(&splats[id], x, y); ok && splats[id].O != 0 {
				p.near = min(p.near, q)
			}
		}
		for k := range size.c {
			acc[k*plane+j] = 0
			if p.none() == 1 && bg != nil {
				acc[k*plane+j] = bg[k]
			}
		}
		for _, id := range ids {
			q, _, _, ok := s.reached(&splats[id], x, y)
			if !ok || p.none() == 1 {
				continue
			}
			w := p.weight(splats[id].O, q)
			p.sum += w
			for k := range size.c {
				acc[k*plane+j] += float32(w * f[int(id)*size.c+k])
			}
		}
		for k := range size.c {
			if p.none() == 0 {
				acc[k*plane+j] /= p.sum
			}
		}
		far[j] = p
	}
}

// gatherFar adds what far pixels give to the sums and the features' gradients.
func (a *SplatAux) gatherFar(sums, df, dImage, drawn []float32) {
	s, size, stride := a.cpu, a.size, a.cpu.canvas.Stride
	cpu.Each(size.b*size.n, func(_ *cpu.Worker, i int) {
		p, image := &s.splats[i], i/size.n
		for y := int(p.Y0); y < int(p.Y1); y++ {
			for x := int(p.X0); x < int(p.X1); x++ {
				j := (image*size.h+y)*stride + x
				q, u, dy, ok := s.reached(p, x, y)
				if !ok || !(s.z[j] < splatFarthest) || s.far[j].none() == 1 {
					continue
				}
				e, h := s.far[j].weight(1, q)/s.far[j].sum, float32(0)
				at, next := ((image*size.h+y)*size.w+x)*size.c, 1
				if a.cfg.Planar {
					at, next = (image*size.c*size.h+y)*size.w+x, size.h*size.w
				}
				for k := range size.c {
					v := dImage[at+k*next]
					h += float32(v * (s.f[i*size.c+k] - drawn[at+k*next]))
					df[i*size.c+k] += float32(p.O * e * v)
				}
				t := e * h
				for m, d := range [cpu.SplatSums]float32{t, t * u, t * dy, t * u * u, t * u * dy, t * dy * dy} {
					sums[i*cpu.SplatSums+m] += d
				}
			}
		}
	})
}

func (a *SplatAux) farCUDA(image *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	g.far, g.none = dev.Empty(size.b, size.h, size.w, 2), dev.Empty(size.b, size.h, size.w)
	tiles, entries, ranges := ceil(size.h, splatTile)*ceil(size.w, splatTile), g.entries, g.ranges
	kernels.Splat2dFarF32(dev.Stream(), cuda.Grid{X: size.b * tiles, Y: 1, Z: 1, BX: 256}, image.Ptr(), g.far.Ptr(), g.none.Ptr(), g.z.Ptr(), ptr(g.place), ptr(g.shape), ptr(g.box), ptr(g.feature),
		ptr(a.p.Background), ptr(entries), ptr(ranges), bit(a.cfg.Grid == SplatCorners), bit(a.cfg.Planar), a.stored(), int32(size.w), int32(size.h), int32(size.c), int32(size.padded()), int32(size.n))
}

func (a *SplatAux) farbackCUDA(sums, df, dImage *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	n := size.b * size.n
	kernels.Splat2dFarbackF32(dev.Stream(), cuda.Grid1(n, 4, 128), sums.Ptr(), df.Ptr(), g.far.Ptr(), g.z.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.feature.Ptr(), dImage.Ptr(), a.image.Ptr(),
		bit(a.cfg.Grid == SplatCorners), bit(a.cfg.Planar), a.stored(), int32(size.w), int32(size.h), int32(size.c), int32(size.padded()), int32(size.n), int32(n))
}
