package token_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// stepped is the logits of ids by steps of these numbers of tokens, with what is in front first.
func stepped(tape *nn.Tape, m *token.Net, c *tower.Cache, ids *gpu.Tensor, in func(*nn.Tape) token.Inputs, steps []int) [][]float64 {
	var out [][]float64 // by token, all sequences
	b, l := ids.Shape()[0], ids.Shape()[1]
	add := func(y *nn.Var) {
		s := y.Shape()
		v := floats(y.Value())
		for i := range s[1] {
			var at []float64
			for k := range b {
				at = append(at, v[(k*s[1]+i)*s[2]:][:s[2]]...)
			}
			out = append(out, at)
		}
	}
	tape.Run(func() {
		if y := m.Begin(c, tape, in(tape)); y != nil {
			add(y)
		}
	})
	first := 0
	for _, n := range steps {
		part := make([]int32, 0, b*n)
		for k := range b {
			part = append(part, ids.I32()[k*l+first:][:n]...)
		}
		tape.Run(func() { add(m.Step(c, tape, gpu.CPU().FromInt32(part, b, n))) })
		first += n
	}
	return out
}

// compare fails unless steps gave the logits of the whole, [B, n, Out].
func compare(t *testing.T, name string, got [][]float64, whole []float64, shape []int, tol float64) {
	t.Helper()
	if len(got) != shape[1] {
		t.Fatalf("%s: steps gave %d tokens' logits, the whole has %v", name, len(got), shape)
	}
	for i, at := range got {
		for j, v := range at {
			w := whole[(j/shape[2]*shape[1]+i)*shape[2]+j%shape[2]]
			if !(math.Abs(v-w) <= tol*(1+math.Abs(w))) {
				t.Fatalf("%s: token %d: logit %d is %v by steps, %v by the whole", name, i, j, v, w)
			}
		}
	}
}

func TestStepsEqualTheWhole(t *testing.T) {
	n := 0
	for kind, c := range kinds {
		if !c.Causal {
			continue
		}
		for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-5, gpu.Float64: 1e-12} {
			_, m, in := made(t, kind, dt, 3)
			tape := nn.NewTape(gpu.CPU(), dt)
			tape.Arena().Poison(true)
			ids := text(3, 9)
			whole, shape := logits(tape, m, ids, in)
			for _, steps := range [][]int{{1, 1, 1, 1, 1, 1, 1, 1, 1}, {9}, {4, 1, 1, 3}, {1, 5, 2, 1}} {
				cache := m.NewCache(tape, 3, 20, 0)
				compare(t, kind, stepped(tape, m, cache, ids, in, steps), whole, shape, tol)
				if want := shape[1] - 9; cache.Seen() < 9+want || cache.Held() != cache.Seen() {
					t.Errorf("%s: the cache has seen %d tokens and holds %d", kind, cache.Seen(), cache.Held())
				}
				n++
				cache.Reset() // a second sequence in the same memory
				compare(t, kind+" after Reset", stepped(tape, m, cache, ids, in, steps), whole, shape, tol)
			}
		}
	}
	if n != 9*2*4 {
		t.Errorf("%d cases", n)
	}
}

// A cache that is too small forgets the oldest tokens that are not pinned: as if each query saw
// the pinned ones and the latest.
func TestFullCacheForgetsTheOldest(t *testing.T) {
	const l, room, pinned = 14, 6, 2
	window := nn.NewPairs(1, l, l, func(_, i, j int) bool { return j <= i && (j < pinned || i-j < room-pinned) })
	for _, kind := range []string{"plain", "rotary", "post", "modulate"} {
		for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-5, gpu.Float64: 1e-12} {
			_, m, in := made(t, kind, dt, 2)
			tape := nn.NewTape(gpu.CPU(), dt)
			ids := text(2, l)
			whole, shape := logits(tape, m, ids, func(tape *nn.Tape) token.Inputs {
				x := in(tape)
				x.Mask = window
				return x
			})
			all, _ := logits(tape, m, ids, in)
			if slices.Equal(all, whole) {
				t.Fatalf("%s: the window hides nothing", kind)
			}
			for _, steps := range [][]int{{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 4, 5}, {14}} {
				cache := m.NewCache(tape, 2, room, pinned)
				compare(t, kind, stepped(tape, m, cache, ids, in, steps), whole, shape, tol)
				if cache.Held() != room || cache.Seen() != l {
					t.Errorf("the cache holds %d of %d tokens, want %d of %d", cache.Held(), cache.Seen(), room, l)
				}
			}
		}
	}
}

