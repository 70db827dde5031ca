// Package netplan runs a network that is described as data, the Net of internal/cpu/plan, on a GPU: the whole of it is one CUDA graph over memory that is
// laid out once, channels last, branches written into their part of a concatenation.
package netplan

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/ops"
)

// DefaultBatch is the number of images of one Run when Options.Batch is 0: enough to fill a GPU with Inception's smallest maps.
const DefaultBatch = 32

// Plan is a compiled Net on a GPU. It is safe for concurrent use; a Run waits where two are under way.
type Plan struct {
	name    string
	dev     *gpu.Device
	batch   int
	outputs []int // values of an image
	l       *layout
	weights []*gpu.Tensor
	biases  []*gpu.Tensor
	flights *gpu.Lanes[*flight]
	closed  sync.Once
}

// Compile checks net and makes a plan of it for dev, a GPU or, slowly, the CPU. The weights of net may be dropped afterwards. BF16 and SplitBF16 run on
// tensor cores; vectors, that is averages and what follows them, are float32 whatever the precision.
func Compile(dev *gpu.Device, net *plan.Net, opt plan.Options) (*Plan, error) {
	opt.Batch = cmp.Or(opt.Batch, DefaultBatch)
	if opt.Batch < 0 || opt.Batch > 1<<12 {
		return nil, fmt.Errorf("netplan: %s: batch is %d; want 1 to %d", net.Name, opt.Batch, 1<<12)
	}
	g, err := plan.Resolve(net)
	if err != nil {
		return nil, err
	}
	p := &Plan{name: net.Name, dev: dev, batch: opt.Batch, l: arrange(g, opt.Precision)}
	for _, o := range p.l.outs {
		p.outputs = append(p.outputs, p.l.bufs[o].Len())
	}
	for i := range p.l.layers {
		w, b := p.l.layers[i].load(dev)
		p.weights, p.biases = append(p.weights, w), append(p.biases, b)
		p.l.layers[i].weight, p.l.layers[i].bias = nil, nil
	}
	for i := range g.Nodes {
		g.Nodes[i].Weight, g.Nodes[i].Bias = nil, nil
	}
	p.flights = gpu.NewLanes(dev, p.prepare, (*flight).close)
	if err := dev.Sync(); err != nil {
		return nil, fmt.Errorf("netplan: %s: %w", net.Name, err)
	}
	return p, nil
}

// load puts a layer's parameters onto dev.
func (y *layer) load(dev *gpu.Device) (w, b *gpu.Tensor) {
	if y.out == 0 {
		return nil, nil
	}
	if y.bias != nil {
		b = dev.From(y.bias, y.out)
	}
	area := y.kh * y.kw
	v := make([]float32, y.out*area*y.padded)
	for o := range y.out {
		for c := range y.in {
			for a := range area {
				from := (o*area+a)*y.in + c
				if y.planes {
					from = (o*y.in+c)*area + a
				}
				v[(o*area+a)*y.padded+c] = y.weight[from]
			}
		}
	}
	if y.split {
		return dev.FromAs(y.dt, inTerms(v, y.padded), y.out, y.kh, y.kw, 3*y.padded), b
	}
	return dev.FromAs(y.dt, v, y.out, y.kh, y.kw, y.padded), b
}

// inTerms is rows of c values as their two bfloat16 terms, h of all, h again and l of all, against which ops.SplitBand's h, l, h multiply.
func inTerms(v []float32, c int) []float32 {
	out := make([]float32, 0, 3*len(v))
	for at := 0; at < len(v); at += c {
		var high, low []float32
		for _, x := range v[at : at+c] {
			h := gpu.BF16ToFloat(gpu.FloatToBF16(x))
			high, low = append(high, h), append(low, x-h)
		}
		out = append(append(append(out, high...), high...), low...)
	}
	return out
}

// Batch is the largest number of images of one Run.
func (p *Plan) Batch() int { return p.batch }

// OutLen is the number of values per image of output i.
func (p *Plan) OutLen(i int) int { return p.outputs[i] }

// Engine names what computes.
func (p *Plan) Engine() string { return p.dev.String() }

// Memory is how many bytes the plan takes on the device: parameters, and what a Run under way works in.
func (p *Plan) Memory() (parameters, run int) {
	for i, w := range p.weights {
		for _, t := range []*gpu.Tensor{w, p.biases[i]} {
			if t != nil {
				parameters += t.Len() * t.DType().Size()
			}
		}
	}
	for _, b := range p.l.bufs {
		if b.own {
			run += p.batch * b.Len() * b.dt.Size()
		}
	}
	for _, s := range p.l.slots {
		run += p.batch * s.size * s.dt.Size()
	}
	return parameters, run
}

// Steps lists the operations in order.
func (p *Plan) Steps() []plan.Step {
	names := map[kind]string{enter: "enter", convert: "convert", copied: "copy", conv: "conv", pool: "pool", average: "mean", terms: "terms", leave: "leave"}
	var out []plan.Step
	for _, s := range p.l.steps {
		name := ""
		if s.node != nil {
			name = s.node.Name
		}
		out = append(out, plan.Step{Node: name, Impl: names[s.kind], MACs: s.macs})
	}
	return out
}

// Run applies the network to the images in, [n,C,H,W] float32 with n from 1 to Batch, and writes output i of each to outs[i], [n,OutLen(i)]. It waits for
// the results; w is not used. The result for an image depends neither on n nor on the image's place. Run panics when the lengths do not fit together.
func (p *Plan) Run(_ *cpu.Worker, in []float32, outs ...[]float32) error {
	n := plan.Images(p.name, p.batch, p.l.g.Shape[0].Len(), p.outputs, in, outs)
	if err := p.flights.Use(func(_ *gpu.Device, f *flight) error { return f.run(n, in, outs) }); err != nil {
		return fmt.Errorf("netplan: %s: %w", p.name, err)
	}
	return nil
}

