// Package nets has networks described as data, what they compute by the definition, and how any engine that runs them is held to it.
// Only tests import it.
package nets

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// Forward is the definition: direct sums in float64, image by image.
func Forward(t *testing.T, net *plan.Net, in []float32) map[string][]float64 {
	t.Helper()
	g, err := plan.Resolve(net)
	if err != nil {
		t.Fatal(err)
	}
	vals := make([][]float64, len(g.Shape))
	for _, v := range in {
		vals[0] = append(vals[0], float64(v))
	}
	out := map[string][]float64{}
	for i, n := range g.Nodes {
		xd, yd := g.Shape[g.In[i][0]], g.Shape[i+1]
		x, y := vals[g.In[i][0]], make([]float64, yd.Len())
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
					case plan.Conv:
						for ic := range xd.C {
							for kh := range n.KH {
								for kw := range n.KW {
									v, _ := at(ic, h*n.StrideH+kh-n.PadH, w*n.StrideW+kw-n.PadW)
									acc += v * float64(n.Weight[((c*xd.C+ic)*n.KH+kh)*n.KW+kw])
								}
							}
						}
					case plan.MaxPool, plan.AvgPool:
						for kh := range n.KH {
							for kw := range n.KW {
								if v, ok := at(c, h*n.StrideH+kh-n.PadH, w*n.StrideW+kw-n.PadW); ok {
									acc += v
									best = max(best, v)
									count++
								}
							}
						}
						if acc /= float64(count); n.Kind == plan.MaxPool {
							acc = best
						}
					case plan.GlobalAvg:
						for _, v := range x[c*xd.H*xd.W:][:xd.H*xd.W] {
							acc += v / float64(xd.H*xd.W)
						}
					case plan.Linear:
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
		if n.Kind == plan.Concat {
			y = y[:0]
			for _, s := range g.In[i] {
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
	net plan.Net
	r   *rand.Rand
	ch  map[string]int
}

func newBuilder(name string, seed uint64, c, h, w int) *builder {
	return &builder{plan.Net{Name: name, C: c, H: h, W: w}, rand.New(rand.NewPCG(seed, 1)), map[string]int{"input": c}}
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
	b.net.Nodes = append(b.net.Nodes, plan.Node{
		Name: name, Kind: plan.Conv, In: []string{in}, Out: out, KH: kh, KW: kw, StrideH: stride, StrideW: stride,
		PadH: ph, PadW: pw, ReLU: true, Weight: b.values(out*k, math.Sqrt(2/float64(k))), Bias: b.values(out, 0.1),
	})
}

func (b *builder) add(n plan.Node) {
	c := 0
	for _, in := range n.In {
		c += b.ch[in]
	}
	b.ch[n.Name] = c
	b.net.Nodes = append(b.net.Nodes, n)
}

// Zoo is one net of every node kind and every awkward size.
func Zoo() []*plan.Net {
	a := newBuilder("blocks", 1, 3, 31, 29)
	a.conv("stem", "input", 32, 3, 3, 2, 0, 0)
	a.add(plan.Node{Name: "max", Kind: plan.MaxPool, In: []string{"stem"}, KH: 3, KW: 3, StrideH: 2, StrideW: 2})
	a.conv("b1", "max", 16, 1, 1, 1, 0, 0)
	a.conv("b2a", "max", 48, 1, 1, 1, 0, 0)
	a.conv("b2", "b2a", 64, 5, 5, 1, 2, 2)
	a.add(plan.Node{Name: "avg", Kind: plan.AvgPool, In: []string{"max"}, KH: 3, KW: 3, PadH: 1, PadW: 1})
	a.conv("b3", "avg", 32, 1, 1, 1, 0, 0)
	a.add(plan.Node{Name: "cat", Kind: plan.Concat, In: []string{"b1", "b2", "max", "b3"}})
	a.conv("wide", "cat", 32, 1, 7, 1, 0, 3)
	a.conv("tall", "wide", 32, 7, 1, 1, 3, 0)
	a.add(plan.Node{Name: "cat2", Kind: plan.Concat, In: []string{"tall", "tall", "wide"}})
	a.add(plan.Node{Name: "pool", Kind: plan.GlobalAvg, In: []string{"cat2"}})
	a.net.Nodes = append(a.net.Nodes, plan.Node{Name: "fc", Kind: plan.Linear, In: []string{"pool"}, Out: 10, Weight: a.values(10*96, 0.1), Bias: a.values(10, 0.1)})
	a.net.Outputs = []string{"pool", "fc", "cat", "stem"}

	d := newBuilder("digits", 2, 1, 28, 28)
	d.conv("c1", "input", 12, 3, 3, 1, 1, 1)
	d.add(plan.Node{Name: "p1", Kind: plan.MaxPool, In: []string{"c1"}, KH: 2, KW: 2, StrideH: 2, StrideW: 2})
	d.conv("c2", "p1", 20, 3, 3, 2, 1, 1)
	d.conv("c3", "p1", 6, 3, 3, 2, 1, 1)
	d.add(plan.Node{Name: "cat", Kind: plan.Concat, In: []string{"c2", "c3"}})
	d.add(plan.Node{Name: "p2", Kind: plan.MaxPool, In: []string{"cat"}, KH: 3, KW: 3, PadH: 1, PadW: 1})
	d.net.Nodes = append(d.net.Nodes,
		plan.Node{Name: "fc1", Kind: plan.Linear, In: []string{"p2"}, Out: 30, ReLU: true, Weight: d.values(30*26*49, 0.03), Bias: d.values(30, 0.1)},
		plan.Node{Name: "fc2", Kind: plan.Linear, In: []string{"fc1"}, Out: 7, Weight: d.values(7*30, 0.2)})
	d.net.Outputs = []string{"fc2", "fc1"}
	return []*plan.Net{&a.net, &d.net}
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

// Images are n inputs of normal values.
func Images(net *plan.Net, n int) []float32 {
	r := rand.New(rand.NewPCG(9, 9))
	in := make([]float32, n*net.C*net.H*net.W)
	for i := range in {
		in[i] = float32(r.NormFloat64())
	}
	return in
}

// Random draws a net of a dozen nodes: branches that are read several
// times, nested concatenations, every kind, awkward channel counts.
func Random(seed uint64) *plan.Net {
	r := rand.New(rand.NewPCG(seed, 3))
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	b := newBuilder(fmt.Sprintf("random %d", seed), seed, pick(1, 2, 3, 16), 6+r.IntN(8), 6+r.IntN(8))
	dims := map[string]plan.Dims{"input": {C: b.net.C, H: b.net.H, W: b.net.W}}
	names := []string{"input"}
	for len(names) < 12 {
		name, in := fmt.Sprintf("n%d", len(names)), names[max(0, len(names)-1-r.IntN(4))]
		x := dims[in]
		n := plan.Node{Name: name, In: []string{in}, KH: pick(1, 1, 3, 5), KW: pick(1, 1, 3, 7), StrideH: pick(1, 1, 2), StrideW: pick(1, 1, 2)}
		n.PadH, n.PadW = n.KH/2, n.KW/2
		switch n.Kind = []plan.Kind{plan.Conv, plan.Conv, plan.Conv, plan.MaxPool, plan.AvgPool, plan.Concat, plan.Concat, plan.GlobalAvg, plan.Linear}[r.IntN(9)]; n.Kind {
		case plan.MaxPool, plan.AvgPool:
			if r.IntN(2) == 0 {
				n.Ceil, n.PadH, n.PadW = true, r.IntN(n.KH/2+1), r.IntN(n.KW/2+1)
			}
		case plan.Conv:
			n.Out = pick(5, 16, 16, 32, 48)
			n.Weight = b.values(n.Out*x.C*n.KH*n.KW, 1/float64(1+x.C))
			n.ReLU = r.IntN(3) > 0
			if r.IntN(2) == 0 {
				n.Bias = b.values(n.Out, 0.3)
			}
		case plan.Linear:
			n.Out = pick(3, 16)
			n.Weight = b.values(n.Out*x.Len(), 1/float64(1+x.C))
		case plan.Concat:
			for _, other := range names[1:] {
				if d := dims[other]; d.H == x.H && d.W == x.W && r.IntN(2) == 0 {
					n.In = append(n.In, other)
				}
			}
		}
		try := plan.Net{Name: "try", C: b.net.C, H: b.net.H, W: b.net.W, Nodes: append(b.net.Nodes, n), Outputs: []string{name}}
		g, err := plan.Resolve(&try)
		if err != nil || g.Shape[len(g.Shape)-1].C > 300 {
			continue
		}
		b.net.Nodes = try.Nodes
		dims[name] = g.Shape[len(g.Shape)-1]
		names = append(names, name)
	}
	b.net.Outputs = []string{names[11], names[11-r.IntN(5)], names[1+r.IntN(5)]}
	return &b.net
}

// Runner is a net that was compiled.
type Runner interface {
	OutLen(i int) int
	Run(w *cpu.Worker, in []float32, outs ...[]float32) error
}

// Check runs a compiled net on several images at once and alone, compares with float64 and asks for equal bits of both.
func Check(t *testing.T, net *plan.Net, p Runner, images int, tol float64) {
	t.Helper()
	in := Images(net, images)
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
		want := Forward(t, net, in[b*size:][:size])
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

// CheckLengths gives a compiled Zoo()[1] of batch 2 slices of wrong lengths, which it must panic at.
func CheckLengths(t *testing.T, p Runner) {
	t.Helper()
	in := Images(Zoo()[1], 3)
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

// OneConv is a convolution of kernel by kernel elements over maps of side by side pixels.
func OneConv(in, side, out, kernel int) *plan.Net {
	b := newBuilder("conv", 1, in, side, side)
	b.conv("c", "input", out, kernel, kernel, 1, kernel/2, kernel/2)
	b.net.Outputs = []string{"c"}
	return &b.net
}
