// Package vq quantises vectors: books of codes learnt by gradients or by moving averages,
// books of residuals, and measures of how much of a book is used.
//
//	book := vq.New(net.At("quantize"), vq.Config{Codes: 512, Width: 8, Average: true})
//	net.Init(seed)
//	tape.Run(func() {
//		q := book.Quantize(encode(x), true)
//		tape.Backward(loss(decode(q.Codes), x).Add(q.Loss))
//		book.Update(q)
//	})
//	opt.Step(lr)
package vq

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Start is how a book's codes begin.
type Start int

// The starts.
const (
	Uniform    Start = iota // uniform in ±1/Codes
	FirstBatch              // vectors of the first batch that is trained on
	KMeans                  // means of the first batch, by Lloyd's iteration
)

// Config describes a book. Zeros stand for the defaults.
type Config struct {
	Codes, Width int

	// Average says that codes are moving averages of the vectors they stand for (van den
	// Oord et al. 2017, arXiv 1711.00937, appendix A.1), which Update makes, and no
	// parameters; else the optimiser trains them.
	Average    bool
	Decay      float64 // of averages: 0.99
	ResetBelow float64 // a code with a lower average count of vectors a batch for ResetEvery updates on end begins anew at a vector of the batch; 1, below 0 never
	ResetEvery int     // 20

	// Normalize makes vectors and codes unit vectors, so that the nearest code is that of the
	// greatest cosine (Yu et al. 2022, arXiv 2110.04627).
	Normalize bool
	Commit    float64 // weight in Loss of mean (z - sg e)²: 0.25; below 0: none
	Pull      float64 // weight in Loss of mean (sg z - e)², without Average: 1; below 0: none
	Start     Start
	Seed      uint64 // of draws: starts and resets
}

// Check says what is wrong with c.
func (c Config) Check() error {
	switch {
	case c.Codes < 2:
		return fmt.Errorf("vq: Codes is %d, want >= 2", c.Codes)
	case c.Width < 1:
		return fmt.Errorf("vq: Width is %d, want >= 1", c.Width)
	case !(c.Decay >= 0 && c.Decay < 1):
		return fmt.Errorf("vq: Decay is %g, want 0 <= Decay < 1 (0 for 0.99)", c.Decay)
	case c.ResetEvery < 0:
		return fmt.Errorf("vq: ResetEvery is %d, want >= 0 (0 for 20)", c.ResetEvery)
	case c.Start < Uniform || c.Start > KMeans:
		return fmt.Errorf("vq: Start is %d, want Uniform, FirstBatch or KMeans", c.Start)
	}
	return nil
}

func or(v, standard float64) float64 {
	if v == 0 {
		return standard
	}
	return max(v, 0)
}

// Book is codes, [Codes, Width], and what keeps them.
type Book struct {
	Config Config

	param *nn.Param   // without Average
	codes *gpu.Tensor // with it
	ready *gpu.Tensor // float64 [1]: 1 once the codes have begun; nil where they do at once
	ema   *averages
}

// New registers a book in s: a parameter "embedding.weight", or with Average buffers.
func New(s nn.Scope, c Config) *Book {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	b := &Book{Config: c}
	limit := 1 / float64(c.Codes)
	if c.Average {
		dt := s.Params().DType()
		b.codes = gpu.CPU().FromAs(dt, uniform(c.Seed, limit, c.Codes*c.Width), c.Codes, c.Width)
		s.Buffer("embedding.weight", b.codes)
		b.ema = newAverages(s.At("average"), b.codes)
	} else {
		b.param = s.Param("embedding.weight", nn.Uniform(limit), c.Codes, c.Width)
	}
	if c.Start != Uniform {
		b.ready = gpu.CPU().Zeros(gpu.Float64, 1)
		s.Buffer("ready", b.ready)
	}
	return b
}

// Weight is the codes before normalisation, [Codes, Width].
func (b *Book) Weight() *gpu.Tensor {
	if b.param != nil {
		return b.param.Value
	}
	return b.codes
}

// Loaded says that the codes are those of a file that has no tensor "ready", so that no
// batch takes their place.
func (b *Book) Loaded() {
	if b.ready != nil {
		ops.Fill(b.ready, 1)
	}
	if b.ema != nil {
		b.ema.begin(b.codes)
	}
}

// table is the codes on a tape as vectors are compared with them.
func (b *Book) table(t *nn.Tape) *nn.Var {
	var w *nn.Var
	if b.param != nil {
		w = t.Use(b.param)
	} else {
		w = t.Input(b.on(t))
	}
	if b.Config.Normalize {
		return normalize(w)
	}
	return w
}

// on is the codes that averages keep, which are on the CPU, on the device of a tape.
func (b *Book) on(t *nn.Tape) *gpu.Tensor {
	if !t.Device().CUDA() {
		return b.codes
	}
	x := t.Arena().New(b.codes.DType(), b.codes.Shape()...)
	x.Copy(b.codes)
	return x
}

