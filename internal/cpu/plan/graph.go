package plan

import "fmt"

// Dims is the size of one image's tensor.
type Dims struct{ C, H, W int }

// Len is the number of values.
func (d Dims) Len() int { return d.C * d.H * d.W }

func (d Dims) String() string { return fmt.Sprintf("%dx%dx%d", d.C, d.H, d.W) }

// Graph is a checked Net, for whoever compiles one: names turned into indices, shapes known. Tensor 0 is
// the input, tensor i+1 is what node i makes. It is read, never changed.
type Graph struct {
	Nodes   []Node // strides are at least 1
	In      [][]int
	Shape   []Dims
	LastUse []int // index of the last node that reads the tensor, -1 when none does, len(Nodes) for an output
	Outputs []int // tensors
}

// maxValues bounds one tensor of one image, so that sizes from a damaged file
// cannot ask for absurd memory.
const maxValues = 1 << 28

// Resolve checks net.
func Resolve(net *Net) (*Graph, error) {
	fail := func(format string, args ...any) (*Graph, error) {
		return nil, fmt.Errorf("plan: %s: %s", net.Name, fmt.Sprintf(format, args...))
	}
	input := Dims{net.C, net.H, net.W}
	if net.C < 1 || net.H < 1 || net.W < 1 || tooLarge(input) {
		return fail("input is %v; want three sizes of at least 1 and at most %d values", input, maxValues)
	}
	g := &Graph{Nodes: append([]Node(nil), net.Nodes...), Shape: []Dims{input}, LastUse: []int{-1}}
	index := map[string]int{"input": 0}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.StrideH, n.StrideW = max(n.StrideH, 1), max(n.StrideW, 1)
		if _, taken := index[n.Name]; taken || n.Name == "" {
			return fail("node %d has the name %q, which is empty or taken", i, n.Name)
		}
		if len(n.In) == 0 || n.Kind != Concat && len(n.In) != 1 {
			return fail("%s: %d inputs; only a concatenation takes several, and none takes no input", n.Name, len(n.In))
		}
		var in []int
		for _, name := range n.In {
			t, ok := index[name]
			if !ok {
				return fail("%s: input %q is not defined before it", n.Name, name)
			}
			in = append(in, t)
			g.LastUse[t] = i
		}
		out, err := g.infer(n, in)
		if err != nil {
			return fail("%s: %v", n.Name, err)
		}
		g.In = append(g.In, in)
		g.Shape = append(g.Shape, out)
		g.LastUse = append(g.LastUse, -1)
		index[n.Name] = i + 1
	}
	if len(net.Outputs) == 0 {
		return fail("no outputs")
	}
	for _, name := range net.Outputs {
		t, ok := index[name]
		if !ok || t == 0 {
			return fail("output %q is not a node", name)
		}
		g.Outputs = append(g.Outputs, t)
		g.LastUse[t] = len(g.Nodes)
	}
	return g, nil
}

func tooLarge(d Dims) bool { return d.C > maxValues/d.H || d.C*d.H > maxValues/d.W }

// infer is the shape that node n makes of its inputs.
func (g *Graph) infer(n *Node, in []int) (Dims, error) {
	x := g.Shape[in[0]]
	switch n.Kind {
	case Conv, MaxPool, AvgPool:
		if n.KH < 1 || n.KW < 1 || n.PadH < 0 || n.PadW < 0 || n.PadH >= n.KH || n.PadW >= n.KW {
			return Dims{}, fmt.Errorf("kernel %dx%d with padding %d,%d; want a padding smaller than the kernel", n.KH, n.KW, n.PadH, n.PadW)
		}
		if x.H+2*n.PadH < n.KH || x.W+2*n.PadW < n.KW {
			return Dims{}, fmt.Errorf("kernel %dx%d is larger than the padded map %v", n.KH, n.KW, x)
		}
		y := Dims{x.C, n.places(x.H, n.KH, n.StrideH, n.PadH), n.places(x.W, n.KW, n.StrideW, n.PadW)}
		if n.Kind == Conv {
			if n.Ceil {
				return Dims{}, fmt.Errorf("a convolution cannot end in a cut window; Ceil is for pools")
			}
			y.C = n.Out
			return y, n.weights(x.C * n.KH * n.KW)
		}
		return y, nil
	case GlobalAvg:
		return Dims{x.C, 1, 1}, nil
	case Linear:
		return Dims{n.Out, 1, 1}, n.weights(x.Len())
	case Concat:
		y := x
		for _, t := range in[1:] {
			z := g.Shape[t]
			if z.H != x.H || z.W != x.W {
				return Dims{}, fmt.Errorf("inputs of %v and %v; want equal heights and widths", x, z)
			}
			y.C += z.C
		}
		if tooLarge(y) {
			return Dims{}, fmt.Errorf("%v is more than %d values", y, maxValues)
		}
		return y, nil
	}
	return Dims{}, fmt.Errorf("unknown kind %d", n.Kind)
}

// places is how many windows of k values lie in size ones with padding on both sides.
func (n *Node) places(size, k, stride, pad int) int {
	room := size + 2*pad - k
	if !n.Ceil || room%stride == 0 || (room/stride+1)*stride >= size+pad {
		return room/stride + 1
	}
	return room/stride + 2
}

// weights checks the parameters of a Conv or Linear with fanIn inputs for each output channel.
func (n *Node) weights(fanIn int) error {
	if n.Out < 1 || n.Out > 1<<20 {
		return fmt.Errorf("%d output channels; want 1 to %d", n.Out, 1<<20)
	}
	if len(n.Weight) != n.Out*fanIn {
		return fmt.Errorf("%d weights; want %d for each of %d output channels", len(n.Weight), fanIn, n.Out)
	}
	if n.Bias != nil && len(n.Bias) != n.Out {
		return fmt.Errorf("%d biases; want %d or none", len(n.Bias), n.Out)
	}
	return nil
}

// Shapes are the sizes of the net's outputs.
func Shapes(net *Net) ([]Dims, error) {
	g, err := Resolve(net)
	if err != nil {
		return nil, err
	}
	var out []Dims
	for _, t := range g.Outputs {
		out = append(out, g.Shape[t])
	}
	return out, nil
}
