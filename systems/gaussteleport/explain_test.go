package gaussteleport

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// gains are the closed forms of the comparison scores' gains of a variance.
var gains = map[string]func(l, all, s float64) float64{
	"gaussian":  func(l, _, s float64) float64 { return l / (l + s*s) },
	"isotropic": func(_, v, s float64) float64 { return v / (v + s*s) },
	"order1":    func(l, _, s float64) float64 { return l / (s * s) },
	"order2":    func(l, _, s float64) float64 { return l/(s*s) - l*l/(s*s*s*s) },
}

// Along an eigenvector every score is its closed form, in VE scaling and in others;
// of an expansion the next order is left.
func TestScoresAreTheirFormulas(t *testing.T) {
	s := spectrum(t, 4)
	g, err := GaussianOf(s.LowRank, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	var v float64
	for _, l := range s.Values {
		v += l / 4
	}
	dens := map[string]sampler.PointDenoiser{"gaussian": g, "isotropic": Isotropic(g), "order1": Expansion(g, 1), "order2": Expansion(g, 2)}
	for name, den := range dens {
		for _, sigma := range []float64{0.3, 5, 80} {
			for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
				var p diffusion.Point
				p.A, p.B = space.Scale(sigma)
				for k, l := range s.Values {
					x, out := gpu.CPU().Empty64(1, 2, 2), gpu.CPU().Empty64(1, 2, 2)
					for j := range 4 {
						x.F64()[j] = p.A * (s.Mu[j] + s.Vectors[k*4+j])
					}
					if err := den.DenoiseAt(context.Background(), out, x, []diffusion.Point{p}, sampler.Cond{}); err != nil {
						t.Fatal(err)
					}
					want := gains[name](l, v, sigma)
					for j := range 4 {
						if w := s.Mu[j] + want*s.Vectors[k*4+j]; math.Abs(out.F64()[j]-w) > 1e-12*(1+math.Abs(want)) {
							t.Errorf("%s at %g in %v: value %d is %.10g, want %.10g", name, sigma, space, j, out.F64()[j], w)
						}
					}
				}
			}
		}
	}
}

