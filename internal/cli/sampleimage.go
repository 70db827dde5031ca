package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
)

// imageOptions are the flags of what starts from pictures.
type imageOptions struct {
	image, mask  string
	strength     float64
	jump, repeat int
	invert       bool
}

func (o *imageOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.image, "image", "", "start from the pictures `INPUT` (a folder, archive or picture) or values `F.npy`, with noise added")
	f.Float64Var(&o.strength, "strength", 0.6, "take the last share `S` of the steps from --image")
	f.StringVar(&o.mask, "mask", "", "keep --image where the picture or values `F` are black, and draw where they are white")
	f.IntVar(&o.jump, "jump", 1, "with --mask: repeat blocks of `N` steps")
	f.IntVar(&o.repeat, "repeat", 1, "with --mask: make every block of steps `N` times (RePaint)")
	f.BoolVar(&o.invert, "invert", false, "lead --image to its noise and write that as values, for --init")
}

// grid is the part of g that these options walk.
func (o *imageOptions) grid(g *diffusion.Grid) (*diffusion.Grid, error) {
	switch {
	case o.image == "" && (o.mask != "" || o.invert):
		return nil, usagef("--mask and --invert need --image")
	case o.mask != "" && o.invert:
		return nil, usagef("--invert draws nothing, so there is nothing to --mask")
	case o.invert:
		return g.Reversed(), nil
	case o.image == "" || o.mask != "":
		return g, nil
	}
	part, err := g.Strength(o.strength)
	if err != nil {
		return nil, usagef("--strength: %w", err)
	}
	return part, nil
}

// apply reads the pictures and puts them into a run's options, and inpainting around its solver.
func (o *imageOptions) apply(ctx context.Context, a *app, k *sampleKind, s sampler.Solver, g *diffusion.Grid, opt *sampler.Options) (sampler.Solver, error) {
	if o.image == "" {
		return s, nil
	}
	known, err := k.read(ctx, a, o.image, k.n)
	if err != nil {
		return nil, err
	}
	known = known.To(opt.Device)
	if o.mask == "" {
		opt.Image = known
		return s, nil
	}
	white := *k
	white.lo, white.hi, white.field = 1, 0, nil // black keeps
	mask, err := white.read(ctx, a, o.mask, 1)
	if err != nil {
		return nil, err
	}
	all := known.Like()
	for i := range k.n {
		all.Rows(i, i+1).Copy(mask)
	}
	in := &sampler.Inpaint{Solver: s, Known: known, Mask: all, Jump: o.jump, Repeat: o.repeat}
	if err := in.Check(g); err != nil {
		return nil, usagef("--mask: %w", err)
	}
	return in, nil
}

// read reads n samples: values from a .npy, or pictures of the samples' size. One
// picture serves all.
func (k *sampleKind) read(ctx context.Context, a *app, path string, n int) (*gpu.Tensor, error) {
	if strings.EqualFold(filepath.Ext(path), ".npy") {
		t, err := sampler.ReadStart(path, n, k.shape, k.double)
		if err != nil {
			return nil, &inputError{err}
		}
		return t, nil
	}
	if !k.pictures {
		return nil, inputf("%s: samples of shape %s are no pictures; give values as .npy", path, describe(k.shape))
	}
	src, err := imageio.OpenContext(ctx, path, imageio.Options{Stdin: a.env.Stdin})
	if err != nil {
		return nil, err
	}
	per := size(k.shape)
	var v []float64
	err = src.Each(ctx, func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil {
			return err
		}
		x, err := k.valuesOf(m)
		if err != nil {
			return inputf("%s: %w", it.Name, err)
		}
		if v = append(v, x...); len(v) == n*per {
			return io.EOF // enough
		}
		return nil
	})
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(v) == per {
		for len(v) < n*per {
			v = append(v, v[:per]...)
		}
	}
	if len(v) < n*per {
		return nil, inputf("%s: %d pictures for %d samples; give one for all, or one for each", path, len(v)/per, n)
	}
	shape := append([]int{n}, k.shape...)
	if k.double {
		return gpu.CPU().From64(v, shape...), nil
	}
	f := make([]float32, len(v))
	for i, e := range v {
		f[i] = float32(e)
	}
	return gpu.CPU().From(f, shape...), nil
}

// valuesOf is the inverse of picture.
func (k *sampleKind) valuesOf(m *imageio.Image) ([]float64, error) {
	if m.Width != k.w || m.Height != k.h {
		return nil, fmt.Errorf("%dx%d pixels; the model draws %dx%d: resize it first (fidlab resize)", m.Width, m.Height, k.w, k.h)
	}
	v := make([]float64, k.h*k.w*k.c)
	gray := make([]uint8, len(v))
	for i := range v {
		p, j := m.Pix[i/k.c*3+i%k.c], k.at(i/k.c, i%k.c)
		if k.c == 1 && (m.Pix[3*i+1] != p || m.Pix[3*i+2] != p) {
			return nil, fmt.Errorf("has colours, and the model draws gray; convert it first")
		}
		v[j], gray[j] = math.FMA(float64(p)/255, k.hi-k.lo, k.lo), p
	}
	if k.field != nil {
		k.field(v, gray)
	}
	return v, nil
}
