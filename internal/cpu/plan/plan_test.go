package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// forward64 is the definition: direct sums in float64, image by image.
func forward64(t *testing.T, net *Net, in []float32) map[string][]float64 {
	t.Helper()
	g, err := resolve(net)
	if err != nil {
		t.Fatal(err)
	}
	vals := make([][]float64, len(g.shape))
	for _, v := range in {
		vals[0] = append(vals[0], float64(v))
	}
	out := map[string][]float64{}
	for i, n := range g.nodes {
		xd, yd := g.shape[g.in[i][0]], g.shape[i+1]
		x, y := vals[g.in[i][0]], make([]float64, yd.Len())
		at := func(c, h, w int) (float64, bool) {
			if h < 0 || h >= xd.H || w < 0 || w >= xd.W {
				return 0, false
			}
			return x[(c*xd.H+h)*xd.W+w], true
		}
		for c := range yd.C {
			for h := range yd.H {
				for w := range yd.W {
					acc, best, count := 0.0, math.Inf(-1), 0
					switch n.Kind {
					case Conv:
						for ic := range xd.C {
							for kh := range n.KH {
								for kw := range n.KW {
									v, _ := at(ic, h*n.StrideH+kh-n.PadH, w*n.StrideW+kw-n.PadW)
									acc += v * float64(n.Weight[((c*xd.C+ic)*n.KH+kh)*n.KW+kw])
								}
							}
						}
					case MaxPool, AvgPool:
						for kh := range n.KH {
							for kw := range n.KW {
								if v, ok := at(c, h*n.StrideH+kh-n.PadH, w*n.StrideW+kw-n.PadW); ok {
									acc += v
									best = max(best, v)
									count++
								}
							}
						}
						if acc /= float64(count); n.Kind == MaxPool {
							acc = best
						}
					case GlobalAvg:
						for _, v := range x[c*xd.H*xd.W:][:xd.H*xd.W] {
							acc += v / float64(xd.H*xd.W)
						}
					case Linear:
						for j, v := range x {
							acc += v * float64(n.Weight[c*len(x)+j])
						}
					}
					if n.Bias != nil {
						acc += float64(n.Bias[c])
					}
					if n.ReLU {
						acc = max(acc, 0)
					}
					y[(c*yd.H+h)*yd.W+w] = acc
				}
			}
		}
		if n.Kind == Concat {
			y = y[:0]
			for _, s := range g.in[i] {
				y = append(y, vals[s]...)
			}
		}
		vals[i+1] = y
		out[n.Name] = y
	}
	return out
}

// builder makes nets with random weights.
type builder struct {
	net Net
	r   *rand.Rand
	ch  map[string]int
}

func newBuilder(name string, seed uint64, c, h, w int) *builder {
	return &builder{Net{Name: name, C: c, H: h, W: w}, rand.New(rand.NewPCG(seed, 1)), map[string]int{"input": c}}
}

func (b *builder) values(n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(b.r.NormFloat64() * scale)
	}
	return v
}

func (b *builder) conv(name, in string, out, kh, kw, stride, ph, pw int) {
	k := b.ch[in] * kh * kw
	b.ch[name] = out
	b.net.Nodes = append(b.net.Nodes, Node{
		Name: name, Kind: Conv, In: []string{in}, Out: out, KH: kh, KW: kw, StrideH: stride, StrideW: stride,
		PadH: ph, PadW: pw, ReLU: true, Weight: b.values(out*k, math.Sqrt(2/float64(k))), Bias: b.values(out, 0.1),
	})
}

func (b *builder) add(n Node) {
	c := 0
	for _, in := range n.In {
		c += b.ch[in]
	}
	b.ch[n.Name] = c
	b.net.Nodes = append(b.net.Nodes, n)
}

