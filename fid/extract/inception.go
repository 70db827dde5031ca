package extract

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// inceptionSize is the height and width of the network's input.
const inceptionSize = 299

// Taps are the features that the Inception network offers, by name, with their
// dimensions: the space-averaged maps after the first and the second pooling
// and before the first 1280-channel block, the last pooling, and what the
// classifier makes of that, with and without its bias.
var Taps = map[string]int{"64": 64, "192": 192, "768": 768, "2048": 2048, "logits": 1008, "logits_unbiased": 1008}

// batchNormEps is added to the variance in the network's batch norms.
const batchNormEps = 1e-3

// param is a tensor of the weights file.
type param struct {
	name  string
	shape []int
}

// graph writes the Inception network down, layer after layer. Without weights
// it only lists the parameters.
type graph struct {
	weights  map[string]*tensor.Array
	params   []param
	nodes    []plan.Node
	channels map[string]int
}

// conv is a convolution without bias, batch norm and ReLU, named as in the weights file.
func (g *graph) conv(name, in string, out, kh, kw, stride, padH, padW int) string {
	c := g.channels[in]
	g.channels[name] = out
	g.params = append(g.params, param{name + ".conv.weight", []int{out, c, kh, kw}})
	for _, s := range []string{"weight", "bias", "running_mean", "running_var"} {
		g.params = append(g.params, param{name + ".bn." + s, []int{out}})
	}
	n := plan.Node{
		Name: name, Kind: plan.Conv, In: []string{in}, Out: out, KH: kh, KW: kw,
		StrideH: stride, StrideW: stride, PadH: padH, PadW: padW, ReLU: true,
	}
	if g.weights != nil {
		n.Weight, n.Bias = g.fold(name, out)
	}
	g.nodes = append(g.nodes, n)
	return name
}

// fold multiplies the batch norm of inference into the weights, in float64:
// y = γ(Wx - mean)/√(var + eps) + β.
func (g *graph) fold(name string, out int) (weight, bias []float32) {
	get := func(s string) []float32 { return g.weights[name+s].F32() }
	weight, bias = get(".conv.weight"), get(".bn.bias")
	gamma, mean, variance := get(".bn.weight"), get(".bn.running_mean"), get(".bn.running_var")
	k := len(weight) / out
	for o := range out {
		scale := float64(gamma[o]) / math.Sqrt(float64(variance[o])+batchNormEps)
		for i, w := range weight[o*k:][:k] {
			weight[o*k+i] = float32(float64(w) * scale)
		}
		bias[o] = float32(float64(bias[o]) - float64(mean[o])*scale)
	}
	return weight, bias
}

func (g *graph) pool(name string, kind plan.Kind, in string, stride, pad int) string {
	g.channels[name] = g.channels[in]
	g.nodes = append(g.nodes, plan.Node{Name: name, Kind: kind, In: []string{in}, KH: 3, KW: 3, StrideH: stride, StrideW: stride, PadH: pad, PadW: pad})
	return name
}

func (g *graph) concat(name string, in ...string) string {
	for _, b := range in {
		g.channels[name] += g.channels[b]
	}
	g.nodes = append(g.nodes, plan.Node{Name: name, Kind: plan.Concat, In: in})
	return name
}

func (g *graph) average(name, in string) {
	g.channels[name] = g.channels[in]
	g.nodes = append(g.nodes, plan.Node{Name: name, Kind: plan.GlobalAvg, In: []string{in}})
}

// The blocks are those of Szegedy et al. 2015 (arXiv 1512.00567) with the
// pools of the network that FID was defined with: averages leave padding out
// of the count, and the last block pools by maximum.

func (g *graph) blockA(b, x string, pooled int) string {
	b1 := g.conv(b+".branch1x1", x, 64, 1, 1, 1, 0, 0)
	b5 := g.conv(b+".branch5x5_1", x, 48, 1, 1, 1, 0, 0)
	b5 = g.conv(b+".branch5x5_2", b5, 64, 5, 5, 1, 2, 2)
	b3 := g.conv(b+".branch3x3dbl_1", x, 64, 1, 1, 1, 0, 0)
	b3 = g.conv(b+".branch3x3dbl_2", b3, 96, 3, 3, 1, 1, 1)
	b3 = g.conv(b+".branch3x3dbl_3", b3, 96, 3, 3, 1, 1, 1)
	p := g.pool(b+".pool", plan.AvgPool, x, 1, 1)
	p = g.conv(b+".branch_pool", p, pooled, 1, 1, 1, 0, 0)
	return g.concat(b, b1, b5, b3, p)
}

