package tokens

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// chain predicts a token by the one before alone.
type chain struct {
	n, vocab int
	table    []float32 // [vocab+1, vocab], the last row for the first token
	calls    int
	fail     int // > 0: the call that fails
}

func newChain(n, vocab int, seed uint64) *chain {
	return &chain{n: n, vocab: vocab, table: oracle.Normal(seed, (vocab+1)*vocab)}
}

var errChain = errors.New("broken chain")

func (c *chain) rows(ids []int32) ([]float32, error) {
	if c.calls++; c.calls == c.fail {
		return nil, errChain
	}
	var out []float32
	for _, id := range ids {
		out = append(out, c.table[int(id)*c.vocab:][:c.vocab]...)
	}
	return out, nil
}

func (c *chain) Begin() ([]float32, error) {
	return c.rows(slices.Repeat([]int32{int32(c.vocab)}, c.n))
}

func (c *chain) Step(ids []int32) ([]float32, error) { return c.rows(ids) }

func TestSequences(t *testing.T) {
	ctx := context.Background()
	a := AR{Length: 8, StopAt: true, Stop: 2, Seed: 5}
	c := newChain(50, 6, 1)
	all, err := a.Run(ctx, c, 50)
	if err != nil {
		t.Fatal(err)
	}
	longest, stopped := 0, 0
	for i, s := range all {
		longest = max(longest, len(s))
		at := slices.Index(s, 2)
		if len(s) > 8 || at >= 0 && at != len(s)-1 || at < 0 && len(s) != 8 {
			t.Errorf("sequence %d is %v, want 8 tokens or one 2 at the end", i, s)
		}
		if at >= 0 {
			stopped++
		}
	}
	if stopped < 10 || stopped == 50 || c.calls != longest {
		t.Errorf("%d of 50 sequences stopped; %d calls for the longest, %d tokens", stopped, c.calls, longest)
	}
	// Any batch gives the same sequences.
	a.First = 20
	some, err := a.Run(ctx, newChain(7, 6, 1), 7)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range some {
		if !slices.Equal(s, all[20+i]) {
			t.Errorf("sequence %d is %v in one batch and %v in another", 20+i, all[20+i], s)
		}
	}
	a.Seed = 6
	if other, _ := a.Run(ctx, newChain(7, 6, 1), 7); slices.Equal(other[0], some[0]) && slices.Equal(other[1], some[1]) {
		t.Error("another seed gives the same sequences")
	}
}

// The pairs of a long sequence follow the chain's law.
func TestSequencesFollowTheLaw(t *testing.T) {
	const n, vocab = 30000, 3
	c := newChain(1, vocab, 2)
	s, err := AR{Length: n, Seed: 1}.Run(context.Background(), c, 1)
	if err != nil {
		t.Fatal(err)
	}
	var pairs [vocab][vocab]float64
	for i := range n - 1 {
		pairs[s[0][i]][s[0][i+1]]++
	}
	for from, row := range pairs {
		var all, total float64
		for _, k := range row {
			all += k
		}
		logits := c.table[from*vocab:][:vocab]
		for _, l := range logits {
			total += math.Exp(float64(l))
		}
		for to, k := range row {
			p := math.Exp(float64(logits[to])) / total
			if sd := math.Sqrt(all * p * (1 - p)); math.Abs(k-all*p) > 5*sd {
				t.Errorf("%d follows %d %v times, want %v ± %v", to, from, k, all*p, sd)
			}
		}
	}
}

