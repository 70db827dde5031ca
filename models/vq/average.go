package vq

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// averages are moving averages of how many vectors each code stands for and of their sum, in
// float64; a code is the quotient.
type averages struct {
	count, sum *gpu.Tensor // [Codes], [Codes, Width]
	below      *gpu.Tensor // [Codes]: updates on end with a count below the limit
	steps      *gpu.Tensor // [1]
	n, s       []float64   // of one update
	z          []*gpu.Tensor
}

func newAverages(s nn.Scope, codes *gpu.Tensor) *averages {
	k, d := codes.Shape()[0], codes.Shape()[1]
	a := &averages{
		count: gpu.CPU().Zeros(gpu.Float64, k), sum: gpu.CPU().Zeros(gpu.Float64, k, d), below: gpu.CPU().Zeros(gpu.Float64, k),
		steps: gpu.CPU().Zeros(gpu.Float64, 1), n: make([]float64, k), s: make([]float64, k*d),
	}
	s.Buffer("count", a.count)
	s.Buffer("sum", a.sum)
	s.Buffer("below", a.below)
	s.Buffer("steps", a.steps)
	a.begin(codes)
	return a
}

// begin makes every code the average of one vector.
func (a *averages) begin(codes *gpu.Tensor) {
	for i := range a.count.Len() {
		a.count.F64()[i], a.below.F64()[i] = 1, 0
	}
	if err := codes.Read64(a.sum.F64()); err != nil {
		panic(err) // codes are on the CPU
	}
}

// noCount is a count that is no longer told from none; such a code stays where it is.
const noCount = 1e-9

func (a *averages) update(b *Book, qs []Quantized) {
	c := &b.Config
	d, decay := c.Width, or(c.Decay, 0.99)
	clear(a.n)
	clear(a.s)
	rows := 0
	a.z = a.z[:0]
	for _, q := range qs {
		rows += q.Index.Len()
		z := host(q.z.Value())
		a.z = append(a.z, z)
		if z.Double() {
			a.add(q.Index.I32(), z.F64(), nil, d)
		} else {
			a.add(q.Index.I32(), nil, z.F32(), d)
		}
	}
	if rows == 0 {
		return
	}
	limit, every := c.ResetBelow, float64(c.ResetEvery)
	if limit == 0 {
		limit = 1
	}
	if every == 0 {
		every = 20
	}
	count, sum, below := a.count.F64(), a.sum.F64(), a.below.F64()
	draws := *rng.New(c.Seed, uint64(rng.Resample)<<48|1)
	draws.Seek(uint64(a.steps.F64()[0]) << 32)
	for k := range count {
		count[k] = decay*count[k] + float64((1-decay)*a.n[k])
		for i := k * d; i < (k+1)*d; i++ {
			sum[i] = decay*sum[i] + float64((1-decay)*a.s[i])
		}
		if count[k] >= limit {
			below[k] = 0
		} else if below[k]++; below[k] >= every && limit > 0 {
			at, from := draws.Intn(rows), 0
			for at >= qs[from].Index.Len() {
				at -= qs[from].Index.Len()
				from++
			}
			for i := range d {
				sum[k*d+i] = element(a.z[from], at*d+i)
			}
			count[k], below[k] = 1, 0
		}
		if count[k] > noCount {
			for i := k * d; i < (k+1)*d; i++ {
				if b.codes.Double() {
					b.codes.F64()[i] = sum[i] / count[k]
				} else {
					b.codes.F32()[i] = float32(sum[i] / count[k])
				}
			}
		}
	}
	a.steps.F64()[0]++
}

// add sums the vectors of each code, in their order; one of x64 and x32 is there.
func (a *averages) add(idx []int32, x64 []float64, x32 []float32, d int) {
	for r, k := range idx {
		a.n[k]++
		to := a.s[int(k)*d:][:d]
		if x64 != nil {
			for i, v := range x64[r*d:][:d] {
				to[i] += v
			}
			continue
		}
		for i, v := range x32[r*d:][:d] {
			to[i] += float64(v)
		}
	}
}

func element(x *gpu.Tensor, i int) float64 {
	if x.Double() {
		return x.F64()[i]
	}
	return float64(x.F32()[i])
}