func (g *graph) blockB(b, x string) string {
	b3 := g.conv(b+".branch3x3", x, 384, 3, 3, 2, 0, 0)
	d := g.conv(b+".branch3x3dbl_1", x, 64, 1, 1, 1, 0, 0)
	d = g.conv(b+".branch3x3dbl_2", d, 96, 3, 3, 1, 1, 1)
	d = g.conv(b+".branch3x3dbl_3", d, 96, 3, 3, 2, 0, 0)
	return g.concat(b, b3, d, g.pool(b+".pool", plan.MaxPool, x, 2, 0))
}

func (g *graph) blockC(b, x string, c7 int) string {
	b1 := g.conv(b+".branch1x1", x, 192, 1, 1, 1, 0, 0)
	b7 := g.conv(b+".branch7x7_1", x, c7, 1, 1, 1, 0, 0)
	b7 = g.conv(b+".branch7x7_2", b7, c7, 1, 7, 1, 0, 3)
	b7 = g.conv(b+".branch7x7_3", b7, 192, 7, 1, 1, 3, 0)
	d := g.conv(b+".branch7x7dbl_1", x, c7, 1, 1, 1, 0, 0)
	d = g.conv(b+".branch7x7dbl_2", d, c7, 7, 1, 1, 3, 0)
	d = g.conv(b+".branch7x7dbl_3", d, c7, 1, 7, 1, 0, 3)
	d = g.conv(b+".branch7x7dbl_4", d, c7, 7, 1, 1, 3, 0)
	d = g.conv(b+".branch7x7dbl_5", d, 192, 1, 7, 1, 0, 3)
	p := g.pool(b+".pool", plan.AvgPool, x, 1, 1)
	p = g.conv(b+".branch_pool", p, 192, 1, 1, 1, 0, 0)
	return g.concat(b, b1, b7, d, p)
}

func (g *graph) blockD(b, x string) string {
	b3 := g.conv(b+".branch3x3_1", x, 192, 1, 1, 1, 0, 0)
	b3 = g.conv(b+".branch3x3_2", b3, 320, 3, 3, 2, 0, 0)
	d := g.conv(b+".branch7x7x3_1", x, 192, 1, 1, 1, 0, 0)
	d = g.conv(b+".branch7x7x3_2", d, 192, 1, 7, 1, 0, 3)
	d = g.conv(b+".branch7x7x3_3", d, 192, 7, 1, 1, 3, 0)
	d = g.conv(b+".branch7x7x3_4", d, 192, 3, 3, 2, 0, 0)
	return g.concat(b, b3, d, g.pool(b+".pool", plan.MaxPool, x, 2, 0))
}

func (g *graph) blockE(b, x string, kind plan.Kind) string {
	b1 := g.conv(b+".branch1x1", x, 320, 1, 1, 1, 0, 0)
	b3 := g.conv(b+".branch3x3_1", x, 384, 1, 1, 1, 0, 0)
	b3a := g.conv(b+".branch3x3_2a", b3, 384, 1, 3, 1, 0, 1)
	b3b := g.conv(b+".branch3x3_2b", b3, 384, 3, 1, 1, 1, 0)
	d := g.conv(b+".branch3x3dbl_1", x, 448, 1, 1, 1, 0, 0)
	d = g.conv(b+".branch3x3dbl_2", d, 384, 3, 3, 1, 1, 1)
	da := g.conv(b+".branch3x3dbl_3a", d, 384, 1, 3, 1, 0, 1)
	db := g.conv(b+".branch3x3dbl_3b", d, 384, 3, 1, 1, 1, 0)
	p := g.pool(b+".pool", kind, x, 1, 1)
	p = g.conv(b+".branch_pool", p, 192, 1, 1, 1, 0, 0)
	return g.concat(b, b1, b3a, b3b, da, db, p)
}

