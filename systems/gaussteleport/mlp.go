package gaussteleport

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// MLP is a small trained denoiser of vectors, to watch what of a score is learned
// when: two hidden layers of SiLU between EDM's preconditioning (Karras et al.
// 2022, table 1, sigma_data 0.5), its gradients written out by hand,
//
//	D(x, σ) = c_skip·x + c_out·F(c_in·x, e(ln(σ)/4)),
//
// where e are four sines and cosines. The last layer starts at zero, so that an
// untrained one is the denoiser of N(0, 0.25). It may denoise on several
// goroutines while it is not trained.
type MLP struct {
	d, width int
	w        [3][]float64 // [out, in] of each layer
	b        [3][]float64
	adam     [6]moment
	steps    int
}

// moment is Adam's memory of an array.
type moment struct{ m, v []float64 }

const (
	mlpData  = 0.5 // sigma_data
	mlpTimes = 8   // numbers that tell the noise level
)

// NewMLP is an untrained one of vectors of d values.
func NewMLP(d, width int, seed uint64) *MLP {
	n := &MLP{d: d, width: width}
	for l, s := range n.sizes() {
		n.w[l], n.b[l] = make([]float64, s[0]*s[1]), make([]float64, s[0])
		if l < 2 {
			rng.New(seed, uint64(l)).FillNormal64(n.w[l])
			for i := range n.w[l] {
				n.w[l][i] *= math.Sqrt(2 / float64(s[1]))
			}
		}
		for i, p := range [][]float64{n.w[l], n.b[l]} {
			n.adam[2*l+i] = moment{make([]float64, len(p)), make([]float64, len(p))}
		}
	}
	return n
}

// sizes are [out, in] of each layer.
func (n *MLP) sizes() [3][2]int {
	return [3][2]int{{n.width, n.d + mlpTimes}, {n.width, n.width}, {n.d, n.width}}
}

// Params is how many numbers it learns.
func (n *MLP) Params() int {
	sum := 0
	for l := range n.w {
		sum += len(n.w[l]) + len(n.b[l])
	}
	return sum
}

// Copy is the network as it is now, without Adam's memory.
func (n *MLP) Copy() *MLP {
	c := &MLP{d: n.d, width: n.width, steps: n.steps}
	for l := range n.w {
		c.w[l], c.b[l] = slices.Clone(n.w[l]), slices.Clone(n.b[l])
	}
	return c
}

// FLOPs of an evaluation of one vector.
func (n *MLP) FLOPs() float64 {
	sum := 0
	for l := range n.w {
		sum += 2 * len(n.w[l])
	}
	return float64(sum)
}

// scales are EDM's c_skip, c_out and c_in.
func scales(sigma float64) (skip, out, in float64) {
	v := sigma*sigma + mlpData*mlpData
	return mlpData * mlpData / v, sigma * mlpData / math.Sqrt(v), 1 / math.Sqrt(v)
}

// pass is a forward pass of some vectors and what its gradient needs.
type pass struct {
	n        int
	in       []float64    // [n, d+mlpTimes]
	pre, act [2][]float64 // [n, width]
	out      []float64    // [n, d]
}

func (n *MLP) newPass(rows int) *pass {
	p := &pass{n: rows, in: make([]float64, rows*(n.d+mlpTimes)), out: make([]float64, rows*n.d)}
	for l := range p.pre {
		p.pre[l], p.act[l] = make([]float64, rows*n.width), make([]float64, rows*n.width)
	}
	return p
}

// forward sets p.out to F of x [n, d] at the levels.
func (n *MLP) forward(p *pass, x, sigma []float64) {
	w := n.d + mlpTimes
	for i := range p.n {
		_, _, in := scales(sigma[i])
		row := p.in[i*w:][:w]
		for j := range n.d {
			row[j] = in * x[i*n.d+j]
		}
		t := math.Log(sigma[i]) / 4
		for k := range mlpTimes / 2 {
			row[n.d+2*k], row[n.d+2*k+1] = math.Sincos(t * float64(int(1)<<k))
		}
	}
	from := p.in
	for l, s := range n.sizes() {
		to := p.out
		if l < 2 {
			to = p.pre[l]
		}
		cpu.Gemm64(nil, false, true, p.n, s[0], s[1], 1, from, s[1], n.w[l], s[1], 0, to, s[0])
		for i := range p.n {
			for j, b := range n.b[l] {
				to[i*s[0]+j] += b
			}
		}
		if l < 2 {
			for i, v := range to {
				p.act[l][i] = v / (1 + math.Exp(-v))
			}
			from = p.act[l]
		}
	}
}

