package arflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
)

// Config is the size of a network.
type Config struct {
	Height   int `json:"height"` // of pictures
	Width    int `json:"width"`
	Channels int `json:"channels"`
	Patch    int `json:"patch"`
	Dim      int `json:"dim"`
	Depth    int `json:"depth"`
	Heads    int `json:"heads"`
	Classes  int `json:"classes"` // 0: it is told none
	// Chunk is the tokens of a chunk: those of a picture, for which 0 stands. Nothing else is a picture to softmax attention.
	Chunk int `json:"chunk,omitempty"`
	// Parts, above 1, cuts every picture into as many chunks, the later of which see the earlier ones through the state alone: what the
	// method is not, to be compared with.
	Parts int  `json:"parts,omitempty"`
	Gate  Gate `json:"gate,omitempty"`
	// TimeFactor is that of times in [0, 1] before their waves; 0 stands for 1.
	TimeFactor float64 `json:"time_factor,omitempty"`
	// LearnSigma says that the network predicts twice the channels, whose second half means nothing: published weights have it.
	LearnSigma bool `json:"learn_sigma,omitempty"`
}

// presets by name: ar-s is for digits of 8×8 by class; the others are the published sizes, for latents of 32×32.
var presets = func() map[string]Config {
	all := map[string]Config{
		"ar-s": {Height: 8, Width: 8, Channels: 1, Patch: 2, Dim: 48, Depth: 3, Heads: 3, Classes: 10, TimeFactor: 1000},
	}
	for _, s := range []struct {
		name              string
		dim, depth, heads int
	}{{"s", 384, 12, 6}, {"b", 768, 12, 12}, {"l", 1024, 24, 16}, {"xl", 1152, 28, 18}} {
		for _, patch := range []int{2, 4, 8} {
			c := Config{Height: 32, Width: 32, Channels: 4, Patch: patch, Dim: s.dim, Depth: s.depth, Heads: s.heads, Classes: 1000, LearnSigma: true}
			if s.name == "xl" && patch > 2 {
				c.Heads = 16
			}
			all[fmt.Sprintf("ar-%s-%d", s.name, patch)] = c
		}
	}
	return all
}()

// Presets are the names that Preset knows, in order.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is a named Config: ar-s, which a CPU trains in a minute or two, and the published sizes, say ar-xl-2.
func Preset(name string) (Config, error) {
	c, ok := presets[name]
	if !ok {
		return c, data.Errorf("arflow: no network %q; want one of %s", name, strings.Join(Presets(), ", "))
	}
	return c, nil
}

// tokens are those of a picture.
func (c *Config) tokens() int { return c.Height / c.Patch * (c.Width / c.Patch) }

// out is the channels of the prediction.
func (c *Config) out() int {
	if c.LearnSigma {
		return 2 * c.Channels
	}
	return c.Channels
}

// parts are the chunks of a picture.
func (c *Config) parts() int { return max(c.Parts, 1) }

// Check says which field cannot be.
func (c Config) Check() error {
	for _, f := range []struct {
		name        string
		have, least int
	}{
		{"height", c.Height, 1}, {"width", c.Width, 1}, {"channels", c.Channels, 1}, {"patch", c.Patch, 1}, {"dim", c.Dim, 4}, {"depth", c.Depth, 1}, {"heads", c.Heads, 1},
		{"classes", c.Classes, 0}, {"chunk", c.Chunk, 0}, {"parts", c.Parts, 0},
	} {
		if f.have < f.least {
			return data.Errorf("arflow: %s %d; want %d or more", f.name, f.have, f.least)
		}
	}
	switch {
	case c.Height%c.Patch != 0 || c.Width%c.Patch != 0:
		return data.Errorf("arflow: patches of %d do not fill pictures of %d×%d", c.Patch, c.Height, c.Width)
	case c.Dim%c.Heads != 0:
		return data.Errorf("arflow: width %d in %d heads; want a multiple", c.Dim, c.Heads)
	case c.Dim%4 != 0:
		return data.Errorf("arflow: width %d; want a multiple of 4, for the sines and cosines of two axes", c.Dim)
	case c.Dim/c.Heads > 256:
		return data.Errorf("arflow: heads of width %d; want 256 at most", c.Dim/c.Heads)
	case c.Chunk != 0 && c.Chunk != c.tokens():
		return data.Errorf("arflow: chunks of %d tokens; a picture has %d, and a chunk is a picture", c.Chunk, c.tokens())
	case c.tokens()%c.parts() != 0:
		return data.Errorf("arflow: %d tokens in %d parts; want a divisor", c.tokens(), c.parts())
	case !slices.Contains(Gates, c.Gate):
		return data.Errorf("arflow: gate %q; want one of %q", c.Gate, Gates)
	case !(c.TimeFactor >= 0):
		return data.Errorf("arflow: a factor of times of %g; want 0 or more", c.TimeFactor)
	}
	return nil
}
