package extract

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// network is an extractor that feeds pictures to a compiled network.
type network struct {
	info  fid.ExtractorInfo
	plan  *plan.Plan
	input int // values per image
	// load writes img as the network's input to dst.
	load func(dst []float32, img *imageio.Image, s *imageio.Scratch)

	mu   sync.Mutex
	idle []*networkScratch
}

// networkScratch is the memory of one Features call in flight.
type networkScratch struct {
	input  []float32
	resize imageio.Scratch
	outs   [1][]float32
}

func (n *network) Info() fid.ExtractorInfo { return n.info }

func (n *network) Batch() int { return n.plan.Batch() }

// Close releases the network's memory. Nothing may run on it then or later.
func (n *network) Close() { n.plan.Close() }

func (n *network) Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	mustFit(n.info, n.Batch(), imgs, out)
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
	s.outs[0] = out
	return n.plan.Run(w, s.input[:len(imgs)*n.input], s.outs[:]...)
}

// mustFit panics when a Features call does not fit the extractor.
func mustFit(info fid.ExtractorInfo, batch int, imgs []*imageio.Image, out []float32) {
	if len(imgs) < 1 || len(imgs) > batch || len(out) != len(imgs)*info.Dim {
		panic(fmt.Sprintf("extract: %s: %d images and room for %d values; want 1 to %d images and %d values for each",
			info.Name, len(imgs), len(out), batch, info.Dim))
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
	return &networkScratch{input: make([]float32, n.Batch()*n.input)}
}

func (n *network) give(s *networkScratch) {
	s.outs[0] = nil
	n.mu.Lock()
	n.idle = append(n.idle, s)
	n.mu.Unlock()
}
