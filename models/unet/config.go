package unet

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// AttnKind is how plain attention keeps its queries, keys and values.
type AttnKind int

const (
	PackedByHead    AttnKind = iota // one layer, q, k and v of one head after the other: ADM's weights
	Packed                          // one layer, all q, all k, all v
	Separate                        // three layers: diffusers' weights
	PackedByChannel                 // one layer, q, k and v of one channel after the other: EDM's weights
)

// LabelKind is how classes join the embedding.
type LabelKind int

const (
	Rows         LabelKind = iota // a row of a table [classes, embedding] is added to it
	Columns                       // a column of a matrix is: the ADM of EDM's weights
	ColumnsFirst                  // a column of a matrix, times √classes, and a bias are added to the waves: the DDPM++ of EDM's weights
)

// Context is a sequence of tokens that transformers attend to.
type Context struct {
	Name  string // in models.Inputs.Tokens
	Width int
}

// Vector is a vector that is added to the embedding of the time, after two layers of its own.
type Vector struct {
	Name  string // in models.Inputs.Vectors
	Width int
}

// Config describes a U-Net; Channels, Width, Mult and Blocks have no default.
type Config struct {
	Channels      int   // of pictures
	Out           int   // of the prediction; 0 stands for Channels, 2·Channels is what learned variances want
	Extra         int   // channels after those of pictures: a low resolution, a mask
	Patch         int   // the first level sees squares of Patch×Patch pixels as one of as many channels (Shi et al. 2016's shuffle); 0 stands for 1
	Height, Width int   // of pictures; 0: any that halve often enough
	Base          int   // channels of the first level are Base·Mult[0]
	First         int   // channels that the first convolution gives; 0 stands for the first level's
	Mult          []int // channels of each level over Base; each level halves the pictures of the one before
	Blocks        int   // residual blocks of a level on the way down; on the way up there is one more

	AttnAt    []int    // attention where pictures are smaller by these factors: 1, 2, 4, …
	NoMidAttn bool     // none in the middle
	UpLast    bool     // on the way up, none but after a level's last residual block
	Heads     int      // of attention; 0: as many as HeadWidth makes
	HeadWidth int      // 0: a level's channels over Heads; both 0: one head
	Attn      AttnKind // of plain attention

	Transformer bool      // transformer blocks in place of plain attention; implied by Contexts
	Depth       []int     // how many blocks at each level; nil: one each. The middle has the last
	LinearIn    bool      // the layers before and after them are linear, else convolutions of 1×1
	Contexts    []Context // nil: the second attention is to the tokens themselves

	ScaleShift     bool    // the embedding scales and shifts the second norm, else it is added before it
	ResampleBlocks bool    // pictures are halved and doubled within residual blocks
	ResampleSkip   bool    // such blocks have a convolution on their skip path even where channels stay
	PoolResample   bool    // or without any parameter
	PadEnd         bool    // convolutions that halve see zeros below and to the right alone, as DDPM's did
	ResidualScale  float64 // of every residual sum; 0 stands for 1, DDPM++ has 1/√2

	Groups int     // of normalisations; 0: as many as give 4 channels each, 32 at most
	Eps    float64 // of them; 0 stands for 1e-5

	Waves   ops.WaveConfig // of times; Width 0 stands for Base waves, cosines first
	Fourier float64        // > 0: random waves instead, of frequencies with this standard deviation
	Embed   int            // width of the embedding; 0 stands for 4·Base
	Classes int
	Labels  LabelKind
	NoneRow bool     // "no class" has a row that is learned, else it is zero
	Vectors []Vector // further conditions

	Dropout float64 // share of elements left out in residual blocks while UNet.Mask has a seed
}

// levels is how many sizes of pictures there are.
func (c *Config) levels() int { return len(c.Mult) }

func (c *Config) channels(level int) int { return c.Base * c.Mult[level] }

func (c *Config) embed() int {
	if c.Embed > 0 {
		return c.Embed
	}
	return 4 * c.Base
}

func (c *Config) out() int {
	if c.Out > 0 {
		return c.Out
	}
	return c.Channels
}

// patch is how many pixels of a picture's side are one of the first level's.
func (c *Config) patch() int { return max(1, c.Patch) }

// multiple is what the sides of pictures are multiples of.
func (c *Config) multiple() int { return c.patch() << (c.levels() - 1) }

func (c *Config) eps() float64 {
	if c.Eps > 0 {
		return c.Eps
	}
	return 1e-5
}

// groups is how many groups channels are normalised in.
func (c *Config) groups(channels int) int {
	if c.Groups > 0 {
		return c.Groups
	}
	for n := min(32, channels/4); n > 1; n-- {
		if channels%n == 0 {
			return n
		}
	}
	return 1
}

// heads is how many heads attention of that many channels has.
func (c *Config) heads(channels int) int {
	switch {
	case c.Heads > 0:
		return c.Heads
	case c.HeadWidth > 0:
		return channels / c.HeadWidth
	}
	return 1
}

func (c *Config) transformer() bool { return c.Transformer || len(c.Contexts) > 0 }

func (c *Config) depth(level int) int {
	if c.Depth == nil {
		return 1
	}
	return c.Depth[level]
}

