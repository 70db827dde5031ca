package adapt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// LoRAOptions say what is adapted and how.
type LoRAOptions struct {
	Match func(name string) bool // weights of linear layers by name; nil: of all
	Rank  int
	Alpha float64 // what is added is multiplied by Alpha/Rank; 0 stands for Rank
	Seed  uint64
}

// LoRA adds low-rank changes to linear layers: W·x + Alpha/Rank·B·A·x with A [Rank, in] and
// B [out, Rank], which is 0 at first (Hu et al. 2021, arXiv 2106.09685).
type LoRA struct {
	base, net *nn.Params
	rank      int
	alpha     float64
	layers    []*low
	off       bool
	merged    bool
	dropped   bool
}

// low is the change of one layer.
type low struct {
	of   *LoRA
	w    *nn.Param
	a, b *nn.Linear
	was  []float64 // W before Merge
}

// Attach adapts the linear layers of base whose weights match. It is an error when none
// does, when a weight that matches belongs to no layer that can be adapted, and when the rank
// is not from 1 to the smaller side of each weight.
func Attach(base *nn.Params, o LoRAOptions) (*LoRA, error) {
	var weights []*nn.Param
	for _, p := range base.All() {
		switch {
		case o.Match == nil && p.Layer() == nn.LinearLayer, o.Match != nil && o.Match(p.Name):
			weights = append(weights, p)
		}
	}
	if o.Alpha == 0 {
		o.Alpha = float64(o.Rank)
	}
	return attach(base, weights, o.Rank, o.Alpha, o.Seed)
}

func attach(base *nn.Params, weights []*nn.Param, rank int, alpha float64, seed uint64) (*LoRA, error) {
	if len(weights) == 0 {
		return nil, fmt.Errorf("adapt: no weight of a linear layer matches among the network's %d parameters", len(base.All()))
	}
	l := &LoRA{base: base, net: nn.NewParams(base.Device(), base.DType()), rank: rank, alpha: alpha}
	for _, p := range weights {
		if p.Layer() != nn.LinearLayer {
			return nil, fmt.Errorf("adapt: %s is no weight of a linear layer; change Match", p.Name)
		}
		if s := p.Shape(); rank < 1 || rank > min(s[0], s[1]) {
			return nil, fmt.Errorf("adapt: rank %d for %s of shape %v, want 1 to %d", rank, p.Name, s, min(s[0], s[1]))
		}
	}
	for _, p := range weights {
		s := l.net.At(strings.TrimSuffix(p.Name, ".weight"))
		l.layers = append(l.layers, &low{
			of: l, w: p,
			a: nn.NewLinearNoBias(s.At("lora_A"), p.Shape()[1], rank), b: nn.NewLinearNoBias(s.At("lora_B"), rank, p.Shape()[0]).Zero(),
		})
	}
	l.net.Init(seed)
	for _, w := range l.layers {
		w.w.Attach(w)
	}
	return l, nil
}

// Adapt is the nn.Adapter's.
func (w *low) Adapt(x, y *nn.Var) *nn.Var {
	if w.of.off || w.of.merged {
		return y
	}
	return y.Add(w.b.Forward(w.a.Forward(x)).Scale(w.of.factor()))
}

func (l *LoRA) factor() float64 { return l.alpha / float64(l.rank) }

// Params is what is trained.
func (l *LoRA) Params() *nn.Params { return l.net }

// Layers is the names of the weights that are adapted.
func (l *LoRA) Layers() []string {
	var names []string
	for _, w := range l.layers {
		names = append(names, w.w.Name)
	}
	return names
}

// Enable switches the changes on, as at first, or off: a teacher and its student in one
// network. Merged ones cannot be switched off.
func (l *LoRA) Enable(on bool) {
	l.mustLive("Enable")
	if l.merged && !on {
		panic("adapt: Enable: the changes are merged; Unmerge first")
	}
	l.off = !on
}

// Merge adds the changes to the weights themselves, so that layers cost what they did.
func (l *LoRA) Merge() error {
	l.mustLive("Merge")
	if l.merged {
		return nil
	}
	sums := make([][]float64, len(l.layers))
	for i, w := range l.layers {
		var v [3][]float64
		for k, p := range []*nn.Param{w.w, w.a.W, w.b.W} {
			var err error
			if v[k], err = values(p.Value); err != nil {
				return fmt.Errorf("adapt: %s: %w", p.Name, err)
			}
		}
		w.was = slices.Clone(v[0])
		in := w.w.Shape()[1]
		for o := range w.w.Shape()[0] {
			for r := range l.rank {
				f := l.factor() * v[2][o*l.rank+r]
				for j, e := range v[1][r*in:][:in] {
					v[0][o*in+j] += f * e
				}
			}
		}
		sums[i] = v[0]
	}
	for i, w := range l.layers {
		put(w.w.Value, sums[i])
	}
	l.merged = true
	return nil
}

// Unmerge undoes Merge: the weights are what they were, bit for bit.
func (l *LoRA) Unmerge() {
	l.mustLive("Unmerge")
	if !l.merged {
		return
	}
	for _, w := range l.layers {
		put(w.w.Value, w.was)
		w.was = nil
	}
	l.merged = false
}

// Drop ends the adapter. Merged changes stay in the weights; without Merge the network is
// what it was.
func (l *LoRA) Drop() {
	l.mustLive("Drop")
	for _, w := range l.layers {
		w.w.Detach(w)
		w.was = nil
	}
	l.dropped = true
}

func (l *LoRA) mustLive(op string) {
	if l.dropped {
		panic("adapt: " + op + " after Drop")
	}
}

// Save writes the changes alone; see Save. They must not be merged.
func (l *LoRA) Save(path string, opt ...tensor.FileOption) error {
	if l.merged {
		return fmt.Errorf("adapt: %s: the changes are merged, and the network is not the one that they are for; Unmerge first", path)
	}
	return Save(path, "lora", l.base, l.net, map[string]string{
		"rank": strconv.Itoa(l.rank), "alpha": strconv.FormatFloat(l.alpha, 'g', -1, 64),
	}, opt...)
}

// LoadLoRA attaches to base what was saved for it.
func LoadLoRA(path string, base *nn.Params) (*LoRA, error) {
	f, err := open(path, "lora", base)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rank, err := strconv.Atoi(f.Meta["rank"])
	if err != nil {
		return nil, fmt.Errorf("adapt: %s: rank %q in the file's remarks, want a number", path, f.Meta["rank"])
	}
	alpha, err := strconv.ParseFloat(f.Meta["alpha"], 64)
	if err != nil || alpha == 0 {
		return nil, fmt.Errorf("adapt: %s: alpha %q in the file's remarks, want a number that is not 0", path, f.Meta["alpha"])
	}
	var weights []*nn.Param
	for _, p := range base.All() { // in the network's order
		if f.Has(strings.TrimSuffix(p.Name, ".weight") + ".lora_A.weight") {
			weights = append(weights, p)
		}
	}
	l, err := attach(base, weights, rank, alpha, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: l.net}); err != nil {
		l.Drop()
		return nil, err
	}
	return l, nil
}
