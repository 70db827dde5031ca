package nn

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/gpu"
)

// RelativeBias is a learned number of each head for where a key lies from a query, added to
// the scores of attention: the Bias of an AttnMask, through which its gradient comes back.
type RelativeBias struct {
	W *Param // [places, heads]

	place func(i, j, lq, lk int) int // the row of W for query i and key j
	fixed int                        // of queries and keys; 0 where any number will do

	mu    sync.Mutex
	known []relativePlaces
}

// relativePlaces are the rows of W for all pairs, made once for each length and device.
type relativePlaces struct {
	lq, lk int
	rows   *gpu.Tensor // Int32 [lq·lk]
}

func newRelativeBias(s Scope, name string, places, heads int, place func(i, j, lq, lk int) int) *RelativeBias {
	if heads < 1 || places < 1 {
		panic(fmt.Sprintf("nn: RelativeBias: %s: %d heads and %d places, want one or more", s.prefix, heads, places))
	}
	return &RelativeBias{W: s.Param(name, TruncNormal(0.02), places, heads), place: place}
}

// NewRelativeBias registers a bias of sequences in s, "relative_position_bias_table" [2·reach -
// 1, heads]: row reach - 1 + d is for queries d after their key, and from distance reach - 1 on
// all have the same. Queries and keys end together.
func NewRelativeBias(s Scope, heads, reach int) *RelativeBias {
	return newRelativeBias(s, "relative_position_bias_table", 2*reach-1, heads, func(i, j, lq, lk int) int {
		return reach - 1 + min(max(i+lk-lq-j, 1-reach), reach-1)
	})
}

// NewRelativeBias2D registers a bias of grids of h by w tokens, row by row, in s,
// "relative_position_bias_table" [(2h-1)(2w-1), heads]: row (dy + h - 1)·(2w - 1) + dx + w - 1 is
// for queries dy rows and dx columns after their key (Liu et al. 2021, arXiv 2103.14030).
func NewRelativeBias2D(s Scope, heads, h, w int) *RelativeBias {
	b := newRelativeBias(s, "relative_position_bias_table", (2*h-1)*(2*w-1), heads, func(i, j, _, _ int) int {
		return (i/w-j/w+h-1)*(2*w-1) + i%w - j%w + w - 1
	})
	b.fixed = h * w
	return b
}

// NewBucketBias registers a bias of sequences in s, "relative_attention_bias.weight" [buckets,
// heads], whose rows are for distances up to a number of their own, and then for ranges that grow
// geometrically up to most, from which on all have the last (Raffel et al. 2020, arXiv
// 1910.10683). bothWays halves the rows between keys before and after the query; else all after
// are as the query's own place. Queries and keys end together.
func NewBucketBias(s Scope, heads, buckets, most int, bothWays bool) *RelativeBias {
	n := buckets
	if bothWays {
		n /= 2
	}
	exact := n / 2
	if exact < 1 || most <= exact {
		panic(fmt.Sprintf("nn: NewBucketBias: %s: %d rows up to a distance of %d, want at least 2, or 4 both ways, and a distance above %d", s.prefix, buckets, most, exact))
	}
	// In float32 as published networks do, whose ranges begin where it rounds to.
	scale := float32(math.Log(float64(most) / float64(exact)))
	return newRelativeBias(s, "relative_attention_bias.weight", buckets, heads, func(i, j, lq, lk int) int {
		first, d := 0, i+lk-lq-j // keys before the query are positive
		if d < 0 {
			if !bothWays {
				return 0
			}
			first, d = n, -d
		}
		if d < exact {
			return first + d
		}
		in := float32(math.Log(float64(float32(d)/float32(exact)))) / scale * float32(n-exact)
		return first + min(exact+int(in), n-1)
	})
}

// Forward is the bias of lq queries and lk keys, [1, heads, lq, lk]. It panics where a grid has
// other numbers.
func (b *RelativeBias) Forward(t *Tape, lq, lk int) *Var {
	if lq < 1 || lk < 1 || b.fixed > 0 && (lq != b.fixed || lk != b.fixed) {
		panic(fmt.Sprintf("nn: RelativeBias: %d queries and %d keys, want %d of both, or of sequences one or more", lq, lk, b.fixed))
	}
	w := t.Use(b.W)
	return w.Rows(b.rows(t.dev, lq, lk)).Permute(1, 0).Reshape(1, w.Shape()[1], lq, lk)
}

func (b *RelativeBias) rows(dev *gpu.Device, lq, lk int) *gpu.Tensor {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.known {
		if k.lq == lq && k.lk == lk && k.rows.Device() == dev {
			return k.rows
		}
	}
	v := make([]int32, lq*lk)
	for r := range v {
		v[r] = int32(b.place(r/lk, r%lk, lq, lk))
	}
	x := dev.FromInt32(v, lq*lk)
	b.known = append(b.known, relativePlaces{lq, lk, x})
	return x
}
