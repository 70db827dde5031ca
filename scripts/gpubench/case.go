package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/gpu"
)

// Case is one kernel, or one operation of several, at one size.
type Case struct {
	Name   string  // unique; family and variant with dots between: "attention.forward.bf16"
	Kernel string  // entry point that takes most of the time, for the profilers
	Shape  string  // for the table: "4x16x2048x64 causal"
	Bytes  float64 // that must be read or written, each operand once
	Flops  float64 // a multiplication and an addition count 2
	Peak   string  // what bounds it: "memory", or the units "f32", "f64", "f64t" (tensor cores), "f16", "bf16"
	Goal   float64 // fraction of the roofline that the contract promises; 0 for none

	// Plain is the case of the same work by plain loops, over whose time this one's is reported; "" for none.
	Plain string

	// Torch is what the peer times beside it, an operation and its sizes, or "":
	//
	//	sdpa b=4 h=16 hk=16 q=2048 k=2048 d=64 dtype=bf16 causal=1 pass=fwd   (or fwdbwd; bias=1: with a bias for each head)
	//	eigh b=64 n=32 dtype=f32 vectors=1   (0: eigenvalues alone)
	//	cdist n=4096 m=4096 d=64 dtype=f32
	//	conv2d b=8 c=64 k=64 h=56 w=56 r=3 dtype=bf16
	//	matmul b=1 m=4096 n=4096 k=4096 dtype=bf16
	//	cov n=10000 d=2048 dtype=f64
	//	lincomb n=16777216 terms=3 dtype=f32
	//	randn n=16777216 dtype=f32
	//	activation n=16777216 f=silu dtype=f32   (f: silu, gelu or sin)
	//	adamw n=16777216 dtype=f32           (a fused step)
	//	sort n=16777216 dtype=i32
	//	quantile b=64 n=3072 dtype=f32
	//	resize b=16 c=3 h=256 w=256 to=299 mode=bicubic
	Torch string

	// Parts are the kernels of an operation of several with what one launch of each
	// does, so that each has a roofline of its own in the table by kernel. A case
	// of one kernel needs none.
	Parts []Part

	// Setup makes the operands on dev and returns the function that is timed. It queues
	// work on dev's stream, allocates nothing and does not wait.
	Setup func(dev *gpu.Device) (run func(), err error)
}

// Part is what one launch of a kernel moves and computes, on average where its launches differ.
type Part struct {
	Kernel       string
	Bytes, Flops float64
	Peak         string // as of Case
}

var cases []Case

// tiny tells whether this is a rehearsal.
var tiny = os.Getenv("FIDLAB_BENCH_TINY") == "1"

// size is full, and small in a rehearsal.
func size(full, small int) int {
	if tiny {
		return small
	}
	return full
}

// shape is sizes with "x" between, for the table.
func shape(sizes ...int) string {
	var list []string
	for _, n := range sizes {
		list = append(list, strconv.Itoa(n))
	}
	return strings.Join(list, "x")
}

// spec is what the peer is to time: spec("eigh", "b", 64, "n", 32) is "eigh b=64 n=32".
func spec(op string, pairs ...any) string {
	var b strings.Builder
	b.WriteString(op)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, " %v=%v", pairs[i], pairs[i+1])
	}
	return b.String()
}

// register adds a case; a wrong one is a bug of its file.
func register(c Case) {
	if why := c.wrong(); why != "" {
		panic(fmt.Sprintf("gpubench: case %q: %s", c.Name, why))
	}
	i, _ := slices.BinarySearchFunc(cases, c, func(a, b Case) int { return strings.Compare(a.Name, b.Name) })
	cases = slices.Insert(cases, i, c)
}

func (c Case) wrong() string {
	taken := slices.ContainsFunc(cases, func(o Case) bool { return o.Name == c.Name })
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, " |/"):
		return "the name is empty or has a space, a bar or a slash"
	case taken:
		return "the name is taken"
	case c.Goal < 0 || c.Goal > 1:
		return "the goal is not a fraction"
	case c.Kernel == "" || c.Shape == "" || c.Setup == nil:
		return "no kernel, shape or setup"
	}
	if why := c.whole().wrong(); why != "" {
		return why
	}
	for i, p := range c.Parts {
		if why := p.wrong(); why != "" {
			return fmt.Sprintf("part %q: %s", p.Kernel, why)
		}
		if slices.ContainsFunc(c.Parts[:i], func(o Part) bool { return o.Kernel == p.Kernel }) {
			return fmt.Sprintf("part %q is there twice", p.Kernel)
		}
	}
	return ""
}

// whole is a case as a part of itself.
func (c Case) whole() Part { return Part{c.Kernel, c.Bytes, c.Flops, c.Peak} }

func (p Part) wrong() string {
	_, known := h100[p.Peak]
	switch {
	case p.Kernel == "":
		return "no kernel"
	case !known:
		return fmt.Sprintf("peak %q is not one of memory, f32, f64, f64t, f16, bf16", p.Peak)
	case p.Bytes <= 0 || p.Flops < 0:
		return "no bytes"
	case p.Peak != "memory" && p.Flops == 0:
		return "no operations"
	}
	return ""
}
