package gsjacobi

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops"
)

// DefaultBound is the change at which a segment of a sample counts as converged: well below half a level of 8-bit pictures, 4e-3.
const DefaultBound = 1e-4

// overflow is the greatest a whose exponential a float32 picture survives: exp(80) is 5.5e34.
const overflow = 80

// Options say how samples are drawn; the zero value iterates until every token is exact.
type Options struct {
	flow.InverseOptions
	// Bound is the greatest change of any number of a sample's segment in an iteration at which it is done; 0: when nothing changes.
	Bound float64
	// Clamp, if above 0, keeps every iterate within [-Clamp, Clamp]. It changes what is solved: the published code clamps at 3.
	Clamp float64
}

// Fallback is a segment that was solved token by token because an iterate would have overflowed.
type Fallback struct {
	Block, Segment int // as in Stats.Iterations
	Sample, Token  int // where it was seen first; Token in the block's order
	A              float64
}

func (f Fallback) String() string {
	return fmt.Sprintf("block %d, segment %d: a = %.4g at token %d of sample %d in an iterate; solved token by token", f.Block, f.Segment, f.A, f.Token, f.Sample)
}

// Stats is what a draw took.
type Stats struct {
	// Calls is the sequential depth: calls of the network that wait for one another. Guidance asks twice at once, which is one.
	Calls int
	// LayerTokens is the work: through how many layers a token was taken, over samples.
	LayerTokens int64
	// Iterations of each block, by its number in the flow, and each of its segments: those of the slowest sample.
	Iterations [][]int
	Slowest    []int // sample of each block that took the most iterations
	Fallbacks  []Fallback
	// Open is the segments of samples that Most ended before they converged, and Change the greatest last change among them.
	Open   int
	Change float64
}

// OverflowError is a sample that the flow itself maps to numbers too large.
type OverflowError struct {
	Block, Sample, Token int // Token in the block's order
	A                    float64
}

func (e *OverflowError) Error() string {
	return fmt.Sprintf("gsjacobi: block %d: a is %.4g for sample %d at token %d of the block's order, want at most %d; the latent is far from those of pictures, or guidance too strong",
		e.Block, e.A, e.Sample, e.Token, overflow)
}

// Sample is the pictures [B, C, H, W] whose latent is z [B, Tokens, Dim], times the square root of the flow's Var, as flow.Net.Inverse
// makes them: each block by Jacobi's iteration
//
//	x ← z·exp(a(x)) + b(x)
//
// over segments of its tokens, one after the other, with the keys and values of those before kept. a and b of a token are of the tokens
// before it, so that after k iterations k tokens of a segment are exact; an iteration leaves them out. It runs steps of t, which it
// resets. The error is a *StrategyError or an *OverflowError.
func Sample(t *nn.Tape, m *flow.Net, z *gpu.Tensor, s Strategy, o Options) (*gpu.Tensor, *Stats, error) {
	c, shape := &m.Config, z.Shape()
	if err := s.Check(*c); err != nil {
		return nil, nil, err
	}
	if err := o.check(*c); err != nil {
		return nil, nil, err
	}
	if len(shape) != 3 || shape[0] < 1 || shape[1] != c.Tokens() || shape[2] != c.Dim() {
		return nil, nil, refuse("a latent of shape %v, want [B, %d, %d]", shape, c.Tokens(), c.Dim())
	}
	x := z.Like()
	t.Run(func() {
		t.NoGrad(func() { x.Copy(t.Input(z).Mul(t.Input(m.Var).Sqrt()).Value()) })
	})
	r := newSolver(t, m, shape[0], o)
	for i, how := range s {
		if err := r.block(len(m.Blocks)-1-i, how, x); err != nil {
			return nil, r.stats, err
		}
	}
	out := z.Device().New(z.DType(), shape[0], c.Channels, c.PictureHeight, c.PictureWidth)
	t.Run(func() {
		t.NoGrad(func() {
			out.Copy(t.Input(x).Unpatchify(c.Patch, c.PictureHeight, c.PictureWidth, nn.ChannelsFirst).Value())
		})
	})
	return out, r.stats, z.Device().Err()
}