// Close gives the plan's memory back. No Run may be in flight or follow.
func (p *Plan) Close() {
	p.closed.Do(func() {
		p.flights.Close()
		for i, w := range p.weights {
			if w != nil {
				w.Free()
			}
			if b := p.biases[i]; b != nil {
				b.Free()
			}
		}
	})
}

// Prepare makes the memory of one Run on dev, the plan's device or a Fork of it, and returns what queues its kernels one by one, not as a graph, for a whole
// batch of whatever pictures are there: what benchmarks time. free gives the memory back.
func (p *Plan) Prepare(dev *gpu.Device) (run, free func(), err error) {
	f, err := p.prepare(dev)
	if err != nil {
		return nil, nil, fmt.Errorf("netplan: %s: %w", p.name, err)
	}
	return f.work, f.close, nil
}

// flight is the memory, the stream and the graph of one Run under way.
type flight struct {
	dev   *gpu.Device
	owned []*gpu.Tensor // memory
	bufs  []*gpu.Tensor
	work  func()
	graph *cuda.Graph
	in    *gpu.Tensor
	outs  []*gpu.Tensor
}

func (p *Plan) prepare(dev *gpu.Device) (*flight, error) {
	f := &flight{dev: dev}
	l := p.l
	own := func(dt gpu.DType, n int) *gpu.Tensor {
		t := dev.Zeros(dt, n)
		f.owned = append(f.owned, t)
		return t
	}
	slots := make([]*gpu.Tensor, len(l.slots))
	for i, s := range l.slots {
		slots[i] = own(s.dt, p.batch*s.size)
	}
	for _, b := range l.bufs {
		n := p.batch * b.Len()
		var t *gpu.Tensor
		if b.own {
			t = own(b.dt, n)
		} else {
			t = slots[b.slot].Rows(0, n)
		}
		if b.planes {
			f.bufs = append(f.bufs, t.View(p.batch, b.C, b.H, b.W))
		} else {
			f.bufs = append(f.bufs, t.View(p.batch, b.H, b.W, b.C))
		}
	}
	for _, s := range l.steps {
		if s.kind == enter {
			f.in = f.bufs[s.from.buf]
		}
	}
	for _, o := range l.outs {
		f.outs = append(f.outs, f.bufs[o])
	}
	weights, biases := make([]*gpu.Tensor, len(p.weights)), make([]*gpu.Tensor, len(p.biases))
	for i, w := range p.weights {
		if w != nil {
			weights[i] = w.On(dev)
		}
		if b := p.biases[i]; b != nil {
			biases[i] = b.On(dev)
		}
	}
	f.work = func() {
		for i := range l.steps {
			f.step(l, &l.steps[i], weights, biases)
		}
	}
	if !dev.CUDA() {
		return f, nil
	}
	f.work() // kernels are loaded before they are recorded
	if err := dev.Sync(); err != nil {
		f.close()
		return nil, err
	}
	graph, err := dev.Stream().Capture(f.work)
	if err != nil {
		f.close()
		return nil, err
	}
	f.graph = graph
	return f, nil
}

// step queues one operation.
func (f *flight) step(l *layout, s *step, weights, biases []*gpu.Tensor) {
	from, to := f.bufs[s.from.buf], f.bufs[s.to.buf]
	cfg := ops.BandConfig{In: s.from.at, Out: s.to.at}
	if n := s.node; n != nil && (s.kind == conv && n.Kind == plan.Conv || s.kind == pool) {
		cfg.StrideH, cfg.StrideW, cfg.Pad = n.StrideH, n.StrideW, [4]int{n.PadH, n.PadH, n.PadW, n.PadW}
	}
	switch s.kind {
	case enter:
		ops.BandOfPlanes(to, from)
	case convert:
		shape := from.Shape()
		ops.BandOfPlanes(to, from.View(shape[0], shape[3], 1, 1))
	case copied, pool:
		ops.PoolBand(to, from, s.from.c, s.kh, s.kw, s.kind == pool && s.node.Kind == plan.AvgPool, cfg)
	case average:
		shape := to.Shape()
		ops.MeanBand(to.View(shape[0], shape[3]), from, s.from.at)
	case terms:
		ops.SplitBand(to, from, s.from.at)
	case conv:
		if l.bufs[s.from.buf].planes { // flattened
			from = from.View(from.Shape()[0], 1, 1, s.from.c)
		}
		w, b := weights[s.weight], biases[s.weight]
		if w.DType() == gpu.Float32 {
			ops.ConvBand(to, from, w, b, s.node.ReLU, cfg)
			return
		}
		half := ops.Conv16Config{StrideH: cfg.StrideH, StrideW: cfg.StrideW, Pad: cfg.Pad, InAt: cfg.In, OutAt: cfg.Out}
		if s.node.ReLU {
			half.F = ops.ReLU
		}
		ops.Conv16(to, from, w, b, half)
	case leave:
		ops.PlanesOfBand(to, from, s.from.at)
	}
}

func (f *flight) run(n int, in []float32, outs [][]float32) error {
	f.in.Rows(0, n).Set(in)
	if f.graph != nil {
		f.dev.Stream().LaunchGraph(f.graph)
	} else {
		f.work()
	}
	for i, o := range outs {
		if err := f.outs[i].Rows(0, n).Read(o); err != nil {
			return err
		}
	}
	return nil
}

func (f *flight) close() {
	for _, t := range f.owned {
		t.Free()
	}
}
