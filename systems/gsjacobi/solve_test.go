package gsjacobi

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
)

// small has 12 tokens of 4 numbers.
func small() flow.Config {
	return flow.Config{PictureHeight: 6, PictureWidth: 8, Channels: 1, Patch: 2, Width: 16, Heads: 2, Blocks: 3, Layers: 2, Classes: 3}
}

func made(t testing.TB, c flow.Config, dt gpu.DType) *flow.Net {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	m := flow.New(net.At(""), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0.3)
		if strings.Contains(p.Name, "proj_out") {
			p.Start = nn.Normal(0.04)
		}
	}
	net.Init(2)
	return m
}

func latent(dt gpu.DType, c flow.Config, n int) *gpu.Tensor {
	return gpu.CPU().FromAs(dt, oracle.Normal(3, n*c.Tokens()*c.Dim()), n, c.Tokens(), c.Dim())
}

func classes(c flow.Config, n int) *gpu.Tensor {
	if c.Classes == 0 {
		return nil
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(i) % int32(c.Classes+1)
	}
	return gpu.CPU().FromInt32(v, n)
}

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

// farthest is the greatest difference of two tensors.
func farthest(a, b *gpu.Tensor) (d float64) {
	v := floats(b)
	for i, e := range floats(a) {
		if !(math.Abs(e-v[i]) <= d) { // NaN too
			d = math.Abs(e - v[i])
		}
	}
	return d
}

// kinds are flows with and without classes and scales, and ways to guide.
var kinds = map[string]func(c *flow.Config, o *Options){
	"classes":  func(*flow.Config, *Options) {},
	"plain":    func(c *flow.Config, _ *Options) { c.Classes = 0 },
	"additive": func(c *flow.Config, _ *Options) { c.Additive = true },
	"guided":   func(_ *flow.Config, o *Options) { o.Guidance = 0.7 },
	"annealed": func(_ *flow.Config, o *Options) { o.Guidance, o.Anneal = 0.7, true },
}

// As many iterations as there are unknown tokens make every segment exact: the result is the sequential inverse, which package flow
// has by other code, whatever the segments and the start are. A naive segment that forgets the token before it, coefficients that are
// not shifted by a token and guidance without its own cache are all caught here: see TestTraps.
func TestEqualsTheSequentialInverse(t *testing.T) {
	cases := 0
	for name, change := range kinds {
		for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-11} {
			c, o := small(), Options{}
			change(&c, &o)
			m, tape := made(t, c, dt), nn.NewTape(gpu.CPU(), dt)
			tape.Arena().Poison(true)
			o.Classes = classes(c, 3)
			z := latent(dt, c, 3)
			want, err := m.Inverse(tape, z, o.InverseOptions)
			if err != nil {
				t.Fatal(err)
			}
			for _, segments := range append(divisors(c.Tokens()), 0) {
				for _, start := range []Start{FromLatent, FromZeros} {
					got, stats, err := Sample(tape, m, z, Uniform(c, Setting{segments, 0, start}), o)
					if err != nil {
						t.Fatal(err)
					}
					if d := farthest(got, want); !(d <= tol) {
						t.Errorf("%s, %v: %d segments from %v are off by %g", name, dt, segments, start, d)
					}
					if stats.Open != 0 || len(stats.Fallbacks) != 0 {
						t.Errorf("%s: %+v", name, stats)
					}
					cases++
				}
			}
			if d := farthest(want, unpatched(tape, m, z)); d < 0.5 {
				t.Errorf("%s: the flow does next to nothing, %g", name, d)
			}
		}
	}
	if cases != 5*2*7*2 {
		t.Errorf("%d cases", cases)
	}
}

// unpatched is a latent as if it were a picture's patches.
func unpatched(tape *nn.Tape, m *flow.Net, z *gpu.Tensor) *gpu.Tensor {
	c := m.Config
	out := gpu.CPU().New(z.DType(), z.Shape()[0], c.Channels, c.PictureHeight, c.PictureWidth)
	tape.Run(func() {
		out.Copy(tape.Input(z).Unpatchify(c.Patch, c.PictureHeight, c.PictureWidth, nn.ChannelsFirst).Value())
	})
	return out
}

