package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// DeltaMixture is the exact denoiser of a data set, a point mass on each of N
// images y_i: with w_i the kernel's weight of x given y_i,
//
//	E[x0|x] = Σ_i w_i·y_i / Σ_i w_i
//
// (Karras et al. 2022, appendix B.3, for Gaussian noise; Xu et al. 2023 for
// PFGM++'s). It is what a network that remembered its training set would say, and
// its samples are images of the set. The images stay in float32, once; sums are in
// float64, block by block with the weights relative to the largest so far, and an
// image with a class sees the images of that class. It serves any number of
// goroutines.
type DeltaMixture struct {
	shape  []int
	images []float32 // [N, D]
	labels []int     // nil without classes
	noise  diffusion.Noise
	mean   []float64 // [D], of all images: differences from it keep more digits
	norms  []float64 // [N], |y - mean|²
	spans  int
	calls  sync.Pool
}

const (
	deltaBlock = 128 // images of the set in one product
	deltaSpans = 32  // parts of the set, whose sums are merged in order; not a function of the machine
)

// NewDeltaMixture is the denoiser of images [N, shape...] under a kernel of
// noise, nil for the Gaussian one. labels has the class of each, or is nil. The
// images are kept and not changed.
func NewDeltaMixture(images []float32, shape []int, labels []int, noise diffusion.Noise) (*DeltaMixture, error) {
	D := 1
	for _, d := range shape {
		D *= max(d, 0)
	}
	if D == 0 || len(images) == 0 || len(images)%D != 0 {
		return nil, fmt.Errorf("sampler: delta mixture: %d values in images of shape %v; wanted a whole number of images, at least one", len(images), shape)
	}
	N := len(images) / D
	if labels != nil && len(labels) != N {
		return nil, fmt.Errorf("sampler: delta mixture: %d labels for %d images", len(labels), N)
	}
	if noise == nil {
		noise = diffusion.GaussianNoise{}
	}
	if err := noise.Check(D); err != nil {
		return nil, fmt.Errorf("sampler: delta mixture: %w", err)
	}
	m := &DeltaMixture{shape: shape, images: images, labels: labels, noise: noise, mean: make([]float64, D), norms: make([]float64, N)}
	for i, v := range images {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("sampler: delta mixture: value %d of image %d is %g; wanted finite numbers", i%D, i/D, v)
		}
		m.mean[i%D] += float64(v) / float64(N)
	}
	cpu.Each(N, func(_ *cpu.Worker, i int) {
		for j, v := range images[i*D : (i+1)*D] {
			e := float64(v) - m.mean[j]
			m.norms[i] += e * e
		}
	})
	m.spans = min(deltaSpans, (N+deltaBlock-1)/deltaBlock)
	m.calls.New = func() any { return m.newCall() }
	return m, nil
}

// N is the number of images.
func (m *DeltaMixture) N() int { return len(m.norms) }

// Shape is the shape of one image.
func (m *DeltaMixture) Shape() []int { return m.shape }

// Labels is the class of every image; nil without classes.
func (m *DeltaMixture) Labels() []int { return m.labels }

// Denoise implements Denoiser.
func (m *DeltaMixture) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return m.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser.
func (m *DeltaMixture) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	mustBatch("DeltaMixture", out, x, len(at))
	if n := len(at); n > 0 && x.Len()/n != len(m.mean) {
		return fmt.Errorf("sampler: delta mixture: images of %d values; the set's have %d", x.Len()/n, len(m.mean))
	}
	for i, k := range c.Classes {
		if k >= 0 && !slices.Contains(m.labels, k) {
			return fmt.Errorf("sampler: delta mixture: image %d wants class %d; the set has no image of it", i, k)
		}
	}
	if x.Device().CUDA() {
		return onHost(out, x, func(out, x *gpu.Tensor) error { return m.DenoiseAt(ctx, out, x, at, c) })
	}
	call := m.calls.Get().(*deltaCall)
	defer m.calls.Put(call)
	for lo := 0; lo < len(at); lo += rowsPerPiece {
		if err := ctx.Err(); err != nil {
			return err
		}
		call.load(x, at, c.Classes, lo)
		cpu.Each(m.spans, call.span)
		call.merge(out)
	}
	return nil
}

// deltaCall is the memory of one call, for rowsPerPiece images at a time: their
// number does not change an image's bits.
type deltaCall struct {
	m     *DeltaMixture
	n, lo int // images of this piece, and the first one's index
	at    [rowsPerPiece]diffusion.Point
	class [rowsPerPiece]int
	x     []float64 // [rowsPerPiece, D]: x/A - mean, zero where A is
	norm  [rowsPerPiece]float64
	parts []deltaPart // of each span
	sum   []float64   // [D]
	work  []deltaWork // of each worker
	span  func(w *cpu.Worker, s int)
}

// deltaPart is what a span gives: for each row, Σ w·(y-mean) and Σ w, with weights
// relative to exp(top).
type deltaPart struct {
	acc      []float64 // [rowsPerPiece, D]
	top, sum [rowsPerPiece]float64
}

type deltaWork struct{ y, w []float64 } // [deltaBlock, D], [rowsPerPiece, deltaBlock]