func (o *Options) check(c flow.Config) error {
	switch {
	case !(o.Bound >= 0) || math.IsInf(o.Bound, 0):
		return refuse("a bound of %g; want a finite number, 0 or more", o.Bound)
	case !(o.Clamp >= 0) || math.IsInf(o.Clamp, 0):
		return refuse("iterates clamped to ±%g; want a finite number above 0, or 0 for none", o.Clamp)
	case !(o.Guidance >= 0) || math.IsInf(o.Guidance, 0):
		return refuse("guidance %g; want a finite number, 0 or more", o.Guidance)
	case o.Guidance > 0 && c.Classes == 0:
		return refuse("guidance %g of a flow without classes; want 0", o.Guidance)
	}
	return nil
}

// solver draws a batch. Its buffers serve all blocks.
type solver struct {
	t       *nn.Tape
	m       *flow.Net
	o       Options
	stats   *Stats
	batch   int
	in, x   *gpu.Tensor    // latent and iterate of a block, in its order, [B, T, D]
	caches  []*tower.Cache // with the class, and for guidance without
	classes []*gpu.Tensor  // Int32 [B] each, or nil
	weights *gpu.Tensor    // of guidance by token, [1, T, 1]; entry i is that of token i's a and b
	move    *gpu.Tensor    // 1 for samples that still move, [B, 1, 1]
	at, top *gpu.Tensor    // place and value of a sample's greatest element, [B]
	done    []bool         // samples whose segment has converged
	change  []float64      // greatest change of each sample in the last iteration
	most    []float64      // greatest a
	moves   []float32      // of move; also what is read
	now     iteration
	run     func()                                    // compute, without gradients
	trace   func(block, iteration int, x *gpu.Tensor) // of tests and proofs: sees every iterate; nil
}

func newSolver(t *nn.Tape, m *flow.Net, batch int, o Options) *solver {
	c, dev, dt := &m.Config, t.Device(), t.DType()
	r := &solver{
		t: t, m: m, o: o, batch: batch, stats: &Stats{Iterations: make([][]int, c.Blocks), Slowest: make([]int, c.Blocks)},
		in: dev.New(dt, batch, c.Tokens(), c.Dim()), x: dev.New(dt, batch, c.Tokens(), c.Dim()),
		move: dev.New(dt, batch, 1, 1), at: dev.New(gpu.Int32, batch), top: dev.New(dt, batch),
		done: make([]bool, batch), change: make([]float64, batch), most: make([]float64, batch), moves: make([]float32, batch),
		caches: []*tower.Cache{m.Blocks[0].NewCache(t, batch)}, classes: []*gpu.Tensor{o.Classes},
	}
	compute := r.compute
	r.run = func() { t.NoGrad(compute) }
	if o.Guidance > 0 {
		none, w := make([]int32, batch), make([]float64, c.Tokens())
		for i := range none {
			none[i] = int32(c.Classes)
		}
		for i := range w {
			w[i] = o.Guidance
			if o.Anneal {
				w[i] *= float64(i) / float64(c.Tokens()-1)
			}
		}
		r.caches, r.classes = append(r.caches, m.Blocks[0].NewCache(t, batch)), append(r.classes, gpu.CPU().FromInt32(none, batch))
		r.weights = on(dev, dt, w, 1, len(w), 1)
	}
	return r
}

// on is values on a device, of a float dtype.
func on(dev *gpu.Device, dt gpu.DType, v []float64, shape ...int) *gpu.Tensor {
	if dt == gpu.Float64 {
		return gpu.CPU().From64(v, shape...).To(dev)
	}
	f := make([]float32, len(v))
	for i, e := range v {
		f[i] = float32(e)
	}
	return dev.FromAs(dt, f, shape...)
}

