// Package tokens draws sequences of tokens from networks that predict them: one after the
// other, and all at once with the least certain ones masked again. It knows no network: what
// predicts is an interface of logits.
package tokens

import (
	"fmt"
	"math"
	"slices"
)

// Choice is how a token is drawn from logits; the zero value draws from their softmax. First
// comes the temperature, then TopK, then TopP, as elsewhere.
type Choice struct {
	Temp   float64 // divides the logits; 0 stands for 1
	Greedy bool    // the most likely token, the first of equals; the rest does not matter then
	TopK   int     // > 0: only so many of the most likely tokens, the first of equals
	TopP   float64 // 0 < TopP < 1: only the fewest most likely tokens that have at least that probability (Holtzman et al. 2020, arXiv 1904.09751)
}

// Check says what is wrong with a choice.
func (c Choice) Check() error {
	switch {
	case !(c.Temp >= 0) || math.IsInf(c.Temp, 0):
		return fmt.Errorf("tokens: Temp is %g, want 0 for 1, or a finite number above 0", c.Temp)
	case c.TopK < 0:
		return fmt.Errorf("tokens: TopK is %d, want 0 for all, or more", c.TopK)
	case !(c.TopP >= 0 && c.TopP <= 1):
		return fmt.Errorf("tokens: TopP is %g, want 0 for all, or up to 1", c.TopP)
	}
	return nil
}

// picker draws, and has the memory for it.
type picker struct {
	Choice
	prob  []float64
	order []int
}

// law sets p.prob to the probabilities that tokens are drawn with. It is an error where no logit
// is finite, or one is NaN or +Inf.
func (p *picker) law(logits []float32) error {
	p.prob = p.prob[:0]
	top := math.Inf(-1)
	for i, l := range logits {
		if l != l || math.IsInf(float64(l), 1) {
			return fmt.Errorf("tokens: logit %d of %d is %v; the network's weights or inputs are broken", i, len(logits), l)
		}
		top = math.Max(top, float64(l))
	}
	if math.IsInf(top, -1) {
		return fmt.Errorf("tokens: all %d logits are -Inf; no token can be drawn", len(logits))
	}
	temp := p.Temp
	if temp == 0 {
		temp = 1
	}
	for _, l := range logits {
		p.prob = append(p.prob, math.Exp((float64(l)-top)/temp))
	}
	some := p.TopK > 0 && p.TopK < len(logits)
	if some || p.TopP > 0 && p.TopP < 1 {
		p.order = p.order[:0]
		for i := range logits {
			p.order = append(p.order, i)
		}
		slices.SortStableFunc(p.order, func(a, b int) int { // the first of equals first
			switch {
			case logits[a] > logits[b]:
				return -1
			case logits[a] < logits[b]:
				return 1
			}
			return 0
		})
		if some {
			p.keep(p.TopK)
		}
		if p.TopP > 0 && p.TopP < 1 {
			var all, sum float64
			for _, i := range p.order {
				all += p.prob[i]
			}
			n := 0
			for n < len(p.order) && (n == 0 || sum < p.TopP*all) {
				sum += p.prob[p.order[n]]
				n++
			}
			p.keep(n)
		}
	}
	var all float64
	for _, e := range p.prob {
		all += e
	}
	for i := range p.prob {
		p.prob[i] /= all
	}
	return nil
}

// keep leaves the n most likely tokens.
func (p *picker) keep(n int) {
	for _, i := range p.order[n:] {
		p.prob[i] = 0
	}
	p.order = p.order[:n]
}

// pick is the token that the uniform number u in [0, 1) chooses, the first whose sum of
// probabilities in the order of ids, in float64, is above u; and its probability.
func (p *picker) pick(logits []float32, u float64) (id int, prob float64, err error) {
	if err := p.law(logits); err != nil {
		return 0, 0, err
	}
	if p.Greedy {
		for i, l := range logits {
			if l > logits[id] || logits[id] != logits[id] {
				id = i
			}
		}
		return id, p.prob[id], nil
	}
	var sum float64
	last := 0
	for i, e := range p.prob {
		if e == 0 {
			continue
		}
		last = i
		if sum += e; u < sum {
			return i, e, nil
		}
	}
	return last, p.prob[last], nil // the sum is below 1 by rounding
}
