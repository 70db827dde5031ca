package ops

import (
	"slices"
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

const (
	splatBand  = 16  // rows that a worker draws at a time
	splatChunk = 32  // Gaussians whose gradients a worker sums at a time
	splatPrep  = 256 // Gaussians that a worker prepares at a time
)

// splatCPU is what the CPU keeps between the passes. Results depend on the cut
// into bands, never on which worker took one.
type splatCPU struct {
	x, y   splatAxis
	canvas *cpu.SplatCanvas
	splats []cpu.Splat // [B, N]
	bad    splatFaults
	bands  int       // of an image
	ids    []int32   // Gaussians of an image that reach a band, in drawing order, band after band
	start  []int     // [B·bands + 1]: where in ids a band starts
	f      []float32 // features [B, N, C]

	mean, cov []float32  // as they are drawn
	far       []farPixel // ExactFar, as z
	z         []float32
	light     cpu.SplatLight
}

func (s *splatCPU) list(b int) []int32 { return s.ids[s.start[b]:s.start[b+1]] }

// band is band i of all images: its image and its rows.
func (a *SplatAux) band(i int) (image, y0, y1 int) {
	s := a.cpu
	image = i / s.bands
	y0 = i % s.bands * splatBand
	return image, y0, min(y0+splatBand, a.size.h)
}

// float32s is a tensor's storage, or where that is 16 bits wide a widened copy.
func float32s(t *gpu.Tensor) ([]float32, error) {
	if t.DType() == gpu.Float32 {
		return t.F32(), nil
	}
	return t.Floats()
}

// put stores v from element at on, rounded to t's dtype.
func put(t *gpu.Tensor, at int, v []float32) {
	if t.DType() == gpu.Float32 {
		copy(t.F32()[at:], v)
		return
	}
	narrow := gpu.FloatToF16
	if t.DType() == gpu.BFloat16 {
		narrow = gpu.FloatToBF16
	}
	out := t.U16()[at:][:len(v)]
	for i, x := range v {
		out[i] = narrow(x)
	}
}

func (a *SplatAux) forwardCPU(image *gpu.Tensor) error {
	size := a.size
	s := &splatCPU{x: newSplatAxis(a.cfg.Grid, size.w, a.cfg.LowPass), y: newSplatAxis(a.cfg.Grid, size.h, a.cfg.LowPass)}
	s.canvas = cpu.NewSplatCanvas(s.x.at, s.y.at)
	s.bands = ceil(size.h, splatBand)
	a.cpu = s
	var err error
	if s.f, err = float32s(a.p.Feature); err != nil {
		return err
	}
	a.prepareCPU()
	a.sortIntoBands()
	plane := size.h * s.canvas.Stride
	switch a.cfg.Mode {
	case SplatNormalised:
		s.z = make([]float32, size.b*plane)
	case SplatAlpha:
		s.light.Left, s.light.Last = make([]float32, size.b*plane), make([]int32, size.b*plane)
	}
	if a.cfg.ExactFar {
		s.far = make([]farPixel, size.b*plane)
	}
	cpu.Each(size.b*s.bands, func(_ *cpu.Worker, i int) { a.drawBand(image, i) })
	return nil
}

// prepareCPU makes every Gaussian ready and finds the faults.
func (a *SplatAux) prepareCPU() {
	s, n, c := a.cpu, a.size.b*a.size.n, a.size.c
	a.activateCPU()
	mean, cov, feature := s.mean, s.cov, s.f
	var opacity, depth []float32
	if a.p.Opacity != nil {
		opacity = a.p.Opacity.F32()
	}
	if a.p.Depth != nil {
		depth = a.p.Depth.F32()
	}
	s.splats = make([]cpu.Splat, n)
	chunks := ceil(n, splatPrep)
	faults := make([]splatFaults, chunks)
	cpu.Each(chunks, func(_ *cpu.Worker, chunk int) {
		bad := &faults[chunk]
		for i := chunk * splatPrep; i < min((chunk+1)*splatPrep, n); i++ {
			o := float32(1)
			if opacity != nil {
				o = opacity[i]
			}
			p, fault := splatReady(&a.cfg, [2]float32(mean[2*i:]), [3]float32(cov[3*i:]), o, &s.x, &s.y)
			switch {
			case fault != faultNone:
			case !cpu.Finite32(feature[i*c : (i+1)*c]):
				fault = faultFeature
			case depth != nil && !(depth[i] >= 0 && finite32(depth[i])):
				fault = faultDepth
			}
			if fault != faultNone {
				p = cpu.Splat{}
				if bad.count == 0 {
					bad.first, bad.fault = i, fault
				}
				bad.count++
			}
			s.splats[i] = p
		}
	})
	for _, f := range faults {
		if f.count > 0 && s.bad.count == 0 {
			s.bad.first, s.bad.fault = f.first, f.fault
		}
		s.bad.count += f.count
	}
}

// sortIntoBands lists the Gaussians of every band in drawing order.
func (a *SplatAux) sortIntoBands() {
	s, size := a.cpu, a.size
	s.start = make([]int, size.b*s.bands+1)
	over := func(p *cpu.Splat) (lo, hi int) {
		if p.Y0 >= p.Y1 {
			return 0, 0
		}
		return int(p.Y0) / splatBand, (int(p.Y1)-1)/splatBand + 1
	}
	for i := range s.splats {
		lo, hi := over(&s.splats[i])
		for b := lo; b < hi; b++ {
			s.start[i/size.n*s.bands+b+1]++
		}
	}
	for i := 1; i < len(s.start); i++ {
		s.start[i] += s.start[i-1]
	}
	s.ids = make([]int32, s.start[len(s.start)-1])
	fill := slices.Clone(s.start)
	var order []int32
	for image := range size.b {
		if a.p.Depth != nil {
			order = byDepth(order, a.p.Depth.F32()[image*size.n:][:size.n])
		}
		for j := range size.n {
			id := int32(j)
			if order != nil {
				id = order[j]
			}
			lo, hi := over(&s.splats[image*size.n+int(id)])
			for b := image*s.bands + lo; b < image*s.bands+hi; b++ {
				s.ids[fill[b]] = id
				fill[b]++
			}
		}
	}
}

// byDepth is the order from near to far, ties in list order. Faulty depths are
// of Gaussians in no band.
func byDepth(order []int32, depth []float32) []int32 {
	order = order[:0]
	for i := range depth {
		order = append(order, int32(i))
	}
	slices.SortStableFunc(order, func(i, j int32) int {
		switch {
		case depth[i] < depth[j]:
			return -1
		case depth[i] > depth[j]:
			return 1
		}
		return 0
	})
	return order
}

// floats32 lends slices to the workers, so that steady work allocates little.
var floats32 = sync.Pool{New: func() any { return new([]float32) }}

// lend is a zeroed slice of n floats and the function that gives it back.
func lend(n int) ([]float32, func()) {
	p := floats32.Get().(*[]float32)
	if cap(*p) < n {
		*p = make([]float32, n)
	}
	v := (*p)[:n]
	clear(v)
	return v, func() { floats32.Put(p) }
}

// drawBand draws one band of one image.
func (a *SplatAux) drawBand(out *gpu.Tensor, i int) {
	s, size, stride := a.cpu, a.size, a.cpu.canvas.Stride
	image, y0, y1 := a.band(i)
	splats, ids := s.splats[image*size.n:][:size.n], s.list(i)
	f := s.f[image*size.n*size.c:][:size.n*size.c]
	plane := (y1 - y0) * stride
	at := (image*size.h + y0) * stride
	acc, giveBack := lend(size.c * plane)
	defer giveBack()
	bg := a.background(image)
	switch a.cfg.Mode {
	case SplatAdditive:
		s.canvas.Add(splats, ids, f, size.c, y0, y1, acc, nil)
		for k, v := range bg {
			for j := range plane {
				acc[k*plane+j] += v
			}
		}
	case SplatNormalised:
		z := s.z[at:][:plane]
		s.canvas.Add(splats, ids, f, size.c, y0, y1, acc, z)
		for k := range size.c {
			rest := float32(0)
			if bg != nil {
				rest = a.cfg.Eps * bg[k]
			}
			for j, zj := range z {
				acc[k*plane+j] = (acc[k*plane+j] + rest) / (zj + a.cfg.Eps)
			}
		}
		if a.cfg.ExactFar {
			a.drawFar(acc, z, s.far[at:], image, y0, y1, ids)
		}
	case SplatAlpha:
		l := cpu.SplatLight{Left: s.light.Left[at:][:plane], Last: s.light.Last[at:][:plane], Open: make([]int32, plane)}
		for j := range l.Left {
			l.Left[j], l.Open[j] = 1, -1
		}
		s.canvas.Alpha(splats, ids, f, size.c, y0, y1, acc, &l)
		for k, v := range bg {
			for j, t := range l.Left {
				acc[k*plane+j] += float32(t * v)
			}
		}
	}
	if !a.cfg.Planar {
		at := (image*size.h + y0) * size.w * size.c
		if out.DType() == gpu.Float32 {
			s.canvas.Interleave(out.F32()[at:], acc, size.c, y1-y0, plane)
			return
		}
		pixels, giveBack := lend((y1 - y0) * size.w * size.c)
		defer giveBack()
		s.canvas.Interleave(pixels, acc, size.c, y1-y0, plane)
		put(out, at, pixels)
		return
	}
	for k := range size.c {
		for y := y0; y < y1; y++ {
			put(out, ((image*size.c+k)*size.h+y)*size.w, acc[k*plane+(y-y0)*stride:][:size.w])
		}
	}
}

// background is an image's [C], or nil.
func (a *SplatAux) background(image int) []float32 {
	if a.p.Background == nil {
		return nil
	}
	return a.p.Background.F32()[image*a.size.c:][:a.size.c]
}

func (a *SplatAux) coverageCPU() *gpu.Tensor {
	t := gpu.CPU().Empty(a.size.b, a.size.h, a.size.w)
	out, stride := t.F32(), a.cpu.canvas.Stride
	for i := range a.size.b * a.size.h {
		for x := range a.size.w {
			out[i*a.size.w+x] = 1 - a.cpu.light.Left[i*stride+x]
		}
	}
	return t
}
