package extract

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/ops/netplan"
)

// engine is a compiled network: on the CPU, or on a GPU.
type engine interface {
	Batch() int
	OutLen(i int) int
	Run(w *cpu.Worker, in []float32, outs ...[]float32) error
	Close()
}

// compile makes an engine of net on the options' device.
func (o Options) compile(net *plan.Net) (engine, error) {
	opt := plan.Options{Precision: o.Precision, Batch: o.Batch, Pure: o.Pure}
	if o.gpu() {
		return netplan.Compile(o.Device, net, opt)
	}
	return plan.Compile(net, opt)
}

func (o Options) gpu() bool { return o.Device != nil && o.Device.CUDA() }

// where is the name of the device that a compiled network runs on.
func (o Options) where() string {
	if o.gpu() {
		return o.Device.String()
	}
	return "cpu"
}

// network is an extractor that feeds pictures to a compiled network.
type network struct {
	info  fid.ExtractorInfo
	on    string // the device
	plan  engine
	input int // values per image
	// load writes img as the network's input to dst.
	load  func(dst []float32, img *imageio.Image, s *imageio.Scratch)
	parts []networkPart // after the features

	mu   sync.Mutex
	idle []*networkScratch
}

// networkPart is a further output of the network: its first values are a part.
type networkPart struct {
	fid.Part
	all int // values that the output has
}

// networkScratch is the memory of one Features call in flight.
type networkScratch struct {
	input  []float32
	resize imageio.Scratch
	outs   [][]float32
	rows   [][]float32 // of every output, where there are parts
}

func (n *network) Info() fid.ExtractorInfo { return n.info }

// Parts implements fid.PartExtractor.
func (n *network) Parts() []fid.Part {
	var out []fid.Part
	for _, p := range n.parts {
		out = append(out, p.Part)
	}
	return out
}

// Device implements fid.Placed.
func (n *network) Device() string { return n.on }

func (n *network) Batch() int { return n.plan.Batch() }

// Close releases the network's memory. Nothing may run on it then or later.
func (n *network) Close() { n.plan.Close() }

func (n *network) Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	row := n.info.Dim
	for _, p := range n.parts {
		row += p.Dim
	}
	mustFit(n.info, row, n.Batch(), imgs, out)
	if w == nil {
		var err error
		cpu.Do(func(w *cpu.Worker) { err = n.Features(w, imgs, out) })
		return err
	}
	s := n.take()
	defer n.give(s)
	for i, img := range imgs {
		n.load(s.input[i*n.input:][:n.input], img, &s.resize)
	}
	if n.parts == nil {
		s.outs[0] = out
		return n.plan.Run(w, s.input[:len(imgs)*n.input], s.outs...)
	}
	for k, r := range s.rows {
		s.outs[k] = r[:len(imgs)*n.outLen(k)]
	}
	if err := n.plan.Run(w, s.input[:len(imgs)*n.input], s.outs...); err != nil {
		return err
	}
	for i := range imgs {
		to := out[i*row : (i+1)*row]
		to = to[copy(to, s.outs[0][i*n.info.Dim:(i+1)*n.info.Dim]):]
		for k, p := range n.parts {
			to = to[copy(to[:p.Dim], s.outs[k+1][i*p.all:]):]
		}
	}
	return nil
}

// mustFit panics when a Features call does not fit the extractor.
func mustFit(info fid.ExtractorInfo, row, batch int, imgs []*imageio.Image, out []float32) {
	if len(imgs) < 1 || len(imgs) > batch || len(out) != len(imgs)*row {
		panic(fmt.Sprintf("extract: %s: %d images and room for %d values; want 1 to %d images and %d values for each",
			info.Name, len(imgs), len(out), batch, row))
	}
}

func (n *network) take() *networkScratch {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := len(n.idle); k > 0 {
		s := n.idle[k-1]
		n.idle = n.idle[:k-1]
		return s
	}
	s := &networkScratch{input: make([]float32, n.Batch()*n.input), outs: make([][]float32, 1+len(n.parts))}
	if n.parts != nil {
		for k := range s.outs {
			s.rows = append(s.rows, make([]float32, n.Batch()*n.outLen(k)))
		}
	}
	return s
}

// outLen is how many values output k of the network has for an image.
func (n *network) outLen(k int) int {
	if k == 0 {
		return n.info.Dim
	}
	return n.parts[k-1].all
}

func (n *network) give(s *networkScratch) {
	clear(s.outs)
	n.mu.Lock()
	n.idle = append(n.idle, s)
	n.mu.Unlock()
}