func (g *graph) build() {
	g.channels = map[string]int{"input": 3}
	x := g.conv("Conv2d_1a_3x3", "input", 32, 3, 3, 2, 0, 0)
	x = g.conv("Conv2d_2a_3x3", x, 32, 3, 3, 1, 0, 0)
	x = g.conv("Conv2d_2b_3x3", x, 64, 3, 3, 1, 1, 1)
	x = g.pool("maxpool1", plan.MaxPool, x, 2, 0)
	g.average("64", x)
	x = g.conv("Conv2d_3b_1x1", x, 80, 1, 1, 1, 0, 0)
	x = g.conv("Conv2d_4a_3x3", x, 192, 3, 3, 1, 0, 0)
	x = g.pool("maxpool2", plan.MaxPool, x, 2, 0)
	g.average("192", x)
	x = g.blockA("Mixed_5b", x, 32)
	x = g.blockA("Mixed_5c", x, 64)
	x = g.blockA("Mixed_5d", x, 64)
	x = g.blockB("Mixed_6a", x)
	x = g.blockC("Mixed_6b", x, 128)
	x = g.blockC("Mixed_6c", x, 160)
	x = g.blockC("Mixed_6d", x, 160)
	x = g.blockC("Mixed_6e", x, 192)
	g.average("768", x)
	x = g.blockD("Mixed_7a", x)
	x = g.blockE("Mixed_7b", x, plan.AvgPool)
	x = g.blockE("Mixed_7c", x, plan.MaxPool)
	g.average("2048", x)
	classes := Taps["logits"]
	g.params = append(g.params, param{"fc.weight", []int{classes, 2048}}, param{"fc.bias", []int{classes}})
	for _, name := range []string{"logits_unbiased", "logits"} {
		n := plan.Node{Name: name, Kind: plan.Linear, In: []string{"2048"}, Out: classes}
		if g.weights != nil {
			n.Weight = g.weights["fc.weight"].F32()
			if name == "logits" {
				n.Bias = g.weights["fc.bias"].F32()
			}
		}
		g.nodes = append(g.nodes, n)
	}
}

// inceptionParams lists the 472 tensors of the weights file.
func inceptionParams() []param {
	var g graph
	g.build()
	return g.params
}

// inceptionNet describes the network up to the given taps. The weights must
// have passed checkWeights.
func inceptionNet(weights map[string]*tensor.Array, taps ...string) *plan.Net {
	g := graph{weights: weights}
	g.build()
	return &plan.Net{Name: "inception", C: 3, H: inceptionSize, W: inceptionSize, Nodes: needed(g.nodes, taps), Outputs: taps}
}

// needed drops the nodes that no output depends on.
func needed(nodes []plan.Node, outputs []string) []plan.Node {
	wanted := map[string]bool{}
	for _, o := range outputs {
		wanted[o] = true
	}
	var out []plan.Node
	for i := len(nodes) - 1; i >= 0; i-- {
		if n := nodes[i]; wanted[n.Name] {
			out = append(out, n)
			for _, in := range n.In {
				wanted[in] = true
			}
		}
	}
	slices.Reverse(out)
	return out
}

// checkWeights compares the tensors with what the network needs and lists what
// is missing or of another shape. Other tensors, such as the counters of
// batches that some exporters write, are ignored.
func checkWeights(weights map[string]*tensor.Array) error {
	var wrong []string
	for _, p := range inceptionParams() {
		a := weights[p.name]
		switch {
		case a == nil:
			wrong = append(wrong, fmt.Sprintf("%s %v is missing", p.name, p.shape))
		case !slices.Equal(a.Shape, p.shape):
			wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", p.name, a.Shape, p.shape))
		case a.DType != tensor.F32 && a.DType != tensor.F64 && a.DType != tensor.F16 && a.DType != tensor.BF16:
			wrong = append(wrong, fmt.Sprintf("%s is %v, want float32", p.name, a.DType))
		}
	}
	const shown = 8
	if n := len(wrong); n > shown {
		wrong = append(wrong[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	if wrong != nil {
		return fmt.Errorf("not the FID Inception network: %s", strings.Join(wrong, "; "))
	}
	return nil
}