// host is x on the CPU, float64 where it was elsewhere.
func host(x *gpu.Tensor) *gpu.Tensor {
	if !x.Device().CUDA() {
		return x
	}
	v := make([]float64, x.Len())
	read(x, v)
	return gpu.CPU().From64(v, x.Shape()...)
}

// hostInts are integers on the CPU, until the tape's next Run.
func hostInts(t *nn.Tape, shape ...int) *gpu.Tensor {
	if t.Device().CUDA() {
		return gpu.CPU().New(gpu.Int32, slices.Clone(shape)...) // a copy: shape itself stays on the stack
	}
	return t.Arena().New(gpu.Int32, shape...)
}

// normalize is the rows of x as unit vectors; rows of zeros stay.
func normalize(x *nn.Var) *nn.Var {
	last := len(x.Shape()) - 1
	return x.Div(x.Square().Sum(last).Affine(1, 1e-24).Sqrt())
}

// Quantized is what a book made of vectors.
type Quantized struct {
	Codes *nn.Var     // [n, Width]: the codes, with the gradient of the vectors
	Index *gpu.Tensor // Int32 [n] on the CPU, until the tape's next Run
	Loss  *nn.Var     // []: Commit and Pull

	at *gpu.Tensor // Index, where z is
	z  *nn.Var     // what was compared with the codes
}

// Quantize is the codes nearest to vectors z [n, Width]. In training the first call lets the
// codes begin, where Start says so.
func (b *Book) Quantize(z *nn.Var, train bool) Quantized { return b.quantize(z, train, nil) }

// quantize is Quantize with noise on the choice, if not nil.
func (b *Book) quantize(z *nn.Var, train bool, noisy *noisyChoice) Quantized {
	t, s := z.Tape(), z.Shape()
	if len(s) != 2 || s[1] != b.Config.Width {
		panic(fmt.Sprintf("vq: Quantize: vectors %v for codes of %d, want [n, %d]", s, b.Config.Width, b.Config.Width))
	}
	if b.Config.Normalize {
		z = normalize(z)
	}
	if train && b.ready != nil && b.ready.F64()[0] == 0 {
		b.begin(z.Value())
	}
	table := b.table(t)
	idx := t.Arena().New(gpu.Int32, s[0])
	if noisy != nil {
		noisy.choose(idx, z, table)
	} else {
		ops.Nearest(idx, nil, z.Value(), table.Value(), ops.L2)
	}
	at := idx
	if t.Device().CUDA() {
		idx = hostInts(t, s[0])
		idx.Copy(at)
	}
	e := table.Rows(idx)
	q := Quantized{Codes: nn.ST(e, z), Index: idx, at: at, z: z.StopGrad()}
	if s[0] == 0 {
		q.Loss = t.Const(0)
		return q
	}
	q.Loss = nn.MSE(z, e.StopGrad(), nil).Scale(or(b.Config.Commit, 0.25))
	if b.param != nil {
		q.Loss = q.Loss.Add(nn.MSE(e, z.StopGrad(), nil).Scale(or(b.Config.Pull, 1)))
	}
	return q
}

// Lookup is the codes of indices, Int32 [...] on the CPU, as [..., Width]. It panics on an
// index that is none.
func (b *Book) Lookup(t *nn.Tape, idx *gpu.Tensor) *nn.Var { return b.table(t).Rows(idx) }

// Update takes what a book made of a batch into the averages, and resets codes that are not
// used. It is called once a step, after Backward; without Average it does nothing.
func (b *Book) Update(qs ...Quantized) {
	if b.ema != nil {
		b.ema.update(b, qs)
	}
}

// Rows is pictures x [N, C, H, W] as vectors [N·H·W, C], in the order of reading.
func Rows(x *nn.Var) *nn.Var {
	s := x.Shape()
	switch len(s) {
	case 3: // sequences [N, C, L]
		return x.Permute(0, 2, 1).Reshape(s[0]*s[2], s[1])
	case 4:
		return x.Permute(0, 2, 3, 1).Reshape(s[0]*s[2]*s[3], s[1])
	}
	panic(fmt.Sprintf("vq: Rows: shape %v, want [N, C, L] or [N, C, H, W]", s))
}

// Unrows is the reverse of Rows; shape is that of the pictures, or sequences.
func Unrows(rows *nn.Var, shape []int) *nn.Var {
	d := rows.Shape()[1]
	switch len(shape) {
	case 3:
		return rows.Reshape(shape[0], shape[2], d).Permute(0, 2, 1)
	case 4:
		return rows.Reshape(shape[0], shape[2], shape[3], d).Permute(0, 3, 1, 2)
	}
	panic(fmt.Sprintf("vq: Unrows: shape %v, want [N, C, L] or [N, C, H, W]", shape))
}
