package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// backwardCPU takes the gradients: of the features and the six sums of every
// Gaussian, then the chain to the parameters.
func (a *SplatAux) backwardCPU(g *SplatGrads, dImage, dCoverage *gpu.Tensor) error {
	size := a.size
	v, err := float32s(dImage)
	if err != nil {
		return err
	}
	df, giveFeatures := lend(g.Feature.Len())
	defer giveFeatures()
	sums, giveBack := lend(size.b * size.n * cpu.SplatSums)
	defer giveBack()
	if a.cfg.Mode == SplatAlpha {
		a.gatherAlpha(g, sums, df, v, dCoverage)
	} else if err := a.gather(g, sums, df, v); err != nil {
		return err
	}
	put(g.Feature, 0, df)
	cov, s := a.cpu.cov, a.cpu
	dMean, dCov := g.Mean.F32(), g.Cov.F32()
	n := size.b * size.n
	cpu.Each((n+splatPrep-1)/splatPrep, func(_ *cpu.Worker, chunk int) {
		for i := chunk * splatPrep; i < min((chunk+1)*splatPrep, n); i++ {
			var m [2]float32
			var c [3]float32
			var o float32
			if s.splats[i].X0 < s.splats[i].X1 { // those that are not drawn may hold anything
				m, c, o = splatChain(&a.cfg, &s.splats[i], [3]float32(cov[3*i:]), sums[cpu.SplatSums*i:], &s.x, &s.y)
			}
			copy(dMean[2*i:], m[:])
			copy(dCov[3*i:], c[:])
			if g.Opacity != nil {
				g.Opacity.F32()[i] = o
			}
		}
	})
	if a.cfg.raw() {
		a.slopeCPU(g)
	}
	return nil
}

// bandGradient puts the gradient of one band's pixels into planes of c channels, plane floats apart.
func (a *SplatAux) bandGradient(planes, v []float32, image, y0, y1, plane int) {
	size, stride := a.size, a.cpu.canvas.Stride
	if !a.cfg.Planar {
		a.cpu.canvas.Planes(planes, v[(image*size.h+y0)*size.w*size.c:], size.c, y1-y0, plane)
		return
	}
	for k := range size.c {
		for y := y0; y < y1; y++ {
			copy(planes[k*plane+(y-y0)*stride:][:size.w], v[((image*size.c+k)*size.h+y)*size.w:])
		}
	}
}

// backgroundSums holds Σ weight·v of every band, so that a fixed order adds them up.
type backgroundSums struct {
	sums []float64 // [B·bands, C]
}

func (a *SplatAux) newBackgroundSums() *backgroundSums {
	if a.p.Background == nil {
		return nil
	}
	return &backgroundSums{make([]float64, a.size.b*a.cpu.bands*a.size.c)}
}

// add sums the planes v of band i, weighted by weight(j) of element j.
func (b *backgroundSums) add(a *SplatAux, i int, v []float32, rows, plane int, weight func(j int) float32) {
	if b == nil {
		return
	}
	for k := range a.size.c {
		sum := 0.0
		for y := range rows {
			for x := range a.size.w {
				j := y*a.cpu.canvas.Stride + x
				sum += float64(v[k*plane+j]) * float64(weight(j))
			}
		}
		b.sums[i*a.size.c+k] = sum
	}
}

func (b *backgroundSums) store(a *SplatAux, g *SplatGrads) {
	if b == nil {
		return
	}
	out, c := g.Background.F32(), a.size.c
	for i := range out {
		sum := 0.0
		for band := range a.cpu.bands {
			sum += b.sums[(i/c*a.cpu.bands+band)*c+i%c]
		}
		out[i] = float32(sum)
	}
}

