package pfgmpp

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mathext"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/proof"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// The proof runs through in its tiny tier, and twice to the same bits.
func TestTiny(t *testing.T) { proof.Tiny(t, "40") }

// A Gaussian that is scaled by the radius, without being made a unit vector first, has a spread of its own on top: the kernel's radius
// follows the Beta law, that one's does not, by far more than draws differ.
func TestRadiusIsNotScaledGaussian(t *testing.T) {
	const n, d, draws = 24, 32, 20000
	k := diffusion.PFGMPP{N: n, D: d}
	law := func(radius func(s *rng.Stream) float64) float64 {
		var worst float64
		count := make([]int, 11)
		for i := range draws {
			r := radius(rng.ForImage(9, uint64(i), rng.Init))
			b := r * r / (r*r + d)
			count[int(10*mathext.RegIncBeta(n/2., d/2., b))]++
		}
		for _, c := range count[:10] {
			worst = math.Max(worst, math.Abs(float64(c)/draws-0.1))
		}
		return worst
	}
	norm := func(v []float64) (r float64) {
		for _, e := range v {
			r += e * e
		}
		return math.Sqrt(r)
	}
	v := make([]float64, n)
	kernel := law(func(s *rng.Stream) float64 { k.Prior(v, 1, s); return norm(v) })
	naive := law(func(s *rng.Stream) float64 {
		r := math.Sqrt(d * s.Gamma(n/2.) / s.Gamma(d/2.))
		s.FillNormal64(v)
		return r * norm(v) / math.Sqrt(n)
	})
	// A tenth of the draws is off by √(0.09/20000) = 0.2 %.
	if kernel > 0.01 || naive < 0.02 {
		t.Errorf("tenths of the Beta law are off by %.4f, of a scaled Gaussian by %.4f", kernel, naive)
	}
}

// Ends of the exact flow at D = 1e7 are those of diffusion from the same direction and length, which a path of its own for infinite D
// could miss; and with D = 32 a Gaussian start in place of the kernel's leads elsewhere than the kernel's.
func TestFlowAtTheEnds(t *testing.T) {
	bed, err := systems.Use[*bases.Mixture](t.Context(), &systems.Env{}, bases.DigitMixture)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newExact(bed, tiers[systems.Tiny])
	if err != nil {
		t.Fatal(err)
	}
	start := gpu.CPU().Empty64(16, bed.Dims)
	diffusion.UnitNoise(start, nil, 5, 0, rng.Init)
	ends := func(d float64) *gpu.Tensor {
		den, err := sampler.NewDeltaMixture(e.set, []int{bed.Dims}, nil, kernelOf(d, bed.Dims))
		if err != nil {
			t.Fatal(err)
		}
		o := bed.Options(5, 16)
		o.Noise = start
		r, err := sampler.Run(t.Context(), den, sampler.Heun{}, e.grid, o)
		if err != nil {
			t.Fatal(err)
		}
		return r.X
	}
	want := ends(gaussian)
	if off := bases.RMSE(ends(1e7), want); off > 1e-4 {
		t.Errorf("D = 1e7 ends %g from diffusion", off)
	}
	if off := bases.RMSE(ends(8), want); off < 1e-3 {
		t.Errorf("D = 8 ends where diffusion does (%g)", off)
	}
}

// A network trained under a kernel says so, and is sampled from its noise.
func TestNetworkKeepsKernel(t *testing.T) {
	found, ok := systems.FindTask(task)
	if !ok || !found.Kernels {
		t.Fatalf("%s learns under no kernel", task)
	}
	s := found.Settings
	s.Steps, s.Warmup, s.Kernel = 2, 1, "pfgmpp:64"
	net, _, err := bases.TrainHere(t.Context(), task, s, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := (diffusion.PFGMPP{N: 64, D: 64}); net.Kernel != want || net.Options(1, 2).Kernel != want {
		t.Errorf("trained under %v, sampled under %v, want %v", net.Kernel, net.Options(1, 2).Kernel, want)
	}
	s.Kernel = "pfgmpp:-1"
	if _, _, err := bases.TrainHere(t.Context(), task, s, false); err == nil {
		t.Error("D = -1 is trained under")
	}
}
