package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// FrozenOn is a Frozen whose weights are on a device, with operations of package ops: for GPUs.
type FrozenOn struct {
	m             *Frozen
	blocks        []blockOn
	before, after normOn
	head          DenseOn
}

type normOn struct{ w, b *gpu.Tensor }

// DenseOn is a Dense whose parameters are on a device.
type DenseOn struct{ w, b *gpu.Tensor }

type blockOn struct {
	norm1, norm2   normOn
	q, k, v, proj  DenseOn
	in, value, out DenseOn
}

// On puts the weights on dev, where they stay until Free.
func (m *Frozen) On(dev *gpu.Device) *FrozenOn {
	f := &FrozenOn{m: m, after: m.after.on(dev), head: m.head.On(dev)}
	if m.before != nil {
		f.before = m.before.on(dev)
	}
	for i := range m.blocks {
		b := &m.blocks[i]
		f.blocks = append(f.blocks, blockOn{
			norm1: b.Norm1.on(dev), norm2: b.Norm2.on(dev), q: b.Q.On(dev), k: b.K.On(dev), v: b.V.On(dev), proj: b.Proj.On(dev),
			in: b.In.On(dev), value: b.Value.On(dev), out: b.Out.On(dev),
		})
	}
	return f
}

func (n *FrozenNorm) on(dev *gpu.Device) normOn {
	return normOn{dev.From(n.W, len(n.W)), dev.From(n.B, len(n.B))}
}

// On puts the layer's parameters on dev; none of a layer that is not there.
func (d *Dense) On(dev *gpu.Device) (o DenseOn) {
	if d == nil || d.W == nil {
		return o
	}
	if o.w = dev.From(d.W, d.Out, d.In); d.B != nil {
		o.b = dev.From(d.B, d.Out)
	}
	return o
}

// FrozenRun is the memory of one run of a FrozenOn, n sequences of l tokens each, on a stream of its own.
type FrozenRun struct {
	f              *FrozenOn
	net            FrozenOn // the weights as that stream sees them
	n, l           int
	h, q, k, v, y  *gpu.Tensor // [n·l, Width]
	hidden, value  *gpu.Tensor // [n·l, Hidden]
	mean, inv, lse *gpu.Tensor
	last, out      *gpu.Tensor // [n, Width], [n, Dim()]
}

// Prepare makes memory for runs on dev, the weights' own device or a Fork of it.
func (f *FrozenOn) Prepare(dev *gpu.Device, n, l int) *FrozenRun {
	c, rows := f.m.config, n*l
	r := &FrozenRun{f: f, net: f.seen(dev), n: n, l: l}
	for _, t := range []**gpu.Tensor{&r.h, &r.q, &r.k, &r.v, &r.y} {
		*t = dev.Empty(rows, c.Width)
	}
	r.hidden = dev.Empty(rows, c.Hidden)
	if c.Act == SwiGLU {
		r.value = dev.Empty(rows, c.Hidden)
	}
	r.mean, r.inv, r.lse = dev.Empty(rows), dev.Empty(rows), dev.Empty(n, c.Heads, l)
	r.last, r.out = dev.Empty(n, c.Width), dev.Empty(n, f.m.Dim())
	return r
}

// seen is the network with its weights for use on dev.
func (f *FrozenOn) seen(dev *gpu.Device) FrozenOn {
	s := FrozenOn{m: f.m, before: f.before.seen(dev), after: f.after.seen(dev), head: f.head.seen(dev)}
	for _, b := range f.blocks {
		s.blocks = append(s.blocks, blockOn{
			norm1: b.norm1.seen(dev), norm2: b.norm2.seen(dev), q: b.q.seen(dev), k: b.k.seen(dev), v: b.v.seen(dev), proj: b.proj.seen(dev),
			in: b.in.seen(dev), value: b.value.seen(dev), out: b.out.seen(dev),
		})
	}
	return s
}

// Free gives the parameters back.
func (d DenseOn) Free() {
	for _, t := range []*gpu.Tensor{d.w, d.b} {
		if t != nil {
			t.Free()
		}
	}
}

func (n normOn) seen(dev *gpu.Device) normOn { return normOn{seen(n.w, dev), seen(n.b, dev)} }

func (d DenseOn) seen(dev *gpu.Device) DenseOn { return DenseOn{seen(d.w, dev), seen(d.b, dev)} }

func seen(t *gpu.Tensor, dev *gpu.Device) *gpu.Tensor {
	if t == nil {
		return nil
	}
	return t.On(dev)
}

