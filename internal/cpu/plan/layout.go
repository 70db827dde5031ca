//go:build native && cgo

package plan

import (
	"math"
	"slices"
)

// Memory layouts and operations, as in primitives.h.
const (
	plain = iota
	block8
	block16
	nhwc
)

const (
	opConv = iota
	opMax
	opAvg
	opLinear
	opGlobal
	opCopy
	opSplit
)

// ltensor is one image's tensor as it lies in memory.
type ltensor struct {
	Dims
	layout int
	bf16   bool
}

func (t ltensor) block() int {
	return [...]int{plain: 1, block8: 8, block16: 16, nhwc: 1}[t.layout]
}

func (t ltensor) bytes() int {
	size := 4
	if t.bf16 {
		size = 2
	}
	b := t.block()
	return (t.C + b - 1) / b * b * t.H * t.W * size
}

// place is where a tensor lies in the arena, image b at offset + b*stride.
type place struct{ offset, stride int }

const inPlace = -1 // offset of an input that is read where the caller has it

// lstep is one operation of the program.
type lstep struct {
	node     *Node // nil for what no node asks for
	kind     int
	src, dst ltensor
	from, to place
	channel  int // of a copy: where src's channels begin in dst
	macs     int64

	tsrc, tdst int // tensors, until their places are known
	index      int // the node that the step belongs to
}

// layout is a graph with memory laid out: the steps, the arena, the outputs.
//
// All maps have one layout, the one that the convolutions of this processor
// want. A tensor that goes into a concatenation lies inside of it from the
// beginning, where the layout makes a range of channels contiguous.
type layout struct {
	g       *Graph
	maps    int         // the layout of all maps
	bf16    bool        // maps are bf16
	split   map[int]int // the three terms of a float32 map, for SplitBF16; else nil
	mapped  map[int]int // vectors that were copied into the layout of maps
	t       []ltensor   // graph tensors, then those made here
	born    []int       // the node that makes a tensor, -1 for the input
	dead    []int       // the last node that reads it
	parent  []int       // the concatenation that a tensor lies in, or -1
	channel []int       // where it begins there
	at      []place

	steps   []lstep
	prefix  int // leading steps that run image by image
	arena   int
	outputs []struct {
		t  ltensor
		at place
	}
}

func arrange(g *Graph, opt Options, maps int) *layout {
	l := &layout{g: g, maps: maps, bf16: opt.Precision == BF16, mapped: map[int]int{}}
	if opt.Precision == SplitBF16 {
		l.split = map[int]int{}
	}
	l.tensors()
	l.nest()
	l.program()
	l.allocate(opt.Batch)
	for i := range l.steps {
		s := &l.steps[i]
		s.src, s.dst, s.from, s.to = l.t[s.tsrc], l.t[s.tdst], l.at[s.tsrc], l.at[s.tdst]
	}
	for _, t := range g.Outputs {
		l.outputs = append(l.outputs, struct {
			t  ltensor
			at place
		}{l.t[t], l.at[t]})
	}
	return l
}

// layoutsFor lists the layouts to try, the one that the convolutions of this
// processor want first.
func layoutsFor(opt Options, isa int) []int {
	switch {
	case opt.Precision != F32 && isa >= isaAMX:
		return []int{nhwc, block16}
	case isa >= isaAVX512:
		return []int{block16, nhwc}
	}
	return []int{block8, nhwc}
}

func (l *layout) add(t ltensor, born, dead int) int {
	l.t, l.born, l.dead = append(l.t, t), append(l.born, born), append(l.dead, max(dead, born)) // what nobody reads is written all the same
	l.parent, l.channel, l.at = append(l.parent, -1), append(l.channel, 0), append(l.at, place{})
	return len(l.t) - 1
}

