package dit

import "github.com/fidlab/fidlab/nn"

// Costs is the multiplications and additions, of each as many, of a forward pass for one
// picture with sequences of that many tokens each: by block, and of all the rest. Blocks that
// the options leave out cost nothing; norms and functions are not counted.
func (n *Net) Costs(tokens int, o Options) (blocks []float64, rest float64) {
	if o.Grid == 0 {
		o.Grid = n.c.Grid
	}
	all := float64(n.before + n.tokens)
	if n.Join != nil {
		all += float64(tokens)
		rest += float64(tokens) * weights(n.Join)
	}
	blocks = make([]float64, len(n.Blocks))
	few := false
	for i, b := range n.Blocks {
		few = few || b.Kind == Merge
		first := b.Kind == Merge && n.Blocks[i-min(i, 1)].Kind != Merge
		few = few && b.Kind != Recover
		at := all
		if few {
			at = float64(o.Grid * o.Grid)
		}
		if o.Skip == nil || !o.Skip[i] {
			blocks[i] = b.cost(at, float64(n.tokens), float64(o.Grid*o.Grid), float64(tokens))
			if first {
				blocks[i] += at * float64(n.tokens*n.c.Dim) // the means
			}
		}
	}
	rest += float64(n.tokens) * (float64(count(n.Patch.W)) + weights(n.Last))
	if n.Time != nil {
		rest += weights(n.Time.First, n.Time.Second)
	}
	rest += weights(n.vectors...) + weights(n.mod)
	for _, c := range n.convs() {
		rest += float64(count(c.W) * n.c.Height * n.c.Width)
	}
	return blocks, rest
}

// cost is that of a block on n tokens; before Merge there were all, few after it.
func (b *Block) cost(n, all, few, tokens float64) float64 {
	d := float64(b.c.Dim)
	sum := weights(b.Mod) + n*weights(b.Skip)
	switch m := b.mlp.(type) {
	case *mlp:
		sum += n * weights(m.fc1, m.fc2)
	case *nn.GatedMLP:
		sum += n * weights(m.In, m.Out)
	}
	switch b.Kind {
	case Dense:
		sum += n*weights(b.Attn.QKV, b.Attn.Out) + 2*n*n*d
	case Pool:
		sum += weights(b.Value, b.Proj)
	case ConvNeXt:
		sum += n * float64(count(b.Conv.W))
	case Merge:
		sum += n*weights(b.Cross.Q, b.Cross.Out) + all*weights(b.Cross.Contexts[0].K, b.Cross.Contexts[0].V) + 2*n*all*d
	case Recover:
		sum += n*weights(b.Cross.Q, b.Cross.Out, b.Keep) + few*weights(b.Cross.Contexts[0].K, b.Cross.Contexts[0].V, b.Up) + 2*n*few*d
	}
	if b.Text != nil {
		sum += n * weights(b.Text.Q, b.Text.Out)
		for _, c := range b.Text.Contexts {
			sum += tokens*weights(c.K, c.V) + 2*n*tokens*d
		}
	}
	return sum
}

// weights is the products of a row in linear layers, nil ones left out.
func weights(ls ...*nn.Linear) (sum float64) {
	for _, l := range ls {
		if l != nil {
			sum += float64(count(l.W))
		}
	}
	return sum
}

func count(p *nn.Param) int {
	n := 1
	for _, d := range p.Shape() {
		n *= d
	}
	return n
}
