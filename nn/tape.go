package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/ops"
)

// Tape records the operations of one step. It belongs to one goroutine at a time.
type Tape struct {
	dev   *gpu.Device
	dt    gpu.DType
	arena *gpu.Arena

	nodes  pieces[node]
	vars   pieces[Var]
	lists  []*Var // operands of nodes with many, end to end
	params map[*Param]*Var
	consts map[*Param]*Var // parameters as constants: frozen, or in NoGrad
	hooked []*Var          // parameters whose gradient is handed to a function first

	off    int // nested NoGrad
	frozen []*Params
	taps   map[string]func(*Var) *Var

	shape   []int // of the latest common shape, scratch
	session int   // numbers walks; marks of Grad belong to one
	partial bool  // the walk is Grad's: only what is marked gets a gradient

	bf16 bool // the precision
	low  map[*Param]*lowWeight
	runs int // since the tape was made, from 1 on

	watch func(Made) // nil: nobody watches
	made  map[*node]Made
}

// Var is a tensor on a tape. It is not used after the tape's next Run or Reset.
type Var struct {
	tape  *Tape
	val   *gpu.Tensor
	grad  *gpu.Tensor // during a walk
	total *gpu.Tensor // what Grad returns
	node  *node       // what made it; nil for inputs and parameters
	param *Param
	needs bool // a gradient is wanted
	kept  bool // the gradient outlives the walk
	mark  int  // the session in which it leads to what Grad asks for
	asked int  // the session in which Grad asks for it
	hook  func(g *gpu.Tensor)

	tangent *Var // the direction of the JVP whose session mark is
}

// node is one recorded operation. back is a function, not a closure, and finds what
// it needs here, so that recording allocates nothing.
type node struct {
	back  func(t *Tape, n *node)
	ahead func(t *Tape, n *node) *Var // the result's direction from those of the operands, see JVP; nil where there is none
	at    int
	out   *Var
	in    [4]*Var
	more  []*Var
	save  [4]*gpu.Tensor
	n     [8]int
	f     [3]float64
	fun   ops.Func
	norm  normNode
	conv  ops.ConvConfig
	mask  ops.Mask
	sel   ops.MapSelect

	again  func(xs []*Var) *Var // of Checkpoint
	frozen []*Params            // then
}

// pieces is a list whose elements never move and are used again.
type pieces[T any] struct {
	list [][]T
	used int
}

const pieceLen = 256

func (p *pieces[T]) next() *T {
	if p.used == pieceLen*len(p.list) {
		p.list = append(p.list, make([]T, pieceLen))
	}
	x := p.at(p.used)
	p.used++
	return x
}

func (p *pieces[T]) at(i int) *T { return &p.list[i/pieceLen][i%pieceLen] }

// NewTape makes a tape whose tensors live on dev and are Float32 or Float64.
func NewTape(dev *gpu.Device, dt gpu.DType) *Tape {
	if dt != gpu.Float32 && dt != gpu.Float64 {
		panic(fmt.Sprintf("nn: NewTape: dtype %v, want float32 or float64", dt))
	}
	return &Tape{dev: dev, dt: dt, arena: dev.NewArena(), params: map[*Param]*Var{}, consts: map[*Param]*Var{}, runs: 1}
}

// Device is where the tape's tensors live.
func (t *Tape) Device() *gpu.Device { return t.dev }

// DType is the type of their elements.
func (t *Tape) DType() gpu.DType { return t.dt }

// Arena is where the tape's tensors come from; Run and Reset take them back.
func (t *Tape) Arena() *gpu.Arena { return t.arena }

// Reset forgets everything recorded; no Var and no tensor of the arena is used after.
func (t *Tape) Reset() {
	t.arena.Reset()
	for i := range t.nodes.used { // what a longer step recorded must not stay alive
		*t.nodes.at(i) = node{}
	}
	for i := range t.vars.used {
		*t.vars.at(i) = Var{}
	}
	t.nodes.used, t.vars.used = 0, 0
	clear(t.lists)
	t.lists = t.lists[:0]
	clear(t.params)
	clear(t.consts)
	clear(t.hooked)
	clear(t.made)
	t.hooked = t.hooked[:0]
	t.off, t.frozen, t.partial = 0, t.frozen[:0], false
	t.runs++
}

// Run makes one step: Reset, then step. On the CPU, step runs on one of the threads
// that do the arithmetic, so that operations start at once.
func (t *Tape) Run(step func()) {
	t.Reset()
	if t.dev.CUDA() {
		step()
		return
	}
	cpu.Run(step)
}

func (t *Tape) newVar(val *gpu.Tensor) *Var {
	v := t.vars.next()
	*v = Var{tape: t, val: val}
	return v
}

// Input puts a tensor on the tape that needs no gradient. It is not copied.
func (t *Tape) Input(x *gpu.Tensor) *Var {
	t.mustFit("Input", x)
	return t.newVar(x)
}

// Leaf is Input for a tensor whose gradient is wanted: Grad has it after Backward.
func (t *Tape) Leaf(x *gpu.Tensor) *Var {
	v := t.Input(x)
	v.needs, v.kept = true, true
	return v
}

