//go:build native && cgo

package plan

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wall
#include <stdlib.h>
#include "primitives.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"github.com/fidlab/fidlab/internal/cpu"
)

// What oneDNN may use of this processor; see fl_isa.
const (
	isaAVX2 = iota + 1
	isaAVX512
	isaBF16
	isaAMX
)

var oneDNN struct {
	once    sync.Once
	version string
	isa     int
	err     error
}

// openDNNL binds the library once. Its calls run on a worker.
func openDNNL() error {
	l := &oneDNN
	l.once.Do(func() {
		handle, version, err := cpu.DNNL()
		if err != nil {
			l.err = err
			return
		}
		l.version = version
		cpu.Do(func(w *cpu.Worker) {
			w.Enter()
			defer w.Leave()
			if msg := C.fl_open(handle); msg != nil {
				l.err = fmt.Errorf("oneDNN %s: %s", version, C.GoString(msg))
				return
			}
			l.isa = int(C.fl_isa())
		})
	})
	return l.err
}

func nativeProblem(p Precision) error {
	if err := openDNNL(); err != nil {
		return err
	}
	switch {
	case oneDNN.isa < isaAVX2:
		return errors.New("oneDNN has no fast convolution for this processor (no AVX2)")
	case p != F32 && oneDNN.isa < isaBF16:
		return errors.New("this processor has no AVX512_BF16")
	}
	return nil
}

// nativePlan is a program of oneDNN primitives.
type nativePlan struct {
	l       *layout
	program *C.fl_program
	steps   []Step
	outputs []C.fl_tensor
	name    string
	slow    int64 // multiply-adds of convolutions in oneDNN's reference code
}

// compileNative makes the program in the first layout for which oneDNN has
// fast code for every convolution, or in the one with the least slow work.
func compileNative(g *Graph, opt Options) (engine, error) {
	var best *nativePlan
	for _, maps := range layoutsFor(opt, oneDNN.isa) {
		p, err := build(arrange(g, opt, maps))
		switch {
		case err != nil:
			if best != nil {
				best.close()
			}
			return nil, err
		case best == nil || p.slow < best.slow:
			if best != nil {
				best.close()
			}
			best = p
		default:
			p.close()
		}
		if best.slow == 0 {
			break
		}
	}
	return best, nil
}

func build(l *layout) (*nativePlan, error) {
	p := &nativePlan{l: l, name: "oneDNN " + oneDNN.version}
	for _, o := range l.outputs {
		p.outputs = append(p.outputs, cTensor(o.t))
	}
	var err error
	cpu.Do(func(w *cpu.Worker) {
		w.Enter()
		defer w.Leave()
		if p.program = C.fl_program_new(C.int(len(l.steps))); p.program == nil {
			err = errors.New("out of memory")
			return
		}
		for i := range l.steps {
			if err = p.add(&l.steps[i]); err != nil {
				return
			}
		}
		C.fl_program_end(p.program, C.size_t(l.arena), C.int(l.prefix))
	})
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *nativePlan) add(s *lstep) error {
	n, name := s.node, "input"
	op := C.fl_op{src: cTensor(s.src), dst: cTensor(s.dst), kind: C.int(s.kind), channel: C.int(s.channel)}
	var weight, bias *C.float
	step := Step{}
	if n != nil {
		name = n.Name
		op.kh, op.kw, op.sh, op.sw = C.int(n.KH), C.int(n.KW), C.int(n.StrideH), C.int(n.StrideW)
		op.ph, op.pw = C.int(n.PadH), C.int(n.PadW)
		if s.kind == opConv || s.kind == opLinear {
			if n.ReLU {
				op.relu = 1
			}
			w := n.Weight
			if s.kind == opConv && p.l.split != nil {
				w = splitWeights(w, n.Out)
			}
			weight = (*C.float)(unsafe.SliceData(w))
			bias = (*C.float)(unsafe.SliceData(n.Bias)) // nil where there is none
			step.MACs = s.macs
		}
	}
	var impl [64]C.char
	msg := C.fl_program_add(p.program, &op, cPlace(s.from), cPlace(s.to), weight, bias, &impl[0], C.int(len(impl)))
	if msg != nil {
		return fmt.Errorf("%s: %s", name, C.GoString(msg))
	}
	step.Node, step.Impl = name, C.GoString(&impl[0])
	p.steps = append(p.steps, step)
	if s.kind == opConv && strings.HasPrefix(step.Impl, "ref") {
		p.slow += step.MACs
	}
	return nil
}

func cTensor(t ltensor) C.fl_tensor {
	c := C.fl_tensor{c: C.int(t.C), h: C.int(t.H), w: C.int(t.W), layout: C.int(t.layout)}
	if t.bf16 {
		c.bf16 = 1
	}
	return c
}

func cPlace(p place) C.fl_place {
	return C.fl_place{offset: C.size_t(p.offset), stride: C.size_t(p.stride)}
}

func (p *nativePlan) describe() (string, []Step) { return p.name, p.steps }

func (p *nativePlan) close() {
	if p.program != nil {
		C.fl_program_free(p.program)
		p.program = nil
	}
}

type nativeScratch struct {
	p   *nativePlan
	ctx *C.fl_context
}

func (p *nativePlan) newScratch() (scratch, error) {
	s := &nativeScratch{p: p, ctx: C.fl_context_new(p.program)}
	if s.ctx == nil {
		return nil, fmt.Errorf("no memory for a run (%d MiB)", p.l.arena>>20)
	}
	return s, nil
}

func (s *nativeScratch) close() { C.fl_context_free(s.ctx) }

func (s *nativeScratch) run(w *cpu.Worker, n int, in []float32, outs [][]float32) error {
	w.Enter()
	defer w.Leave()
	if msg := C.fl_run(s.ctx, C.int(n), (*C.float)(unsafe.SliceData(in))); msg != nil {
		return errors.New(C.GoString(msg))
	}
	for i := range outs {
		C.fl_fetch(s.ctx, &s.p.outputs[i], cPlace(s.p.l.outputs[i].at), C.int(n), (*C.float)(unsafe.SliceData(outs[i])))
	}
	return nil
}
