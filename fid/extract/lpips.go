package extract

import (
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// LPIPSNets are the networks that LPIPS is published for, the one that its own code and torchmetrics take by default first.
var LPIPSNets = []string{"alex", "vgg", "squeeze"}

// LPIPSRule is how an implementation of LPIPS divides a map's vectors by their length.
type LPIPSRule struct {
	Name, Source string
	unit         func(squares float64) float64 // what a vector of that sum of squares is divided by
}

// LPIPSRules are the published ones; the first is the default. They differ where a vector is as good as zero.
var LPIPSRules = []LPIPSRule{
	{"lpips", "the lpips package and torch-fidelity: x/(|x| + 1e-10)", func(s float64) float64 { return math.Sqrt(s) + 1e-10 }},
	{"torchmetrics", "torchmetrics: x/√(1e-8 + |x|²)", func(s float64) float64 { return math.Sqrt(1e-8 + s) }},
}

// FindLPIPSRule is the rule with the given name, the first for none.
func FindLPIPSRule(name string) (LPIPSRule, error) {
	var names []string
	for _, r := range LPIPSRules {
		if r.Name == name || name == "" {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return LPIPSRule{}, fmt.Errorf("extract: no rule %q of LPIPS; there are %s", name, strings.Join(names, ", "))
}

// LPIPSOptions of OpenLPIPS.
type LPIPSOptions struct {
	Net  string // one of LPIPSNets, default the first
	Rule string // of LPIPSRules, default the first
	// Weights is the trunk's file as torchvision publishes it, or one file with everything, as lpips saves its state; "" searches the former.
	Weights string
	// Linear is the file of the linear layers, lin{k}.model.1.weight; "" where Weights has them.
	Linear string
	Pure   bool                // compute in pure Go even where a native plan is possible
	Getenv func(string) string // default os.Getenv
}

// LPIPSInfo says what a distance was made with.
type LPIPSInfo struct {
	Net    string `json:"net"`
	Rule   string `json:"rule"`
	SHA256 string `json:"sha256"`        // of the trunk's file
	Linear string `json:"linear_sha256"` // of the linear layers' file
	Note   string `json:"-"`             // what is not as published
}

// lpipsLinear are the linear layers as the lpips package has them in lpips/weights/v0.1, the SHA-256 of each begins so.
var lpipsLinear = map[string]string{"alex": "df73285e", "vgg": "a78928a0", "squeeze": "4a5350f2"}

// LPIPS is the learned perceptual distance of two pictures, version 0.1 (Zhang et al. 2018, arXiv 1801.03924): of the
// maps f_k of a classifier, divided at each place by their length over the channels,
//
//	sum_k mean_places sum_c w_kc (f_kc(a) - f_kc(b))²
//
// for pictures in [-1, 1], less the shift and over the scale of each channel. The weights w are learned and not negative.
// Pictures have any size from that on which the network's last map needs; both the same. Safe for concurrent use.
type LPIPS struct {
	info  LPIPSInfo
	rule  LPIPSRule
	trunk *lpipsTrunk
	w     *loaded // the trunk's tensors, kept for plans of further sizes
	kept  map[string][]float32
	lin   [][]float32
	pure  bool

	mu    sync.Mutex
	plans map[[2]int]*lpipsPlan // by height and width
	clock int
}

// lpipsPlan is the trunk for one size of pictures.
type lpipsPlan struct {
	plan  *plan.Plan
	shape [][3]int // of the maps
	users int
	used  int // when last
	idle  [][][]float32
}

// lpipsPlans is how many sizes are kept compiled.
const lpipsPlans = 4

var lpipsShift, lpipsScale = [3]float32{-0.030, -0.088, -0.188}, [3]float32{0.458, 0.448, 0.450}

// OpenLPIPS reads and checks the weights. A file that does not fit is an error with a table of what is missing, of another
// shape or too much. Weights that are not the published ones are taken, and labelled in Info's Note.
func OpenLPIPS(o LPIPSOptions) (*LPIPS, error) {
	l, err := openLPIPS(o)
	if err != nil {
		return nil, fmt.Errorf("extract: lpips: %w", err)
	}
	return l, nil
}

func openLPIPS(o LPIPSOptions) (*LPIPS, error) {
	if o.Net == "" {
		o.Net = LPIPSNets[0]
	}
	rule, err := FindLPIPSRule(o.Rule)
	if err != nil {
		return nil, err
	}
	l := &LPIPS{info: LPIPSInfo{Net: o.Net, Rule: rule.Name}, rule: rule, pure: o.Pure, plans: map[[2]int]*lpipsPlan{}, kept: map[string][]float32{}}
	for _, t := range lpipsTrunks {
		if t.name == o.Net {
			l.trunk = t
		}
	}
	if l.trunk == nil {
		return nil, fmt.Errorf("no network %q; there are %s", o.Net, strings.Join(LPIPSNets, ", "))
	}
	if l.w, err = l.trunk.spec.find(Options{Weights: o.Weights, Getenv: o.Getenv}, l.trunk.file); err != nil {
		return nil, err
	}
	for _, p := range l.trunk.spec.params {
		l.kept[p.name] = l.w.get(p.name)
	}
	path := l.w.file.path
	l.w.file.close()
	if l.w.err != nil {
		return nil, l.w.err
	}
	l.w.file = nil
	switch {
	case o.Linear != "":
	case l.w.how.what != "torchvision":
		o.Linear = path
	default: // names of pyiqa's and torch-fidelity's releases
		published := []string{fmt.Sprintf("LPIPS_v0.1_%s-%s.pth", o.Net, lpipsLinear[o.Net])}
		if o.Net == "vgg" {
			published = append(published, "weights-vgg16-lpips.pth")
		}
		if o.Linear, err = findFile(Options{Getenv: o.Getenv}, published...); err != nil {
			return nil, fmt.Errorf("%s has the network %s without LPIPS' linear layers; name their file too, lpips/weights/v0.1/%s.pth of the package lpips, with --linear: %w",
				path, l.trunk.spec.name, o.Net, err)
		}
	}
	return l, l.readLinear(o.Linear)
}

// linearSpec are the linear layers of a trunk. Whole files have them twice, under lins. too.
func (t *lpipsTrunk) linearSpec() *spec {
	s := &spec{name: "the linear layers of lpips " + t.name}
	for k, c := range t.widths {
		s.params = append(s.params, param{fmt.Sprintf("lin%d.model.1.weight", k), []int{1, c, 1, 1}})
	}
	s.namings = []naming{{what: "lpips", of: func(name string) origin { return origin{parts: []string{name}} }, drop: func(name string) bool {
		return strings.HasPrefix(name, "net.slice") || strings.HasPrefix(name, "lins.") || strings.HasPrefix(name, "scaling_layer.")
	}}}
	return s
}

func (l *LPIPS) readLinear(path string) error {
	s := l.trunk.linearSpec()
	w, err := s.open(path)
	if err != nil {
		return err
	}
	defer w.file.close()
	for _, p := range s.params {
		v := w.get(p.name)
		if w.err != nil {
			return w.err
		}
		for c, x := range v {
			if x < 0 {
				return fmt.Errorf("%s: %s has %g at place %d: LPIPS' weights are never negative; is it a file of lpips?", path, p.name, x, c)
			}
		}
		l.lin = append(l.lin, v)
	}
	l.info.SHA256, l.info.Linear = l.w.sha, w.sha
	var notes []string
	if l.w.how.what == "torchvision" {
		if n := l.w.publishedNote(l.trunk.hash); n != "" {
			notes = append(notes, n)
		}
	}
	if want := lpipsLinear[l.trunk.name]; !strings.HasPrefix(w.sha, want) {
		notes = append(notes, fmt.Sprintf("linear layers %s, not the published %s", w.sha[:8], want))
	}
	l.info.Note = strings.Join(notes, "; ")
	return nil
}

// Info says what distances are made with.
func (l *LPIPS) Info() LPIPSInfo { return l.info }

// Layers is how many maps the distance is the sum over.
func (l *LPIPS) Layers() int { return len(l.lin) }

// Pictures is the distance of two 8-bit pictures of one size, on worker w; layers receives the share of each map where it is not nil.
func (l *LPIPS) Pictures(w *cpu.Worker, a, b *imageio.Image, layers []float64) (float64, error) {
	if a.Width != b.Width || a.Height != b.Height {
		return 0, fmt.Errorf("extract: lpips: pictures of %d×%d and %d×%d; want one size", a.Width, a.Height, b.Width, b.Height)
	}
	n := a.Width * a.Height
	x := make([]float32, 6*n)
	for k, img := range []*imageio.Image{a, b} {
		for i := range n {
			for c := range 3 {
				x[(3*k+c)*n+i] = float32(img.Pix[3*i+c])/127.5 - 1
			}
		}
	}
	return l.Planes(w, x, a.Height, a.Width, layers)
}

// Planes is the distance of two pictures x [2, 3, height, width] in [-1, 1], on worker w, nil for any. It overwrites x.
func (l *LPIPS) Planes(w *cpu.Worker, x []float32, height, width int, layers []float64) (float64, error) {
	n := height * width
	if height < 1 || width < 1 || len(x) != 6*n || layers != nil && len(layers) != l.Layers() {
		panic(fmt.Sprintf("extract: lpips: %d values of two pictures of %d×%d, %d layers", len(x), height, width, len(layers)))
	}
	for i, v := range x {
		if v-v != 0 {
			return 0, fmt.Errorf("extract: lpips: a picture has %v at place %d", v, i)
		}
		c := i / n % 3
		x[i] = (v - lpipsShift[c]) / lpipsScale[c]
	}
	if layers == nil {
		layers = make([]float64, l.Layers())
	}
	p, outs, err := l.take(height, width)
	if err != nil {
		return 0, err
	}
	defer l.give(p, outs)
	if err := p.plan.Run(w, x, outs...); err != nil {
		return 0, fmt.Errorf("extract: lpips: %w", err)
	}
	sum := 0.0
	for k, map2 := range outs {
		layers[k] = l.between(map2, p.shape[k], l.lin[k])
		sum += layers[k]
	}
	return sum, nil
}

// between is one map's share: maps are of the two pictures, [2, channels, places].
func (l *LPIPS) between(maps []float32, shape [3]int, weight []float32) float64 {
	places := shape[1] * shape[2]
	a, b := maps[:len(maps)/2], maps[len(maps)/2:]
	la, lb := make([]float64, places), make([]float64, places)
	for c := range shape[0] {
		for i, v := range a[c*places:][:places] {
			la[i] += float64(v) * float64(v)
		}
		for i, v := range b[c*places:][:places] {
			lb[i] += float64(v) * float64(v)
		}
	}
	for i := range places {
		la[i], lb[i] = 1/l.rule.unit(la[i]), 1/l.rule.unit(lb[i])
	}
	sum := 0.0
	for c := range shape[0] {
		part := 0.0
		y := b[c*places:][:places]
		for i, v := range a[c*places:][:places] {
			d := float64(v)*la[i] - float64(y[i])*lb[i]
			part += d * d
		}
		sum += float64(weight[c]) * part
	}
	return sum / float64(places)
}

// take is the trunk for that size, with room for its maps.
func (l *LPIPS) take(height, width int) (*lpipsPlan, [][]float32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	p := l.plans[[2]int{height, width}]
	if p == nil {
		l.evict()
		net := l.trunk.net(l.memory(), height, width)
		c, err := plan.Compile(net, plan.Options{Batch: 2, Pure: l.pure})
		if err != nil {
			return nil, nil, fmt.Errorf("extract: lpips: pictures of %d×%d do not fit %s: %w", width, height, l.info.Net, err)
		}
		p = &lpipsPlan{plan: c}
		shapes, err := plan.Shapes(net)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range shapes {
			p.shape = append(p.shape, [3]int{d.C, d.H, d.W})
		}
		l.plans[[2]int{height, width}] = p
	}
	p.users++
	p.used = l.clock
	if k := len(p.idle); k > 0 {
		outs := p.idle[k-1]
		p.idle = p.idle[:k-1]
		return p, outs, nil
	}
	var outs [][]float32
	for k := range p.shape {
		outs = append(outs, make([]float32, 2*p.plan.OutLen(k)))
	}
	return p, outs, nil
}

func (l *LPIPS) give(p *lpipsPlan, outs [][]float32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.users--
	p.idle = append(p.idle, outs)
}

// evict makes room for a further size: the one longest out of use goes, where none is in use.
func (l *LPIPS) evict() {
	for len(l.plans) >= lpipsPlans {
		var oldest [2]int
		at := math.MaxInt
		for size, p := range l.plans {
			if p.users == 0 && p.used < at {
				oldest, at = size, p.used
			}
		}
		if at == math.MaxInt {
			return
		}
		l.plans[oldest].plan.Close()
		delete(l.plans, oldest)
	}
}

// memory gives a network the tensors that were read.
func (l *LPIPS) memory() *loaded {
	return &loaded{how: &l.trunk.spec.namings[0], file: &tensorFile{read: func(name string) (*tensor.Array, error) {
		v := l.kept[name]
		return tensor.FromF32(v, len(v)), nil
	}}}
}

// Close releases the networks' memory. Nothing may run then or later.
func (l *LPIPS) Close() {
	for size, p := range l.plans {
		p.plan.Close()
		delete(l.plans, size)
	}
}