func (t *Tape) mustFit(op string, x *gpu.Tensor) {
	if x.DType() != t.dt {
		panic(fmt.Sprintf("nn: %s: the tensor is %v, the tape %v", op, x.DType(), t.dt))
	}
	if x.Device() != t.dev {
		panic(fmt.Sprintf("nn: %s: the tensor is on %v, the tape on %v; move it with To", op, x.Device(), t.dev))
	}
}

// Const is a new constant of that shape, every element v.
func (t *Tape) Const(v float64, shape ...int) *Var {
	x := t.arena.New(t.dt, shape...)
	ops.Fill(x, v)
	return t.newVar(x)
}

// Use is a parameter on the tape, the same Var however often it is used.
func (t *Tape) Use(p *Param) *Var {
	p.mustBeReady()
	known, needs := t.params, t.recording() && !p.Frozen && !p.set.frozen && !slices.Contains(t.frozen, p.set)
	if !needs {
		known = t.consts
	}
	v := known[p]
	if v == nil {
		t.mustFit("Use", p.Value)
		v = t.newVar(p.Value)
		v.param, v.needs = p, needs
		known[p] = v
		if needs && p.hook != nil {
			v.hook = p.hook
			t.hooked = append(t.hooked, v)
		}
	}
	return v
}

func (t *Tape) recording() bool { return t.off == 0 }

// NoGrad runs f without recording: what it computes is constant.
func (t *Tape) NoGrad(f func()) {
	t.off++
	defer func() { t.off-- }()
	f()
}

// Frozen runs f with the parameters of nets constant: their gradients are not
// computed, those by the networks' inputs are.
func (t *Tape) Frozen(f func(), nets ...*Params) {
	n := len(t.frozen)
	t.frozen = append(t.frozen, nets...)
	defer func() { t.frozen = t.frozen[:n] }()
	f()
}

// OnTap calls f with every Var that passes a Tap of that name, and goes on with what
// f returns: the same, to look at it, or another of its shape, to put in its place.
// A nil f ends that.
func (t *Tape) OnTap(name string, f func(*Var) *Var) {
	if f == nil {
		delete(t.taps, name)
		return
	}
	if t.taps == nil {
		t.taps = map[string]func(*Var) *Var{}
	}
	t.taps[name] = f
}

// Tap is a named place of a network, where OnTap can look at x or replace it. It costs
// nothing where nobody does.
func (x *Var) Tap(name string) *Var {
	if len(x.tape.taps) == 0 {
		return x
	}
	f := x.tape.taps[name]
	if f == nil {
		return x
	}
	y := f(x)
	if y == nil || y.tape != x.tape || !slices.Equal(y.Shape(), x.Shape()) {
		panic(fmt.Sprintf("nn: Tap: what was put in place of %s is not a Var of the tape with shape %v", name, x.Shape()))
	}
	return y
}

// Value is x's tensor. It is only read.
func (x *Var) Value() *gpu.Tensor { return x.val }

// Shape is x's shape; callers do not change it.
func (x *Var) Shape() []int { return x.val.Shape() }

// Tape is where x is recorded.
func (x *Var) Tape() *Tape { return x.tape }

// NeedsGrad tells whether a gradient flows to x.
func (x *Var) NeedsGrad() bool { return x.needs }

// Item is the one element of x; it waits for a GPU.
func (x *Var) Item() float64 { return ops.Item(x.val) }

// Grad is the gradient of a Leaf or of a Var that was kept, nil before Backward and
// where nothing flowed. Of a parameter it is nil: see Param.Grad.
func (x *Var) Grad() *gpu.Tensor { return x.total }

// Keep makes the gradient of x, a result of an operation, outlive Backward, until the
// next Backward. It returns x.
func (x *Var) Keep() *Var {
	x.kept = true
	return x
}

// OnGrad calls f with the gradient by x, complete, in every walk that reaches x; f may
// change it. x is a result of an operation; parameters have an OnGrad of their own.
func (x *Var) OnGrad(f func(g *gpu.Tensor)) *Var {
	if x.node == nil {
		panic("nn: OnGrad: the Var is no result of an operation that has a gradient")
	}
	x.hook = f
	return x
}

// StopGrad is x as a constant: no gradient flows back through it.
func (x *Var) StopGrad() *Var {
	if !x.needs {
		return x
	}
	return x.tape.newVar(x.val)
}

// result puts the value of an operation on the tape, and records back where one of
// the operands needs a gradient; else the node is nil.
func (t *Tape) result(val *gpu.Tensor, back func(*Tape, *node), a, b, c, d *Var) (*Var, *node) {
	y := t.newVar(val)
	needs := false
	for _, x := range [...]*Var{a, b, c, d} {
		if x != nil {
			if x.tape != t {
				panic("nn: an operation on Vars of two tapes")
			}
			needs = needs || x.needs
		}
	}
	var n *node
	if needs && t.recording() {
		n = t.nodes.next()
		*n = node{back: back, at: t.nodes.used - 1, out: y, in: [4]*Var{a, b, c, d}}
		y.node, y.needs = n, true
	}
	if t.watch != nil {
		t.tell(n, val, a, b, c, d)
	}
	return y, n
}

// empty is a tensor of the arena.
func (t *Tape) empty(shape ...int) *gpu.Tensor { return t.arena.New(t.dt, shape...) }