func TestGuidedLogits(t *testing.T) {
	g := &Guided{With: newChain(2, 4, 3), Without: newChain(2, 4, 4), Scale: 2.5}
	c, _ := newChain(2, 4, 3).Step([]int32{1, 3})
	u, _ := newChain(2, 4, 4).Step([]int32{1, 3})
	got, err := g.Step([]int32{1, 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if want := float64(u[i]) + 2.5*(float64(c[i])-float64(u[i])); math.Abs(float64(v)-want) > 1e-6 {
			t.Errorf("logit %d is %v, want %v", i, v, want)
		}
	}
	one := &Guided{With: newChain(2, 4, 3), Without: newChain(2, 4, 4), Scale: 1}
	a, _ := AR{Length: 9, Seed: 1}.Run(context.Background(), one, 2)
	b, _ := AR{Length: 9, Seed: 1}.Run(context.Background(), newChain(2, 4, 3), 2)
	if !slices.EqualFunc(a, b, slices.Equal) {
		t.Errorf("scale 1 gives %v, the condition alone %v", a, b)
	}
}

// table predicts every place by itself, and counts.
type table struct {
	l, vocab int
	logits   []float32 // [l, vocab]
	seen     [][]int32
}

func (f *table) Fill(ids []int32) ([]float32, error) {
	f.seen = append(f.seen, slices.Clone(ids))
	return slices.Repeat(f.logits, len(ids)/f.l), nil
}

const mask = 7

func TestFilling(t *testing.T) {
	ctx := context.Background()
	const n, l, steps = 3, 20, 6
	start := make([]int32, n*l)
	unknown := []int{20, 11, 2}
	for i := range start { // sequence k has unknown[k] masked tokens
		start[i] = int32(i % 5)
		if i%l < unknown[i/l] {
			start[i] = mask
		}
	}
	for name, m := range map[string]Masked{
		"plain": {}, "linear": {Ratio: LinearRatio}, "square": {Ratio: SquareRatio}, "noise": {Noise: 4.5}, "random": {Random: true}, "revise": {Revise: true, Noise: 2},
		"greedy": {Choice: Choice{Greedy: true}}, "top": {Choice: Choice{TopK: 2, Temp: 0.8}},
	} {
		m.Mask, m.Steps, m.Seed = mask, steps, 9
		f := &table{l: l, vocab: 8, logits: oracle.Normal(5, l*8)}
		ids := slices.Clone(start)
		if err := m.Run(ctx, f, ids, n); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ids, mask) {
			t.Errorf("%s: %v has masked tokens", name, ids)
		}
		for i, id := range start {
			if id != mask && ids[i] != id {
				t.Errorf("%s: the given token %d became %d", name, id, ids[i])
			}
		}
		if len(f.seen) != steps {
			t.Errorf("%s: %d evaluations, want %d", name, len(f.seen), steps)
		}
		ratio := m.Ratio
		if ratio == nil {
			ratio = func(r float64) float64 { return math.Cos(math.Pi / 2 * r) }
		}
		for k := range f.seen { // what step k+1 saw: after k steps
			for s := range n {
				masked := 0
				for _, id := range f.seen[k][s*l:][:l] {
					if id == mask {
						masked++
					}
				}
				want := unknown[s]
				for j := 1; j <= k; j++ {
					want = max(0, min(want-1, max(1, int(ratio(float64(j)/steps)*float64(unknown[s])+1e-9))))
				}
				if masked != want {
					t.Errorf("%s: after %d steps %d tokens of sequence %d are masked, want %d", name, k, masked, s, want)
				}
				for j := range l { // what was kept stays, unless it may be revised
					if k > 0 && !m.Revise && f.seen[k-1][s*l+j] != mask && f.seen[k][s*l+j] != f.seen[k-1][s*l+j] {
						t.Errorf("%s: token %d of sequence %d changed after it was kept", name, j, s)
					}
				}
			}
		}
		one := slices.Clone(start[l : 2*l]) // alone, the same
		m.First = 1
		if err := m.Run(ctx, &table{l: l, vocab: 8, logits: f.logits}, one, 1); err != nil || !slices.Equal(one, ids[l:2*l]) {
			t.Errorf("%s: sequence 1 is %v alone and %v among others (%v)", name, one, ids[l:2*l], err)
		}
	}
}

