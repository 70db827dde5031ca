package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// Rows is a set of vectors to fit: At writes vector i, of D values, to dst. It
// is called on several goroutines.
type Rows struct {
	N, D int
	At   func(i int, dst []float64)
}

// FitOptions are the settings of FitMixture.
type FitOptions struct {
	Components int     // of each class
	Dims       int     // of the principal subspace
	Iterations int     // of expectation maximisation
	PCAStride  int     // every so many vectors make the principal subspace; 0 is 1
	Pool       float64 // the class's covariance counts in each component's like so many vectors
	Residual   float64 // factor on the measured variance outside the subspace; 0 fits no residual
	Seed       uint64
}

// FitMixture fits a low-rank mixture to x by maximum likelihood: the leading
// principal subspace of all vectors, then in it, for each class apart, k-means
// with k-means++ starts (Arthur and Vassilvitskii 2007) and expectation
// maximisation with full covariances. labels has the class of each vector, or
// is nil for a single unnamed class. The same input and seed give the same bits
// on one machine and build flavour, at any number of threads. progress, if not
// nil, hears the share done.
func FitMixture(ctx context.Context, x Rows, labels []uint8, o FitOptions, progress func(float64)) (*MixtureSpec, error) {
	o.PCAStride = max(o.PCAStride, 1)
	if labels != nil && len(labels) != x.N {
		return nil, fmt.Errorf("sampler: FitMixture: %d labels for %d vectors", len(labels), x.N)
	}
	if o.Components < 1 || o.Dims < 1 || o.Dims > x.D || o.Iterations < 0 || !(o.Pool >= 0) || !(o.Residual >= 0) {
		return nil, fmt.Errorf("sampler: FitMixture: options %+v for %d dimensions; wanted components and dims of at least 1, dims at most the data's", o, x.D)
	}
	if progress == nil {
		progress = func(float64) {}
	}
	members := map[int][]int{}
	for i := range x.N {
		c := 0
		if labels != nil {
			c = int(labels[i])
		}
		members[c] = append(members[c], i)
	}
	var classes []int
	for c, idx := range members {
		if len(idx) < o.Components*2 {
			return nil, fmt.Errorf("sampler: FitMixture: %d vectors of class %d for %d components; wanted at least %d", len(idx), c, o.Components, 2*o.Components)
		}
		classes = append(classes, c)
	}
	if len(classes) == 0 {
		return nil, fmt.Errorf("sampler: FitMixture: no vectors")
	}
	slices.Sort(classes)

	sub, err := principal(ctx, x, o)
	if err != nil {
		return nil, err
	}
	progress(0.3)
	z, err := project(ctx, x, sub, o)
	if err != nil {
		return nil, err
	}
	progress(0.4)

	fits := make([]*classFit, len(classes))
	cpu.Each(len(classes), func(w *cpu.Worker, i int) {
		if ctx.Err() == nil {
			idx := members[classes[i]]
			f := &classFit{d: o.Dims, o: o, rng: rng.New(o.Seed, uint64(classes[i])), z: make([]float64, 0, len(idx)*o.Dims)}
			for _, n := range idx {
				f.z = append(f.z, z[n*o.Dims:(n+1)*o.Dims]...)
			}
			f.fit(ctx, w)
			f.z = nil
			fits[i] = f
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	progress(1)
	s := &MixtureSpec{Subspace: sub}
	for i, f := range fits {
		if f.err != nil {
			return nil, fmt.Errorf("sampler: FitMixture: class %d: %w", classes[i], f.err)
		}
		for k, w := range f.weights {
			s.Weights = append(s.Weights, w*float64(len(members[classes[i]]))/float64(x.N))
			s.Means = append(s.Means, f.means[k*f.d:(k+1)*f.d])
			cov := make([][]float64, f.d)
			for r := range cov {
				cov[r] = f.covs[(k*f.d+r)*f.d:][:f.d]
			}
			s.Covs = append(s.Covs, cov)
			if labels != nil {
				s.Labels = append(s.Labels, classes[i])
			}
		}
	}
	return s, nil
}

const fitChunk = 512 // vectors at a time

// principal finds the mean and the leading eigenvectors of the covariance.
func principal(ctx context.Context, x Rows, o FitOptions) (*Subspace, error) {
	D := x.D
	var idx []int
	for i := 0; i < x.N; i += o.PCAStride {
		idx = append(idx, i)
	}
	buf := make([]float64, fitChunk*D)
	mean, cov := make([]float64, D), make([]float64, D*D)
	for pass := range 2 {
		for lo := 0; lo < len(idx); lo += fitChunk {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			part := idx[lo:min(lo+fitChunk, len(idx))]
			cpu.Each(len(part), func(_ *cpu.Worker, i int) {
				row := buf[i*D : (i+1)*D]
				x.At(part[i], row)
				if pass == 1 {
					for j := range row {
						row[j] -= mean[j]
					}
				}
			})
			if pass == 1 {
				cpu.SyrkT64(nil, D, len(part), 1/float64(len(idx)), buf, D, 1, cov, D)
				continue
			}
			for i := range part {
				for j, v := range buf[i*D : (i+1)*D] {
					mean[j] += v / float64(len(idx))
				}
			}
		}
	}
	var trace float64
	for j := range D {
		trace += cov[j*D+j]
	}
	values, err := cpu.SymEig64(nil, D, cov, D, true)
	if err != nil {
		return nil, fmt.Errorf("sampler: FitMixture: covariance of the data: %w", err)
	}
	s := &Subspace{Mean: mean}
	for i := range o.Dims {
		row := cov[(D-1-i)*D:][:D]
		// An eigenvector's sign is the library's whim: make the largest entry positive.
		at := 0
		for j, v := range row {
			if math.Abs(v) > math.Abs(row[at]) {
				at = j
			}
		}
		sign := math.Copysign(1, row[at])
		b := make([]float64, D)
		for j, v := range row {
			b[j] = sign * v
		}
		s.Basis = append(s.Basis, b)
		trace -= values[D-1-i]
	}
	if D > o.Dims {
		s.Residual = o.Residual * math.Max(trace, 0) / float64(D-o.Dims)
	}
	return s, nil
}

// project is every vector in the subspace's coordinates, [N, d].
func project(ctx context.Context, x Rows, s *Subspace, o FitOptions) ([]float64, error) {
	D, d := x.D, o.Dims
	basis := slices.Concat(s.Basis...)
	z := make([]float64, x.N*d)
	buf := make([]float64, fitChunk*D)
	for lo := 0; lo < x.N; lo += fitChunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(fitChunk, x.N-lo)
		const piece = 64
		cpu.Each((n+piece-1)/piece, func(w *cpu.Worker, p int) {
			a, b := p*piece, min((p+1)*piece, n)
			for i := a; i < b; i++ {
				row := buf[i*D : (i+1)*D]
				x.At(lo+i, row)
				for j, m := range s.Mean {
					row[j] -= m
				}
			}
			cpu.Gemm64(w, false, true, b-a, d, D, 1, buf[a*D:], D, basis, D, 0, z[(lo+a)*d:], d)
		})
	}
	return z, nil
}
