package vq

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// averages are moving averages of how many vectors each code stands for and of their sum, in
// float64; a code is the quotient.
type averages struct {
	count, sum *gpu.Tensor // [Codes], [Codes, Width]
	below      *gpu.Tensor // [Codes]: updates on end with a count below the limit
	steps      *gpu.Tensor // [1]
	now        moment      // of one update
}

// moment is how many vectors of a batch each code stands for and their sum, as averages has them, where the vectors are and on the CPU.
type moment struct {
	dev        *gpu.Device
	count, sum *gpu.Tensor
	n, s       []float64
}

// of sums the vectors of what a book made.
func (m *moment) of(dev *gpu.Device, qs []Quantized, codes, width int) {
	if m.dev != dev {
		m.dev, m.count, m.sum = dev, dev.Zeros(gpu.Float64, codes), dev.Zeros(gpu.Float64, codes, width)
		m.n, m.s = make([]float64, codes), make([]float64, codes*width)
	} else {
		ops.Fill(m.count, 0)
		ops.Fill(m.sum, 0)
	}
	for _, q := range qs {
		ops.CodeSums(m.count, m.sum, q.z.Value(), q.at)
	}
	read(m.count, m.n)
	read(m.sum, m.s)
}

func read(t *gpu.Tensor, to []float64) {
	if err := t.Read64(to); err != nil {
		panic(err) // of the device, which the caller waits for before it trusts a result
	}
}

func newAverages(s nn.Scope, codes *gpu.Tensor) *averages {
	k, d := codes.Shape()[0], codes.Shape()[1]
	a := &averages{
		count: gpu.CPU().Zeros(gpu.Float64, k), sum: gpu.CPU().Zeros(gpu.Float64, k, d), below: gpu.CPU().Zeros(gpu.Float64, k),
		steps: gpu.CPU().Zeros(gpu.Float64, 1),
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
	rows := 0
	for _, q := range qs {
		rows += q.Index.Len()
	}
	if rows == 0 {
		return
	}
	a.now.of(qs[0].z.Value().Device(), qs, c.Codes, d)
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
		count[k] = decay*count[k] + float64((1-decay)*a.now.n[k])
		for i := k * d; i < (k+1)*d; i++ {
			sum[i] = decay*sum[i] + float64((1-decay)*a.now.s[i])
		}
		if count[k] >= limit {
			below[k] = 0
		} else if below[k]++; below[k] >= every && limit > 0 {
			at, from := draws.Intn(rows), 0
			for at >= qs[from].Index.Len() {
				at -= qs[from].Index.Len()
				from++
			}
			read(qs[from].z.Value().Rows(at, at+1), sum[k*d:(k+1)*d])
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
