package plan

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomNet draws a net of a dozen nodes: branches that are read several
// times, nested concatenations, every kind, awkward channel counts.
func randomNet(seed uint64) *Net {
	r := rand.New(rand.NewPCG(seed, 3))
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	b := newBuilder(fmt.Sprintf("random %d", seed), seed, pick(1, 2, 3, 16), 6+r.IntN(8), 6+r.IntN(8))
	dims := map[string]Dims{"input": {b.net.C, b.net.H, b.net.W}}
	names := []string{"input"}
	for len(names) < 12 {
		name, in := fmt.Sprintf("n%d", len(names)), names[max(0, len(names)-1-r.IntN(4))]
		x := dims[in]
		n := Node{Name: name, In: []string{in}, KH: pick(1, 1, 3, 5), KW: pick(1, 1, 3, 7), StrideH: pick(1, 1, 2), StrideW: pick(1, 1, 2)}
		n.PadH, n.PadW = n.KH/2, n.KW/2
		switch n.Kind = []Kind{Conv, Conv, Conv, MaxPool, AvgPool, Concat, Concat, GlobalAvg, Linear}[r.IntN(9)]; n.Kind {
		case MaxPool, AvgPool:
			if r.IntN(2) == 0 {
				n.Ceil, n.PadH, n.PadW = true, r.IntN(n.KH/2+1), r.IntN(n.KW/2+1)
			}
		case Conv:
			n.Out = pick(5, 16, 16, 32, 48)
			n.Weight = b.values(n.Out*x.C*n.KH*n.KW, 1/float64(1+x.C))
			n.ReLU = r.IntN(3) > 0
			if r.IntN(2) == 0 {
				n.Bias = b.values(n.Out, 0.3)
			}
		case Linear:
			n.Out = pick(3, 16)
			n.Weight = b.values(n.Out*x.Len(), 1/float64(1+x.C))
		case Concat:
			for _, other := range names[1:] {
				if d := dims[other]; d.H == x.H && d.W == x.W && r.IntN(2) == 0 {
					n.In = append(n.In, other)
				}
			}
		}
		try := Net{Name: "try", C: b.net.C, H: b.net.H, W: b.net.W, Nodes: append(b.net.Nodes, n), Outputs: []string{name}}
		g, err := resolve(&try)
		if err != nil || g.shape[len(g.shape)-1].C > 300 {
			continue
		}
		b.net.Nodes = try.Nodes
		dims[name] = g.shape[len(g.shape)-1]
		names = append(names, name)
	}
	b.net.Outputs = []string{names[11], names[11-r.IntN(5)], names[1+r.IntN(5)]}
	return &b.net
}

// TestRandomNets compares plans of random nets with the definition.
func TestRandomNets(t *testing.T) {
	for seed := range uint64(60) {
		net := randomNet(seed)
		for _, opt := range []Options{{Batch: 3}, {Batch: 3, Pure: true}} {
			checkNet(t, net, opt, 3, 1e-5) // sums of random signs cancel by a factor of ten at times
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
