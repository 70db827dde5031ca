package sampler

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Layered is a denoiser whose layers can be left out one by one (Li et al. 2023,
// arXiv 2309.10438): a residual block that is left out hands on its skip path,
// resized and projected as before, an attention block its input.
type Layered interface {
	Denoiser
	// Layers names them in the order in which they run.
	Layers() []string
	// Without is the denoiser that leaves out the layers of those numbers, which
	// rise. It shares the weights, and serves as many goroutines as the whole one.
	// When it runs a layer it adds the images it runs it on to ran, unless that is nil.
	Without(skip []int, ran *atomic.Int64) (Denoiser, error)
}

// Skipping is a layered denoiser that leaves out other layers in every step of a
// grid. Like the denoisers that it is made of it may keep scratch memory, and it
// serves one goroutine at a time.
type Skipping struct {
	layers   int
	dens     []Denoiser // of each step
	asks     []asker
	skips    [][]int
	now      int
	ran      atomic.Int64
	promised int64
}

// NewSkipping makes it of the numbers of the layers that each step leaves out;
// steps with the same ones share a denoiser. It refuses layers that den does not have.
func NewSkipping(den Layered, skips [][]int) (*Skipping, error) {
	s := &Skipping{layers: len(den.Layers())}
	for i, skip := range skips {
		skip = slices.Clone(skip)
		slices.Sort(skip)
		for j, l := range skip {
			if l < 0 || l >= s.layers {
				return nil, fmt.Errorf("sampler: step %d leaves out layer %d; the denoiser has layers 0 to %d", i, l, s.layers-1)
			}
			if j > 0 && l == skip[j-1] {
				return nil, fmt.Errorf("sampler: step %d leaves out layer %d twice; wanted each once", i, l)
			}
		}
		same := slices.IndexFunc(s.skips, func(other []int) bool { return slices.Equal(other, skip) })
		s.skips = append(s.skips, skip)
		if same >= 0 {
			s.dens, s.asks = append(s.dens, s.dens[same]), append(s.asks, s.asks[same])
			continue
		}
		d, err := den.Without(skip, &s.ran)
		if err != nil {
			return nil, fmt.Errorf("sampler: without layers %v: %w", skip, err)
		}
		s.dens, s.asks = append(s.dens, d), append(s.asks, newAsker(d))
	}
	return s, nil
}

// Ran is how many layers have run so far, summed over images.
func (s *Skipping) Ran() int64 { return s.ran.Load() }

// Promised is how many should have, after what was left out.
func (s *Skipping) Promised() int64 { return s.promised }

// AtStep implements Stepped.
func (s *Skipping) AtStep(g *diffusion.Grid, i int) {
	s.now = i
	tellStep(s.dens[i], g, i)
}

// Check implements Checker: it refuses a grid of another number of steps.
func (s *Skipping) Check(g *diffusion.Grid) error {
	if len(g.Steps) != len(s.dens) {
		return fmt.Errorf("sampler: layers to leave out are given for %d steps; grid %s has %d", len(s.dens), g.Name, len(g.Steps))
	}
	for _, d := range s.dens {
		if err := checkGrid(d, g); err != nil {
			return err
		}
	}
	return nil
}

// Cost implements Coster.
func (s *Skipping) Cost(p diffusion.Point) int { return costOf(s.dens[s.now], p) }

// Denoise implements Denoiser.
func (s *Skipping) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	s.promised += int64(len(sigma) * (s.layers - len(s.skips[s.now])))
	return s.dens[s.now].Denoise(ctx, out, x, sigma, c)
}

// DenoiseAt implements PointDenoiser.
func (s *Skipping) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	s.promised += int64(len(at) * (s.layers - len(s.skips[s.now])))
	return s.asks[s.now].ask(ctx, out, x, at, c)
}
