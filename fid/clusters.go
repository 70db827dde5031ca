package fid

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Cluster is vectors of both sets that lie together.
type Cluster struct {
	Ref, Gen             []int   // rows, the nearest to the centre first
	RefShare, GenShare   float64 // of each set
	Effect, EffectOfRefs float64 // by how much the distance would fall without its generated, or its reference vectors; NaN where too few remain
	State                string  // how the shares compare: one of the states below
}

// States of a cluster. Shares that chance explains, within three standard errors, are even.
const (
	ClusterMissing   = "missing"        // the generated set has less than a tenth of the reference's share
	ClusterFew       = "too few"        // fewer than the reference has
	ClusterEven      = "even"           //
	ClusterMany      = "too many"       // more
	ClusterGenerated = "only generated" // the reference has less than a tenth of the generated set's share
)

// Worst is the larger of the two effects.
func (c *Cluster) Worst() float64 {
	worst := math.Inf(-1)
	for _, e := range []float64{c.Effect, c.EffectOfRefs} {
		if !math.IsNaN(e) {
			worst = max(worst, e)
		}
	}
	return worst
}

// Clusters parts the vectors of both sets together into k clusters by k-means, from a start drawn with seed, and says of each what it
// does to the distance: exactly, by distances without it. The worst come first. Both sets need their features.
func Clusters(ctx context.Context, ref, gen *Stats, k int, seed uint64) ([]Cluster, error) {
	if err := needFeatures("clusters", ref, gen, 3); err != nil {
		return nil, err
	}
	if ref.Dim() != gen.Dim() {
		return nil, badInput("the reference has %d features, the generated set %d; extract both with one extractor", ref.Dim(), gen.Dim())
	}
	if k < 2 || k > ref.N+gen.N {
		return nil, badInput("%d clusters of %d vectors; want 2 or more, and no more than vectors", k, ref.N+gen.N)
	}
	v := pooled(ref, gen)
	start, err := plusplus(ctx, v, k, seed)
	if err != nil {
		return nil, err
	}
	c, err := kmeans(ctx, v, start)
	if err != nil {
		return nil, err
	}
	whole, err := Frechet(ref, gen)
	if err != nil {
		return nil, err
	}
	f, err := factorOf(nil, ref, sides[0])
	if err != nil {
		return nil, err
	}
	refOffset, genOffset := ref.offset(), gen.offset()
	out := make([]Cluster, k)
	for i, l := range c.label {
		if i < ref.N {
			out[l].Ref = append(out[l].Ref, i)
		} else {
			out[l].Gen = append(out[l].Gen, i-ref.N)
		}
	}
	for l := range out {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		q := &out[l]
		q.RefShare, q.GenShare = float64(len(q.Ref))/float64(ref.N), float64(len(q.Gen))/float64(gen.N)
		q.State = stateOf(len(q.Ref), ref.N, len(q.Gen), gen.N)
		q.Effect, q.EffectOfRefs = math.NaN(), math.NaN()
		if rest := gen.N - len(q.Gen); rest >= 2 {
			without, err := gen.without(q.Gen, genOffset)
			if err != nil {
				return nil, err
			}
			d, err := frechet(nil, ref, without, f)
			if err != nil {
				return nil, err
			}
			q.Effect = whole.Value - d.Value
		}
		if rest := ref.N - len(q.Ref); rest >= 2 {
			without, err := ref.without(q.Ref, refOffset)
			if err != nil {
				return nil, err
			}
			d, err := Frechet(without, gen)
			if err != nil {
				return nil, err
			}
			q.EffectOfRefs = whole.Value - d.Value
		}
		slices.SortStableFunc(q.Ref, func(i, j int) int { return cmp.Compare(c.square[i], c.square[j]) })
		slices.SortStableFunc(q.Gen, func(i, j int) int { return cmp.Compare(c.square[ref.N+i], c.square[ref.N+j]) })
	}
	slices.SortStableFunc(out, func(a, b Cluster) int { return cmp.Compare(b.Worst(), a.Worst()) })
	return out, nil
}

// stateOf compares a of n with b of m.
func stateOf(a, n, b, m int) string {
	p, q := float64(a)/float64(n), float64(b)/float64(m)
	both := float64(a+b) / float64(n+m)
	switch err := math.Sqrt(both * (1 - both) * (1/float64(n) + 1/float64(m))); {
	case math.Abs(p-q) <= 3*err:
		return ClusterEven
	case q < p/10:
		return ClusterMissing
	case p < q/10:
		return ClusterGenerated
	case q < p:
		return ClusterFew
	}
	return ClusterMany
}

// without is the statistics without some rows, at the cost of those alone: their sums are taken off. offset is s.offset(). While no
// more rows than features remain these are kept, as everywhere.
func (s *Stats) without(rows []int, offset []float64) (*Stats, error) {
	d, left := s.Dim(), s.N-len(rows)
	if len(rows) == 0 {
		return s, nil
	}
	if left <= d {
		gone := make([]bool, s.N)
		for _, i := range rows {
			gone[i] = true
		}
		var rest []int
		for i := range s.N {
			if !gone[i] {
				rest = append(rest, i)
			}
		}
		return s.part(rest, offset)
	}
	part, err := s.part(rows, offset)
	if err != nil {
		return nil, err
	}
	n, m, r := float64(s.N), float64(part.N), float64(left)
	out := &Stats{N: left, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
	shift := make([]float64, d)
	for j := range d {
		shift[j] = part.Mu[j] - s.Mu[j]
		out.Mu[j] = s.Mu[j] - m/r*shift[j]
	}
	whole, taken := s.Covariance(), part.Covariance()
	for i := range d {
		for j := range i + 1 {
			v := ((n-1)*whole[i*d+j] - (m-1)*taken[i*d+j] - m*n/r*shift[i]*shift[j]) / (r - 1)
			out.Sigma[i*d+j], out.Sigma[j*d+i] = v, v
		}
	}
	return out, nil
}
