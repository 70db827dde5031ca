package sampler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// BlockMixture is the exact denoiser of a Gaussian mixture in layers, for trying
// what leaves out layers of a network where the truth is known. Layer b looks
// after a block of neighbouring values. The blocks that run are denoised by the
// exact mixture of their values alone, at the cost of a mixture of that many
// values; a block that is left out hands on its skip path, the best linear
// estimate value by value,
//
//	E[x0_j|x_j] = m_j + A·v_j/(A²·v_j + B²)·(x_j - A·m_j),
//
// with m and v the mixture's own means and variances. With all layers it is
// Mixture to the last bit; with none it treats the values as independent normal
// ones. It serves several goroutines.
type BlockMixture struct {
	*Mixture // of all values

	spec   MixtureSpec
	blocks [][2]int  // the values lo to hi of each layer
	m, v   []float64 // of every value

	mu  sync.Mutex
	sub map[string]*Mixture // by the blocks that are left out
}

// NewBlockMixture cuts the values of a mixture into that many layers of nearly
// one size. It refuses the low-rank form, and more layers than values.
func NewBlockMixture(spec MixtureSpec, layers int) (*BlockMixture, error) {
	if spec.Subspace != nil {
		return nil, fmt.Errorf("sampler: a mixture in the low-rank form has no layers; wanted means and covariances of the values themselves")
	}
	whole, err := NewMixture(spec)
	if err != nil {
		return nil, err
	}
	d := whole.size()
	if layers < 1 || layers > d {
		return nil, fmt.Errorf("sampler: %d layers of a mixture of %d values; wanted 1 to %d", layers, d, d)
	}
	b := &BlockMixture{Mixture: whole, spec: spec, sub: map[string]*Mixture{}}
	for l := range layers {
		b.blocks = append(b.blocks, [2]int{l * d / layers, (l + 1) * d / layers})
	}
	b.m, b.v = spec.Moments()
	return b, nil
}

// Moments are the mean and the variance of every value of a mixture that is not
// in the low-rank form.
func (s *MixtureSpec) Moments() (mean, variance []float64) {
	d := len(s.Means[0])
	mean, variance = make([]float64, d), make([]float64, d)
	total := 0.0
	for _, w := range s.Weights {
		total += w
	}
	for k, w := range s.Weights {
		for j, mu := range s.Means[k] {
			mean[j] += w / total * mu
		}
	}
	for k, w := range s.Weights {
		for j, mu := range s.Means[k] {
			variance[j] += w / total * (mu - mean[j]) * (mu - mean[j])
			if s.Vars != nil {
				variance[j] += w / total * s.Vars[k]
			} else {
				variance[j] += w / total * s.Covs[k][j][j]
			}
		}
	}
	return mean, variance
}

// Layers implements Layered.
func (b *BlockMixture) Layers() []string {
	var names []string
	for _, r := range b.blocks {
		names = append(names, fmt.Sprintf("values.%d-%d", r[0], r[1]-1))
	}
	return names
}