// solved is a block's exact tokens in its order, [B, T, D], by the flow's own inverse.
func solved(t *testing.T, tape *nn.Tape, m *flow.Net, k int, z *gpu.Tensor, o Options) *gpu.Tensor {
	t.Helper()
	x, err := m.Blocks[k].Inverse(tape, z, o.InverseOptions)
	if err != nil {
		t.Fatal(err)
	}
	return inOrder(tape, m.Blocks[k], x)
}

func inOrder(tape *nn.Tape, b *flow.Block, x *gpu.Tensor) *gpu.Tensor {
	out := x.Like()
	tape.Run(func() {
		v := tape.Input(x)
		if b.Reverse {
			v = v.Flip(1)
		}
		out.Copy(v.Value())
	})
	return out
}

// Token i is exact after i iterations, and some token is not before: the system is triangular with a shift by one.
func TestTriangular(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float64), nn.NewTape(gpu.CPU(), gpu.Float64)
	o := Options{InverseOptions: flow.InverseOptions{Classes: classes(c, 2)}}
	z := latent(gpu.Float64, c, 2)
	for k := range m.Blocks {
		want := floats(solved(t, tape, m, k, z, o))
		r := newSolver(tape, m, 2, o)
		early, seen := 0, 0
		r.trace = func(_, iteration int, x *gpu.Tensor) {
			seen++
			v := floats(x)
			for at, e := range v {
				token := at / c.Dim() % c.Tokens()
				off := math.Abs(e - want[at])
				if token <= iteration && off > 1e-12 {
					t.Fatalf("block %d: token %d is off by %g after %d iterations", k, token, off, iteration)
				}
				if token == iteration+1 && off > 1e-6 {
					early++
				}
			}
		}
		x := z.Like()
		x.Copy(z)
		if err := r.block(k, Setting{Segments: 1}, x); err != nil {
			t.Fatal(err)
		}
		if seen != c.Tokens()-1 || early == 0 {
			t.Errorf("block %d: %d iterations, %d numbers not exact one iteration early", k, seen, early)
		}
	}
}

// What a draw says it took is what the network counted, and one token at a time is as much as the sequential inverse with its cache:
// T-1 calls of a token a block, not the T(T-1)/2 tokens of one without.
func TestCounts(t *testing.T) {
	c := small()
	for _, guidance := range []float64{0, 0.5} {
		for _, how := range []Setting{{Segments: 1}, {Segments: 4}, {Segments: 4, Most: 1}, {Segments: 0}} {
			m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
			o := Options{Bound: 1e-4, InverseOptions: flow.InverseOptions{Classes: classes(c, 3), Guidance: guidance}}
			z := latent(gpu.Float32, c, 3)
			_, stats, err := Sample(tape, m, z, Uniform(c, how), o)
			if err != nil {
				t.Fatal(err)
			}
			branches := int64(1)
			if guidance > 0 {
				branches = 2
			}
			calls, tokens := evaluations(m)
			if calls != branches*int64(stats.Calls) || tokens != stats.LayerTokens {
				t.Errorf("guidance %g, %+v: %d calls and %d layer-tokens said, %d and %d counted", guidance, how, stats.Calls, stats.LayerTokens, calls, tokens)
			}
			sum := 0
			for _, b := range stats.Iterations {
				for _, n := range b {
					sum += n
				}
			}
			if sum != stats.Calls {
				t.Errorf("%d iterations and %d calls", sum, stats.Calls)
			}
			if how.Segments == 0 {
				n, _ := made(t, c, gpu.Float32), 0
				if _, err := n.Inverse(tape, z, o.InverseOptions); err != nil {
					t.Fatal(err)
				}
				if c2, t2 := evaluations(n); c2 != calls || t2 != tokens || stats.Calls != 3*11 {
					t.Errorf("token by token takes %d calls and %d layer-tokens, the flow's inverse %d and %d", calls, tokens, c2, t2)
				}
			}
		}
	}
}