// Check says what is wrong with the configuration, by field.
func (c *Config) Check() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("unet: Config.%s: %s", field, fmt.Sprintf(format, args...))
	}
	for _, f := range []struct {
		name  string
		v, lo int
	}{
		{"Channels", c.Channels, 1}, {"Base", c.Base, 1}, {"Blocks", c.Blocks, 1}, {"Out", c.Out, 0}, {"First", c.First, 0}, {"Extra", c.Extra, 0}, {"Patch", c.Patch, 0}, {"Height", c.Height, 0},
		{"Width", c.Width, 0}, {"Heads", c.Heads, 0}, {"HeadWidth", c.HeadWidth, 0}, {"Groups", c.Groups, 0}, {"Classes", c.Classes, 0}, {"Embed", c.Embed, 0},
	} {
		if f.v < f.lo {
			return bad(f.name, "%d, want at least %d", f.v, f.lo)
		}
	}
	if len(c.Mult) == 0 || slices.Min(c.Mult) < 1 {
		return bad("Mult", "%v, want a factor of at least 1 for each level", c.Mult)
	}
	for _, at := range c.AttnAt {
		if at < 1 || at&(at-1) != 0 || at > 1<<(c.levels()-1) {
			return bad("AttnAt", "%v, want powers of 2 up to %d, by which the last of %d levels is smaller", c.AttnAt, 1<<(c.levels()-1), c.levels())
		}
	}
	if c.Attn < PackedByHead || c.Attn > PackedByChannel {
		return bad("Attn", "%d is none", c.Attn)
	}
	if c.Labels < Rows || c.Labels > ColumnsFirst || c.Labels != Rows && c.NoneRow {
		return bad("Labels", "%d with NoneRow %v, want a kind, and Rows with NoneRow", c.Labels, c.NoneRow)
	}
	if c.Depth != nil && (len(c.Depth) != c.levels() || slices.Min(c.Depth) < 1) {
		return bad("Depth", "%v, want at least 1 for each of %d levels", c.Depth, c.levels())
	}
	if m := c.multiple(); c.Height%m != 0 || c.Width%m != 0 || (c.Height == 0) != (c.Width == 0) {
		return bad("Height", "%d×%d, want both 0 or multiples of %d, which %d levels of squares of %d halve to whole ones", c.Height, c.Width, m, c.levels(), c.patch())
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		return bad("Dropout", "%g, want 0 <= share < 1", c.Dropout)
	}
	if !(c.Eps >= 0) || !(c.Fourier >= 0) || !(c.ResidualScale >= 0) {
		return bad("Eps", "%g, Fourier %g and ResidualScale %g, want none below 0", c.Eps, c.Fourier, c.ResidualScale)
	}
	if c.ResampleBlocks && c.PoolResample {
		return bad("PoolResample", "set along with ResampleBlocks, want one")
	}
	if w := c.waves(); w.Width%2 != 0 || !(float64(w.Width/2)-w.Shift > 0) {
		return bad("Waves", "%d with shift %g, want an even width and half of it above the shift", w.Width, w.Shift)
	}
	names := map[string]bool{}
	for _, x := range c.Contexts {
		if x.Name == "" || x.Width < 1 || names[x.Name] {
			return bad("Contexts", "%v, want distinct names and widths of at least 1", c.Contexts)
		}
		names[x.Name] = true
	}
	if len(c.Contexts) > maxContexts {
		return bad("Contexts", "%d of them, want at most %d", len(c.Contexts), maxContexts)
	}
	clear(names)
	for _, x := range c.Vectors {
		if x.Name == "" || x.Width < 1 || names[x.Name] {
			return bad("Vectors", "%v, want distinct names and widths of at least 1", c.Vectors)
		}
		names[x.Name] = true
	}
	return c.checkBlocks()
}

// checkBlocks looks at what depends on channels that concatenation makes.
func (c *Config) checkBlocks() error {
	var err error
	p := c.plan()
	p.each(func(l *layer) {
		switch {
		case err != nil:
		case l.kind.residual() && (l.in%c.groups(l.in) != 0 || l.out%c.groups(l.out) != 0):
			err = fmt.Errorf("unet: Config.Groups: %d for %d to %d channels of %s, want a divisor", c.Groups, l.in, l.out, l.name)
		case l.kind.attends() && (l.in%c.heads(l.in) != 0 || c.heads(l.in) < 1 || c.HeadWidth > 0 && c.heads(l.in)*c.HeadWidth != l.in):
			err = fmt.Errorf("unet: Config.Heads: %d of width %d for %d channels of %s, want a divisor", c.Heads, c.HeadWidth, l.in, l.name)
		}
	})
	return err
}

func (c *Config) waves() ops.WaveConfig {
	w := c.Waves
	if w.Width == 0 {
		w.Width, w.CosFirst = c.Base, true
	}
	return w
}

// attnOptions are those of attention at a level of that many channels.
func (c *Config) attnOptions(channels int) nn.AttnOptions {
	o := nn.AttnOptions{Heads: c.heads(channels)}
	switch c.Attn {
	case Separate:
		o.Names = nn.SeparateNames
	case PackedByChannel:
		o.Names, o.PointAxes, o.ByChannel = nn.AttnNames{QKV: "qkv", Out: "proj_out"}, 2, true
	default:
		o.Names, o.PointAxes, o.ByHead = nn.AttnNames{QKV: "qkv", Out: "proj_out"}, 1, c.Attn == PackedByHead
	}
	return o
}