// Without implements Layered.
func (b *BlockMixture) Without(skip []int, ran *atomic.Int64) (Denoiser, error) {
	if ran == nil {
		ran = new(atomic.Int64)
	}
	out := &blockView{b: b, ran: ran}
	for l, r := range b.blocks {
		to := &out.linear
		if !slices.Contains(skip, l) {
			to = &out.kept
			out.layers++
		}
		for j := r[0]; j < r[1]; j++ {
			*to = append(*to, j)
		}
	}
	if out.layers+len(skip) != len(b.blocks) {
		return nil, fmt.Errorf("sampler: layers %v to leave out; wanted numbers from 0 to %d, each once", skip, len(b.blocks)-1)
	}
	if len(out.linear) == 0 {
		out.part = b.Mixture
		return out, nil
	}
	if len(out.kept) == 0 {
		return out, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(skip)
	if b.sub[key] == nil {
		part, err := NewMixture(b.spec.marginal(out.kept))
		if err != nil {
			return nil, err
		}
		b.sub[key] = part
	}
	out.part = b.sub[key]
	return out, nil
}

// marginal is the mixture of some of the values.
func (s *MixtureSpec) marginal(kept []int) MixtureSpec {
	out := MixtureSpec{Weights: s.Weights, Vars: s.Vars, Labels: s.Labels}
	pick := func(v []float64) []float64 {
		p := make([]float64, len(kept))
		for i, j := range kept {
			p[i] = v[j]
		}
		return p
	}
	for k, mu := range s.Means {
		out.Means = append(out.Means, pick(mu))
		if s.Covs == nil {
			continue
		}
		cov := make([][]float64, len(kept))
		for i, j := range kept {
			cov[i] = pick(s.Covs[k][j])
		}
		out.Covs = append(out.Covs, cov)
	}
	return out
}

// blockView is a BlockMixture without some of its layers.
type blockView struct {
	b            *BlockMixture
	part         *Mixture // of the kept values; nil where there are none
	kept, linear []int    // values
	layers       int      // that run
	ran          *atomic.Int64
	scratch      sync.Pool // of *blockScratch
}

type blockScratch struct{ x, out *gpu.Tensor }

// Denoise implements Denoiser.
func (v *blockView) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return v.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser.
func (v *blockView) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	n, d := len(at), v.b.size()
	mustBatch("BlockMixture", out, x, n)
	if n == 0 {
		return nil
	}
	if err := v.b.serves(x.Len()/n, c); err != nil {
		return err
	}
	if x.Device().CUDA() {
		return onHost(out, x, func(out, x *gpu.Tensor) error { return v.DenoiseAt(ctx, out, x, at, c) })
	}
	if len(v.linear) == 0 {
		v.ran.Add(int64(v.layers * n))
		return v.part.DenoiseAt(ctx, out, x, at, c)
	}
	for _, j := range v.linear {
		for i, p := range at {
			v.b.linear(out, x, i*d+j, j, p)
		}
	}
	if v.part == nil {
		return ctx.Err()
	}
	s, _ := v.scratch.Get().(*blockScratch)
	if s == nil || s.x.Shape()[0] != n || s.x.DType() != x.DType() {
		t := x.Device().New(x.DType(), n, len(v.kept))
		s = &blockScratch{t, t.Like()}
	}
	defer v.scratch.Put(s)
	columns(s.x, x, v.kept, d, false)
	v.ran.Add(int64(v.layers * n))
	if err := v.part.DenoiseAt(ctx, s.out, s.x, at, c); err != nil {
		return err
	}
	columns(out, s.out, v.kept, d, true)
	return nil
}

// linear writes the skip path of element e of x, which is value j of an image at p.
func (b *BlockMixture) linear(out, x *gpu.Tensor, e, j int, p diffusion.Point) {
	var y [1]float64
	load(y[:], x, e)
	if p.B == 0 {
		y[0] /= p.A
	} else {
		y[0] = b.m[j] + p.A*b.v[j]/(p.A*p.A*b.v[j]+p.B*p.B)*(y[0]-p.A*b.m[j])
	}
	save(out, e, y[:])
}

// columns copies the values kept of every row of d values of src to dst's rows,
// or, back, those rows to their places in dst.
func columns(dst, src *gpu.Tensor, kept []int, d int, back bool) {
	if src.Double() {
		copyColumns(dst.F64(), src.F64(), kept, d, back)
		return
	}
	copyColumns(dst.F32(), src.F32(), kept, d, back)
}

func copyColumns[T float32 | float64](dst, src []T, kept []int, d int, back bool) {
	k := len(kept)
	if back {
		for i := range len(src) / k {
			for c, j := range kept {
				dst[i*d+j] = src[i*k+c]
			}
		}
		return
	}
	for i := range len(dst) / k {
		for c, j := range kept {
			dst[i*k+c] = src[i*d+j]
		}
	}
}
