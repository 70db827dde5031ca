package vq

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// Usage counts how often each code of a book was chosen.
type Usage struct{ Counts []int }

// NewUsage is a count of none for a book of that many codes.
func NewUsage(codes int) *Usage { return &Usage{make([]int, codes)} }

// Add counts indices, Int32 on the CPU; -1, an absent one, is not counted.
func (u *Usage) Add(idx *gpu.Tensor) {
	for i, k := range idx.I32() {
		switch {
		case k == -1:
		case k < 0 || int(k) >= len(u.Counts):
			panic(fmt.Sprintf("vq: Usage: index %d at %d, want 0 to %d, or -1 for none", k, i, len(u.Counts)-1))
		default:
			u.Counts[k]++
		}
	}
}

// Total is how many indices were counted.
func (u *Usage) Total() (n int) {
	for _, c := range u.Counts {
		n += c
	}
	return n
}

// Used is the share of codes that were chosen at least once.
func (u *Usage) Used() float64 { return 1 - float64(u.Dead())/float64(len(u.Counts)) }

// Dead is how many codes were never chosen.
func (u *Usage) Dead() (n int) {
	for _, c := range u.Counts {
		if c == 0 {
			n++
		}
	}
	return n
}

// Perplexity is exp(-Σ p·log(p + 1e-7)) with p the share of each code: near the number of
// codes where all are used alike, 1 where one is. It is 0 before anything was counted.
func (u *Usage) Perplexity() float64 {
	total := float64(u.Total())
	if total == 0 {
		return 0
	}
	var s float64
	for _, c := range u.Counts {
		p := float64(c) / total
		s += float64(p * math.Log(p+1e-7))
	}
	return math.Exp(-s)
}
