package extract

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

func init() {
	Register(Entry{
		Name:    "inception",
		Summary: "the Inception-v3 network of 2015-12-05 that FID is defined with, at tap " + strings.Join(slices.Sorted(maps.Keys(Taps)), ", "),
		Source:  "Heusel et al. 2017, arXiv 1706.08500; weights of pytorch-fid",
		Needs:   InceptionFile,
		Open: func(o Options) (fid.Extractor, error) {
			path, err := FindInception(o)
			if err != nil {
				return nil, err
			}
			weights, sha, err := inceptionSource.load(path, o.Force)
			if err != nil {
				return nil, err
			}
			note := ""
			if !strings.HasPrefix(sha, InceptionHash) {
				note = "weights " + sha[:8] + ", not the published " + InceptionHash
			}
			return newInception("inception", note, sha, weights, o)
		},
	})
	Register(Entry{
		Name:    "random",
		Summary: "the Inception network with seeded random weights: for trying things out, not a FID",
		Source:  "testdata/golden/inception/README.md",
		Open:    openRandom,
	})
}

// RandomNote labels every result of the random extractor.
const RandomNote = "random weights: not a FID"

func openRandom(o Options) (fid.Extractor, error) {
	weights := recipeWeights(o.Salt)
	return newInception("random", RandomNote, hashWeights(weights), weights, o)
}

// The part of a map that sFID looks at: the first channels of the block's
// concatenation, which are its first branch's, at all places.
const (
	spatialNode     = "Mixed_6d.branch1x1"
	spatialChannels = 7
	spatialSide     = 17
)

// spatialAll is how many channels the first branch of a block has.
var spatialAll = map[string]int{spatialNode: 192, "Mixed_6a.branch3x3": 384}

// inceptionPart is a further output of the network and the node that it is of; spatial is sFID's.
func inceptionPart(name, spatial string) (networkPart, string, error) {
	const places = spatialSide * spatialSide
	switch name {
	case fid.PartLogits:
		return networkPart{fid.Part{Name: name, Dim: Taps["logits_unbiased"]}, Taps["logits_unbiased"]}, "logits_unbiased", nil
	case fid.PartSpatial:
		return networkPart{fid.Part{Name: name, Dim: spatialChannels * places}, spatialAll[spatial] * places}, spatial, nil
	}
	return networkPart{}, "", fmt.Errorf("the Inception network has no part %q; there are %s and %s", name, fid.PartLogits, fid.PartSpatial)
}

// newInception compiles the network with checked weights.
func newInception(name, note, sha string, weights map[string]*tensor.Array, o Options) (fid.Extractor, error) {
	how, err := preset(o.Preset)
	if err != nil {
		return nil, err
	}
	tap := o.Tap
	if tap == "" {
		tap = "2048"
	}
	dim, ok := Taps[tap]
	if !ok {
		return nil, fmt.Errorf("no tap %q; there are %s", tap, strings.Join(slices.Sorted(maps.Keys(Taps)), ", "))
	}
	if tap != "2048" {
		name += ":" + tap
	}
	taps := []string{tap}
	var parts []networkPart
	for _, name := range o.Parts {
		part, node, err := inceptionPart(name, cmp.Or(how.spatial, spatialNode))
		if err != nil {
			return nil, err
		}
		parts, taps = append(parts, part), append(taps, node)
	}
	p, err := o.compile(inceptionNet(weights, taps...))
	if err != nil {
		return nil, err
	}
	resize := imageio.NewResizer(how.Resize, inceptionSize, inceptionSize)
	return &network{
		info:  fid.ExtractorInfo{Name: name, SHA256: sha, Dim: dim, Preset: how.Name, Precision: o.Precision.String(), Note: note},
		on:    o.where(),
		plan:  p,
		parts: parts,
		input: 3 * inceptionSize * inceptionSize,
		load: func(dst []float32, img *imageio.Image, s *imageio.Scratch) {
			resize.Into(dst, img, how.Scale, how.Offset, s)
		},
	}, nil
}
