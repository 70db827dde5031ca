package arflow

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/nn"
)

// Gate is how much of the past the tokens of a picture see.
type Gate string

// The gates: the product of the gates of the tokens up to a token's own, which favours the first ones, as in the authors' code; the
// geometric mean of all of the picture, the same for each; and all of the past, of which pictures that follow lose nothing either.
const (
	Cumulative Gate = "" // of a Config that says nothing
	MeanGate   Gate = "mean"
	NoGate     Gate = "none"
)

// Gates are all of them.
var Gates = []Gate{Cumulative, MeanGate, NoGate}

// Past is what hybrid attention knows besides queries, keys and values.
type Past struct {
	Gates *nn.Var // [B, T, H], logarithms, at most 0
	Gate  Gate
	Chunk int     // tokens of a picture; T is a multiple of it
	State *nn.Var // what came before, [B, H, D, D]; nil for nothing
	// Keep says that the state after the last picture is wanted.
	Keep bool
}

// Hybrid is softmax attention within pictures and linear attention across them, for q, k and v [B, T, H, D]: the T tokens of a sequence are
// those of T/Chunk pictures. With k over √D, and g the Gates, of picture n
//
//	inner  = softmax(q kᵀ) v                        all tokens of the picture see each other
//	cross  = (q · exp(Σ_{tokens up to its own} g)) S_n
//	S_n+1  = exp(mean_tokens g) S_n + kᵀ v          S_0 = State
//
// and out = inner + cross. S_n knows the pictures before n alone: no token of a picture is seen twice, and none of a later one. next is
// S after the last picture, [B, H, D, D], nil unless it is to be kept.
func Hybrid(q, k, v *nn.Var, p Past) (out, next *nn.Var) {
	s := q.Shape()
	if len(s) != 4 || !slices.Equal(k.Shape(), s) || !slices.Equal(v.Shape(), s) || p.Chunk < 1 || s[1]%p.Chunk != 0 || !slices.Contains(Gates, p.Gate) ||
		p.Gate != NoGate && (p.Gates == nil || !slices.Equal(p.Gates.Shape(), s[:3])) {
		panic(fmt.Sprintf("arflow: Hybrid: queries, keys and values %v, %v, %v in chunks of %d tokens, gate %q: want [B, T, heads, D] with T a multiple of the chunk, and gates [B, T, heads]",
			s, k.Shape(), v.Shape(), p.Chunk, p.Gate))
	}
	b, n, l, h, d := s[0], s[1]/p.Chunk, p.Chunk, s[2], s[3]
	t := q.Tape()
	k = k.Scale(1 / math.Sqrt(float64(d)))
	apart := func(x *nn.Var) *nn.Var { return x.Reshape(b*n, l, h, d) }
	out = nn.Attention(apart(q), apart(k), apart(v), 1, nn.AttnMask{}).Reshape(b, n*l, h, d)
	alone := n == 1 && p.State == nil
	if alone && !p.Keep {
		return out, nil
	}
	byHead := func(x *nn.Var) *nn.Var { return x.Reshape(b, n, l, h, d).Permute(0, 1, 3, 2, 4) } // [B, n, H, L, D]
	var keep, see *nn.Var
	if p.Gate != NoGate {
		g := p.Gates.Reshape(b, n, l, h)
		mean := g.Mean(2)
		keep = mean.Exp() // [B, n, H]
		if p.Gate == MeanGate {
			see = keep.Reshape(b, n, h, 1, 1)
		} else {
			see = g.CumSum(2).Permute(0, 1, 3, 2).Exp().Reshape(b, n, h, l, 1)
		}
	}
	pairs := byHead(k).MatMulTN(byHead(v)) // [B, n, H, D, D]
	var room [8]*nn.Var                    // as many as sequences usually have
	before, state := room[:0], p.State
	for i := range n {
		before = append(before, state)
		if i == n-1 && !p.Keep {
			break
		}
		now := pairs.Slice(1, i, 1).Reshape(b, h, d, d)
		switch {
		case state == nil:
			state = now
		case keep == nil:
			state = state.Add(now)
		default:
			state = now.AddMul(state, keep.Slice(1, i, 1).Reshape(b, h, 1, 1))
		}
	}
	if p.Keep {
		next = state
	}
	if alone {
		return out, next
	}
	for i, x := range before {
		if x == nil {
			x = t.Const(0, b, h, d, d)
		}
		before[i] = x.Reshape(b, 1, h, d, d)
	}
	seen := byHead(q)
	if see != nil {
		seen = seen.Mul(see)
	}
	cross := seen.MatMul(nn.Concat(1, before...)) // [B, n, H, L, D]
	return out.Add(cross.Permute(0, 1, 3, 2, 4).Reshape(b, n*l, h, d)), next
}