// block replaces x, the latent of a block, by the tokens that the block maps to it.
func (r *solver) block(k int, how Setting, x *gpu.Tensor) error {
	b, n := r.m.Blocks[k], r.m.Config.Tokens()
	if b.Reverse {
		ops.Flip(r.in, x, 1, false)
	} else {
		r.in.Copy(x)
	}
	r.x.Copy(r.in)
	if how.Start == FromZeros && n > 1 {
		r.t.Run(func() { ops.PutSlice(r.x, r.t.Const(0, r.batch, n-1, r.m.Config.Dim()).Value(), 1, 1, false) })
	}
	for _, c := range r.caches {
		c.Reset()
	}
	segments := how.Segments
	if segments == 0 {
		segments = n
	}
	r.stats.Iterations[k] = make([]int, segments)
	size, seen := n/segments, 0
	for g := range segments {
		s := segment{block: k, number: g, from: max(g*size, 1), end: (g + 1) * size, seen: seen}
		if s.from == s.end {
			continue // the first token is as it was
		}
		var err error
		if seen, err = r.segment(b, s, how.Most); err != nil {
			return err
		}
	}
	if i, ok := ops.Finite(r.x); !ok {
		d := r.m.Config.Dim()
		return &OverflowError{k, i / (n * d), i / d % n, math.NaN()}
	}
	if b.Reverse {
		ops.Flip(x, r.x, 1, false)
	} else {
		x.Copy(r.x)
	}
	return nil
}

// segment is the tokens from and up to end, which are unknown, where the caches have final keys and values of seen tokens.
type segment struct{ block, number, from, end, seen int }

// segment solves tokens and says of how many the caches have final keys and values then.
func (r *solver) segment(b *flow.Block, s segment, most int) (seen int, err error) {
	unknown := s.end - s.from
	if most == 0 || most > unknown {
		most = unknown
	}
	clear(r.done)
	for k := 1; ; k++ {
		// Token from+k-1 is exact after iteration k, and those before it stay.
		first := s.from + k - 1
		feed := first - 1
		if k == 1 {
			feed = s.seen // with those before whose keys and values are of an iterate
		}
		bad, ok := r.iterate(b, feed, first, s.end)
		if !ok {
			return s.end - 1, r.fallBack(b, s, first, bad)
		}
		r.stats.Iterations[s.block][s.number] = k
		open := 0
		for i, d := range r.change {
			if r.done[i] {
				continue
			}
			if open++; d <= r.o.Bound {
				r.done[i], open = true, open-1
			} else {
				r.stats.Slowest[s.block] = i
			}
		}
		if r.trace != nil {
			r.trace(s.block, k, r.x)
		}
		if open == 0 || k == unknown {
			return first, nil
		}
		if k == most {
			r.stats.Open += open
			for i, d := range r.change {
				if !r.done[i] {
					r.stats.Change = max(r.stats.Change, d)
				}
			}
			return first, nil
		}
	}
}

// iteration is what one iteration works on; it lives in the solver, so that none allocates.
type iteration struct {
	b                *flow.Block
	feed, first, end int
	a, shift         [2]*nn.Var
	bad              Fallback
	ok               bool
}

// iterate makes one iteration: the tokens from first up to end anew, of those before them, which are fed from feed on. Samples that are
// done stay. It says where a is too large or no number; then nothing was changed.
func (r *solver) iterate(b *flow.Block, feed, first, end int) (bad Fallback, ok bool) {
	r.now = iteration{b: b, feed: feed, first: first, end: end, ok: true}
	r.t.Run(r.run)
	return r.now.bad, r.now.ok
}

