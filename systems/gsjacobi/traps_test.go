package gsjacobi

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// naive solves a block's tokens in its order by rounds of whole-block evaluations, each of which may be spoilt in a way that the solver
// must not be: what it returns must differ from the truth, or the tests of equality would not see the mistake.
type naive struct {
	tape     *nn.Tape
	b        *flow.Block
	classes  *gpu.Tensor
	noShift  bool // coefficients of a token are its own
	segments int  // whose first tokens forget the one before; 0: none
	mean     bool // stops on the mean over all
	bound    float64
}

func (n *naive) solve(z *gpu.Tensor, rounds int) (x *gpu.Tensor, took int) {
	x = z.Like()
	x.Copy(z)
	s := z.Shape()
	for k := range rounds {
		var change float64
		n.tape.Run(func() {
			t := n.tape
			a, shift := n.b.Coefficients(t.Input(x), n.classes)
			if n.noShift {
				last := t.Const(0, s[0], 1, s[2])
				a, shift = nn.Concat(1, a.Slice(1, 1, s[1]-1), last), nn.Concat(1, shift.Slice(1, 1, s[1]-1), last)
			}
			next := t.Input(z).Mul(a.Exp()).Add(shift)
			for g := 1; g < n.segments; g++ {
				at := g * s[1] / n.segments
				next = nn.Concat(1, next.Slice(1, 0, at), t.Input(z).Slice(1, at, 1), next.Slice(1, at+1, s[1]-at-1))
			}
			diff := floats(next.Sub(t.Input(x)).Abs().Value())
			for _, d := range diff {
				if n.mean {
					change += d / float64(len(diff))
				} else {
					change = max(change, d)
				}
			}
			x.Copy(next.Value())
		})
		if change <= n.bound {
			return x, k + 1
		}
	}
	return x, rounds
}

func TestTraps(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
	o := Options{InverseOptions: flow.InverseOptions{Classes: classes(c, 2)}}
	z := latent(gpu.Float64, c, 2)
	b := m.Blocks[0]
	want := solved(t, tape, m, 0, z, o)
	honest, _ := (&naive{tape: tape, b: b, classes: o.Classes}).solve(z, 11)
	if d := farthest(honest, want); d > 1e-11 {
		t.Fatalf("the naive iteration is off by %g where nothing is spoilt", d)
	}
	for name, n := range map[string]*naive{
		"coefficients of the token itself":         {noShift: true},
		"segments that forget the token before":    {segments: 4},
		"segments of one that forget what is held": {segments: 12},
	} {
		n.tape, n.b, n.classes = tape, b, o.Classes
		if got, _ := n.solve(z, 30); farthest(got, want) < 1e-2 {
			t.Errorf("%s: no difference", name)
		}
	}
	// A block that takes the patches in reverse takes their places in reverse too.
	other := *m.Blocks[1]
	other.Reverse = false
	flipped := z.Like()
	ops.Flip(flipped, z, 1, false)
	x, err := other.Inverse(tape, flipped, o.InverseOptions)
	if err != nil {
		t.Fatal(err)
	}
	right := solved(t, tape, m, 1, z, o)
	if farthest(x, right) < 1e-2 {
		t.Error("places that are not reversed make no difference")
	}
	r := newSolver(tape, m, 2, o)
	got := z.Like()
	got.Copy(z)
	if err := r.block(1, Setting{Segments: 3}, got); err != nil {
		t.Fatal(err)
	}
	if d := farthest(inOrder(tape, m.Blocks[1], got), right); d > 1e-11 {
		t.Errorf("a reversed block is off by %g", d)
	}
}