// A fork goes on by itself; tokens that were tried can be taken back.
func TestForkAndTruncate(t *testing.T) {
	_, m, in := made(t, "rotary", gpu.Float64, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	ids := text(2, 9)
	other := text(2, 9)
	for i := range other.I32() {
		if i%9 >= 5 {
			other.I32()[i] = (other.I32()[i] + 2) % 7
		}
	}
	cut := func(x *gpu.Tensor, first, n int) *gpu.Tensor {
		var v []int32
		for b := range 2 {
			v = append(v, x.I32()[b*9+first:][:n]...)
		}
		return gpu.CPU().FromInt32(v, 2, n)
	}
	step := func(c *tower.Cache, x *gpu.Tensor) (v []float64) {
		tape.Run(func() { v = floats(m.Step(c, tape, x).Value()) })
		return v
	}
	cache := m.NewCache(tape, 2, 12, 0)
	tape.Run(func() { m.Begin(cache, tape, in(tape)) })
	step(cache, cut(ids, 0, 5))
	fork := cache.Fork()
	a := step(cache, cut(ids, 5, 4))
	b := step(fork, cut(other, 5, 4))
	for name, c := range map[string]struct {
		ids *gpu.Tensor
		got []float64
	}{"the first": {ids, a}, "the fork": {other, b}} {
		whole, _ := logits(tape, m, c.ids, in)
		for i, v := range c.got {
			if w := whole[(i/28*9+5)*7+i%28]; math.Abs(v-w) > 1e-12*(1+math.Abs(w)) {
				t.Fatalf("%s: logit %d is %v, the whole gives %v", name, i, v, w)
			}
		}
	}
	cache.Truncate(5)
	if again := step(cache, cut(other, 5, 4)); !slices.Equal(again, b) {
		t.Error("after Truncate other tokens do not get the logits that they got in the fork")
	}
}

// The pair's decoder, step by step, attends to states whose keys were computed once.
func TestStepsOfThePair(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	p := token.NewPair(net.At(""),
		token.Config{Vocab: 7, Out: -1, MaxLen: 9, Width: 8, Depth: 1, Heads: 2},
		token.Config{Vocab: 7, MaxLen: 9, Width: 12, Depth: 2, Heads: 2, Causal: true, Cross: 8})
	for _, q := range net.All() {
		q.Start = nn.Normal(0.3)
	}
	net.Init(2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	source, lens, target := text(2, 6), gpu.CPU().FromInt32([]int32{6, 3}, 2), text(2, 9)
	var whole []float64
	var shape []int
	tape.Run(func() {
		y := p.Forward(tape, source, lens, target)
		whole, shape = floats(y.Value()), slices.Clone(y.Shape())
	})
	in := func(tape *nn.Tape) token.Inputs { return token.Inputs{Context: p.Encode(tape, source, lens)} }
	calls, _ := p.Encoder.Evaluations()
	got := stepped(tape, p.Decoder, p.Decoder.NewCache(tape, 2, 9, 0), target, in, []int{1, 1, 1, 1, 1, 1, 1, 1, 1})
	compare(t, "pair", got, whole, shape, 1e-5)
	if after, _ := p.Encoder.Evaluations(); after != calls+1 {
		t.Errorf("the encoder ran %d times for nine steps", after-calls)
	}
}

// What a step costs is counted: a block for each new token and sequence.
func TestEvaluations(t *testing.T) {
	_, m, in := made(t, "class", gpu.Float32, 3)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	logits(tape, m, text(3, 9), in)
	calls, blocks := m.Evaluations()
	if calls != 1 || blocks != 3*10*2 {
		t.Errorf("a whole of 10 tokens and 3 sequences took %d calls and %d blocks, want 1 and 60", calls, blocks)
	}
	stepped(tape, m, m.NewCache(tape, 3, 10, 0), text(3, 9), in, []int{1, 1, 1, 1, 1, 1, 1, 1, 1})
	if c, b := m.Evaluations(); c-calls != 10 || b-blocks != 60 {
		t.Errorf("steps took %d calls and %d blocks, want 10 and 60", c-calls, b-blocks)
	}
}

func TestStepsOfGeneratingAllocateNothing(t *testing.T) {
	_, m, in := made(t, "rotary", gpu.Float32, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	cache := m.NewCache(tape, 2, 20, 1)
	ids := text(2, 1)
	tape.Run(func() { m.Begin(cache, tape, in(tape)) })
	body := func() {
		cache.Truncate(3)
		m.Step(cache, tape, ids)
	}
	for range 4 {
		tape.Run(func() { m.Step(cache, tape, ids) })
	}
	step := func() { tape.Run(body) }
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}