// zoo is one net of every node kind and every awkward size.
func zoo() []*Net {
	a := newBuilder("blocks", 1, 3, 31, 29)
	a.conv("stem", "input", 32, 3, 3, 2, 0, 0)
	a.add(Node{Name: "max", Kind: MaxPool, In: []string{"stem"}, KH: 3, KW: 3, StrideH: 2, StrideW: 2})
	a.conv("b1", "max", 16, 1, 1, 1, 0, 0)
	a.conv("b2a", "max", 48, 1, 1, 1, 0, 0)
	a.conv("b2", "b2a", 64, 5, 5, 1, 2, 2)
	a.add(Node{Name: "avg", Kind: AvgPool, In: []string{"max"}, KH: 3, KW: 3, PadH: 1, PadW: 1})
	a.conv("b3", "avg", 32, 1, 1, 1, 0, 0)
	a.add(Node{Name: "cat", Kind: Concat, In: []string{"b1", "b2", "max", "b3"}})
	a.conv("wide", "cat", 32, 1, 7, 1, 0, 3)
	a.conv("tall", "wide", 32, 7, 1, 1, 3, 0)
	a.add(Node{Name: "cat2", Kind: Concat, In: []string{"tall", "tall", "wide"}})
	a.add(Node{Name: "pool", Kind: GlobalAvg, In: []string{"cat2"}})
	a.net.Nodes = append(a.net.Nodes, Node{Name: "fc", Kind: Linear, In: []string{"pool"}, Out: 10, Weight: a.values(10*96, 0.1), Bias: a.values(10, 0.1)})
	a.net.Outputs = []string{"pool", "fc", "cat", "stem"}

	d := newBuilder("digits", 2, 1, 28, 28)
	d.conv("c1", "input", 12, 3, 3, 1, 1, 1)
	d.add(Node{Name: "p1", Kind: MaxPool, In: []string{"c1"}, KH: 2, KW: 2, StrideH: 2, StrideW: 2})
	d.conv("c2", "p1", 20, 3, 3, 2, 1, 1)
	d.conv("c3", "p1", 6, 3, 3, 2, 1, 1)
	d.add(Node{Name: "cat", Kind: Concat, In: []string{"c2", "c3"}})
	d.add(Node{Name: "p2", Kind: MaxPool, In: []string{"cat"}, KH: 3, KW: 3, PadH: 1, PadW: 1})
	d.net.Nodes = append(d.net.Nodes,
		Node{Name: "fc1", Kind: Linear, In: []string{"p2"}, Out: 30, ReLU: true, Weight: d.values(30*26*49, 0.03), Bias: d.values(30, 0.1)},
		Node{Name: "fc2", Kind: Linear, In: []string{"fc1"}, Out: 7, Weight: d.values(7*30, 0.2)})
	d.net.Outputs = []string{"fc2", "fc1"}
	return []*Net{&a.net, &d.net}
}

// near fails unless got is within tol of want, relative to want's largest value.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) (scale float64) {
	t.Helper()
	worst := 0.0
	for i := range want {
		scale = max(scale, math.Abs(want[i]))
		worst = max(worst, math.Abs(float64(got[i])-want[i]))
	}
	if !(worst <= tol*scale) {
		t.Errorf("%s: off by %.3g of %.3g; want at most %.1g of it", what, worst, scale, tol)
	}
	return scale
}

func testImages(net *Net, n int) []float32 {
	r := rand.New(rand.NewPCG(9, 9))
	in := make([]float32, n*net.C*net.H*net.W)
	for i := range in {
		in[i] = float32(r.NormFloat64())
	}
	return in
}

// checkZoo runs checkNet on the zoo.
func checkZoo(t *testing.T, opt Options, tol float64) {
	t.Helper()
	opt.Batch = 4
	for _, net := range zoo() {
		checkNet(t, net, opt, 4, tol)
	}
}

