package cli

import (
	"context"
	"os"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// model is what fidlab sample draws from.
type model struct {
	name    string // as given
	sha256  string // of its file or parameters
	den     sampler.Denoiser
	shape   []int   // of one sample
	lo, hi  float64 // the values that become black and white, where samples are pictures
	classes []int   // that it can be asked for; nil when it has none
	// classNames are the names of classes 0 to their number; nil where they have none.
	classNames []string

	latent bool                   // its samples are no pictures, whatever their shape
	chw    bool                   // pictures are planes of one colour: [C,H,W]
	inputs map[string]*gpu.Tensor // what it is conditioned on beside the class: [1, ...] for all, or [n, ...]
	null   map[string]*gpu.Tensor // what guidance leads away from, [1, ...]; nil: what --negative-input gives
	// prompt makes inputs of captions, [n, ...]; nil where the model takes none.
	prompt  func(captions []string) (map[string]*gpu.Tensor, error)
	sidecar string       // SHA-256 of the file beside it, "" without
	close   func() error // nil where there is nothing to close

	kernel diffusion.Noise                      // of the noise that it has learnt to remove; nil where nobody says
	pred   string                               // what the network predicts
	layers func(n int) (sampler.Layered, error) // the denoiser in n layers that can be left out; nil where it has none

	// field makes the model's values of a gray picture where they are not its
	// gray values between lo and hi; nil where they are.
	field func(dst []float64, gray []uint8)
}

// modelEntry is a kind of model that --model names.
type modelEntry struct {
	name    string // "gmm:FILE.json"
	summary string
	needs   string
	source  string
	path    func(name string) (diffusion.Path, error) // the one its grids are for
	rule    func(name string) string                  // by which its levels are placed where none is asked for; nil or "": the path's usual one
	match   func(name string) bool
	open    func(ctx context.Context, a *app, o opening) (*model, error)
}

// opening is what a model is opened for.
type opening struct {
	model   string // as given
	n       int    // samples
	classes []int  // asked for in turn
	net     netOptions
}

// vePath is the path of denoisers that take any noise level.
func vePath(string) (diffusion.Path, error) { return diffusion.DefaultVE(), nil }

// modelEntries in the order of the list.
var modelEntries = []modelEntry{
	{
		name:    "gmm:FILE.json",
		summary: `the exact denoiser of a Gaussian mixture: {"weights":[K], "means":[K][D], "covs":[K][D][D] or "vars":[K], "shape":[H,W,C]}`,
		needs:   "the file",
		source:  "Tweedie's formula",
		path:    vePath,
		match:   func(name string) bool { return strings.HasPrefix(name, "gmm:") },
		open:    openMixture,
	},
	{
		name:    "mnist-gmm",
		summary: "digits, 28×28 gray: a Gaussian mixture of 100 components (10 for each --class 0 to 9) fitted to MNIST at first use, and kept",
		needs:   "MNIST's files (an error says how to get them)",
		source:  "fitted here by expectation maximisation",
		path:    vePath,
		match:   func(name string) bool { return name == "mnist-gmm" },
		open:    openMNISTGMM,
	},
	{
		name:    "images:INPUT",
		summary: "the exact denoiser of a set of pictures of one size, which draws these pictures: what a network that knew nothing else would say",
		needs:   "the pictures: a folder, an archive, mnist:train?n=500",
		source:  "Karras et al. 2022, appendix B.3",
		path:    vePath,
		match:   func(name string) bool { return strings.HasPrefix(name, "images:") },
		open:    openImages,
	},
	{
		name:    "FILE.onnx",
		summary: "a network, by its convention in FILE.json (docs/onnx.md), which is checked; texts and the like with --input",
		needs:   "both files, and onnxruntime (fidlab doctor)",
		source:  "your training",
		path:    onnxPath,
		match:   func(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".onnx") },
		open:    openONNX,
	},
	{
		name:    "FILE.safetensors",
		summary: "a network that fidlab train made, with the first average of its weights; --average D takes another",
		needs:   "the checkpoint",
		source:  "fidlab train --list",
		path:    trainedPath,
		rule:    trainedRule,
		match:   isCheckpoint,
		open:    openCheckpoint,
	},
}

// findModel is the entry that name means.
func findModel(name string) (*modelEntry, error) {
	var known []string
	for _, m := range allModels() {
		if m.match(name) {
			return &m, nil
		}
		known = append(known, m.name)
	}
	return nil, unknown("model", name, known)
}

// open settles the sampler and the grid, and then opens the model, which the caller ends with done.
func (o *sampleOptions) open(ctx context.Context, a *app) (*model, sampler.Solver, *diffusion.Grid, diffusion.Path, error) {
	entry, err := findModel(o.model)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	own, err := entry.path(o.model)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if entry.rule != nil && !o.gridSet {
		if rule := entry.rule(o.model); rule != "" {
			o.grid = rule
		}
	}
	s, g, p, err := o.settle(own)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	m, err := entry.open(ctx, a, opening{o.model, o.n, o.classes, o.net})
	return m, s, g, p, err
}

// done ends what the model keeps open.
func (m *model) done() {
	if m.close != nil {
		m.close() // an inference session: what it fails to give back, the process's end does
	}
}

func openMixture(_ context.Context, _ *app, o opening) (*model, error) {
	path := strings.TrimPrefix(o.model, "gmm:")
	sum, err := tensor.FileSHA256(path)
	if err != nil {
		return nil, &inputError{err}
	}
	m, err := sampler.LoadMixture(path)
	if err != nil {
		return nil, &inputError{err}
	}
	out := mixtureModel(o.model, sum, m)
	out.layers = func(n int) (sampler.Layered, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, &inputError{err}
		}
		defer f.Close()
		spec, err := sampler.ReadMixtureSpec(f)
		if err != nil {
			return nil, &inputError{err}
		}
		return sampler.NewBlockMixture(spec, n)
	}
	return out, nil
}

// mixtureModel is a mixture of which values of 0 and 1 are black and white.
func mixtureModel(name, sum string, m *sampler.Mixture) *model {
	out := &model{name: name, sha256: sum, den: m, shape: m.Shape(), hi: 1, pred: diffusion.PredX0.String()}
	seen := map[int]bool{}
	for _, l := range m.Labels() {
		if !seen[l] {
			seen[l] = true
			out.classes = append(out.classes, l)
		}
	}
	return out
}