func (m *DeltaMixture) newCall() *deltaCall {
	D := len(m.mean)
	c := &deltaCall{m: m, x: make([]float64, rowsPerPiece*D), sum: make([]float64, D), parts: make([]deltaPart, m.spans), work: make([]deltaWork, cpu.Workers())}
	for i := range c.parts {
		c.parts[i].acc = make([]float64, rowsPerPiece*D)
	}
	c.span = c.run
	return c
}

// load reads the piece that starts at image lo.
func (c *deltaCall) load(x *gpu.Tensor, at []diffusion.Point, classes []int, lo int) {
	D := len(c.m.mean)
	c.lo, c.n = lo, min(rowsPerPiece, len(at)-lo)
	clear(c.x)
	for i := range c.n {
		p := at[lo+i]
		c.at[i], c.class[i], c.norm[i] = p, -1, 0
		if classes != nil {
			c.class[i] = classes[lo+i]
		}
		row := c.x[i*D : (i+1)*D]
		load(row, x, (lo+i)*D)
		for j := range row {
			if p.A > 0 {
				row[j] = row[j]/p.A - c.m.mean[j]
			} else {
				row[j] = 0 // pure noise says nothing
			}
			c.norm[i] += row[j] * row[j]
		}
	}
}

// run sums span s.
func (c *deltaCall) run(w *cpu.Worker, s int) {
	m, D, N := c.m, len(c.m.mean), c.m.N()
	part, work := &c.parts[s], &c.work[w.ID]
	if work.y == nil {
		work.y, work.w = make([]float64, deltaBlock*D), make([]float64, rowsPerPiece*deltaBlock)
	}
	clear(part.acc)
	for i := range part.top {
		part.top[i], part.sum[i] = math.Inf(-1), 0
	}
	blocks := (N + deltaBlock - 1) / deltaBlock
	for b := s * blocks / m.spans; b < (s+1)*blocks/m.spans; b++ {
		lo, hi := b*deltaBlock, min((b+1)*deltaBlock, N)
		for i := lo; i < hi; i++ {
			y := work.y[(i-lo)*D:][:D]
			for j, v := range m.images[i*D : (i+1)*D] {
				y[j] = float64(v) - m.mean[j]
			}
		}
		clear(work.y[(hi-lo)*D:])
		cpu.Gemm64(w, false, true, rowsPerPiece, deltaBlock, D, 1, c.x, D, work.y, D, 0, work.w, deltaBlock)
		any := false
		for i := range c.n {
			any = c.weigh(part, work.w[i*deltaBlock:][:deltaBlock], i, lo, hi) || any
		}
		if any { // far from the block all weights are zero
			clear(work.w[c.n*deltaBlock:])
			cpu.Gemm64(w, false, false, rowsPerPiece, D, deltaBlock, 1, work.w, deltaBlock, work.y, D, 1, part.acc, D)
		}
	}
}

// weigh turns row i's products with images lo to hi into weights relative to the
// largest so far, to which what has been summed is scaled, and tells whether any
// is not zero.
func (c *deltaCall) weigh(part *deltaPart, w []float64, i, lo, hi int) (any bool) {
	m, D := c.m, len(c.m.mean)
	p, class, top := c.at[i], c.class[i], part.top[i]
	for k := lo; k < hi; k++ {
		l := 0.0
		switch {
		case class >= 0 && m.labels[k] != class:
			l = math.Inf(-1)
		case p.A > 0 && p.B > 0:
			l = m.noise.LogWeight(D, c.norm[i], m.norms[k]-2*w[k-lo], p.Sigma())
		}
		w[k-lo] = l
		top = max(top, l)
	}
	if math.IsInf(top, -1) {
		clear(w)
		return false
	}
	if old := part.top[i]; top > old && part.sum[i] > 0 {
		scale := math.Exp(old - top)
		part.sum[i] *= scale
		acc := part.acc[i*D : (i+1)*D]
		for j := range acc {
			acc[j] *= scale
		}
	}
	part.top[i] = top
	for k := range hi - lo {
		w[k] = math.Exp(w[k] - top)
		part.sum[i] += w[k]
		any = any || w[k] != 0
	}
	clear(w[hi-lo:])
	return any
}

// merge writes the piece's images to out.
func (c *deltaCall) merge(out *gpu.Tensor) {
	D := len(c.m.mean)
	for i := range c.n {
		top, total := math.Inf(-1), 0.0
		for s := range c.parts {
			top = max(top, c.parts[s].top[i])
		}
		clear(c.sum)
		for s := range c.parts {
			p := &c.parts[s]
			if p.sum[i] == 0 {
				continue
			}
			scale := math.Exp(p.top[i] - top)
			total += scale * p.sum[i]
			for j, v := range p.acc[i*D : (i+1)*D] {
				c.sum[j] += scale * v
			}
		}
		for j := range c.sum {
			if c.at[i].B > 0 {
				c.sum[j] /= total
			} else {
				c.sum[j] = c.x[i*D+j] // without noise the state itself is the answer
			}
			c.sum[j] += c.m.mean[j]
		}
		save(out, (c.lo+i)*D, c.sum)
	}
}
