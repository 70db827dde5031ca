//go:build native && cgo

package plan_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/nets"
)

// compileT compiles net for a test and asks for a native plan.
func compileT(t testing.TB, net *plan.Net, opt plan.Options) *plan.Plan {
	t.Helper()
	if err := plan.OpenDNNL(); err != nil {
		t.Fatalf("the native flavour must find oneDNN: %v", err)
	}
	p, err := plan.Compile(net, opt)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(p.Engine(), "oneDNN ") {
		t.Fatalf("engine is %s; want oneDNN", p.Engine())
	}
	t.Cleanup(p.Close)
	return p
}

func TestNativePlan(t *testing.T) {
	for _, net := range nets.Zoo() {
		compileT(t, net, plan.Options{})
	}
	checkZoo(t, plan.Options{}, 1e-6)
}

// TestNativeBF16 allows the rounding of weights and maps to 8 bits: one part
// in 2^9 at each of up to eight layers, which add up like a random walk.
func TestNativeBF16(t *testing.T) {
	if err := plan.Available(plan.BF16); err != nil {
		t.Skip(err)
	}
	checkZoo(t, plan.Options{Precision: plan.BF16}, 0.02)
}

// TestNativeSplitBF16 allows what is left out, the product of the low terms:
// one part in 2^16 of each product, on average far less.
func TestNativeSplitBF16(t *testing.T) {
	if err := plan.Available(plan.SplitBF16); err != nil {
		t.Skip(err)
	}
	checkZoo(t, plan.Options{Precision: plan.SplitBF16}, 2e-5)
}

// TestNativeViews asks that branches are written straight into their
// concatenation where the channel offsets allow it, and copied where not.
func TestNativeViews(t *testing.T) {
	if plan.ISA() < plan.AVX512 {
		t.Skip("blocks of 16 channels need AVX-512")
	}
	copies := func(p *plan.Plan) (n int) {
		for _, s := range p.Steps() {
			if s.Impl == "copy" {
				n++
			}
		}
		return n
	}
	if n := copies(compileT(t, nets.Zoo()[0], plan.Options{})); n != 1 { // "tall" a second time
		t.Errorf("%d copies in the net of blocks; want 1", n)
	}
	// 12 channels are no whole block, so maps are channels last: the input, both
	// branches and the linear layer's input are copied
	if n := copies(compileT(t, nets.Zoo()[1], plan.Options{})); n != 4 {
		t.Errorf("%d copies in the net of digits; want 4", n)
	}
}

// TestNativeLayouts compiles as for other processors: blocks of eight channels
// (AVX2) and channels last (AMX, where the concatenations are copied).
func TestNativeLayouts(t *testing.T) {
	type variant struct {
		isa  int
		opt  plan.Options
		maps int
		tol  float64
	}
	variants := []variant{{plan.AVX2, plan.Options{}, plan.Block8, 1e-6}}
	if plan.Available(plan.BF16) == nil {
		variants = append(variants,
			variant{plan.AMX, plan.Options{Precision: plan.BF16}, plan.NHWC, 0.02},
			variant{plan.AMX, plan.Options{Precision: plan.SplitBF16}, plan.NHWC, 2e-5})
	}
	isa := plan.ISA()
	defer plan.SetISA(isa)
	for _, v := range variants {
		plan.SetISA(v.isa)
		checkZoo(t, v.opt, v.tol)
		for _, net := range nets.Zoo() {
			p := compileT(t, net, v.opt)
			if maps, slow := plan.Layout(p); slow > 0 || maps != v.maps {
				t.Errorf("%s: layout %d with %d slow multiply-adds; want layout %d and none: %v", net.Name, maps, slow, v.maps, p.Steps())
			}
		}
	}
}

// TestNativeConcurrent runs one plan on all workers at once, in groups of
// several sizes: every image's bits must stay the same.
func TestNativeConcurrent(t *testing.T) {
	net := nets.Zoo()[0]
	p := compileT(t, net, plan.Options{Batch: 4})
	const images = 24
	in := nets.Images(net, images)
	size := len(in) / images
	features := func(group int) [4][]float32 {
		var outs [4][]float32
		for i := range outs {
			outs[i] = make([]float32, images*p.OutLen(i))
		}
		cpu.Each(images/group, func(w *cpu.Worker, b int) {
			var part [4][]float32
			for i := range part {
				part[i] = outs[i][b*group*p.OutLen(i):][:group*p.OutLen(i)]
			}
			if err := p.Run(w, in[b*group*size:][:group*size], part[:]...); err != nil {
				panic(err)
			}
		})
		return outs
	}
	want := features(1)
	for _, group := range []int{2, 3, 4} {
		got := features(group)
		for i := range got {
			for j, v := range got[i] {
				if math.Float32bits(v) != math.Float32bits(want[i][j]) {
					t.Fatalf("groups of %d: output %d differs at %d: %g, alone %g", group, i, j, v, want[i][j])
				}
			}
		}
	}
}

func TestNativeRunAllocatesNothing(t *testing.T) {
	net := nets.Zoo()[1]
	p := compileT(t, net, plan.Options{})
	in, a, b := nets.Images(net, 8), make([]float32, 8*p.OutLen(0)), make([]float32, 8*p.OutLen(1))
	outs := [][]float32{a, b}
	cpu.Do(func(w *cpu.Worker) {
		if n := oracle.Allocations(10, func() {
			if err := p.Run(w, in, outs...); err != nil {
				panic(err)
			}
		}); n != 0 {
			t.Errorf("%g allocations a run; want 0", n)
		}
	})
}
