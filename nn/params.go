package nn

import (
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Params is the parameters of one network. Layers register theirs when they are made;
// Init then lays all of them end to end in one slab, so that optimisers, averages and
// norms are single passes.
type Params struct {
	dev     *gpu.Device
	dt      gpu.DType
	list    []*Param
	buffers []Named
	names   map[string]bool
	frozen  bool
	ready   bool

	value, grad *gpu.Tensor // the slabs; grad is made at its first use
}

// Param is a named tensor that is trained.
type Param struct {
	Name   string
	Value  *gpu.Tensor // a part of the network's slab; nil before Init
	Frozen bool        // it is a constant of steps from now on, and optimisers leave it alone
	Start  Init        // how Init fills it

	set    *Params
	shape  []int
	lo, hi int // in the slab
	grad   *gpu.Tensor
	hook   func(g *gpu.Tensor)

	layer    LayerKind
	adapters []Adapter
}

// Named is a tensor of a checkpoint.
type Named struct {
	Name   string
	Tensor *gpu.Tensor
}

// Scope is a network and the beginning of the names of what is registered through it.
type Scope struct {
	set    *Params
	prefix string
}

// slabAlign is the multiple of elements at which parameters begin in the slab.
const slabAlign = 16

// NewParams makes an empty network on dev, of dtype Float32 or Float64.
func NewParams(dev *gpu.Device, dt gpu.DType) *Params {
	if dt != gpu.Float32 && dt != gpu.Float64 {
		panic(fmt.Sprintf("nn: NewParams: dtype %v, want float32 or float64", dt))
	}
	return &Params{dev: dev, dt: dt, names: map[string]bool{}}
}

// Device is where the parameters live.
func (ps *Params) Device() *gpu.Device { return ps.dev }

// DType is the type of their elements.
func (ps *Params) DType() gpu.DType { return ps.dt }

// At is the scope of that name, with dots between its parts; "" is the whole network.
func (ps *Params) At(name string) Scope { return Scope{ps, name} }

// At is the scope of that name within s.
func (s Scope) At(name string) Scope { return Scope{s.set, s.join(name)} }

func (s Scope) join(name string) string {
	if s.prefix == "" || name == "" {
		return s.prefix + name
	}
	return s.prefix + "." + name
}

// Name is the full name of something in the scope.
func (s Scope) Name(name string) string { return s.join(name) }

// Params is the network that the scope belongs to.
func (s Scope) Params() *Params { return s.set }

// Param registers a parameter. It panics when the name is taken, and after Init.
func (s Scope) Param(name string, start Init, shape ...int) *Param {
	p := &Param{Name: s.join(name), Start: start, set: s.set, shape: slices.Clone(shape)}
	s.set.register(p.Name)
	size := 1
	for _, d := range shape {
		if d < 1 {
			panic(fmt.Sprintf("nn: parameter %s has shape %v, want sizes >= 1", p.Name, shape))
		}
		size *= d
	}
	if k := len(s.set.list); k > 0 {
		p.lo = (s.set.list[k-1].hi + slabAlign - 1) / slabAlign * slabAlign
	}
	p.hi = p.lo + size
	s.set.list = append(s.set.list, p)
	return p
}

// Buffer registers a tensor that belongs to the network's state but is not trained.
func (s Scope) Buffer(name string, x *gpu.Tensor) {
	s.set.register(s.join(name))
	s.set.buffers = append(s.set.buffers, Named{s.join(name), x})
}

func (ps *Params) register(name string) {
	if ps.ready {
		panic("nn: " + name + " is registered after Init; make all layers first")
	}
	if name == "" || ps.names[name] {
		panic(fmt.Sprintf("nn: the name %q is empty or taken", name))
	}
	ps.names[name] = true
}

// Init lays out the slab and gives every parameter its start. What a parameter starts
// with depends on seed and its name alone, and is the same in both dtypes.
func (ps *Params) Init(seed uint64) {
	if ps.ready {
		panic("nn: Init was called before; a network is laid out once")
	}
	if len(ps.list) == 0 {
		panic("nn: Init: the network has no parameters")
	}
	ps.ready = true
	ps.value = ps.dev.Zeros(ps.dt, ps.list[len(ps.list)-1].hi)
	for _, p := range ps.list {
		p.Value = ps.value.Rows(p.lo, p.hi).View(p.shape...)
		v := make([]float32, p.hi-p.lo)
		h := fnv.New64a()
		h.Write([]byte(p.Name))
		p.Start(rng.ForImage(seed, h.Sum64()&(1<<48-1), rng.Weights), p.shape, v)
		p.Value.Set(v)
	}
}

func (p *Param) mustBeReady() {
	if p.Value == nil {
		panic("nn: " + p.Name + " is used before Init of its network")
	}
}

// All is the parameters in the order in which they were registered.
func (ps *Params) All() []*Param { return ps.list }

// Get is the parameter of that name, nil where there is none.
func (ps *Params) Get(name string) *Param {
	for _, p := range ps.list {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Count is the number of trained values, frozen ones included.
func (ps *Params) Count() int {
	n := 0
	for _, p := range ps.list {
		n += p.hi - p.lo
	}
	return n
}

// Value is the slab of all parameters. Between them there is padding, which is zero.
func (ps *Params) Value() *gpu.Tensor {
	if ps.value == nil {
		panic("nn: the network is used before Init")
	}
	return ps.value
}

// Grad is the slab of gradients, laid out like Value.
func (ps *Params) Grad() *gpu.Tensor {
	if ps.grad == nil {
		ps.grad = ps.dev.Zeros(ps.dt, ps.Value().Len())
	}
	return ps.grad
}

// ZeroGrad forgets the gradients so far. An optimiser's Step does so by itself.
func (ps *Params) ZeroGrad() {
	if ps.grad != nil {
		ops.Fill(ps.grad, 0)
	}
}

// Freeze makes all parameters constants of steps from now on, or ends that; the Frozen
// of single ones is another matter. Optimisers leave a frozen network alone.
func (ps *Params) Freeze(on bool) { ps.frozen = on }

// Shape is the parameter's shape; callers do not change it.
func (p *Param) Shape() []int { return p.shape }

// Grad is the sum of gradients since the last Step or ZeroGrad, a part of the slab.
func (p *Param) Grad() *gpu.Tensor {
	if p.grad == nil {
		p.mustBeReady()
		p.grad = p.set.Grad().Rows(p.lo, p.hi).View(p.shape...)
	}
	return p.grad
}

// OnGrad calls f with the gradient that one Backward makes by p, complete, before it is
// added to Grad; f may change it: clip it, mask it, look at it. It holds for uses of p
// on tapes from now on; nil ends it.
func (p *Param) OnGrad(f func(g *gpu.Tensor)) { p.hook = f }

// State is the parameters and buffers, for a checkpoint.
func (ps *Params) State() []Named {
	ps.Value()
	out := make([]Named, 0, len(ps.list)+len(ps.buffers))
	for _, p := range ps.list {
		out = append(out, Named{p.Name, p.Value})
	}
	return append(out, ps.buffers...)
}

// CopyFrom sets all parameters and buffers to those of src, a network with the same
// names and shapes in the same order: a target network, a frozen copy.
func (ps *Params) CopyFrom(src *Params) {
	a, b := ps.State(), src.State()
	if len(a) != len(b) {
		panic(fmt.Sprintf("nn: CopyFrom: %d tensors, the source has %d", len(a), len(b)))
	}
	for i := range a {
		if a[i].Name != b[i].Name || !slices.Equal(a[i].Tensor.Shape(), b[i].Tensor.Shape()) {
			panic(fmt.Sprintf("nn: CopyFrom: %s %v, the source has %s %v", a[i].Name, a[i].Tensor.Shape(), b[i].Name, b[i].Tensor.Shape()))
		}
	}
	for i := range a {
		a[i].Tensor.Copy(b[i].Tensor)
	}
}