// gather is the gradient of the order-free modes.
func (a *SplatAux) gather(g *SplatGrads, sums, df, dImage []float32) error {
	s, size, stride := a.cpu, a.size, a.cpu.canvas.Stride
	plane := size.h * stride
	v, giveBack := lend(size.b * size.c * plane)
	defer giveBack()
	var offset, drawn []float32
	if a.cfg.Mode == SplatNormalised {
		var giveBack func()
		var err error
		if drawn, err = float32s(a.image); err != nil {
			return err
		}
		offset, giveBack = lend(size.b * plane)
		defer giveBack()
	}
	bg := a.newBackgroundSums()
	cpu.Each(size.b*s.bands, func(_ *cpu.Worker, i int) {
		image, y0, y1 := a.band(i)
		planes := v[image*size.c*plane+y0*stride:]
		a.bandGradient(planes, dImage, image, y0, y1, plane)
		if a.cfg.Mode == SplatAdditive {
			bg.add(a, i, planes, y1-y0, plane, func(int) float32 { return 1 })
			return
		}
		at := image*plane + y0*stride
		if a.cfg.ExactFar {
			bg.add(a, i, planes, y1-y0, plane, func(j int) float32 { return s.far[at+j].none() })
		}
		a.divide(planes, offset[at:], s.z[at:], drawn, image, y0, y1, plane)
		if !a.cfg.ExactFar {
			bg.add(a, i, planes, y1-y0, plane, func(int) float32 { return a.cfg.Eps })
		}
	})
	bg.store(a, g)
	f := s.f
	chunks := ceil(size.n, splatChunk)
	cpu.Each(size.b*chunks, func(w *cpu.Worker, i int) {
		image, lo := i/chunks, i%chunks*splatChunk
		first := image * size.n
		var off []float32
		if offset != nil {
			off = offset[image*plane:][:plane]
		}
		s.canvas.Gather(w, s.splats[first:][:size.n], lo, min(lo+splatChunk, size.n), f[first*size.c:], size.c,
			v[image*size.c*plane:], off, sums[first*cpu.SplatSums:], df[first*size.c:])
	})
	if a.cfg.ExactFar {
		a.gatherFar(sums, df, dImage, drawn)
	}
	return nil
}

// divide takes a band of SplatNormalised to SplatAdditive: v becomes v/(Z + ε), offset Σ v·F with the image f.
func (a *SplatAux) divide(v, offset, z, f []float32, image, y0, y1, plane int) {
	size, stride := a.size, a.cpu.canvas.Stride
	for y := range y1 - y0 {
		for x := range size.w {
			j := y*stride + x
			d, sum := 1/(z[j]+a.cfg.Eps), float32(0)
			if z[j] < a.farthest() {
				d = 0
			}
			at, next := ((image*size.h+y0+y)*size.w+x)*size.c, 1
			if a.cfg.Planar {
				at, next = (image*size.c*size.h+y0+y)*size.w+x, size.h*size.w
			}
			for k := range size.c {
				v[k*plane+j] *= d
				sum += float32(v[k*plane+j] * f[at+k*next])
			}
			offset[j] = sum
		}
	}
}

// gatherAlpha is the gradient of SplatAlpha: the bands write a slot for each of
// their Gaussians, and the slots are added up in the bands' order.
func (a *SplatAux) gatherAlpha(g *SplatGrads, sums, df, dImage []float32, dCoverage *gpu.Tensor) {
	s, size, stride := a.cpu, a.size, a.cpu.canvas.Stride
	width := cpu.SplatSums + size.c
	slots, giveBack := lend(len(s.ids) * width)
	defer giveBack()
	bg := a.newBackgroundSums()
	f := s.f
	cpu.Each(size.b*s.bands, func(w *cpu.Worker, i int) {
		image, y0, y1 := a.band(i)
		plane := (y1 - y0) * stride
		buf, giveBack := lend((size.c + 2) * plane)
		defer giveBack()
		v, left, behind := buf[:size.c*plane], buf[size.c*plane:][:plane], buf[(size.c+1)*plane:]
		a.bandGradient(v, dImage, image, y0, y1, plane)
		at := (image*size.h + y0) * stride
		copy(left, s.light.Left[at:])
		bg.add(a, i, v, y1-y0, plane, func(j int) float32 { return left[j] })
		for k, b := range a.background(image) {
			for j := range behind {
				behind[j] += float32(v[k*plane+j] * b)
			}
		}
		for j := range behind {
			if y, x := j/stride, j%stride; dCoverage != nil && x < size.w {
				behind[j] -= dCoverage.F32()[(image*size.h+y0+y)*size.w+x]
			}
			behind[j] *= left[j]
		}
		first := image * size.n
		s.canvas.AlphaBack(w, s.splats[first:][:size.n], s.list(i), f[first*size.c:][:size.n*size.c], size.c, y0, y1,
			v, left, behind, s.light.Last[at:], slots[s.start[i]*width:])
	})
	bg.store(a, g)
	cpu.Each(size.b, func(_ *cpu.Worker, image int) {
		for i := s.start[image*s.bands]; i < s.start[(image+1)*s.bands]; i++ {
			id, slot := image*size.n+int(s.ids[i]), slots[i*width:][:width]
			for j, t := range slot[:cpu.SplatSums] {
				sums[id*cpu.SplatSums+j] += t
			}
			for j, t := range slot[cpu.SplatSums:] {
				df[id*size.c+j] += t
			}
		}
	})
}