// The share that a Gaussian's own score leaves to others is known: x-mean has the
// variance λ+σ² along an eigenvector, so it is 1 - Σ(g-m)²(λ+σ²)/Σ(g-1)²(λ+σ²). An
// equal score explains all, none none of it.
func TestExplain(t *testing.T) {
	s := spectrum(t, 4)
	g, err := GaussianOf(s.LowRank, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	x0 := gpu.CPU().Empty64(n, 2, 2)
	for i := range n {
		z := oracle.Normal(uint64(i+1000), 4)
		for j := range 4 {
			x0.F64()[4*i+j] = s.Mu[j]
			for k, l := range s.Values {
				x0.F64()[4*i+j] += math.Sqrt(l) * float64(z[k]) * s.Vectors[k*4+j]
			}
		}
	}
	var v float64
	for _, l := range s.Values {
		v += l / 4
	}
	levels := []float64{80, 2, 0.2}
	models := []Score{{"gaussian", g}, {"none", silent{}}, {"isotropic", Isotropic(g)}, {"order1", Expansion(g, 1)}, {"order2", Expansion(g, 2)}}
	got, err := Explain(context.Background(), g, models, x0, ExplainOptions{Sigmas: levels, Seed: 3, Batch: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(levels)*len(models) {
		t.Fatalf("%d shares", len(got))
	}
	for _, share := range got {
		switch share.Model {
		case "gaussian":
			if share.Explains != 1 || share.Lo != 1 {
				t.Errorf("itself at %g: %+v", share.Sigma, share)
			}
			continue
		case "none":
			if share.Explains != 0 {
				t.Errorf("none at %g: %+v", share.Sigma, share)
			}
			continue
		}
		var off, total float64
		for _, l := range s.Values {
			gain := gains["gaussian"](l, v, share.Sigma)
			m := gains[share.Model](l, v, share.Sigma)
			off += (gain - m) * (gain - m) * (l + share.Sigma*share.Sigma)
			total += (gain - 1) * (gain - 1) * (l + share.Sigma*share.Sigma)
		}
		want, half := 1-off/total, (share.Hi-share.Lo)/2
		if rms := math.Sqrt(off / 4); math.Abs(share.RMS-rms) > 0.1*rms { // each of 4000 images has its share of it
			t.Errorf("%s at %g: denoised values differ by %.5g, want %.5g", share.Model, share.Sigma, share.RMS, rms)
		}
		if math.Abs(share.Explains-want) > 2.5*half || !(half < 0.1*(1+math.Abs(want))) { // 4.9 standard errors
			t.Errorf("%s at %g: %.5f ± %.5f, want %.5f", share.Model, share.Sigma, share.Explains, half, want)
		}
	}
	for model, want := range map[string]float64{"gaussian": 0.2, "order1": 80, "none": math.Inf(1)} {
		if r := Reach(got, model, func(s Share) bool { return s.Explains > 0.9 }); r != want {
			t.Errorf("%s explains nine tenths from %g on, want %g", model, r, want)
		}
	}
	if dev := Deviation(x0); math.Abs(dev-math.Sqrt(v)) > 0.05*math.Sqrt(v) {
		t.Errorf("deviation %g of the images, want %g", dev, math.Sqrt(v))
	}
	again, err := Explain(context.Background(), g, models, x0, ExplainOptions{Sigmas: levels, Seed: 3, Batch: 64})
	if err != nil || !slices.Equal(got, again) {
		t.Errorf("another batch size gives other shares (%v)", err)
	}
}

// silent says that x is clean: a score of zero.
type silent struct{}

func (silent) Denoise(_ context.Context, out, x *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	out.Copy(x)
	return nil
}

// A mixture of k-means clusters with covariances of low rank explains the score of
// the mixture that the data are of better than one Gaussian does, at every noise
// level where there is something to explain, and better at low noise than the data
// themselves do, which the exact score of other data of that mixture shows.
func TestMixtureScore(t *testing.T) {
	m, _ := mixture(t, 2)
	s := spectrum(t, 4)
	g, err := GaussianOf(s.LowRank, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	data := draw(t, m, 0, 600)
	rows := sampler.Rows{N: 600, D: 4, At: func(i int, dst []float64) { copy(dst, data.F64()[4*i:4*i+4]) }}
	full, err := FitScore(context.Background(), rows, shape, MixtureOptions{Components: 2, Dims: 4, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	low, err := FitScore(context.Background(), rows, shape, MixtureOptions{Components: 2, Dims: 4, Rank: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	points := make([]float32, len(data.F64()))
	for i, v := range data.F64() {
		points[i] = float32(v)
	}
	delta, err := sampler.NewDeltaMixture(points, shape, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Explain(context.Background(), m, []Score{{"gaussian", g}, {"gmm", full}, {"gmm low rank", low}, {"delta", delta}}, draw(t, m, 5000, 300), ExplainOptions{Sigmas: []float64{80, 1, 0.1}})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]map[float64]Share{}
	for _, share := range all {
		if of[share.Model] == nil {
			of[share.Model] = map[float64]Share{}
		}
		of[share.Model][share.Sigma] = share
	}
	for _, sigma := range []float64{1, 0.1} {
		if !(of["gmm"][sigma].Lo > of["gaussian"][sigma].Hi) || !(of["gmm low rank"][sigma].Lo > of["gaussian"][sigma].Hi) {
			t.Errorf("at %g: mixture %+v, of low rank %+v, Gaussian %+v", sigma, of["gmm"][sigma], of["gmm low rank"][sigma], of["gaussian"][sigma])
		}
	}
	if a, b := of["gmm"][0.1], of["delta"][0.1]; !(a.Lo > b.Hi) {
		t.Errorf("at 0.1: mixture %+v, data %+v", a, b)
	}
	for name, share := range of {
		if !(share[80].Explains > 0.999) {
			t.Errorf("%s at 80: %+v, want all", name, share[80])
		}
	}
}

// draw is n samples of a mixture, from a fine walk.
func draw(t *testing.T, m *sampler.Mixture, first, n int) *gpu.Tensor {
	t.Helper()
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 40})
	if err != nil {
		t.Fatal(err)
	}
	r, err := sampler.Run(context.Background(), m, sampler.Heun{}, g, sampler.Options{First: first, N: n, Shape: m.Shape(), Double: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.X
}

func TestExplainRefuses(t *testing.T) {
	g, err := GaussianOf(spectrum(t, 4).LowRank, MeanRest, shape)
	if err != nil {
		t.Fatal(err)
	}
	of := func(n int, models []Score, levels ...float64) error {
		_, err := Explain(context.Background(), g, models, gpu.CPU().Empty64(n, 2, 2), ExplainOptions{Sigmas: levels})
		return err
	}
	self := []Score{{"self", g}}
	for want, err := range map[string]error{
		"1 images to compare":  of(1, self, 1),
		"0 models at 1 levels": of(2, nil, 1),
		"1 models at 0 levels": of(2, self),
		"level 0; wanted":      of(2, self, 0),
		"level NaN; wanted":    of(2, self, math.NaN()),
		"level +Inf; wanted":   of(2, self, math.Inf(1)),
		"NaN or an infinity":   second(Explain(context.Background(), broken{}, self, gpu.CPU().Empty64(2, 2, 2), ExplainOptions{Sigmas: []float64{1}})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if l, err := Levels(80, 0.01, 5); err != nil || len(l) != 5 || l[0] != 80 || l[4] != 0.01 {
		t.Errorf("levels %v, %v", l, err)
	}
}

func second(_ []Share, err error) error { return err }

// broken denoises to NaN.
type broken struct{}

func (broken) Denoise(_ context.Context, out, _ *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	for i := range out.F64() {
		out.F64()[i] = math.NaN()
	}
	return nil
}