func evaluations(m *flow.Net) (calls, tokens int64) {
	for _, b := range m.Blocks {
		c, n := b.Body.Evaluations()
		calls, tokens = calls+c, tokens+n
	}
	return calls, tokens
}

// A sample that has converged stays as it is, whoever shares its batch: no bit of it depends on them.
func TestSamplesAreAlone(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	z := latent(gpu.Float32, c, 4)
	for i := range z.F32()[:3*c.Tokens()*c.Dim()] { // three calm ones and a wild one
		z.F32()[i] *= 0.02
	}
	s := Uniform(c, Setting{Segments: 2})
	o := Options{Bound: 1e-2, InverseOptions: flow.InverseOptions{Classes: gpu.CPU().FromInt32([]int32{0, 0, 0, 0}, 4)}}
	all, stats, err := Sample(tape, m, z, s, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Classes = gpu.CPU().FromInt32([]int32{0}, 1)
	for i := range 4 {
		one, alone, err := Sample(tape, m, z.Rows(i, i+1), s, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(floats(one), floats(all.Rows(i, i+1))) {
			t.Errorf("sample %d differs by %g from what it is alone", i, farthest(one, all.Rows(i, i+1)))
		}
		if i < 3 && alone.Calls >= stats.Calls {
			t.Errorf("sample %d alone takes %d calls, the batch %d", i, alone.Calls, stats.Calls)
		}
	}
	for k, i := range stats.Slowest {
		if i != 3 {
			t.Errorf("the slowest of block %d is sample %d", k, i)
		}
	}
}

// An iteration allocates no more than the network's own two calls.
func TestIterationsAllocateNothing(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	o := Options{InverseOptions: flow.InverseOptions{Classes: classes(c, 3), Guidance: 0.5}}
	r := newSolver(tape, m, 3, o)
	r.in.Copy(latent(gpu.Float32, c, 3))
	r.x.Copy(r.in)
	b := m.Blocks[1]
	r.iterate(b, 0, 1, 12)
	r.done[1] = true
	step := func() { r.iterate(b, 3, 4, 12) }
	step()
	got := testing.AllocsPerRun(10, step)
	ask := func() {
		tape.NoGrad(func() {
			at := tape.Input(r.x).Slice(1, 3, 8)
			for i, c := range r.caches {
				c.Truncate(3)
				b.Continue(c, at, r.classes[i])
			}
		})
	}
	alone := testing.AllocsPerRun(10, func() { tape.Run(ask) })
	if got > alone+1 { // one of ops.Blend, where samples are done
		t.Errorf("%v allocations an iteration, %v of them the network's", got, alone)
	}
}

// wild is a flow of one block without classes with a = -5·x and b = 0, of the token before: its body adds nothing.
func wild(t *testing.T) *flow.Net {
	t.Helper()
	c := flow.Config{PictureHeight: 1, PictureWidth: 6, Channels: 1, Patch: 1, Width: 2, Heads: 1, Blocks: 1, Layers: 1}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	m := flow.New(net.At(""), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0)
	}
	net.Init(1)
	m.Blocks[0].In.W.Value.F32()[0] = 1   // [2, 1]
	m.Blocks[0].Out.W.Value.F32()[0] = -5 // [2, 2], a's row
	return m
}

// An iterate that would overflow ends the segment's iteration, and the segment is solved token by token; what the flow itself sends
// beyond is an error. Three samples: one that is calm, one that would overflow on the way, one that does.
func TestOverflow(t *testing.T) {
	m, tape := wild(t), nn.NewTape(gpu.CPU(), gpu.Float32)
	calm, onTheWay, beyond := []float32{1, .2, .1, .1, 0, .2}, []float32{20, -20, 0, .1, 0, .2}, []float32{0, -20, 1, 0, 0, 0}
	z := gpu.CPU().FromAs(gpu.Float32, slices.Concat(calm, onTheWay), 2, 6, 1)
	for _, segments := range []int{1, 2} {
		got, stats, err := Sample(tape, m, z, Strategy{{Segments: segments}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float64, 12)
		for i := range 2 { // x_i = z_i·exp(-5·x_(i-1))
			for k := range 6 {
				if x[6*i+k] = float64(z.F32()[6*i+k]); k > 0 {
					x[6*i+k] *= math.Exp(-5 * x[6*i+k-1])
				}
			}
		}
		for i, v := range floats(got) {
			if math.Abs(v-x[i]) > 1e-5*(1+math.Abs(x[i])) {
				t.Errorf("%d segments: number %d is %g, want %g", segments, i, v, x[i])
			}
		}
		if len(stats.Fallbacks) != 1 || stats.Fallbacks[0] != (Fallback{0, 0, 1, 2, 100}) {
			t.Errorf("fallbacks %v", stats.Fallbacks)
		}
		if want := "block 0, segment 0: a = 100 at token 2 of sample 1"; !strings.Contains(stats.Fallbacks[0].String(), want) {
			t.Errorf("%v", stats.Fallbacks[0])
		}
	}
	// From zeros nothing overflows on the way.
	if _, stats, err := Sample(tape, m, z, Strategy{{Segments: 1, Start: FromZeros}}, Options{}); err != nil || len(stats.Fallbacks) != 0 {
		t.Errorf("from zeros: %v, %v", stats.Fallbacks, err)
	}
	z = gpu.CPU().FromAs(gpu.Float32, slices.Concat(calm, beyond), 2, 6, 1)
	for _, segments := range []int{1, 2, 6} {
		_, _, err := Sample(tape, m, z, Strategy{{Segments: segments}}, Options{})
		var far *OverflowError
		if !errors.As(err, &far) || *far != (OverflowError{0, 1, 2, 100}) || !strings.Contains(err.Error(), "block 0: a is 100 for sample 1 at token 2") {
			t.Errorf("%d segments: %v", segments, err)
		}
	}
}

// A clamp changes the solution where it bites, as that of the published code does, and is off unless asked for.
func TestClamp(t *testing.T) {
	m, tape := wild(t), nn.NewTape(gpu.CPU(), gpu.Float32)
	z := gpu.CPU().FromAs(gpu.Float32, []float32{-.5, 1, .2, .1, 0, .2}, 1, 6, 1)
	want := math.Exp(2.5) // of token 1
	for clamp, want := range map[float64]float64{0: want, 3: 3, 20: want} {
		x, _, err := Sample(tape, m, z, Strategy{{Segments: 1}}, Options{Clamp: clamp})
		if err != nil || math.Abs(floats(x)[1]-want) > 1e-4 {
			t.Errorf("clamped at %g: %v, %v; want %g", clamp, floats(x)[1], err, want)
		}
	}
}

// Most ends a segment early, and says what was left.
func TestMost(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	o := Options{InverseOptions: flow.InverseOptions{Classes: classes(c, 3)}}
	z := latent(gpu.Float32, c, 3)
	want, err := m.Inverse(tape, z, o.InverseOptions)
	if err != nil {
		t.Fatal(err)
	}
	last := math.Inf(1)
	for _, most := range []int{1, 4, 8, 11} {
		got, stats, err := Sample(tape, m, z, Uniform(c, Setting{Segments: 1, Most: most}), o)
		if err != nil {
			t.Fatal(err)
		}
		d := farthest(got, want)
		if d >= last {
			t.Errorf("%d iterations are off by %g, fewer by %g", most, d, last)
		}
		if last = d; (stats.Open == 0) != (most == 11) || (stats.Change > 0) != (stats.Open > 0) || stats.Calls != 3*most {
			t.Errorf("%d iterations: %+v", most, stats)
		}
	}
}

func TestRefused(t *testing.T) {
	c := small()
	m, tape := made(t, c, gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32)
	plain := small()
	plain.Classes = 0
	none := made(t, plain, gpu.Float32)
	z := latent(gpu.Float32, c, 2)
	ok := Uniform(c, Setting{Segments: 1})
	guided := Options{}
	guided.Guidance = 1
	for want, f := range map[string]func() error{
		"setting 2 of the strategy has 5 segments for 12 tokens; want a divisor: 1, 2, 3, 4, 6, 12": func() error {
			_, _, err := Sample(tape, m, z, Strategy{{Segments: 1}, {Segments: 5}, {Segments: 1}}, Options{})
			return err
		},
		"a strategy of 2 blocks for a flow of 3":       func() error { _, _, err := Sample(tape, m, z, ok[:2], Options{}); return err },
		"setting 1 of the strategy has -1 iterations":  func() error { return Strategy{{1, -1, 0}, {}, {}}.Check(c) },
		"setting 3 of the strategy has -1 segments":    func() error { return Strategy{{}, {}, {-1, 0, 0}}.Check(c) },
		"guidance 1 of a flow without classes":         func() error { _, _, err := Sample(tape, none, z, ok, guided); return err },
		"a bound of NaN":                               func() error { _, _, err := Sample(tape, m, z, ok, Options{Bound: math.NaN()}); return err },
		"a bound of -1":                                func() error { _, _, err := Sample(tape, m, z, ok, Options{Bound: -1}); return err },
		"iterates clamped to ±-1":                      func() error { _, _, err := Sample(tape, m, z, ok, Options{Clamp: -1}); return err },
		"a latent of shape [2 48], want [B, 12, 4]":    func() error { _, _, err := Sample(tape, m, z.View(2, 48), ok, Options{}); return err },
		`setting "1:0" of a strategy has 0 iterations`: func() error { _, err := ParseStrategy("8:32,1:0"); return err },
		`setting "x" of a strategy; want SEGMENTS`:     func() error { _, err := ParseStrategy("1,x"); return err },
		`setting "" of a strategy`:                     func() error { _, err := ParseStrategy(""); return err },
		`setting "-1:3" of a strategy`:                 func() error { _, err := ParseStrategy("-1:3"); return err },
		`setting "1:2:3" of a strategy`:                func() error { _, err := ParseStrategy("1:2:3"); return err },
		`setting "1*0" of a strategy`:                  func() error { _, err := ParseStrategy("1*0"); return err },
	} {
		err := f()
		var bad *StrategyError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Strategies are read as they are written; the published ones are those of the paper's repository, in the order of sampling.
func TestStrategyText(t *testing.T) {
	for text, want := range map[string]Strategy{
		"8:32,1:10*2":    {{8, 32, 0}, {1, 10, 0}, {1, 10, 0}},
		"1:zeros,0":      {{1, 0, FromZeros}, {}},
		"4:7:zeros*2, 2": {{4, 7, FromZeros}, {4, 7, FromZeros}, {2, 0, 0}},
		"1:5:latent":     {{1, 5, 0}},
		"img64-uncond":   {{1, 20, 0}, {8, 32, 0}, {1, 20, 0}, {1, 20, 0}, {1, 20, 0}, {1, 20, 0}, {1, 20, 0}, {8, 32, 0}},
		"img64-cond":     {{8, 13, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}, {}},
	} {
		got, err := ParseStrategy(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		again, err := ParseStrategy(got.String())
		if err != nil || !slices.Equal(again, want) {
			t.Errorf("%q is written %q", text, got)
		}
	}
	for _, name := range Presets() {
		s, err := ParseStrategy(name)
		if c := flow.ImageNet64(); err != nil || s.Check(c) != nil {
			t.Errorf("%s does not fit a flow of 8 blocks and 1024 tokens: %v", name, err)
		}
	}
}