// Without noise, the tokens kept are those that were drawn with the greatest probability.
func TestTheMostCertainStay(t *testing.T) {
	const l = 10
	logits := make([]float32, l*3)
	for j := range l {
		logits[j*3+j%3] = float32(1 + (j*7)%l) // place j is more certain the greater (7j mod 10) is
	}
	f := &table{l: l, vocab: 3, logits: logits}
	m := Masked{Choice: Choice{Greedy: true}, Mask: mask, Steps: 5, Ratio: LinearRatio}
	ids := slices.Repeat([]int32{mask}, l)
	if err := m.Run(context.Background(), f, ids, 1); err != nil {
		t.Fatal(err)
	}
	for k, seen := range f.seen {
		for j, id := range seen {
			if kept, want := id != mask, (j*7)%l >= l-2*k; kept != want {
				t.Errorf("after %d steps place %d is kept: %t, want %t", k, j, kept, want)
			}
		}
	}
	// Noise lets others stay too; drawn evenly, any.
	for name, m := range map[string]Masked{"noise": {Noise: 50}, "random": {Random: true}} {
		m.Choice, m.Mask, m.Steps, m.Ratio = Choice{Greedy: true}, mask, 2, LinearRatio
		var kept [l]int
		for seed := range 400 {
			f := &table{l: l, vocab: 3, logits: logits}
			m.Seed = uint64(seed)
			if err := m.Run(context.Background(), f, slices.Repeat([]int32{mask}, l), 1); err != nil {
				t.Fatal(err)
			}
			for j, id := range f.seen[1] {
				if id != mask {
					kept[j]++
				}
			}
		}
		for j, k := range kept {
			if k < 140 || k > 260 { // 200 ± 10
				t.Errorf("%s: place %d was kept %d times of 400, want about 200", name, j, k)
			}
		}
	}
}

func TestBadLoops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	live := context.Background()
	broken := newChain(2, 3, 1)
	broken.fail = 2
	nan := newChain(2, 3, 1)
	nan.table[1] = float32(math.NaN())
	nan.table[9] = 50 // the first token is 0
	fill := func(m Masked, ids []int32, n int) error {
		return m.Run(live, &table{l: 2, vocab: 3, logits: make([]float32, 6)}, ids, n)
	}
	run := func(ctx context.Context, a AR, s Stepper, n int) error {
		_, err := a.Run(ctx, s, n)
		return err
	}
	for want, err := range map[string]error{
		"Length is 0":                         run(live, AR{}, newChain(2, 3, 1), 2),
		"Stop is -1":                          run(live, AR{Length: 2, StopAt: true, Stop: -1}, newChain(2, 3, 1), 2),
		"TopK is -1":                          run(live, AR{Length: 2, Choice: Choice{TopK: -1}}, newChain(2, 3, 1), 2),
		"0 sequences":                         run(live, AR{Length: 2}, newChain(2, 3, 1), 0),
		"6 logits for 4 sequences":            run(live, AR{Length: 2}, newChain(2, 3, 1), 4),
		errChain.Error():                      run(live, AR{Length: 5}, broken, 2),
		"context canceled":                    run(ctx, AR{Length: 5}, newChain(2, 3, 1), 2),
		"sequence 0, token 1: tokens: logit ": run(live, AR{Length: 5}, nan, 2),
		"12 logits with a condition, 6 witho": run(live, AR{Length: 5}, &Guided{With: newChain(4, 3, 1), Without: newChain(2, 3, 1)}, 2),
		"Steps is 0":                          fill(Masked{Mask: mask}, []int32{mask, 0}, 1),
		"Mask is -1":                          fill(Masked{Mask: -1, Steps: 1}, []int32{mask, 0}, 1),
		"Noise is -1":                         fill(Masked{Mask: mask, Steps: 1, Noise: -1}, []int32{mask, 0}, 1),
		"TopP is 2":                           fill(Masked{Mask: mask, Steps: 1, Choice: Choice{TopP: 2}}, []int32{mask, 0}, 1),
		"3 ids of 2 sequences":                fill(Masked{Mask: mask, Steps: 1}, []int32{mask, 0, 1}, 2),
		"none of the 2 ids is masked (7)":     fill(Masked{Mask: mask, Steps: 1}, []int32{1, 0}, 1),
		"8 logits for 3 tokens":               Masked{Mask: mask, Steps: 1}.Run(live, wrong{}, []int32{mask, 0, 1}, 1),
	} {
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}

// wrong has not as many logits for each token.
type wrong struct{}

func (wrong) Fill([]int32) ([]float32, error) { return make([]float32, 8), nil }
