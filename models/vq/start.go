package vq

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// lloyd is how many times KMeans moves the codes.
const lloyd = 10

func uniform(seed uint64, limit float64, n int) []float32 {
	v := make([]float32, n)
	s := rng.New(seed, uint64(rng.Weights)<<48)
	for i := range v {
		v[i] = float32(limit * (2*s.Float64() - 1))
	}
	return v
}

// begin sets the codes to vectors of z [n, Width], all different ones where there are enough;
// else they are repeated with normals of 0.01/√Width added. KMeans goes on from there.
func (b *Book) begin(z *gpu.Tensor) {
	n, d, k := z.Shape()[0], b.Config.Width, b.Config.Codes
	z = host(z)
	if n == 0 {
		return
	}
	s := rng.New(b.Config.Seed, uint64(rng.Resample)<<48)
	order := s.Perm(n)
	codes := make([]float64, k*d)
	for i := range k {
		for j := range d {
			codes[i*d+j] = element(z, order[i%n]*d+j)
			if i >= n {
				codes[i*d+j] += 0.01 / math.Sqrt(float64(d)) * s.Normal()
			}
		}
	}
	if b.Config.Start == KMeans {
		kmeans(z, codes, d, s)
	}
	if w := b.Weight(); w.Double() {
		w.Copy(gpu.CPU().From64(codes, k, d))
	} else {
		v := make([]float32, len(codes))
		for i, x := range codes {
			v[i] = float32(x)
		}
		w.Set(v)
	}
	ops.Fill(b.ready, 1)
	if b.ema != nil {
		b.ema.begin(b.codes)
	}
}

// spread draws the codes after the first from the vectors, each with a chance that grows with
// its squared distance from the codes so far (Arthur and Vassilvitskii 2007, k-means++).
func spread(x, codes []float64, d int, s *rng.Stream) {
	far := make([]float64, len(x)/d)
	for r := range far {
		far[r] = math.Inf(1)
	}
	for k := 1; k < len(codes)/d; k++ {
		var sum float64
		for r := range far {
			var e float64
			for i := range d {
				e += (x[r*d+i] - codes[(k-1)*d+i]) * (x[r*d+i] - codes[(k-1)*d+i])
			}
			far[r] = min(far[r], e)
			sum += far[r]
		}
		if sum == 0 { // no more different ones
			return
		}
		at, left := 0, s.Float64()*sum
		for at < len(far)-1 && left >= far[at] {
			left -= far[at]
			at++
		}
		copy(codes[k*d:][:d], x[at*d:])
	}
}

// kmeans moves codes to the means of what is nearest to them. A code that nothing is nearest
// to takes the vector that is farthest from its own code, the next such one the second.
func kmeans(z *gpu.Tensor, codes []float64, d int, s *rng.Stream) {
	n, k := z.Shape()[0], len(codes)/d
	x := make([]float64, n*d)
	for i := range x {
		x[i] = element(z, i)
	}
	if n >= k {
		spread(x, codes, d, s)
	}
	zt := gpu.CPU().From64(x, n, d)
	idx, dist := gpu.CPU().New(gpu.Int32, n), gpu.CPU().Empty64(n)
	for range lloyd {
		ops.Nearest(idx, dist, zt, gpu.CPU().From64(codes, k, d), ops.L2)
		count := make([]float64, k)
		sums := make([]float64, k*d)
		for r, c := range idx.I32() {
			count[c]++
			for i := range d {
				sums[int(c)*d+i] += x[r*d+i]
			}
		}
		far := make([]int, n)
		for i := range far {
			far[i] = i
		}
		slices.SortStableFunc(far, func(a, b int) int {
			switch da, db := dist.F64()[a], dist.F64()[b]; {
			case da > db:
				return -1
			case da < db:
				return 1
			}
			return 0
		})
		for c := range k {
			switch {
			case count[c] > 0:
				for i := range d {
					codes[c*d+i] = sums[c*d+i] / count[c]
				}
			case len(far) > 0:
				copy(codes[c*d:][:d], x[far[0]*d:])
				far = far[1:]
			}
		}
	}
}

func element(x *gpu.Tensor, i int) float64 {
	if x.Double() {
		return x.F64()[i]
	}
	return float64(x.F32()[i])
}
