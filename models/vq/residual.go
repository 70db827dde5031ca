package vq

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// ResidualConfig describes books of which each codes what those before it left over
// (Zeghidour et al. 2021, arXiv 2107.03312; for motion Guo et al. 2024, arXiv 2312.00063).
type ResidualConfig struct {
	Levels int
	Shared bool    // one book serves all levels
	Drop   float64 // share of training steps that use a prefix of the levels only
	Tau    float64 // > 0: in training a code is drawn from softmax(-distance/Tau); else it is the nearest
	Book   Config  // of each level
}

// Check says what is wrong with c.
func (c ResidualConfig) Check() error {
	switch {
	case c.Levels < 1:
		return fmt.Errorf("vq: Levels is %d, want >= 1", c.Levels)
	case !(c.Drop >= 0 && c.Drop <= 1):
		return fmt.Errorf("vq: Drop is %g, want 0 to 1", c.Drop)
	case !(c.Tau >= 0):
		return fmt.Errorf("vq: Tau is %g, want >= 0", c.Tau)
	case c.Book.Normalize:
		return fmt.Errorf("vq: Book.Normalize is set, want residuals as long as they are: their lengths are part of what is coded")
	}
	return c.Book.Check()
}

// Residual is the books, from the coarsest level on.
type Residual struct {
	Config ResidualConfig
	Books  []*Book // one, where it is shared

	levels []Quantized // of the latest call
	noise  noisyChoice
}

// NewResidual registers books in s: layers.0, layers.1, …; one alone where it is shared.
func NewResidual(s nn.Scope, c ResidualConfig) *Residual {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	r := &Residual{Config: c}
	n := c.Levels
	if c.Shared {
		n = 1
	}
	for i := range n {
		book := c.Book
		book.Seed += uint64(i)
		r.Books = append(r.Books, New(s.At(fmt.Sprintf("layers.%d", i)), book))
	}
	return r
}

// Book is the book of a level.
func (r *Residual) Book(level int) *Book { return r.Books[min(level, len(r.Books)-1)] }

// Residuals is what Residual made of vectors.
type Residuals struct {
	Codes  *nn.Var     // [n, Width]: the sum of the levels' codes
	Index  *gpu.Tensor // Int32 [n, Levels] on the CPU, until the tape's next Run; -1: absent
	Loss   *nn.Var     // []: the mean of the losses of levels that are used
	Levels []Quantized // those used, until the next call
}

// Quantize is the sum of codes nearest to vectors z [n, Width], level by level: each level's
// code stands for what is left of z, has its gradient (so that z gets the sum's gradient once
// a level), and is taken away without one. step numbers the steps of training: draws depend
// on it and on Book.Seed alone. Without train all levels are used and the nearest codes taken.
func (r *Residual) Quantize(z *nn.Var, train bool, step uint64) Residuals {
	t, c := z.Tape(), &r.Config
	used := c.Levels
	if train && c.Drop > 0 {
		s := *rng.New(c.Book.Seed, uint64(rng.Dropout)<<48)
		s.Seek(step << 2)
		if drop := float64(s.Uint32()) < c.Drop*(1<<32); drop {
			used = 1 + int(uint64(s.Uint32())*uint64(c.Levels)>>32)
		}
	}
	var out Residuals
	n := z.Shape()[0]
	out.Index = hostInts(t, n, c.Levels)
	for i := range out.Index.I32() {
		out.Index.I32()[i] = -1
	}
	rest := z
	r.levels = r.levels[:0]
	for level := range used {
		var noisy *noisyChoice
		if train && c.Tau > 0 {
			r.noise = noisyChoice{tau: c.Tau, noise: ops.Noise{
				Seed: c.Book.Seed, Stream: uint64(rng.Step) << 48, From: (step*uint64(c.Levels) + uint64(level)) * uint64(c.Book.Codes),
			}}
			noisy = &r.noise
		}
		q := r.Book(level).quantize(rest, train, noisy)
		r.levels = append(r.levels, q)
		for i, k := range q.Index.I32() {
			out.Index.I32()[i*c.Levels+level] = k
		}
		rest = rest.Sub(q.Codes.StopGrad())
		if level == 0 {
			out.Codes, out.Loss = q.Codes, q.Loss
		} else {
			out.Codes, out.Loss = out.Codes.Add(q.Codes), out.Loss.Add(q.Loss)
		}
	}
	out.Loss, out.Levels = out.Loss.Scale(1/float64(used)), r.levels
	return out
}

// Update takes what the latest Quantize made into the averages, as Book.Update does.
func (r *Residual) Update(q Residuals) {
	if r.Config.Shared {
		r.Books[0].Update(q.Levels...)
		return
	}
	for level := range q.Levels {
		r.Books[level].Update(q.Levels[level : level+1]...)
	}
}

// Decode is the sum of the codes of the first levels of indices, Int32 [n, Levels] on the
// CPU, as [n, Width]; an index -1 adds nothing. It panics on indices that are none: Check
// those that come from outside.
func (r *Residual) Decode(t *nn.Tape, idx *gpu.Tensor, levels int) *nn.Var {
	if levels < 1 || levels > r.Config.Levels {
		panic(fmt.Sprintf("vq: Decode: %d levels, want 1 to %d", levels, r.Config.Levels))
	}
	if err := r.Check(idx); err != nil {
		panic(err.Error())
	}
	n := idx.Shape()[0]
	var sum *nn.Var
	for level := range levels {
		at, absent := hostInts(t, n), false
		there := make([]float32, n)
		for i := range n {
			k := idx.I32()[i*r.Config.Levels+level]
			if there[i] = 1; k < 0 {
				k, absent, there[i] = 0, true, 0
			}
			at.I32()[i] = k
		}
		e := r.Book(level).Lookup(t, at)
		if absent {
			mask := t.Arena().New(t.DType(), n, 1)
			mask.Set(there)
			e = e.Mul(t.Input(mask))
		}
		if sum == nil {
			sum = e
		} else {
			sum = sum.Add(e)
		}
	}
	return sum
}

// Check says what is wrong with indices.
func (r *Residual) Check(idx *gpu.Tensor) error {
	s := idx.Shape()
	if idx.DType() != gpu.Int32 || len(s) != 2 || s[1] != r.Config.Levels {
		return fmt.Errorf("vq: indices are %v of shape %v, want int32 [n, %d]", idx.DType(), s, r.Config.Levels)
	}
	for i, k := range idx.I32() {
		if k < -1 || int(k) >= r.Config.Book.Codes {
			return fmt.Errorf("vq: index %d of level %d at %d, want 0 to %d, or -1 for none", k, i%s[1], i/s[1], r.Config.Book.Codes-1)
		}
	}
	return nil
}

// noisyChoice draws codes by their distance: the greatest of -|z - e|²/tau + Gumbel noise.
type noisyChoice struct {
	tau   float64
	noise ops.Noise
}

func (c *noisyChoice) choose(idx *gpu.Tensor, z, table *nn.Var) {
	t := z.Tape()
	z, table = z.StopGrad(), table.StopGrad()
	k := table.Shape()[0]
	// |z|² is the same for all codes of a row.
	scores := z.MatMulNT(table).Scale(2).Sub(table.Square().Sum(1).Reshape(k)).Scale(1 / c.tau)
	g := t.Arena().New(t.DType(), scores.Shape()...)
	ops.Gumbels(g, c.noise, false)
	ops.ArgMax(idx, nil, scores.Add(t.Input(g)).Value())
}
