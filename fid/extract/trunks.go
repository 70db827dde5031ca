package extract

import (
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// lpipsTrunk is a classifier of torchvision whose maps LPIPS compares.
type lpipsTrunk struct {
	name   string // as lpips has it: vgg, alex, squeeze
	file   string // torchvision's
	hash   string // that its SHA-256 begins with
	widths []int  // channels of the maps
	spec   *spec
	net    func(l *loaded, h, w int) *plan.Net // its outputs are the maps
}

var lpipsTrunks = []*lpipsTrunk{vggTrunk(), alexTrunk(), squeezeTrunk()}

// sliced gives a trunk's tensors a second naming: that of whole files of lpips, whose networks are cut
// behind the maps into slices that keep the numbers of torchvision's list. ends are the places of the maps in that list.
func sliced(s *spec, ends []int, classifier string) {
	name := func(ours string) string {
		parts := strings.SplitN(ours, ".", 3)
		at, slice := 0, 1
		fmt.Sscan(parts[1], &at)
		for _, end := range ends {
			if at > end {
				slice++
			}
		}
		return fmt.Sprintf("slice%d.%s.%s", slice, parts[1], parts[2])
	}
	notTrunk := func(name string) bool {
		return strings.HasPrefix(name, "lin") || strings.HasPrefix(name, "scaling_layer.")
	}
	s.namings = []naming{
		{what: "torchvision", of: func(name string) origin { return origin{parts: []string{name}} },
			drop: func(name string) bool { return strings.HasPrefix(name, classifier) }},
		{what: "lpips", of: func(ours string) origin { return origin{parts: []string{"net." + name(ours)}} }, drop: notTrunk},
	}
	specs = append(specs, s)
}

// conv appends a convolution, its place in torchvision's list being at, to a network and returns its name.
func (b *trunkBuilder) conv(name, in, param string, out, k, stride, pad int) string {
	b.net.Nodes = append(b.net.Nodes, plan.Node{
		Name: name, Kind: plan.Conv, In: []string{in}, Out: out, KH: k, KW: k, StrideH: stride, StrideW: stride, PadH: pad, PadW: pad, ReLU: true,
		Weight: b.l.get(param + ".weight"), Bias: b.l.get(param + ".bias"),
	})
	return name
}

func (b *trunkBuilder) pool(name, in string, k int, ceil bool) string {
	b.net.Nodes = append(b.net.Nodes, plan.Node{Name: name, Kind: plan.MaxPool, In: []string{in}, KH: k, KW: k, StrideH: 2, StrideW: 2, Ceil: ceil})
	return name
}

type trunkBuilder struct {
	net *plan.Net
	l   *loaded
}

func newTrunk(name string, l *loaded, h, w int) *trunkBuilder {
	return &trunkBuilder{&plan.Net{Name: name, C: 3, H: h, W: w}, l}
}

func convParams(name string, out, in, k int) []param {
	return []param{{name + ".weight", []int{out, in, k, k}}, {name + ".bias", []int{out}}}
}

// vggTrunk is VGG16 up to the last convolution (features.28), maps behind relu1_2, 2_2, 3_3, 4_3 and 5_3.
func vggTrunk() *lpipsTrunk {
	t := &lpipsTrunk{name: "vgg", file: vggFile, hash: vggHash, widths: vgg16.widths[:], spec: &spec{name: "vgg16's convolutions"}}
	var ends []int
	last := 0
	vgg16.convs(func(_ string, at, in, out int) {
		t.spec.params = append(t.spec.params, convParams(fmt.Sprintf("features.%d", at), out, in, 3)...)
		last = at
	}, func(int) { ends = append(ends, last) })
	sliced(t.spec, ends, "classifier.")
	t.net = func(l *loaded, h, w int) *plan.Net {
		b, at := newTrunk("vgg16", l, h, w), "input"
		vgg16.convs(func(name string, place, _, out int) {
			at = b.conv(name, at, fmt.Sprintf("features.%d", place), out, 3, 1, 1)
		}, func(block int) {
			b.net.Outputs = append(b.net.Outputs, at)
			if block < len(vggBlocks)-1 { // what follows the last map is not computed
				at = b.pool(fmt.Sprintf("pool%d", block+1), at, 2, false)
			}
		})
		return b.net
	}
	return t
}

// alexConv is a convolution of torchvision's AlexNet (Krizhevsky 2014, arXiv 1404.5997).
type alexConv struct{ at, in, out, k, stride, pad int }

var alexConvs = []alexConv{{0, 3, 64, 11, 4, 2}, {3, 64, 192, 5, 1, 2}, {6, 192, 384, 3, 1, 1}, {8, 384, 256, 3, 1, 1}, {10, 256, 256, 3, 1, 1}}

// alexTrunk is AlexNet up to the last convolution, maps behind every rectifier.
func alexTrunk() *lpipsTrunk {
	t := &lpipsTrunk{name: "alex", file: "alexnet-owt-7be5be79.pth", hash: "7be5be79", spec: &spec{name: "alexnet's convolutions"}}
	var ends []int
	for _, c := range alexConvs {
		t.spec.params = append(t.spec.params, convParams(fmt.Sprintf("features.%d", c.at), c.out, c.in, c.k)...)
		t.widths, ends = append(t.widths, c.out), append(ends, c.at)
	}
	sliced(t.spec, ends, "classifier.")
	t.net = func(l *loaded, h, w int) *plan.Net {
		b, last := newTrunk("alexnet", l, h, w), "input"
		for i, c := range alexConvs {
			last = b.conv(fmt.Sprintf("relu%d", i+1), last, fmt.Sprintf("features.%d", c.at), c.out, c.k, c.stride, c.pad)
			b.net.Outputs = append(b.net.Outputs, last)
			if i < 2 {
				last = b.pool(fmt.Sprintf("pool%d", i+1), last, 3, false)
			}
		}
		return b.net
	}
	return t
}

// fire is a block of torchvision's SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360): a convolution of single points, then
// two side by side whose results are concatenated.
type fire struct{ at, in, squeeze, expand int }

var fires = []fire{{3, 64, 16, 64}, {4, 128, 16, 64}, {6, 128, 32, 128}, {7, 256, 32, 128}, {9, 256, 48, 192}, {10, 384, 48, 192}, {11, 384, 64, 256}, {12, 512, 64, 256}}

// squeezeTrunk is SqueezeNet 1.1 up to the last block, maps behind the first rectifier and blocks 4, 7, 9, 10, 11 and 12. Its
// pools keep a window that the edge cuts.
func squeezeTrunk() *lpipsTrunk {
	t := &lpipsTrunk{name: "squeeze", file: "squeezenet1_1-b8a52dc0.pth", hash: "b8a52dc0", spec: &spec{name: "squeezenet1_1's convolutions"}}
	ends := []int{1, 4, 7, 9, 10, 11, 12}
	t.widths = []int{64, 128, 256, 384, 384, 512, 512}
	t.spec.params = convParams("features.0", 64, 3, 3)
	for _, f := range fires {
		at := fmt.Sprintf("features.%d.", f.at)
		t.spec.params = append(t.spec.params, convParams(at+"squeeze", f.squeeze, f.in, 1)...)
		t.spec.params = append(t.spec.params, convParams(at+"expand1x1", f.expand, f.squeeze, 1)...)
		t.spec.params = append(t.spec.params, convParams(at+"expand3x3", f.expand, f.squeeze, 3)...)
	}
	sliced(t.spec, ends, "classifier.")
	t.net = func(l *loaded, h, w int) *plan.Net {
		b := newTrunk("squeezenet1_1", l, h, w)
		last := b.conv("relu1", "input", "features.0", 64, 3, 2, 0)
		b.net.Outputs = append(b.net.Outputs, last)
		for _, f := range fires {
			if f.at == 3 || f.at == 6 || f.at == 9 {
				last = b.pool(fmt.Sprintf("pool%d", f.at), last, 3, true)
			}
			name := fmt.Sprintf("fire%d", f.at)
			s := b.conv(name+" squeeze", last, fmt.Sprintf("features.%d.squeeze", f.at), f.squeeze, 1, 1, 0)
			one := b.conv(name+" 1x1", s, fmt.Sprintf("features.%d.expand1x1", f.at), f.expand, 1, 1, 0)
			three := b.conv(name+" 3x3", s, fmt.Sprintf("features.%d.expand3x3", f.at), f.expand, 3, 1, 1)
			b.net.Nodes = append(b.net.Nodes, plan.Node{Name: name, Kind: plan.Concat, In: []string{one, three}})
			last = name
			for _, end := range ends {
				if end == f.at {
					b.net.Outputs = append(b.net.Outputs, name)
				}
			}
		}
		return b.net
	}
	return t
}
