package extract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// vggConfig is VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556) as torchvision has it.
type vggConfig struct {
	widths  [5]int // channels of the blocks
	hidden  int    // of the fully connected layers
	classes int
}

const (
	vggSize = 224
	vggFile = "vgg16-397923af.pth"
	vggHash = "397923af"
	vggTap  = "fc2_relu"
)

var vgg16 = vggConfig{widths: [5]int{64, 128, 256, 512, 512}, hidden: 4096, classes: 1000}

// vggBlocks is how many convolutions a block has.
var vggBlocks = [5]int{2, 2, 3, 3, 3}

func init() {
	s := vgg16.spec("vgg16")
	specs = append(specs, s)
	Register(Entry{
		Name:    "vgg16",
		Summary: "torchvision's VGG16: the second fully connected layer behind its rectifier, 4096 features; taps " + strings.Join(vgg16.taps(), ", "),
		Source:  "Simonyan and Zisserman 2014, arXiv 1409.1556; precision and recall of torch-fidelity",
		Needs:   vggFile,
		Presets: []string{wayTF1.name, wayTorchvision.name, waySquash.name},
		CheckTap: func(tap string) error {
			_, err := vgg16.dim(tap)
			return err
		},
		Open: func(o Options) (fid.Extractor, error) { return openVGG(s, o) },
	})
}

// vggTaps are the layers that features may be taken from, with their dimensions: of the maps whose differences
// LPIPS is made of, the mean over their places.
func (c vggConfig) vggTaps() map[string]int {
	t := map[string]int{"fc2": c.hidden, vggTap: c.hidden, "logits": c.classes}
	for b, w := range c.widths {
		t[fmt.Sprintf("relu%d_%d", b+1, vggBlocks[b])] = w
	}
	return t
}

func (c vggConfig) taps() []string { return slices.Sorted(maps.Keys(c.vggTaps())) }

func (c vggConfig) dim(tap string) (int, error) {
	if d, ok := c.vggTaps()[tap]; ok {
		return d, nil
	}
	return 0, fmt.Errorf("%q: no such tap of vgg16; there are %s", tap, strings.Join(c.taps(), ", "))
}

// spec lists the tensors by torchvision's names.
func (c vggConfig) spec(name string) *spec {
	s := &spec{name: name}
	add := func(name string, out int, shape ...int) {
		s.params = append(s.params, param{name + ".weight", append([]int{out}, shape...)}, param{name + ".bias", []int{out}})
	}
	c.convs(func(_ string, at, in, out int) { add(fmt.Sprintf("features.%d", at), out, in, 3, 3) }, func(int) {})
	add("classifier.0", c.hidden, 49*c.widths[4])
	add("classifier.3", c.hidden, c.hidden)
	add("classifier.6", c.classes, c.hidden)
	s.namings = []naming{{what: "torchvision", of: func(name string) origin { return origin{parts: []string{name}} }}}
	return s
}

// convs calls conv for every convolution, with its name in papers and its place in torchvision's list, and pool after every block.
func (c vggConfig) convs(conv func(name string, at, in, out int), pool func(block int)) {
	in, at := 3, 0
	for b, out := range c.widths {
		for i := range vggBlocks[b] {
			conv(fmt.Sprintf("relu%d_%d", b+1, i+1), at, in, out)
			in, at = out, at+2
		}
		pool(b)
		at++
	}
}

// net describes the network up to a tap. Its average of 7×7 places before the fully connected layers changes nothing at 224 pixels.
func (c vggConfig) net(l *loaded, tap string) *plan.Net {
	n := &plan.Net{Name: "vgg16", C: 3, H: vggSize, W: vggSize, Outputs: []string{tap}}
	add := func(p plan.Node) { n.Nodes = append(n.Nodes, p) }
	last, done := "input", false
	c.convs(func(name string, at, _, out int) {
		if done {
			return
		}
		node := plan.Node{Name: name, Kind: plan.Conv, In: []string{last}, Out: out, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadH: 1, PadW: 1, ReLU: true}
		node.Weight, node.Bias = l.get(fmt.Sprintf("features.%d.weight", at)), l.get(fmt.Sprintf("features.%d.bias", at))
		last = name
		if name == tap {
			done, last, node.Name = true, tap, name+" map"
			add(node)
			add(plan.Node{Name: tap, Kind: plan.GlobalAvg, In: []string{node.Name}})
			return
		}
		add(node)
	}, func(b int) {
		if done {
			return
		}
		name := fmt.Sprintf("pool%d", b+1)
		add(plan.Node{Name: name, Kind: plan.MaxPool, In: []string{last}, KH: 2, KW: 2, StrideH: 2, StrideW: 2})
		last = name
	})
	if done {
		return n
	}
	linear := func(name, in string, at, out int, relu bool) {
		add(plan.Node{
			Name: name, Kind: plan.Linear, In: []string{in}, Out: out, ReLU: relu,
			Weight: l.get(fmt.Sprintf("classifier.%d.weight", at)), Bias: l.get(fmt.Sprintf("classifier.%d.bias", at)),
		})
	}
	linear("fc1", last, 0, c.hidden, true)
	if tap == "fc2" {
		linear(tap, "fc1", 3, c.hidden, false)
		return n
	}
	linear(vggTap, "fc1", 3, c.hidden, true)
	if tap == "logits" {
		linear(tap, vggTap, 6, c.classes, false)
	}
	return n
}

func openVGG(s *spec, o Options) (fid.Extractor, error) {
	tap := o.Tap
	if tap == "" {
		tap = vggTap
	}
	dim, err := vgg16.dim(tap)
	if err != nil {
		return nil, err
	}
	way, err := pickWay(o.Preset, wayTF1, wayTorchvision, waySquash)
	if err != nil {
		return nil, err
	}
	if o.Parts != nil {
		return nil, fmt.Errorf("%s: this network has no such part; take inception", strings.Join(o.Parts, ", "))
	}
	l, err := s.find(o, vggFile)
	if err != nil {
		return nil, err
	}
	defer l.file.close()
	net := vgg16.net(l, tap)
	if l.err != nil {
		return nil, l.err
	}
	p, err := o.compile(net)
	if err != nil {
		return nil, err
	}
	name := s.name
	if tap != vggTap {
		name += ":" + tap
	}
	load := way.make(vggSize, imagenetMean, imagenetStd)
	return &network{
		info:  fid.ExtractorInfo{Name: name, SHA256: l.sha, Dim: dim, Preset: way.name, Precision: o.Precision.String(), Note: l.publishedNote(vggHash)},
		on:    o.where(),
		plan:  p,
		input: 3 * vggSize * vggSize,
		load:  func(dst []float32, img *imageio.Image, sc *imageio.Scratch) { load(dst, img, sc) },
	}, nil
}

// publishedNote is the label of results with weights that are not those whose hash the file's name ends in.
func (l *loaded) publishedNote(prefix string) string {
	if strings.HasPrefix(l.sha, prefix) {
		return ""
	}
	note := fmt.Sprintf("weights %s, not the published %s", l.sha[:8], prefix)
	if h := l.note(); h != "" {
		note += "; " + h
	}
	return note
}