// tensors gives each tensor its layout: vectors are plain float32, so that
// averages and what follows them keep float32 precision.
func (l *layout) tensors() {
	l.add(ltensor{Dims: l.g.Shape[0], layout: plain}, -1, l.g.LastUse[0])
	for i := range l.g.Nodes {
		t := ltensor{Dims: l.g.Shape[i+1], layout: l.maps, bf16: l.bf16}
		if k := l.g.Nodes[i].Kind; k == GlobalAvg || k == Linear {
			t = ltensor{Dims: t.Dims, layout: plain}
		}
		l.add(t, i, l.g.LastUse[i+1])
	}
}

// nest puts tensors into the concatenations that they go to.
func (l *layout) nest() {
	for i, n := range l.g.Nodes {
		if n.Kind != Concat {
			continue
		}
		at, cat := 0, i+1
		for _, t := range l.g.In[i] {
			x, b := l.t[t], l.t[cat].block()
			if t > 0 && l.parent[t] < 0 && x.layout == l.t[cat].layout && x.bf16 == l.t[cat].bf16 &&
				x.layout != nhwc && at%b == 0 && x.C%b == 0 {
				l.parent[t], l.channel[t] = cat, at
			}
			at += x.C
		}
	}
}

// program lists the steps.
func (l *layout) program() {
	input := 0
	// convolutions that write blocks read plain maps of one or three channels
	if c := l.g.Shape[0].C; l.bf16 || l.maps == nhwc || c != 1 && c != 3 {
		x := ltensor{Dims: l.g.Shape[0], layout: l.maps, bf16: l.bf16}
		if l.maps != nhwc && (c == 1 || c == 3) {
			x.layout = plain
		}
		input = l.add(x, 0, l.g.LastUse[0])
		l.steps = append(l.steps, lstep{kind: opCopy, tsrc: 0, tdst: input})
		l.dead[0] = 0
	}
	for i := range l.g.Nodes {
		n, y := &l.g.Nodes[i], i+1
		in := slices.Clone(l.g.In[i])
		for k := range in {
			if in[k] == 0 {
				in[k] = input
			}
		}
		step := lstep{node: n, tsrc: in[0], tdst: y, index: i, macs: l.g.macs(i)}
		switch n.Kind {
		case Concat:
			at := 0
			for k, t := range in {
				if l.parent[t] != y || l.channel[t] != at || slices.Index(in, t) != k {
					l.steps = append(l.steps, lstep{node: n, kind: opCopy, tsrc: t, tdst: y, channel: at, index: i})
				}
				at += l.t[t].C
			}
			continue
		case Linear:
			step.kind = opLinear
			if x := l.t[in[0]]; x.layout != plain || x.bf16 { // channels first, float32
				step.tsrc = l.add(ltensor{Dims: x.Dims, layout: plain}, i, i)
				l.steps = append(l.steps, lstep{node: n, kind: opCopy, tsrc: in[0], tdst: step.tsrc, index: i})
			}
		case Conv:
			step.kind = opConv
			if l.split != nil {
				step.tsrc = l.terms(in[0], i)
			} else {
				step.tsrc = l.asMap(in[0], i)
			}
		case MaxPool:
			step.kind, step.tsrc = opMax, l.asMap(in[0], i)
		case AvgPool:
			step.kind, step.tsrc = opAvg, l.asMap(in[0], i)
		case GlobalAvg:
			step.kind = opGlobal
		}
		l.steps = append(l.steps, step)
	}
	// Early maps are larger than caches and their weights are small: image by
	// image, a map is still in the cache when the next layer reads it. Later it
	// is the weights that should stay.
	for l.prefix < len(l.steps) {
		s := &l.steps[l.prefix]
		weights := 0
		if s.kind == opConv || s.kind == opLinear {
			weights = 4 * len(s.node.Weight)
		}
		if weights > l.t[s.tsrc].bytes()+l.t[s.tdst].bytes() {
			for l.prefix > 0 && l.steps[l.prefix-1].index == s.index { // never inside of a node
				l.prefix--
			}
			break
		}
		l.prefix++
	}
}

