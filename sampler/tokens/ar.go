package tokens

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/rng"
)

// Stepper predicts what comes next in several sequences at once.
type Stepper interface {
	// Begin is the logits of the first tokens, [sequences·Vocab] end to end.
	Begin() ([]float32, error)
	// Step is the logits of the tokens that follow ids, one of each sequence, the next ones.
	// The slice is the Stepper's until its next call.
	Step(ids []int32) ([]float32, error)
}

// AR draws sequences token by token.
type AR struct {
	Choice
	Length int  // tokens of a sequence, at most
	StopAt bool // a sequence ends with the id Stop, which is part of it
	Stop   int
	Seed   uint64
	First  uint64 // number of the first sequence: sequence i is a function of Seed and First+i alone
}

// Check says what is wrong with the settings.
func (a AR) Check() error {
	if a.Length < 1 {
		return fmt.Errorf("tokens: Length is %d, want at least 1", a.Length)
	}
	if a.StopAt && a.Stop < 0 {
		return fmt.Errorf("tokens: Stop is %d, want an id", a.Stop)
	}
	return a.Choice.Check()
}

// Run draws n sequences. Each has its own stream of random numbers, one number a token, so that
// it does not depend on those beside it. A sequence that has ended is fed its last token until
// all have.
func (a AR) Run(ctx context.Context, s Stepper, n int) ([][]int32, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("tokens: %d sequences, want at least 1", n)
	}
	streams := make([]*rng.Stream, n)
	for i := range streams {
		streams[i] = rng.ForImage(a.Seed, a.First+uint64(i), rng.Step)
	}
	p := picker{Choice: a.Choice}
	out, last, ended := make([][]int32, n), make([]int32, n), make([]bool, n)
	logits, err := s.Begin()
	for k, left := 0, n; ; k++ {
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(logits) == 0 || len(logits)%n != 0 {
			return nil, fmt.Errorf("tokens: %d logits for %d sequences, want as many for each", len(logits), n)
		}
		vocab := len(logits) / n
		for i := range out {
			if ended[i] {
				continue
			}
			id, _, err := p.pick(logits[i*vocab:][:vocab], streams[i].Float64())
			if err != nil {
				return nil, fmt.Errorf("sequence %d, token %d: %w", i, k, err)
			}
			last[i] = int32(id)
			out[i] = append(out[i], last[i])
			if a.StopAt && id == a.Stop || len(out[i]) == a.Length {
				ended[i] = true
				left--
			}
		}
		if left == 0 {
			return out, nil
		}
		logits, err = s.Step(last)
	}
}

// Guided is a Stepper whose logits are those without a condition, moved towards those with it:
// u + Scale·(c - u). Both are fed the same tokens.
type Guided struct {
	With, Without Stepper
	Scale         float64

	logits []float32
}

// Begin is the Stepper's.
func (g *Guided) Begin() ([]float32, error) {
	c, err := g.With.Begin()
	if err != nil {
		return nil, err
	}
	u, err := g.Without.Begin()
	return g.mix(c, u, err)
}

// Step is the Stepper's.
func (g *Guided) Step(ids []int32) ([]float32, error) {
	c, err := g.With.Step(ids)
	if err != nil {
		return nil, err
	}
	u, err := g.Without.Step(ids)
	return g.mix(c, u, err)
}

func (g *Guided) mix(c, u []float32, err error) ([]float32, error) {
	if err != nil {
		return nil, err
	}
	if len(c) != len(u) {
		return nil, fmt.Errorf("tokens: %d logits with a condition, %d without", len(c), len(u))
	}
	g.logits = append(g.logits[:0], c...)
	for i, v := range u {
		g.logits[i] = float32(float64(v) + g.Scale*(float64(c[i])-float64(v)))
	}
	return g.logits, nil
}