// Guidance that asks without a class of the keys and values with one is something else.
func TestGuidanceHasItsOwnCache(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
	o := Options{InverseOptions: flow.InverseOptions{Classes: gpu.CPU().FromInt32([]int32{0, 1}, 2), Guidance: 1}}
	none := gpu.CPU().FromInt32([]int32{3, 3}, 2)
	z := latent(gpu.Float64, c, 2)
	want := solved(t, tape, m, 0, z, o)
	b := m.Blocks[0]
	cache := b.NewCache(tape, 2)
	x := z.Like()
	x.Copy(z)
	for i := range c.Tokens() - 1 {
		tape.Run(func() {
			tape.NoGrad(func() {
				at := tape.Input(x).Slice(1, i, 1)
				au, bu := b.Continue(cache, at, none)
				cache.Truncate(i)
				a, shift := b.Continue(cache, at, o.Classes)
				a, shift = a.Scale(2).Sub(au), shift.Scale(2).Sub(bu)
				ops.PutSlice(x, tape.Input(z).Slice(1, i+1, 1).Mul(a.Exp()).Add(shift).Value(), 1, i+1, false)
			})
		})
	}
	if d := farthest(x, want); d < 1e-4 {
		t.Errorf("a shared cache makes a difference of %g", d)
	}
	r := newSolver(tape, m, 2, o)
	got := z.Like()
	got.Copy(z)
	if err := r.block(0, Setting{Segments: 2}, got); err != nil {
		t.Fatal(err)
	}
	if d := farthest(got, want); d > 1e-10 {
		t.Errorf("guided, off by %g", d)
	}
}

// A batch that stops on its mean hides a slow sample; one that waits for the greatest change of each does not.
func TestOneSlowSample(t *testing.T) {
	m, tape := wild(t), nn.NewTape(gpu.CPU(), gpu.Float32)
	const n = 64
	v := make([]float32, 6*n)
	copy(v, []float32{-.3, .5, -.5, .6, -.4, .7}) // the others are zero, and solved at once
	z := gpu.CPU().FromAs(gpu.Float32, v, n, 6, 1)
	want := solved(t, tape, m, 0, z, Options{})
	const bound = 0.05
	mean, rounds := (&naive{tape: tape, b: m.Blocks[0], mean: true, bound: bound}).solve(z, 5)
	if d := farthest(mean, want); d < 10*bound || rounds == 5 {
		t.Errorf("stopping on the mean after %d rounds is off by %g: the sample is not slow enough to show anything", rounds, d)
	}
	got, stats, err := Sample(tape, m, z, Strategy{{Segments: 1}}, Options{Bound: bound})
	if err != nil {
		t.Fatal(err)
	}
	if d := farthest(got.View(n, 6, 1), want); d > bound || stats.Slowest[0] != 0 || stats.Iterations[0][0] <= rounds {
		t.Errorf("off by %g after %v iterations, %d by the mean", d, stats.Iterations, rounds)
	}
}

// A sequential inverse that computes all tokens before each again takes half of T² tokens; that would flatter whatever is compared with
// it. The baseline keeps keys and values: T-1 tokens. Both have one result.
func TestBaselineKeepsKeysAndValues(t *testing.T) {
	c := small()
	c.Blocks = 1
	o := Options{InverseOptions: flow.InverseOptions{Classes: classes(c, 2)}}
	m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
	z := latent(gpu.Float64, c, 2)
	x := z.Like()
	x.Copy(z)
	b := m.Blocks[0]
	for i := range c.Tokens() - 1 {
		cache := b.NewCache(tape, 2)
		tape.Run(func() {
			tape.NoGrad(func() {
				a, shift := b.Continue(cache, tape.Input(x).Slice(1, 0, i+1), o.Classes)
				next := tape.Input(z).Slice(1, i+1, 1).Mul(a.Slice(1, i, 1).Exp()).Add(shift.Slice(1, i, 1))
				ops.PutSlice(x, next.Value(), 1, i+1, false)
			})
		})
	}
	_, without := evaluations(m)
	want := solved(t, tape, m, 0, z, o)
	_, both := evaluations(m)
	if d := farthest(x, want); d > 1e-11 {
		t.Errorf("without a cache the inverse is off by %g", d)
	}
	if with := both - without; with != 2*2*11 || without != 2*2*11*12/2 {
		t.Errorf("%d layer-tokens with a cache and %d without", with, without)
	}
	f := &fitted{Trained: &Trained{Net: m}, tape: tape}
	if f.calls() != 11 {
		t.Errorf("the baseline counts %d calls", f.calls())
	}
	if _, stats, err := Sample(tape, m, z, Strategy{{}}, o); err != nil || stats.LayerTokens != 2*2*11 || math.Abs(float64(stats.Calls-11)) > 0 {
		t.Errorf("token by token: %+v, %v", stats, err)
	}
}
