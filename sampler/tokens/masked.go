package tokens

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/rng"
)

// Filler predicts the tokens of sequences some of which are masked.
type Filler interface {
	// Fill is the logits of all tokens of ids, sequences of one length end to end: as many
	// for each, end to end. The slice is the Filler's again at its next call; until then it may
	// be written to.
	Fill(ids []int32) ([]float32, error)
}

// MaskRatio is which share of the tokens to fill is still masked when a share r of the steps
// is done. It falls from 1 at 0 to 0 at 1.
type MaskRatio func(r float64) float64

// CosineRatio is cos(π·r/2), MaskGIT's.
func CosineRatio(r float64) float64 { return math.Cos(math.Pi * r / 2) }

// LinearRatio is 1 - r.
func LinearRatio(r float64) float64 { return 1 - r }

// SquareRatio is 1 - r².
func SquareRatio(r float64) float64 { return 1 - r*r }

// Masked fills masked tokens in a few steps: all are drawn at once, then the least certain ones
// are masked again, fewer from step to step (MaskGIT: Chang et al. 2022, arXiv 2202.04200).
//
// After step k of S, of the n tokens of a sequence that were masked at the start
//
//	m = max(1, floor(Ratio(k/S)·n)), at most one fewer than before the step, and 0 after the last
//
// are masked: those with the least log p + Noise·(1 - k/S)·g, where p is the probability that a
// token was drawn with and g a Gumbel draw.
type Masked struct {
	Choice
	Mask   int // the id of what is masked, which is never drawn where the network has logits for it
	Steps  int
	Ratio  MaskRatio // nil: CosineRatio
	Noise  float64   // 4.5 in the paper
	Random bool      // which ones are masked again is drawn evenly, whatever p is
	Revise bool      // tokens kept by an earlier step may be masked again, by the p of their new prediction
	Seed   uint64
	First  uint64 // number of the first sequence: a sequence is a function of Seed and its number alone
}

// Check says what is wrong with the settings.
func (m Masked) Check() error {
	switch {
	case m.Steps < 1:
		return fmt.Errorf("tokens: Steps is %d, want at least 1", m.Steps)
	case m.Mask < 0:
		return fmt.Errorf("tokens: Mask is %d, want an id", m.Mask)
	case !(m.Noise >= 0) || math.IsInf(m.Noise, 0):
		return fmt.Errorf("tokens: Noise is %g, want a finite number, 0 or more", m.Noise)
	}
	return m.Choice.Check()
}

// filling is one sequence on its way.
type filling struct {
	ids    []int32
	start  []int // places masked at the start
	open   []int // those masked now
	score  []float64
	stream *rng.Stream
}

// Run fills the tokens of n sequences, ids end to end, that are Mask, in place; the others stay
// as they are. It is an error where nothing is masked. A step asks once for all sequences; it
// ends early where all are filled.
func (m Masked) Run(ctx context.Context, f Filler, ids []int32, n int) error {
	if err := m.Check(); err != nil {
		return err
	}
	if n < 1 || len(ids) == 0 || len(ids)%n != 0 {
		return fmt.Errorf("tokens: %d ids of %d sequences, want as many for each", len(ids), n)
	}
	l := len(ids) / n
	list, left := make([]filling, n), 0
	for i := range list {
		s := &list[i]
		s.ids, s.stream = ids[i*l:][:l], rng.ForImage(m.Seed, m.First+uint64(i), rng.Step)
		for j, id := range s.ids {
			if int(id) == m.Mask {
				s.start = append(s.start, j)
			}
		}
		s.open, s.score = slices.Clone(s.start), make([]float64, l)
		left += len(s.open)
	}
	if left == 0 {
		return fmt.Errorf("tokens: none of the %d ids is masked (%d)", len(ids), m.Mask)
	}
	p := picker{Choice: m.Choice}
	for k := 1; k <= m.Steps && left > 0; k++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := f.Fill(ids)
		if err != nil {
			return err
		}
		if len(logits) == 0 || len(logits)%len(ids) != 0 {
			return fmt.Errorf("tokens: %d logits for %d tokens, want as many for each", len(logits), len(ids))
		}
		left = 0
		vocab := len(logits) / len(ids)
		for i := range list {
			if err := m.step(&list[i], &p, logits[i*l*vocab:][:l*vocab], vocab, k); err != nil {
				return fmt.Errorf("sequence %d, step %d: %w", i, k, err)
			}
			left += len(list[i].open)
		}
	}
	return nil
}

// remain is how many of a sequence's tokens are masked after step k.
func (m *Masked) remain(s *filling, k int) int {
	if k == m.Steps {
		return 0
	}
	ratio := m.Ratio
	if ratio == nil {
		ratio = CosineRatio
	}
	n := int(math.Floor(ratio(float64(k)/float64(m.Steps))*float64(len(s.start)) + 1e-9)) // 1 - 4/5 is less than 1/5
	return min(max(1, n), len(s.open)-1)
}

func (m *Masked) step(s *filling, p *picker, logits []float32, vocab, k int) error {
	if len(s.open) == 0 {
		return nil
	}
	keep := m.remain(s, k)
	places := s.open
	if m.Revise {
		places = s.start
	}
	heat := m.Noise * (1 - float64(k)/float64(m.Steps))
	for _, j := range places {
		row := logits[j*vocab:][:vocab]
		if m.Mask < vocab {
			row[m.Mask] = float32(math.Inf(-1))
		}
		u, v := s.stream.Float64(), s.stream.Float64() // two a token, whatever they are used for
		prob := 0.0
		if int(s.ids[j]) == m.Mask {
			id, q, err := p.pick(row, u)
			if err != nil {
				return fmt.Errorf("token %d: %w", j, err)
			}
			s.ids[j], prob = int32(id), q
		} else {
			if err := p.law(row); err != nil {
				return fmt.Errorf("token %d: %w", j, err)
			}
			prob = p.prob[s.ids[j]]
		}
		g := -math.Log(-math.Log(math.Max(v, 0x1p-53)))
		if m.Random {
			s.score[j] = g
		} else {
			s.score[j] = math.Log(prob) + heat*g
		}
	}
	again := slices.Clone(places)
	slices.SortStableFunc(again, func(a, b int) int { return cmp.Compare(s.score[a], s.score[b]) })
	s.open = append(s.open[:0], again[:keep]...)
	slices.Sort(s.open)
	for _, j := range s.open {
		s.ids[j] = int32(m.Mask)
	}
	return nil
}
