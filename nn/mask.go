package nn

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/gpu"
)

// Pairs says of every query and key whether the query sees the key, for masks that are
// neither causal nor padding: one bit a pair, of each sequence or the same for all. It does
// not change, and tapes of several goroutines can share it: make it once, not every step.
type Pairs struct {
	b, lq, lk int
	bits      []uint64 // query by query, each from the beginning of a word on

	mu   sync.Mutex
	bias []*gpu.Tensor // what is added to the scores, by device and dtype, made at its first use
}

// words is how many words the bits of a query take.
func (p *Pairs) words() int { return (p.lk + 63) / 64 }

// NewPairs makes a mask [b, lq, lk] from what sees says; b is 1 for a mask that all sequences
// share.
func NewPairs(b, lq, lk int, sees func(sequence, query, key int) bool) *Pairs {
	if b < 1 || lq < 1 || lk < 1 {
		panic(fmt.Sprintf("nn: NewPairs: %d sequences of %d queries and %d keys, want at least one of each", b, lq, lk))
	}
	p := &Pairs{b: b, lq: lq, lk: lk}
	p.bits = make([]uint64, b*lq*p.words())
	for r := range b * lq {
		for j := range lk {
			if sees(r/lq, r%lq, j) {
				p.bits[r*p.words()+j/64] |= 1 << (j % 64)
			}
		}
	}
	return p
}

// Sees tells whether a query of a sequence sees a key; sequences beyond a shared mask's one
// have that.
func (p *Pairs) Sees(sequence, query, key int) bool {
	if p.b == 1 {
		sequence = 0
	}
	return p.bits[(sequence*p.lq+query)*p.words()+key/64]>>(key%64)&1 == 1
}

// Shape is sequences (1 for all), queries and keys.
func (p *Pairs) Shape() (b, lq, lk int) { return p.b, p.lq, p.lk }

// Rows is the mask of n queries from first on over the same keys: what a step of a decoder
// with a cache sees.
func (p *Pairs) Rows(first, n int) *Pairs {
	if first < 0 || n < 1 || first+n > p.lq {
		panic(fmt.Sprintf("nn: Pairs.Rows: %d queries from %d on, the mask has %d", n, first, p.lq))
	}
	return NewPairs(p.b, n, p.lk, func(b, i, j int) bool { return p.Sees(b, first+i, j) })
}

// Dense is a mask that seen, [b, lq, lk] end to end, spells out. b is 1 for a mask that all
// sequences share.
func Dense(b, lq, lk int, seen []bool) AttnMask {
	if len(seen) != b*lq*lk {
		panic(fmt.Sprintf("nn: Dense: %d values for %d sequences of %d queries and %d keys", len(seen), b, lq, lk))
	}
	return AttnMask{Pairs: NewPairs(b, lq, lk, func(b, i, j int) bool { return seen[(b*lq+i)*lk+j] })}
}

// BlockCausal is a mask of a sequence cut into blocks of these sizes: a query sees its own
// block and all before. With blocks of one it is causal; with the tokens of growing scales as
// blocks it is that of next-scale prediction (Tian et al. 2024, arXiv 2404.02905).
func BlockCausal(sizes ...int) AttnMask {
	var of []int
	for k, n := range sizes {
		if n < 1 {
			panic(fmt.Sprintf("nn: BlockCausal: block %d has %d elements, want at least one", k, n))
		}
		for range n {
			of = append(of, k)
		}
	}
	return AttnMask{Pairs: NewPairs(1, len(of), len(of), func(_, i, j int) bool { return of[j] <= of[i] })}
}

// Condition is a mask of sequences some of whose elements are given: all see the given ones,
// which see nothing else; the others see besides what is not after them. So one network goes on
// from whatever is given, in front (a prefix), behind or between (Pinyoanuntapong et al. 2024,
// arXiv 2403.19435). There is one list for each sequence, of its length, or one for all.
func Condition(given ...[]bool) AttnMask {
	if len(given) == 0 {
		panic("nn: Condition: no list of what is given")
	}
	n := len(given[0])
	for b, g := range given {
		if len(g) != n {
			panic(fmt.Sprintf("nn: Condition: %d elements of sequence %d, %d of the first", len(g), b, n))
		}
	}
	return AttnMask{Pairs: NewPairs(len(given), n, n, func(b, i, j int) bool {
		return given[b][j] || !given[b][i] && j <= i
	})}
}

// Prefix is Condition with the first given of n elements given.
func Prefix(given, n int) AttnMask {
	if given < 0 || given > n {
		panic(fmt.Sprintf("nn: Prefix: %d of %d elements", given, n))
	}
	list := make([]bool, n)
	for i := range given {
		list[i] = true
	}
	return Condition(list)
}

// scores is 0 for the pairs that are seen and -Inf for the others, [b, 1, lq, lk], on dev.
func (p *Pairs) scores(dev *gpu.Device, dt gpu.DType) *gpu.Tensor {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.bias {
		if x.Device() == dev && x.DType() == dt {
			return x
		}
	}
	v := make([]float32, p.b*p.lq*p.lk)
	for i := range v {
		if r := i / p.lk; !p.Sees(r/p.lq, r%p.lq, i%p.lk) {
			v[i] = float32(math.Inf(-1))
		}
	}
	x := dev.FromAs(dt, v, p.b, 1, p.lq, p.lk)
	p.bias = append(p.bias, x)
	return x
}

// check panics unless the pairs are those of q [B, Lq, ...] and k [B, Lk, ...].
func (m *AttnMask) check(q, k *Var) {
	p, qs, ks := m.Pairs, q.Shape(), k.Shape()
	if p != nil && (p.b != 1 && p.b != qs[0] || p.lq != qs[1] || p.lk != ks[1]) {
		panic(fmt.Sprintf("nn: Attention: a mask of shape [%d %d %d] for queries %v and keys %v, want [1 or %d, %d, %d]",
			p.b, p.lq, p.lk, qs, ks, qs[0], qs[1], ks[1]))
	}
}

// bias is what m adds to the scores, which the kernels know besides causal masks and lengths.
func (m *AttnMask) bias(t *Tape) *Var {
	if m.Pairs == nil {
		return m.Bias
	}
	x := t.newVar(m.Pairs.scores(t.dev, t.dt))
	if m.Bias != nil {
		return m.Bias.Add(x)
	}
	return x
}
