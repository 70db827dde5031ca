package fid

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// The recipe of torch-fidelity, which others leave out in part.
const (
	isSplits = 10
	isSeed   = 2020
)

// ISValue is the outcome of "is".
type ISValue struct {
	Value   float64 `json:"value"`
	Std     float64 `json:"std"` // over the splits, population
	Splits  int     `json:"splits"`
	Shuffle bool    `json:"shuffle"`
	Classes int     `json:"classes"`
}

// Number is the mean over the splits.
func (v ISValue) Number() float64 { return v.Value }

// computeIS is the Inception score of the generated set (Salimans et al. 2016):
// with p(y|x) a classifier's softmax,
//
//	exp(mean_x KL(p(y|x) || mean_x p(y|x)))
//
// of each of 10 parts, and their mean. The Inception network has 1008 classes
// and counts without the last layer's bias. Vectors i·N/10 to (i+1)·N/10 make a
// part, after a shuffle by NumPy's old generator with seed 2020, as in
// torch-fidelity; Options.InOrder leaves it out, as in ADM's and StyleGAN's.
func computeIS(ctx context.Context, c *comparison) (Value, []string, error) {
	p := c.gen.Parts[PartLogits]
	if p == nil || p.Features == nil {
		return nil, nil, badInput("%s: is needs the answers of a classifier to the pictures: give pictures, and an extractor that classifies (inception, mnist)", sides[1])
	}
	splits := c.opt.Splits
	if splits == 0 {
		splits = isSplits
	}
	ends := make([]int, splits) // of the parts
	for i := range ends {
		ends[i] = (i + 1) * p.N / splits
	}
	if size := c.opt.SplitSize; size > 0 {
		ends = ends[:0]
		for end := size; end < p.N+size; end += size {
			ends = append(ends, min(end, p.N))
		}
		splits = len(ends)
	}
	if p.N < splits {
		return nil, nil, numeric("%s: is needs at least as many pictures as the %d parts, there %s", sides[1], splits, isAre(p.N))
	}
	order := make([]int, p.N)
	if c.opt.InOrder {
		for i := range order {
			order[i] = i
		}
	} else {
		order = numpyPermutation(isSeed, p.N)
	}
	v := ISValue{Splits: splits, Shuffle: !c.opt.InOrder, Classes: p.Dim()}
	scores := make([]float64, splits)
	cpu.Each(splits, func(_ *cpu.Worker, i int) {
		if ctx.Err() == nil {
			first := 0
			if i > 0 {
				first = ends[i-1]
			}
			scores[i] = inceptionScore(p.Features, p.Dim(), order[first:ends[i]])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	v.Value = sum(scores) / float64(splits)
	v.Std = deviation(scores, v.Value)
	if v.Value-v.Value != 0 {
		return nil, nil, numeric("%s: is is %g: the classifier's answers are not finite", sides[1], v.Value)
	}
	var notes []string
	if p.N < 5000 {
		notes = append(notes, fmt.Sprintf("is: %d pictures lower the score; published figures are of 50,000", p.N))
	}
	return v, notes, nil
}

// inceptionScore is that of the rows of logits [n, classes], in float64.
func inceptionScore(logits []float32, classes int, rows []int) float64 {
	mean := make([]float64, classes)
	own := 0.0 // mean of Σ p·ln p
	n := float64(len(rows))
	logp := make([]float64, classes)
	for _, r := range rows {
		x := logits[r*classes : (r+1)*classes]
		most := math.Inf(-1)
		for _, v := range x {
			most = max(most, float64(v))
		}
		total := 0.0
		for _, v := range x {
			total += math.Exp(float64(v) - most)
		}
		total = math.Log(total)
		for k, v := range x {
			logp[k] = float64(v) - most - total
			p := math.Exp(logp[k])
			mean[k] += p / n
			own += p * logp[k] / n
		}
	}
	for _, m := range mean {
		if m > 0 {
			own -= m * math.Log(m)
		}
	}
	return math.Exp(own)
}

// numpyPermutation is numpy.random.RandomState(seed).permutation(n): MT19937
// (Matsumoto and Nishimura 1998), and a shuffle from the end with draws that are
// masked and rejected.
func numpyPermutation(seed uint32, n int) []int {
	var state [624]uint32
	state[0] = seed
	for i := uint32(1); i < 624; i++ {
		state[i] = 1812433253*(state[i-1]^state[i-1]>>30) + i
	}
	at := 624
	next := func() uint32 {
		if at == 624 {
			at = 0
			for i := range state {
				y := state[i]&0x80000000 | state[(i+1)%624]&0x7fffffff
				state[i] = state[(i+397)%624] ^ y>>1 ^ (y&1)*0x9908b0df
			}
		}
		y := state[at]
		at++
		y ^= y >> 11
		y ^= y << 7 & 0x9d2c5680
		y ^= y << 15 & 0xefc60000
		return y ^ y>>18
	}
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		mask := uint32(i)
		for s := 1; s < 32; s *= 2 {
			mask |= mask >> s
		}
		j := next() & mask
		for j > uint32(i) {
			j = next() & mask
		}
		p[i], p[j] = p[j], p[i]
	}
	return p
}
