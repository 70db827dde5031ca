package autodiffusion

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
)

// busy gives a network weights that leave no block without an effect.
func busy(p *nn.Params) {
	p.Init(1)
	v := p.Value().F32()
	r := rng.New(2, 2)
	for i := range v {
		v[i] += 0.1 * float32(r.Normal())
	}
}

func layeredNets(t *testing.T) map[string]models.Net {
	t.Helper()
	u := nn.NewParams(gpu.CPU(), gpu.Float32)
	un := unet.New(u.At(""), unet.Config{Channels: 1, Height: 8, Width: 8, Base: 8, Mult: []int{1, 1}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 4, Embed: 8, Groups: 4, Classes: 2, NoneRow: true})
	d := nn.NewParams(gpu.CPU(), gpu.Float32)
	dn := dit.New(d.At(""), dit.Config{Height: 8, Width: 8, Channels: 1, Patch: 4, Dim: 8, Depth: 3, Heads: 2, Classes: 2, TimeFactor: 1000})
	busy(u)
	busy(d)
	return map[string]models.Net{"unet": un, "dit": dn}
}

// With nothing left out it is the network, bit for bit; every block that is left out changes the result; blocks are counted by image; and the
// network is whole again afterwards.
func TestLayered(t *testing.T) {
	x := gpu.CPU().Empty(3, 1, 8, 8)
	rng.New(3, 3).FillNormal32(x.F32())
	sigma, cond := []float64{0.3, 1, 2}, sampler.Cond{Classes: []int{0, 1, -1}}
	ask := func(t *testing.T, d sampler.Denoiser) []float32 {
		t.Helper()
		out := x.Like()
		if err := d.Denoise(t.Context(), out, x, sigma, cond); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(out.F32())
	}
	for name, net := range layeredNets(t) {
		t.Run(name, func(t *testing.T) {
			l, err := network.NewLayered(net, diffusion.Flow{}, diffusion.PredFlow, network.Options{Batch: 4})
			if err != nil {
				t.Fatal(err)
			}
			names := l.Layers()
			if want := map[string]int{"unet": 12, "dit": 3}[name]; len(names) != want {
				t.Fatalf("blocks %v, want %d", names, want)
			}
			whole := ask(t, network.Denoiser(net, diffusion.Flow{}, diffusion.PredFlow, network.Options{Batch: 4}))
			var ran atomic.Int64
			all, err := l.Without(nil, &ran)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ask(t, all), whole) || !slices.Equal(ask(t, l), whole) {
				t.Error("with nothing left out the result differs")
			}
			if got := ran.Load(); got != int64(3*len(names)) {
				t.Errorf("%d blocks counted for 3 images, want %d", got, 3*len(names))
			}
			for i := range names {
				thin, err := l.Without([]int{i}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if slices.Equal(ask(t, thin), whole) {
					t.Errorf("leaving out %s changes nothing", names[i])
				}
			}
			ran.Store(0)
			few, err := l.Without([]int{0, len(names) - 1}, &ran)
			if err != nil {
				t.Fatal(err)
			}
			ask(t, few)
			if got := ran.Load(); got != int64(3*(len(names)-2)) {
				t.Errorf("%d blocks counted with two left out, want %d", got, 3*(len(names)-2))
			}
			if !slices.Equal(ask(t, l), whole) {
				t.Error("the network stays thin")
			}
			for _, bad := range [][]int{{-1}, {len(names)}, {1, 1}, {2, 1}} {
				if _, err := l.Without(bad, nil); err == nil {
					t.Errorf("%v is accepted", bad)
				}
			}
		})
	}
	if _, err := network.NewLayered(plain{}, diffusion.Flow{}, diffusion.PredFlow, network.Options{}); err == nil || !strings.Contains(err.Error(), "no blocks that can be left out") {
		t.Errorf("a network without blocks: %v", err)
	}
}

// plain is a network of one piece.
type plain struct{ models.Net }
