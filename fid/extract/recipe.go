package extract

import (
	"math"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// RecipeWeights are the seeded random weights of the extractor "random", for
// who wants a file that the Inception extractor can read. Equal salts give
// equal weights.
func RecipeWeights(salt string) map[string]*tensor.Array { return recipeWeights(salt) }

// RecipeNet is the network of the extractor "random" up to a tap, for who wants to run it by other means.
func RecipeNet(tap string) *plan.Net { return inceptionNet(recipeWeights(""), tap) }

// recipeWeights makes the tensors of the Inception network from their names:
// uniform numbers from a SplitMix64 stream whose key is the FNV-1a hash of salt
// and name, scaled so that the signal keeps its size through the layers.
// testdata/golden/inception/README.md has the recipe.
func recipeWeights(salt string) map[string]*tensor.Array {
	weights := map[string]*tensor.Array{}
	for _, p := range inceptionParams() {
		v := make([]float32, product(p.shape))
		key := fnv1a(salt + p.name)
		low, high := recipeRange(p)
		for i := range v {
			u := float64(splitMix64(key+uint64(i+1)*0x9E3779B97F4A7C15)>>40) * 0x1p-24
			switch {
			case low == -high: // symmetric: (2u-1)·high, rounded in this order
				v[i] = float32((2*u - 1) * high)
			default:
				v[i] = float32(low + (high-low)*u)
			}
		}
		weights[p.name] = tensor.FromF32(v, p.shape...)
	}
	return weights
}

// recipeRange is the interval that a parameter is uniform in.
func recipeRange(p param) (low, high float64) {
	switch {
	case strings.HasSuffix(p.name, ".conv.weight"):
		high = math.Sqrt(6 / float64(p.shape[1]*p.shape[2]*p.shape[3]))
		return -high, high
	case strings.HasSuffix(p.name, ".bn.weight"), strings.HasSuffix(p.name, ".bn.running_var"):
		return 0.75, 1.25
	case strings.HasPrefix(p.name, "fc."):
		high = 1 / math.Sqrt(2048)
		return -high, high
	}
	return -0.1, 0.1
}

func fnv1a(s string) uint64 {
	h := uint64(0xCBF29CE484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001B3
	}
	return h
}

func splitMix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