// compute is iterate's step on the tape.
func (r *solver) compute() {
	t, s := r.t, &r.now
	n, fed := s.end-s.first, s.end-1-s.feed
	at := t.Input(r.x).Slice(1, s.feed, fed)
	for i, c := range r.caches {
		c.Truncate(s.feed)
		a, shift := s.b.Continue(c, at, r.classes[i])
		if extra := fed - n; extra > 0 { // they were fed for their keys and values
			shift = shift.Slice(1, extra, n)
			if a != nil {
				a = a.Slice(1, extra, n)
			}
		}
		s.a[i], s.shift[i] = a, shift
	}
	r.stats.Calls++
	r.stats.LayerTokens += int64(len(r.caches)) * int64(r.batch*fed*r.m.Config.Layers)
	a, shift := s.a[0], s.shift[0]
	if r.weights != nil {
		w := t.Input(r.weights).Slice(1, s.first, n)
		shift = shift.Add(shift.Sub(s.shift[1]).Mul(w))
		if a != nil {
			a = a.Add(a.Sub(s.a[1]).Mul(w))
		}
	}
	next := t.Input(r.in).Slice(1, s.first, n)
	if a != nil {
		if s.bad, s.ok = r.tooLarge(a, s.first); !s.ok {
			return
		}
		next = next.Mul(a.Exp())
	}
	next = next.Add(shift)
	if r.o.Clamp > 0 {
		next = next.Clip(-r.o.Clamp, r.o.Clamp)
	}
	was := t.Input(r.x).Slice(1, s.first, n)
	r.greatest(next.Sub(was).Abs(), r.change)
	for i, d := range r.change {
		if math.IsNaN(d) && !r.done[i] {
			s.bad, s.ok = Fallback{Sample: i, Token: s.first, A: math.NaN()}, false
			return
		}
	}
	ops.PutSlice(r.x, r.moving(next, was), 1, s.first, false)
}

// moving is next for the samples that are not done, and what was for the others.
func (r *solver) moving(next, was *nn.Var) *gpu.Tensor {
	all := true
	for i, done := range r.done {
		if r.moves[i] = 1; done {
			r.moves[i], all = 0, false
		}
	}
	if all {
		return next.Value()
	}
	r.move.Set(r.moves)
	s := next.Shape()
	mask := r.t.Const(0, s...).Add(r.t.Input(r.move)).Value()
	out := mask // it may be any of the others
	ops.Blend(out, mask, next.Value(), was.Value())
	return out
}

// greatest is each sample's greatest element of x [B, ...], NaN where there is one.
func (r *solver) greatest(x *nn.Var, to []float64) {
	ops.ArgMax(r.at, r.top, x.Reshape(r.batch, -1).Value())
	var err error
	if r.top.Double() {
		err = r.top.Read64(to)
	} else if err = r.top.Read(r.moves); err == nil { // Read64 would allocate
		for i, v := range r.moves {
			to[i] = float64(v)
		}
	}
	if err != nil {
		clear(to) // the device has failed, which Sample says
	}
}

// tooLarge looks for a beyond what exp can take, of samples that are not done.
func (r *solver) tooLarge(a *nn.Var, first int) (bad Fallback, ok bool) {
	r.greatest(a, r.most)
	for i, v := range r.most {
		if !r.done[i] && !(v <= overflow) {
			at := r.at.To(gpu.CPU()).I32()[i]
			return Fallback{Sample: i, Token: first + int(at)/r.m.Config.Dim(), A: v}, false
		}
	}
	return bad, true
}

// fallBack solves the rest of a segment, from token first on, token by token; a too large there is the flow's own.
func (r *solver) fallBack(b *flow.Block, s segment, first int, why Fallback) error {
	why.Block, why.Segment = s.block, s.number
	r.stats.Fallbacks = append(r.stats.Fallbacks, why)
	for i := first; i < s.end; i++ {
		feed := i - 1
		if i == s.from {
			feed = s.seen
		}
		if bad, ok := r.iterate(b, feed, i, i+1); !ok {
			return &OverflowError{s.block, bad.Sample, bad.Token, bad.A}
		}
		r.stats.Iterations[s.block][s.number]++
	}
	return nil
}