// Free gives the weights back. No run may be in flight or follow.
func (f *FrozenOn) Free() {
	f.each(func(t *gpu.Tensor) {
		if t != nil {
			t.Free()
		}
	})
}

func (f *FrozenOn) each(do func(t *gpu.Tensor)) {
	norms, layers := []normOn{f.before, f.after}, []DenseOn{f.head}
	for _, b := range f.blocks {
		norms, layers = append(norms, b.norm1, b.norm2), append(layers, b.q, b.k, b.v, b.proj, b.in, b.value, b.out)
	}
	for _, n := range norms {
		do(n.w)
		do(n.b)
	}
	for _, d := range layers {
		do(d.w)
		do(d.b)
	}
}

// Free gives the memory back.
func (r *FrozenRun) Free() {
	for _, t := range []*gpu.Tensor{r.h, r.q, r.k, r.v, r.y, r.hidden, r.value, r.mean, r.inv, r.lse, r.last, r.out} {
		if t != nil {
			t.Free()
		}
	}
}

// Run computes the vectors of the first tokens of x [n, l, Width], which it overwrites, after the last norm and layer: [n, Dim()], r's own until the next Run.
// It waits for nothing.
func (r *FrozenRun) Run(x *gpu.Tensor) *gpu.Tensor {
	c := &r.f.m.config
	if x.Len() != r.n*r.l*c.Width {
		panic(fmt.Sprintf("tower: FrozenRun: %d values for %d sequences of %d tokens of width %d", x.Len(), r.n, r.l, c.Width))
	}
	x = x.View(r.n*r.l, c.Width)
	if r.net.before.w != nil {
		r.norm(x, x, r.net.before)
	}
	for i := range r.net.blocks {
		r.block(&r.net.blocks[i], x)
	}
	// The first tokens are the first channels of a map of one pixel a sequence.
	ops.PoolBand(r.last.View(r.n, 1, 1, c.Width), x.View(r.n, 1, 1, r.l*c.Width), c.Width, 1, 1, false, ops.BandConfig{})
	to := r.out
	if r.net.head.w != nil {
		to = r.last
	}
	ops.Norm(to, r.mean.Rows(0, r.n), r.inv.Rows(0, r.n), r.last, ops.NormConfig{Eps: c.Eps, Weight: r.net.after.w, Bias: r.net.after.b})
	if r.net.head.w != nil {
		ops.Linear(r.out, nil, r.last, r.net.head.w, r.net.head.b, ops.Identity)
	}
	return r.out
}

func (r *FrozenRun) norm(y, x *gpu.Tensor, n normOn) {
	ops.Norm(y, r.mean, r.inv, x, ops.NormConfig{Eps: r.f.m.config.Eps, Weight: n.w, Bias: n.b})
}

func (r *FrozenRun) block(b *blockOn, x *gpu.Tensor) {
	c := &r.f.m.config
	r.norm(r.h, x, b.norm1)
	ops.Linear(r.q, nil, r.h, b.q.w, b.q.b, ops.Identity)
	ops.Linear(r.k, nil, r.h, b.k.w, b.k.b, ops.Identity)
	ops.Linear(r.v, nil, r.h, b.v.w, b.v.b, ops.Identity)
	heads := func(t *gpu.Tensor) *gpu.Tensor { return t.View(r.n, r.l, c.Heads, c.Width/c.Heads) }
	ops.Attention(heads(r.y), r.lse, ops.AttentionInput{Q: heads(r.q), K: heads(r.k), V: heads(r.v)}, ops.AttentionConfig{Causal: c.Causal})
	ops.Linear(r.h, nil, r.y, b.proj.w, b.proj.b, ops.Identity)
	ops.Add(x, x, r.h, false)
	r.norm(r.h, x, b.norm2)
	f := ops.GELU
	if c.Act != GELU {
		f = ops.SiLU
	}
	ops.Linear(r.hidden, nil, r.h, b.in.w, b.in.b, f)
	if c.Act == SwiGLU {
		ops.Linear(r.value, nil, r.h, b.value.w, b.value.b, ops.Identity)
		ops.Mul(r.hidden, r.hidden, r.value, false)
	}
	ops.Linear(r.h, nil, r.hidden, b.out.w, b.out.b, ops.Identity)
	ops.Add(x, x, r.h, false)
}

// Apply sets y [rows, Out] to what the layer makes of x [rows, In], on the device that d was put on or a Fork of it.
func (d DenseOn) Apply(y, x *gpu.Tensor) {
	dev := x.Device()
	ops.Linear(y, nil, x, seen(d.w, dev), seen(d.b, dev), ops.Identity)
}