// asMap is tensor t in the layout of maps: t itself, or a copy of a vector,
// made once for all who read it.
func (l *layout) asMap(t, node int) int {
	if t == 0 || t > len(l.g.Nodes) || l.t[t].layout == l.maps {
		return t // a map, or the input as the first convolution wants it
	}
	m, ok := l.mapped[t]
	if !ok {
		m = l.add(ltensor{Dims: l.t[t].Dims, layout: l.maps, bf16: l.bf16}, node, node)
		l.mapped[t] = m
		l.steps = append(l.steps, lstep{kind: opCopy, node: &l.g.Nodes[node], tsrc: t, tdst: m, index: node})
	}
	l.dead[m] = node
	return m
}

// terms is the tensor with the two bf16 terms of map t as channels, high, low
// and high again: against weights high, high and low it gives the three
// products of SplitBF16 in one sum. It is made once for all who read it.
func (l *layout) terms(t, node int) int {
	s, ok := l.split[t]
	if !ok {
		x := l.t[t]
		x.C, x.bf16, x.layout = 3*x.C, true, l.maps
		s = l.add(x, node, node)
		l.split[t] = s
		l.steps = append(l.steps, lstep{kind: opSplit, node: &l.g.Nodes[node], tsrc: t, tdst: s, index: node})
	}
	l.dead[s] = node
	return s
}

// splitWeights are the weights for the channels of terms.
func splitWeights(w []float32, out int) []float32 {
	k := len(w) / out
	s := make([]float32, 0, 3*len(w))
	for o := range out {
		row := w[o*k:][:k]
		low := make([]float32, k)
		high := make([]float32, k)
		for i, v := range row {
			high[i] = roundBF16(v)
			low[i] = roundBF16(v - high[i])
		}
		s = append(append(append(s, high...), high...), low...)
	}
	return s
}

// roundBF16 rounds to the nearest bf16, ties to even.
func roundBF16(v float32) float32 {
	u := math.Float32bits(v)
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

// allocate gives every tensor its place: first fit, large ones first, two
// share memory only when no node needs both.
func (l *layout) allocate(batch int) {
	last := -1 // the last node of the part that runs image by image
	if l.prefix > 0 {
		last = l.steps[l.prefix-1].index
	}
	root := func(t int) int {
		for l.parent[t] >= 0 {
			t = l.parent[t]
		}
		return t
	}
	n := len(l.t)
	from, to := slices.Clone(l.born), slices.Clone(l.dead)
	for t := range n {
		r := root(t)
		from[r], to[r] = min(from[r], l.born[t]), max(to[r], l.dead[t])
	}
	type span struct{ t, offset, size, from, to int }
	var roots []span
	for t := range n {
		if root(t) != t || t == 0 {
			continue
		}
		s := span{t: t, size: (l.t[t].bytes() + 63) / 64 * 64, from: from[t], to: to[t]}
		l.at[t] = place{stride: 0}
		if s.to > last { // every image's copy must last
			l.at[t].stride = s.size
			s.size *= batch
			if s.from <= last {
				s.from = -1
			}
		}
		roots = append(roots, s)
	}
	slices.SortStableFunc(roots, func(a, b span) int { return b.size - a.size })
	for i := range roots {
		s := &roots[i]
		for again := true; again; {
			again = false
			for _, o := range roots[:i] {
				if s.from <= o.to && o.from <= s.to && s.offset < o.offset+o.size && o.offset < s.offset+s.size {
					s.offset, again = o.offset+o.size, true
				}
			}
		}
		l.at[s.t].offset = s.offset
		l.arena = max(l.arena, s.offset+s.size)
	}
	l.at[0] = place{inPlace, l.t[0].bytes()}
	for t := range n {
		at, c, r := 0, t, root(t)
		for ; c != r; c = l.parent[c] {
			b := l.t[t]
			b.C = l.channel[c]
			at += b.bytes()
		}
		if c != t {
			l.at[t] = place{l.at[r].offset + at, l.at[r].stride}
		}
	}
}
