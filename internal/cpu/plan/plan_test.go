package plan_test

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/internal/oracle/nets"
)

// checkNet compiles a net by opt and holds it to the definition.
func checkNet(t *testing.T, net *plan.Net, opt plan.Options, images int, tol float64) {
	t.Helper()
	p, err := plan.Compile(net, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	nets.Check(t, net, p, images, tol)
}

// checkZoo runs checkNet on the zoo.
func checkZoo(t *testing.T, opt plan.Options, tol float64) {
	t.Helper()
	opt.Batch = 4
	for _, net := range nets.Zoo() {
		checkNet(t, net, opt, 4, tol)
	}
}

func TestPurePlan(t *testing.T) { checkZoo(t, plan.Options{Pure: true}, 1e-6) }

func TestCompileRefuses(t *testing.T) {
	conv := func(change func(*plan.Node)) *plan.Net {
		n := plan.Node{Name: "c", Kind: plan.Conv, In: []string{"input"}, Out: 2, KH: 3, KW: 3, Weight: make([]float32, 54)}
		change(&n)
		return &plan.Net{Name: "bad", C: 3, H: 8, W: 8, Nodes: []plan.Node{n}, Outputs: []string{"c"}}
	}
	for want, net := range map[string]*plan.Net{
		"53 weights; want 27 for each of 2": conv(func(n *plan.Node) { n.Weight = n.Weight[:53] }),
		"1 biases; want 2":                  conv(func(n *plan.Node) { n.Bias = []float32{1} }),
		`input "x" is not defined`:          conv(func(n *plan.Node) { n.In = []string{"x"} }),
		"kernel 9x3 is larger":              conv(func(n *plan.Node) { n.KH = 9 }),
		"padding smaller than the kernel":   conv(func(n *plan.Node) { n.PadW = 3 }),
		"unknown kind 77":                   conv(func(n *plan.Node) { n.Kind = 77 }),
		"empty or taken":                    conv(func(n *plan.Node) { n.Name = "input" }),
		`output "c" is not a node`:          conv(func(n *plan.Node) { n.Name = "d" }),
		"2 inputs":                          conv(func(n *plan.Node) { n.In = []string{"input", "input"} }),
		"0 output channels":                 conv(func(n *plan.Node) { n.Out = 0 }),
		"at most":                           {Name: "huge", C: 1 << 20, H: 1 << 20, W: 1 << 20},
		"no outputs":                        {Name: "empty", C: 1, H: 1, W: 1},
		"equal heights": {Name: "cat", C: 1, H: 8, W: 8, Outputs: []string{"b"}, Nodes: []plan.Node{
			{Name: "a", Kind: plan.MaxPool, In: []string{"input"}, KH: 2, KW: 2},
			{Name: "b", Kind: plan.Concat, In: []string{"input", "a"}},
		}},
	} {
		if _, err := plan.Compile(net, plan.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v; want one with %q", err, want)
		}
	}
	if _, err := plan.Compile(nets.Zoo()[0], plan.Options{Pure: true, Precision: plan.BF16}); err == nil {
		t.Error("the pure-Go plan took bf16")
	}
}

func TestRunPanicsOnWrongLengths(t *testing.T) {
	net := nets.Zoo()[1]
	p, err := plan.Compile(net, plan.Options{Pure: true, Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	nets.CheckLengths(t, p)
}

func BenchmarkPureConv(b *testing.B) {
	net := nets.OneConv(96, 35, 96, 3)
	p, err := plan.Compile(net, plan.Options{Pure: true})
	if err != nil {
		b.Fatal(err)
	}
	in, out := nets.Images(net, 1), make([]float32, p.OutLen(0))
	for b.Loop() {
		if err := p.Run(nil, in, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*float64(p.Steps()[0].MACs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// TestRandomNets compares plans of random nets with the definition.
func TestRandomNets(t *testing.T) {
	for seed := range uint64(60) {
		net := nets.Random(seed)
		for _, opt := range []plan.Options{{Batch: 3}, {Batch: 3, Pure: true}} {
			checkNet(t, net, opt, 3, 1e-5) // sums of random signs cancel by a factor of ten at times
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