// checkNet runs a net, compiled by opt, on several images at once and alone,
// compares with float64 and asks for equal bits of both.
func checkNet(t *testing.T, net *Net, opt Options, images int, tol float64) {
	t.Helper()
	p, err := Compile(net, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	in := testImages(net, images)
	run := func(in []float32, n int) [][]float32 {
		outs := make([][]float32, len(net.Outputs))
		for i := range outs {
			outs[i] = make([]float32, n*p.OutLen(i))
		}
		if err := p.Run(nil, in, outs...); err != nil {
			t.Fatal(err)
		}
		return outs
	}
	size := len(in) / images
	all := run(in, images)
	largest := 0.0
	for b := range images {
		want := forward64(t, net, in[b*size:][:size])
		alone := run(in[b*size:][:size], 1)
		for i, name := range net.Outputs {
			got := all[i][b*p.OutLen(i):][:p.OutLen(i)]
			largest = max(largest, near(t, fmt.Sprintf("%s: %s of image %d", net.Name, name, b), got, want[name], tol))
			for j, v := range got {
				if math.Float32bits(v) != math.Float32bits(alone[i][j]) {
					t.Fatalf("%s: %s[%d] of image %d is %g in a batch and %g alone", net.Name, name, j, b, v, alone[i][j])
				}
			}
		}
	}
	if largest == 0 {
		t.Errorf("%s: all outputs are zero: nothing was compared", net.Name)
	}
}

func TestPurePlan(t *testing.T) { checkZoo(t, Options{Pure: true}, 1e-6) }

func TestCompileRefuses(t *testing.T) {
	conv := func(change func(*Node)) *Net {
		n := Node{Name: "c", Kind: Conv, In: []string{"input"}, Out: 2, KH: 3, KW: 3, Weight: make([]float32, 54)}
		change(&n)
		return &Net{Name: "bad", C: 3, H: 8, W: 8, Nodes: []Node{n}, Outputs: []string{"c"}}
	}
	for want, net := range map[string]*Net{
		"53 weights; want 27 for each of 2": conv(func(n *Node) { n.Weight = n.Weight[:53] }),
		"1 biases; want 2":                  conv(func(n *Node) { n.Bias = []float32{1} }),
		`input "x" is not defined`:          conv(func(n *Node) { n.In = []string{"x"} }),
		"kernel 9x3 is larger":              conv(func(n *Node) { n.KH = 9 }),
		"padding smaller than the kernel":   conv(func(n *Node) { n.PadW = 3 }),
		"unknown kind 77":                   conv(func(n *Node) { n.Kind = 77 }),
		"empty or taken":                    conv(func(n *Node) { n.Name = "input" }),
		`output "c" is not a node`:          conv(func(n *Node) { n.Name = "d" }),
		"2 inputs":                          conv(func(n *Node) { n.In = []string{"input", "input"} }),
		"0 output channels":                 conv(func(n *Node) { n.Out = 0 }),
		"at most":                           {Name: "huge", C: 1 << 20, H: 1 << 20, W: 1 << 20},
		"no outputs":                        {Name: "empty", C: 1, H: 1, W: 1},
		"equal heights": {Name: "cat", C: 1, H: 8, W: 8, Outputs: []string{"b"}, Nodes: []Node{
			{Name: "a", Kind: MaxPool, In: []string{"input"}, KH: 2, KW: 2},
			{Name: "b", Kind: Concat, In: []string{"input", "a"}},
		}},
	} {
		if _, err := Compile(net, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v; want one with %q", err, want)
		}
	}
	if _, err := Compile(zoo()[0], Options{Pure: true, Precision: BF16}); err == nil {
		t.Error("the pure-Go plan took bf16")
	}
}

func TestRunPanicsOnWrongLengths(t *testing.T) {
	net := zoo()[1]
	p, err := Compile(net, Options{Pure: true, Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	in := testImages(net, 3)
	for what, f := range map[string]func(){
		"too many images":  func() { _ = p.Run(nil, in, make([]float32, 21), make([]float32, 90)) },
		"a broken image":   func() { _ = p.Run(nil, in[:785], make([]float32, 7), make([]float32, 30)) },
		"a missing output": func() { _ = p.Run(nil, in[:784], make([]float32, 7)) },
		"a short output":   func() { _ = p.Run(nil, in[:784], make([]float32, 6), make([]float32, 30)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}

func BenchmarkPureConv(b *testing.B) {
	n := newBuilder("conv", 1, 96, 35, 35)
	n.conv("c", "input", 96, 3, 3, 1, 1, 1)
	n.net.Outputs = []string{"c"}
	p, err := Compile(&n.net, Options{Pure: true})
	if err != nil {
		b.Fatal(err)
	}
	in, out := testImages(&n.net, 1), make([]float32, p.OutLen(0))
	for b.Loop() {
		if err := p.Run(nil, in, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*float64(p.Steps()[0].MACs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
