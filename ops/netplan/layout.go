package netplan

import (
	"cmp"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// buffer is a tensor [batch, H, W, C] that a compiled net works on.
type buffer struct {
	plan.Dims
	dt         gpu.DType
	born, dead int // the first node that writes it, the last that reads it
	// own says that nobody else has its memory, before or after: it is zero where nothing was written.
	own    bool
	slot   int // where buffers share memory, which piece
	planes bool
}

// band is some channels of a buffer.
type band struct{ buf, at, c int }

// kind of step.
type kind int

const (
	enter   kind = iota // pictures, planes, into a map
	convert             // a float32 vector into a map of another dtype
	copied              // a band into another
	conv
	pool
	average
	terms // the two terms of floats
	leave // a band into planes
)

// step is one operation.
type step struct {
	kind     kind
	node     *plan.Node
	from, to band
	weight   int // of the weights, 0 for none
	kh, kw   int
	macs     int64
}

// layer is a convolution's parameters: kernels [out, kh, kw, in], in padded with zeros.
type layer struct {
	out, kh, kw, in, padded int
	planes                  bool // the weights are [out, in, kh, kw]
	weight, bias            []float32
	dt                      gpu.DType
	split                   bool
}

// layout is a graph with memory laid out.
type layout struct {
	g      *plan.Graph
	prec   plan.Precision
	maps   gpu.DType // of maps
	unit   int       // channels that convolutions read are multiples of
	bufs   []buffer
	at     []band // of each tensor
	steps  []step
	layers []layer // from 1 on
	slots  []slot
	outs   []int // buffers, planes
	mapped map[int]band
	split  map[int]band
	padded map[int]band
}

// slot is memory that buffers have in turn.
type slot struct {
	dt    gpu.DType
	size  int // values of an image
	until int // when its last buffer is dead
}

func arrange(g *plan.Graph, prec plan.Precision) *layout {
	l := &layout{g: g, prec: prec, maps: gpu.Float32, unit: 4, layers: make([]layer, 1), mapped: map[int]band{}, split: map[int]band{}, padded: map[int]band{}}
	if prec == plan.BF16 {
		l.maps = gpu.BFloat16
	}
	if prec != plan.F32 {
		l.unit = 8
	}
	l.tensors()
	for i := range g.Nodes {
		l.node(i)
	}
	for _, t := range g.Outputs {
		from := l.at[t]
		to := l.buffer(buffer{Dims: g.Shape[t], dt: gpu.Float32, born: len(g.Nodes), dead: len(g.Nodes), own: true, planes: true})
		l.add(step{kind: leave, from: from, to: to}, len(g.Nodes))
		l.outs = append(l.outs, to.buf)
	}
	l.share()
	return l
}

func (l *layout) buffer(b buffer) band {
	l.bufs = append(l.bufs, b)
	return band{len(l.bufs) - 1, 0, b.C}
}

// tensors says where each lies: those that are concatenated in their part of the whole.
func (l *layout) tensors() {
	g := l.g
	parent, offset := make([]int, len(g.Shape)), make([]int, len(g.Shape))
	for i := range g.Nodes {
		if g.Nodes[i].Kind != plan.Concat {
			continue
		}
		at := 0
		for _, t := range g.In[i] {
			if t > 0 && parent[t] == 0 && l.dtype(t) == l.maps && g.Nodes[t-1].Kind != plan.GlobalAvg {
				parent[t], offset[t] = i+1, at
			}
			at += g.Shape[t].C
		}
	}
	l.at = make([]band, len(g.Shape))
	for t := len(g.Shape) - 1; t >= 0; t-- { // wholes come before their parts
		switch {
		case parent[t] > 0:
			whole := l.at[parent[t]]
			l.at[t] = band{whole.buf, whole.at + offset[t], g.Shape[t].C}
		case t == 0:
			d := g.Shape[0]
			pictures := l.buffer(buffer{Dims: d, dt: gpu.Float32, born: 0, dead: 0, own: true, planes: true})
			c := d.C
			d.C = (d.C + l.unit - 1) / l.unit * l.unit // zeros, so that the first convolution reads whole vectors
			l.at[0] = l.buffer(buffer{Dims: d, dt: l.maps, born: 0, dead: g.LastUse[0], own: true})
			l.add(step{kind: enter, from: pictures, to: l.at[0]}, 0)
			l.at[0].c = c
		default:
			l.at[t] = l.buffer(buffer{Dims: g.Shape[t], dt: l.dtype(t), born: t - 1, dead: max(t-1, g.LastUse[t])})
		}
	}
}

// dtype is a tensor's: vectors are float32, so that averages and what follows them keep that precision.
func (l *layout) dtype(t int) gpu.DType {
	if t > 0 {
		if k := l.g.Nodes[t-1].Kind; k == plan.GlobalAvg || k == plan.Linear {
			return gpu.Float32
		}
	}
	return l.maps
}

// add appends a step of node i and makes its buffers live as long as they must.
func (l *layout) add(s step, i int) {
	for _, b := range []band{s.from, s.to} {
		l.bufs[b.buf].born, l.bufs[b.buf].dead = min(l.bufs[b.buf].born, i), max(l.bufs[b.buf].dead, i)
	}
	l.steps = append(l.steps, s)
}

func (l *layout) node(i int) {
	g := l.g
	n, in, y := &g.Nodes[i], g.In[i], i+1
	x := g.Shape[in[0]]
	to := l.at[y]
	switch n.Kind {
	case plan.Concat:
		at := 0
		for _, t := range in {
			c := g.Shape[t].C
			if part := (band{to.buf, to.at + at, c}); l.at[t] != part {
				l.add(step{kind: copied, node: n, from: l.asMap(t, i), to: part, kh: 1, kw: 1}, i)
			}
			at += c
		}
	case plan.MaxPool, plan.AvgPool:
		l.add(step{kind: pool, node: n, from: l.asMap(in[0], i), to: to, kh: n.KH, kw: n.KW}, i)
	case plan.GlobalAvg:
		l.add(step{kind: average, node: n, from: l.at[in[0]], to: to}, i)
	case plan.Conv:
		from := l.inUnits(l.asMap(in[0], i), i)
		p := layer{out: n.Out, kh: n.KH, kw: n.KW, in: x.C, padded: from.c, planes: true, weight: n.Weight, bias: n.Bias, dt: l.maps}
		if l.prec == plan.SplitBF16 {
			from = l.inTerms(from, i)
			p.dt, p.split = gpu.BFloat16, true
		}
		l.layers = append(l.layers, p)
		l.add(step{kind: conv, node: n, from: from, to: to, weight: len(l.layers) - 1, kh: n.KH, kw: n.KW, macs: int64(g.Shape[y].Len()) * int64(x.C*n.KH*n.KW)}, i)
	case plan.Linear: // a kernel as large as the map, in float32
		from := l.at[in[0]]
		p := layer{out: n.Out, kh: x.H, kw: x.W, in: x.C, padded: x.C, planes: true, weight: n.Weight, bias: n.Bias, dt: gpu.Float32}
		if l.bufs[from.buf].dt != gpu.Float32 {
			flat := l.buffer(buffer{Dims: x, dt: gpu.Float32, born: i, dead: i, planes: true})
			l.add(step{kind: leave, from: from, to: flat}, i)
			p.kh, p.kw, p.in, p.padded, p.planes = 1, 1, x.Len(), x.Len(), false
			from = band{flat.buf, 0, x.Len()}
		}
		l.layers = append(l.layers, p)
		l.add(step{kind: conv, node: n, from: from, to: to, weight: len(l.layers) - 1, kh: p.kh, kw: p.kw, macs: int64(n.Out) * int64(x.Len())}, i)
	}
}

// asMap is tensor t in the dtype of maps: itself, or a copy made once for all who read it.
func (l *layout) asMap(t, i int) band {
	from := l.at[t]
	if l.bufs[from.buf].dt == l.maps {
		return from
	}
	to, ok := l.mapped[t]
	if !ok {
		to = l.buffer(buffer{Dims: l.g.Shape[t], dt: l.maps, born: i, dead: l.g.LastUse[t]})
		l.add(step{kind: convert, from: from, to: to}, i)
		l.mapped[t] = to
	}
	return to
}

// inUnits is a band whose channels are as many as convolutions want: itself, or a copy with zeros behind.
func (l *layout) inUnits(from band, i int) band {
	whole := (from.c + l.unit - 1) / l.unit * l.unit
	if from.c == whole && from.at%l.unit == 0 && l.bufs[from.buf].C%l.unit == 0 {
		return from
	}
	if b := &l.bufs[from.buf]; from.at == 0 && b.own && b.C == whole { // the pictures
		return band{from.buf, 0, whole}
	}
	key := from.buf<<24 | from.at // of one buffer's bands that begin at one place some may be longer
	to, ok := l.padded[key]
	if !ok || to.c != whole {
		d := l.bufs[from.buf].Dims
		d.C = whole
		to = l.buffer(buffer{Dims: d, dt: l.bufs[from.buf].dt, born: i, dead: i, own: true})
		l.add(step{kind: copied, from: from, to: band{to.buf, 0, from.c}, kh: 1, kw: 1}, i)
		l.padded[key] = to
	}
	return to
}

// inTerms is a band as its two terms.
func (l *layout) inTerms(from band, i int) band {
	key := from.buf<<24 | from.at
	to, ok := l.split[key]
	if !ok || to.c != 3*from.c {
		d := l.bufs[from.buf].Dims
		d.C = 3 * from.c
		to = l.buffer(buffer{Dims: d, dt: gpu.BFloat16, born: i, dead: i})
		l.add(step{kind: terms, from: from, to: to}, i)
		l.split[key] = to
	}
	return to
}

// share gives buffers their memory: the piece that is free and whose size is nearest.
func (l *layout) share() {
	var order []int
	for i := range l.bufs {
		if !l.bufs[i].own {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(l.bufs[i].born, l.bufs[j].born) })
	for _, i := range order {
		b := &l.bufs[i]
		best, waste := -1, 0
		for k := range l.slots {
			s := &l.slots[k]
			if s.dt != b.dt || s.until >= b.born {
				continue
			}
			if w := max(s.size-b.Len(), b.Len()-s.size); best < 0 || w < waste {
				best, waste = k, w
			}
		}
		if best < 0 {
			l.slots = append(l.slots, slot{dt: b.dt})
			best = len(l.slots) - 1
		}
		s := &l.slots[best]
		s.size, s.until, b.slot = max(s.size, b.Len()), b.dead, best
	}
}