// gradient is that of Σ g·F for g [n, d], by layers: weights and biases.
func (n *MLP) gradient(p *pass, g []float64) (w, b [3][]float64) {
	s := n.sizes()
	for l := 2; l >= 0; l-- {
		from := p.in
		if l > 0 {
			from = p.act[l-1]
		}
		w[l], b[l] = make([]float64, s[l][0]*s[l][1]), make([]float64, s[l][0])
		cpu.Gemm64(nil, true, false, s[l][0], s[l][1], p.n, 1, g, s[l][0], from, s[l][1], 0, w[l], s[l][1])
		for i := range p.n {
			for j := range b[l] {
				b[l][j] += g[i*s[l][0]+j]
			}
		}
		if l == 0 {
			break
		}
		back := make([]float64, p.n*s[l][1])
		cpu.Gemm64(nil, false, false, p.n, s[l][1], s[l][0], 1, g, s[l][0], n.w[l], s[l][1], 0, back, s[l][1])
		for i, v := range p.pre[l-1] { // SiLU' = s + v·s·(1-s)
			e := 1 / (1 + math.Exp(-v))
			back[i] *= e + v*e*(1-e)
		}
		g = back
	}
	return w, b
}

// TrainOptions are those of Train.
type TrainOptions struct {
	Batch int     // 0 is 256
	Rate  float64 // of Adam; 0 is 1e-3
	Seed  uint64
	// At are the numbers of updates after which See is called, rising; training ends at the last.
	At  []int
	See func(step int) error
}

// Train takes steps of Adam on EDM's loss, E|F - target|², ln σ of mean -1.2 and
// deviation 1.2, over the vectors data [N, d]. Two runs of one seed end in the same
// bits on one machine and flavour.
func (n *MLP) Train(ctx context.Context, data []float64, o TrainOptions) error {
	if o.Batch == 0 {
		o.Batch = 256
	}
	if o.Rate == 0 {
		o.Rate = 1e-3
	}
	N := len(data) / n.d
	if N < 1 || len(data)%n.d != 0 || len(o.At) == 0 {
		return fmt.Errorf("gaussteleport: training on %d values of vectors of %d up to steps %v; wanted whole vectors and a step", len(data), n.d, o.At)
	}
	p, r := n.newPass(o.Batch), rng.New(o.Seed, 1<<20)
	x, target, sigma := make([]float64, o.Batch*n.d), make([]float64, o.Batch*n.d), make([]float64, o.Batch)
	noise, level := make([]float64, o.Batch*n.d), make([]float64, o.Batch)
	for _, at := range o.At {
		for n.steps < at {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.FillNormal64(noise)
			r.FillNormal64(level)
			for i := range o.Batch {
				sigma[i] = math.Exp(-1.2 + 1.2*level[i])
				skip, out, _ := scales(sigma[i])
				clean := data[int(r.Float64()*float64(N))*n.d:][:n.d]
				for j, v := range clean {
					x[i*n.d+j] = v + sigma[i]*noise[i*n.d+j]
					target[i*n.d+j] = (v - skip*x[i*n.d+j]) / out
				}
			}
			n.forward(p, x, sigma)
			for i, f := range p.out {
				target[i] = 2 * (f - target[i]) / float64(o.Batch)
			}
			n.update(p, target, o.Rate)
		}
		if o.See != nil {
			if err := o.See(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// update is a step of Adam (Kingma and Ba 2015, β 0.9 and 0.999).
func (n *MLP) update(p *pass, g []float64, rate float64) {
	w, b := n.gradient(p, g)
	n.steps++
	c1, c2 := 1-math.Pow(0.9, float64(n.steps)), 1-math.Pow(0.999, float64(n.steps))
	for l := range w {
		for i, pair := range [2][2][]float64{{n.w[l], w[l]}, {n.b[l], b[l]}} {
			a := &n.adam[2*l+i]
			for j, g := range pair[1] {
				a.m[j] += 0.1 * (g - a.m[j])
				a.v[j] += 0.001 * (g*g - a.v[j])
				pair[0][j] -= rate * (a.m[j] / c1) / (math.Sqrt(a.v[j]/c2) + 1e-8)
			}
		}
	}
}

// mlpRows are denoised together; pieces are made up to it, so that a vector's bits
// do not depend on how many others there are.
const mlpRows = 64

// Denoise implements sampler.Denoiser, for states in float64 on the CPU.
func (n *MLP) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, _ sampler.Cond) error {
	N := len(sigma)
	if !x.Double() || x.Device().CUDA() || x.Len() != N*n.d {
		return fmt.Errorf("gaussteleport: states %v %v on %v for %d levels; wanted float64 [n, %d] on the CPU", x.DType(), x.Shape(), x.Device(), N, n.d)
	}
	p := n.newPass(mlpRows)
	in, level := make([]float64, mlpRows*n.d), make([]float64, mlpRows)
	for lo := 0; lo < N; lo += mlpRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows := min(mlpRows, N-lo)
		clear(in)
		copy(in, x.F64()[lo*n.d:][:rows*n.d])
		for i := range level {
			level[i] = sigma[min(lo+i, N-1)]
		}
		n.forward(p, in, level)
		for i := range rows {
			skip, scale, _ := scales(level[i])
			for j := range n.d {
				at := (lo+i)*n.d + j
				out.F64()[at] = skip*x.F64()[at] + scale*p.out[i*n.d+j]
			}
		}
	}
	return nil
}
