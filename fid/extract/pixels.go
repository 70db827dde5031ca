package extract

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

const (
	pixelsSize  = 16
	identityMax = 4096 // dimensions: the covariance is dense
)

func init() {
	Register(Entry{
		Name:    "pixels",
		Summary: fmt.Sprintf("colours of the picture averaged to %dx%d boxes: no network, sees layout and colour only", pixelsSize, pixelsSize),
		Source:  "box filter, values in [0, 1], [3,16,16]",
		Open: func(o Options) (fid.Extractor, error) {
			if err := plainOnly(o); err != nil {
				return nil, err
			}
			r := imageio.NewResizer(imageio.PILFloat(imageio.Box), pixelsSize, pixelsSize)
			p := &pixels{info: plainInfo("pixels", 3*pixelsSize*pixelsSize), batch: batchOf(o)}
			p.load = func(dst []float32, img *imageio.Image, s *imageio.Scratch) error {
				r.Into(dst, img, 1.0/255, 0, s)
				return nil
			}
			return p, nil
		},
	})
	Register(Entry{
		Name:    "identity",
		Summary: "the picture itself: every value is a feature; all pictures must have one small size",
		Source:  "values in [0, 1], [H,W,3]",
		Open:    openIdentity,
	})
}

// pixels is an extractor without a network.
type pixels struct {
	info  fid.ExtractorInfo
	batch int
	load  func(dst []float32, img *imageio.Image, s *imageio.Scratch) error
	pool  sync.Pool // of *imageio.Scratch
}

func (p *pixels) Info() fid.ExtractorInfo { return p.info }

func (p *pixels) Batch() int { return p.batch }

func (p *pixels) Features(_ *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	mustFit(p.info, p.info.Dim, p.batch, imgs, out)
	s, _ := p.pool.Get().(*imageio.Scratch)
	if s == nil {
		s = new(imageio.Scratch)
	}
	defer p.pool.Put(s)
	for i, img := range imgs {
		if err := p.load(out[i*p.info.Dim:][:p.info.Dim], img, s); err != nil {
			return fmt.Errorf("extract: %s: %w", p.info.Name, err)
		}
	}
	return nil
}

func openIdentity(o Options) (fid.Extractor, error) {
	if err := plainOnly(o); err != nil {
		return nil, err
	}
	if o.Width < 1 || o.Height < 1 {
		return nil, fmt.Errorf("picture size %dx%d; want the width and height that all pictures have", o.Width, o.Height)
	}
	if o.Width > identityMax || o.Height > identityMax || 3*o.Width*o.Height > identityMax {
		return nil, fmt.Errorf("pictures of %dx%d have %d values; want at most %d: use pixels or a network", o.Width, o.Height, 3*o.Width*o.Height, identityMax)
	}
	p := &pixels{info: plainInfo("identity", 3*o.Width*o.Height), batch: batchOf(o)}
	p.load = func(dst []float32, img *imageio.Image, _ *imageio.Scratch) error {
		if img.Width != o.Width || img.Height != o.Height {
			return fmt.Errorf("a picture of %dx%d among pictures of %dx%d; make them equal, or use pixels or a network",
				img.Width, img.Height, o.Width, o.Height)
		}
		for i, v := range img.Pix {
			dst[i] = float32(v) / 255
		}
		return nil
	}
	return p, nil
}

// plainOnly refuses options that mean nothing without a network.
func plainOnly(o Options) error {
	switch {
	case o.Preset != "" && o.Preset != "native":
		return fmt.Errorf("preset %q is for the Inception network; leave it out", o.Preset)
	case o.Tap != "":
		return fmt.Errorf("tap %q is for the Inception network; leave it out", o.Tap)
	case o.Weights != "":
		return fmt.Errorf("%s: there are no weights to read; leave the file out", o.Weights)
	case o.Parts != nil:
		return fmt.Errorf("%s: there is no network to take that from; take inception or mnist", strings.Join(o.Parts, ", "))
	case o.Precision != plan.F32:
		return fmt.Errorf("precision %v is for networks; leave it out", o.Precision)
	}
	return nil
}

func plainInfo(name string, dim int) fid.ExtractorInfo {
	return fid.ExtractorInfo{Name: name, Dim: dim, Preset: "native", Precision: plan.F32.String()}
}

func batchOf(o Options) int {
	if o.Batch > 0 {
		return o.Batch
	}
	return plan.DefaultBatch
}
