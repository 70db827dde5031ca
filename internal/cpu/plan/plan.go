package plan

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Options say how Compile makes a Plan.
type Options struct {
	Precision Precision
	Batch     int  // images of one Run at most; 0 means 8
	Pure      bool // the pure-Go plan even where a native one is possible
}

// Plan is a compiled Net. It is safe for concurrent use: every Run in flight
// has its own scratch memory, which is kept for the next one.
type Plan struct {
	name    string
	batch   int
	input   int // values per image
	outputs []int
	engine  engine
	free    scratchList
}

// engine is what a plan compiles to.
type engine interface {
	describe() (name string, steps []Step)
	newScratch() (scratch, error) // on a worker
	close()
}

// scratch is the memory of one Run in flight.
type scratch interface {
	// run computes the outputs for n images; out[i] receives n times the length of output i.
	run(w *cpu.Worker, n int, in []float32, outs [][]float32) error
	close()
}

// Step describes one operation of a compiled plan.
type Step struct {
	Node string
	Impl string // e.g. "jit:avx512_core", "copy", "go"
	MACs int64  // multiply-adds per image
}

// DefaultBatch is the number of images of one Run when Options.Batch is 0.
const DefaultBatch = 8

// Compile checks net and makes a plan for it. The weights of net may be
// dropped afterwards. The native plan (tag native, oneDNN present) computes in
// the precision asked for; without it F32 runs in pure Go and the others are
// an error that says why.
func Compile(net *Net, opt Options) (*Plan, error) {
	if opt.Batch == 0 {
		opt.Batch = DefaultBatch
	}
	if opt.Batch < 0 || opt.Batch > 1<<12 {
		return nil, fmt.Errorf("plan: %s: batch is %d; want 1 to %d", net.Name, opt.Batch, 1<<12)
	}
	g, err := Resolve(net)
	if err != nil {
		return nil, err
	}
	p := &Plan{name: net.Name, batch: opt.Batch, input: g.Shape[0].Len()}
	for _, t := range g.Outputs {
		p.outputs = append(p.outputs, g.Shape[t].Len())
	}
	switch native := nativeProblem(opt.Precision); {
	case native == nil && !opt.Pure:
		p.engine, err = compileNative(g, opt)
	case opt.Precision == F32:
		p.engine = compilePure(g)
	case opt.Pure:
		err = fmt.Errorf("the pure-Go plan computes in fp32 only, not in %v", opt.Precision)
	default:
		err = fmt.Errorf("%v is not possible here: %w; use fp32", opt.Precision, native)
	}
	if err != nil {
		return nil, fmt.Errorf("plan: %s: %w", net.Name, err)
	}
	p.free.engine = p.engine
	return p, nil
}

// Available says why plans of the given precision can't be compiled here, nil when they can.
func Available(p Precision) error {
	if p == F32 {
		return nil
	}
	return nativeProblem(p)
}

// Batch is the largest number of images of one Run.
func (p *Plan) Batch() int { return p.batch }

// OutLen is the number of values per image of output i.
func (p *Plan) OutLen(i int) int { return p.outputs[i] }

// Engine names what computes, e.g. "oneDNN 2.6.3" or "go".
func (p *Plan) Engine() string {
	name, _ := p.engine.describe()
	return name
}

// Steps lists the compiled operations in order.
func (p *Plan) Steps() []Step {
	_, steps := p.engine.describe()
	return steps
}

// Run applies the network to the images in, [n,C,H,W] float32 with n from 1 to
// Batch, and writes output i of each to outs[i], [n,OutLen(i)]. It runs on
// worker w; nil submits it to the pool and waits. The result for an image
// depends neither on n, nor on the image's place, nor on the worker. Run
// panics when the lengths do not fit together. After the first calls it
// allocates nothing.
func (p *Plan) Run(w *cpu.Worker, in []float32, outs ...[]float32) error {
	n := Images(p.name, p.batch, p.input, p.outputs, in, outs)
	if w == nil {
		var err error
		cpu.Do(func(w *cpu.Worker) { err = p.Run(w, in, outs...) })
		return err
	}
	s, err := p.free.take()
	if err != nil {
		return fmt.Errorf("plan: %s: %w", p.name, err)
	}
	defer p.free.give(s)
	if err := s.run(w, n, in, outs); err != nil {
		return fmt.Errorf("plan: %s: %w", p.name, err)
	}
	return nil
}

// Images is how many images a run of the compiled net of that name has, of input values each. It panics unless they are 1 to batch, and unless outs has
// all outputs, each with room for so many values of every image.
func Images(name string, batch, input int, outputs []int, in []float32, outs [][]float32) int {
	n := len(in) / input
	if n < 1 || n > batch || len(in) != n*input {
		panic(fmt.Sprintf("plan: %s: input of %d values; want 1 to %d images of %d", name, len(in), batch, input))
	}
	if len(outs) != len(outputs) {
		panic(fmt.Sprintf("plan: %s: %d output slices; want %d", name, len(outs), len(outputs)))
	}
	for i, o := range outs {
		if len(o) != n*outputs[i] {
			panic(fmt.Sprintf("plan: %s: output %d has room for %d values; want %d for %d images", name, i, len(o), n*outputs[i], n))
		}
	}
	return n
}

// Close releases the plan's memory. No Run may be in flight or follow.
func (p *Plan) Close() {
	p.free.drop()
	p.engine.close()
}

// scratchList keeps idle scratch memory: as many pieces as Runs have ever been in flight at once.
type scratchList struct {
	mu     sync.Mutex
	idle   []scratch
	engine engine
}

func (l *scratchList) take() (scratch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := len(l.idle); k > 0 {
		s := l.idle[k-1]
		l.idle = l.idle[:k-1]
		return s, nil
	}
	return l.engine.newScratch()
}

func (l *scratchList) give(s scratch) {
	l.mu.Lock()
	l.idle = append(l.idle, s)
	l.mu.Unlock()
}

func (l *scratchList) drop() {
	l.mu.Lock()
	for _, s := range l.idle {
		s.close()
	}
	l.idle = nil
	l.mu.Unlock()
}
