package search_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
)

// toySpec is a mixture of 3 components in 6 dimensions, with correlations.
func toySpec() sampler.MixtureSpec {
	r := rand.New(rand.NewPCG(11, 12))
	s := sampler.MixtureSpec{Weights: []float64{0.5, 0.3, 0.2}}
	for range s.Weights {
		mu, root, cov := make([]float64, 6), make([][]float64, 6), make([][]float64, 6)
		for i := range mu {
			mu[i] = 0.8 * r.NormFloat64()
			root[i] = make([]float64, 6)
			for j := range root[i] {
				root[i][j] = 0.15 * r.NormFloat64()
			}
		}
		for i := range cov {
			cov[i] = make([]float64, 6)
			for j := range cov[i] {
				for l := range 6 {
					cov[i][j] += root[i][l] * root[j][l]
				}
			}
			cov[i][i] += 1e-3
		}
		s.Means, s.Covs = append(s.Means, mu), append(s.Covs, cov)
	}
	return s
}

// toyReference is the mean and the covariance of toySpec, in closed form.
func toyReference(t testing.TB) *fid.Reference {
	t.Helper()
	s := toySpec()
	mean, _ := s.Moments()
	sigma := make([]float64, 36)
	for k, w := range s.Weights {
		for i := range 6 {
			for j := range 6 {
				sigma[6*i+j] += w * (s.Covs[k][i][j] + (s.Means[k][i]-mean[i])*(s.Means[k][j]-mean[j]))
			}
		}
	}
	ref, err := fid.NewReference(&fid.Stats{Mu: mean, Sigma: sigma})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func levels(t testing.TB, path string, T int) *search.Levels {
	t.Helper()
	p, err := diffusion.PathByName(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := search.NewLevels(p, T)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func toyImages(t testing.TB, n int) *search.Images {
	t.Helper()
	den, err := sampler.NewBlockMixture(toySpec(), 3)
	if err != nil {
		t.Fatal(err)
	}
	return &search.Images{
		Den: den, Solver: sampler.DDIM{}, Levels: levels(t, "vp", 0), Ref: toyReference(t),
		Run: sampler.Options{N: n, Seed: 1, Shape: []int{6}},
	}
}

func distance(t testing.TB, m *search.Images, c search.Choice) float64 {
	t.Helper()
	v, err := m.Fitness(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A plan of all T levels is the unrespaced sampler, bit for bit, with noise in its
// steps and without, on every device.
func TestAllLevelsAreTheWholeSampler(t *testing.T) {
	const T = 40
	vp, err := diffusion.NewVP(diffusion.LinearBetas(T, 1e-3, 0.3))
	if err != nil {
		t.Fatal(err)
	}
	l, err := search.NewLevels(vp, T)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int, T)
	for i := range all {
		all[i] = i
	}
	plan, err := l.Grid(all)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := diffusion.Build(vp, diffusion.Spec{Rule: "linspace", Steps: T})
	if err != nil {
		t.Fatal(err)
	}
	den, err := sampler.NewMixture(toySpec())
	if err != nil {
		t.Fatal(err)
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, s := range []sampler.Solver{sampler.DDIM{}, sampler.DDIM{Eta: 1}, sampler.DDPM{}} {
			var x [2]*gpu.Tensor
			for i, g := range []*diffusion.Grid{plan, whole} {
				r, err := sampler.Run(context.Background(), den, s, g, sampler.Options{N: 9, Seed: 5, Shape: []int{6}, Device: dev})
				if err != nil {
					t.Fatal(err)
				}
				x[i] = r.X.To(gpu.CPU())
			}
			if !slices.Equal(x[0].F32(), x[1].F32()) {
				t.Errorf("%s: a plan of all levels differs from the whole sampler", s.Name())
			}
		}
	})
}

// respaced is DDPM, or DDIM, as it is written for a table of betas, in float64:
// the network at index i of the short table is told times[i].
func respaced(x []float64, betas []float64, times []int, long []float64, ddpm bool, d func(x []float64, abar float64) []float64, z func(i int) []float64) {
	abars := []float64{}
	abar := 1.0
	for _, b := range betas {
		abar *= 1 - b
		abars = append(abars, abar)
	}
	for i := len(betas) - 1; i >= 0; i-- {
		before := 1.0
		if i > 0 {
			before = abars[i-1]
		}
		x0 := d(x, long[times[i]]) // the network sees the long table's level of its time
		noise := z(i)
		for j := range x {
			if !ddpm {
				eps := (x[j] - math.Sqrt(abars[i])*x0[j]) / math.Sqrt(1-abars[i])
				x[j] = math.Sqrt(before)*x0[j] + math.Sqrt(1-before)*eps
				continue
			}
			mean := math.Sqrt(before)*betas[i]/(1-abars[i])*x0[j] + math.Sqrt(1-betas[i])*(1-before)/(1-abars[i])*x[j]
			x[j] = mean + math.Sqrt((1-before)/(1-abars[i])*betas[i])*noise[j]
		}
	}
}

// A plan's samples are those of the respaced betas, by the formulas that are
// written with betas. The naive respacing, which takes the long table's betas at
// the chosen times, comes to other samples; with all levels it would pass.
func TestPlanIsTheRespacedSampler(t *testing.T) {
	betas := diffusion.LinearBetas(1000, 1e-4, 0.02)
	vp, err := diffusion.NewVP(betas)
	if err != nil {
		t.Fatal(err)
	}
	l, err := search.NewLevels(vp, 0)
	if err != nil {
		t.Fatal(err)
	}
	times := []int{20, 151, 253, 400, 720}
	good, err := vp.Respace(times)
	if err != nil {
		t.Fatal(err)
	}
	naive, long := []float64{}, make([]float64, 1000)
	for _, at := range times {
		naive = append(naive, betas[at])
	}
	abar := 1.0
	for i, b := range betas {
		abar *= 1 - b
		long[i] = abar
	}
	den, err := sampler.NewMixture(toySpec())
	if err != nil {
		t.Fatal(err)
	}
	d := func(x []float64, abar float64) []float64 {
		in := gpu.CPU().From64(x, 1, 6)
		out := in.Like()
		if err := den.DenoiseAt(context.Background(), out, in, []diffusion.Point{{A: math.Sqrt(abar), B: math.Sqrt(1 - abar)}}, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		return out.F64()
	}
	g, err := l.Grid(times)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.Steps {
		if s.From.T != math.Trunc(s.From.T) {
			t.Errorf("a network is told time %g", s.From.T)
		}
	}
	noise := make([][]float64, len(times))
	r := rng.New(3, 3)
	for i := range noise {
		noise[i] = make([]float64, 6)
		r.FillNormal64(noise[i])
	}
	start := make([]float64, 6)
	r.FillNormal64(start)
	for _, ddpm := range []bool{false, true} {
		var s sampler.Solver = sampler.DDIM{}
		if ddpm {
			s = sampler.DDPM{}
		}
		res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{
			N: 1, Shape: []int{6}, Double: true, State: gpu.CPU().From64(start, 1, 6),
			StepNoise: func(_, step int, z *gpu.Tensor) { copy(z.F64(), noise[len(times)-1-step]) },
		})
		if err != nil {
			t.Fatal(err)
		}
		off := func(betas []float64) (far float64) {
			x := slices.Clone(start)
			respaced(x, betas, times, long, ddpm, d, func(i int) []float64 { return noise[i] })
			for j, v := range x {
				far = max(far, math.Abs(v-res.X.F64()[j]))
			}
			return far
		}
		if far := off(good); far > 1e-11 {
			t.Errorf("%s: off the respaced betas' samples by %.3g", s.Name(), far)
		}
		if far := off(naive); !(far > 1e-2) {
			t.Errorf("%s: the long table's betas give the same samples within %.3g", s.Name(), far)
		}
	}
}

// The fitness is fid's distance of what Run draws, the same at every call, batch
// size and number of calls at once.
func TestFitnessIsTheDistance(t *testing.T) {
	c := search.Choice{Steps: []int{60, 150, 250, 400}}
	m := toyImages(t, 100)
	g, err := m.Levels.Grid(c.Steps)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sampler.Run(context.Background(), m.Den, m.Solver, g, sampler.Options{N: 100, Seed: 1, Shape: []int{6}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := fid.FromFeatures(r.X.F32(), 100, 6)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fid.Frechet(m.Ref.Stats(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range []int{0, 7, 100} {
		m := toyImages(t, 100)
		m.Run.Batch = batch
		var wg sync.WaitGroup
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if got, err := m.Fitness(context.Background(), c); err != nil || got != want.Value {
					t.Errorf("batches of %d: %v, %v; want %v", batch, got, err, want.Value)
				}
			}()
		}
		wg.Wait()
	}
	m.Features = func(_ context.Context, first int, x *gpu.Tensor, dst []float32) ([]float32, error) {
		for i := range x.Shape()[0] {
			dst = append(dst, x.F32()[6*i:6*i+2]...)
		}
		return dst, nil
	}
	if _, err := m.Fitness(context.Background(), c); err == nil || !strings.Contains(err.Error(), "6 features, the generated set 2") {
		t.Errorf("features of another width: %v", err)
	}
}

// With one noise for all, the difference of two plans is far less noisy than with
// fresh noise for each, as the published search has it.
func TestCommonNoise(t *testing.T) {
	a, b := search.Choice{Steps: []int{60, 150, 250, 400}}, search.Choice{Steps: []int{60, 150, 250, 410}}
	spread := func(second uint64) float64 {
		var sum, squares float64
		const seeds = 12
		for seed := range uint64(seeds) {
			m, o := toyImages(t, 100), toyImages(t, 100)
			m.Run.Seed, o.Run.Seed = seed, seed+second
			d := distance(t, m, a) - distance(t, o, b)
			sum, squares = sum+d/seeds, squares+d*d/seeds
		}
		return math.Sqrt(squares - sum*sum)
	}
	if common, fresh := spread(0), spread(1000); common > fresh/5 {
		t.Errorf("the difference of two plans varies by %.3g with common noise, by %.3g with fresh noise", common, fresh)
	}
}

// Few samples raise a distance: measured at other numbers the worse of two plans
// looks better. All that a search compares is of one number.
func TestSmallSamplesRaiseTheDistance(t *testing.T) {
	good, worse := search.Choice{Steps: []int{20, 80, 150, 250, 400}}, search.Choice{Steps: []int{0, 200, 400, 600, 800}}
	at := func(c search.Choice, n int) float64 { return distance(t, toyImages(t, n), c) }
	if !(at(good, 24) < at(worse, 24) && at(good, 3000) < at(worse, 3000)) {
		t.Fatalf("at 24: %.3g and %.3g; at 3000: %.3g and %.3g: the plans are not in order", at(good, 24), at(worse, 24), at(good, 3000), at(worse, 3000))
	}
	if naive := at(good, 24) < at(worse, 3000); naive {
		t.Error("24 samples of the better plan look no worse than 3000 of the worse one: the trap is not there")
	}
}

// What a winner is reported by has noise that the search has not seen.
func TestHeldNoise(t *testing.T) {
	m := toyImages(t, 50)
	if _, err := m.Held(1, 200); err == nil || !strings.Contains(err.Error(), "seed 1 is that of the search") {
		t.Errorf("the search's own seed: %v", err)
	}
	var asked []int
	m.Cond = func(n int) sampler.Cond {
		asked = append(asked, n)
		return sampler.Cond{Classes: make([]int, n)}
	}
	spec := toySpec()
	spec.Labels = []int{0, 0, 0}
	den, err := sampler.NewMixture(spec)
	if err != nil {
		t.Fatal(err)
	}
	m.Den = den
	h, err := m.Held(2, 80)
	if err != nil || h.Run.N != 80 || h.Run.Seed != 2 {
		t.Fatalf("%+v, %v", h.Run, err)
	}
	c := search.Choice{Steps: []int{60, 400}}
	if distance(t, m, c) == distance(t, h, c) || !slices.Equal(asked, []int{50, 80}) {
		t.Errorf("the two have one distance, or conditions of %v samples", asked)
	}
	m.Run.Cond = sampler.Cond{Classes: make([]int, 50)}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "a condition is given for 50 samples") {
		t.Errorf("a condition of 50 images: %v", err)
	}
}

// deaf ignores what it is told to leave out.
type deaf struct{ *sampler.BlockMixture }

func (d deaf) Without(_ []int, ran *atomic.Int64) (sampler.Denoiser, error) {
	return d.BlockMixture.Without(nil, ran)
}

// opaque is a denoiser without layers, as a network in an ONNX file is.
type opaque struct{ sampler.Denoiser }

// Layers are left out in the step that the choice says, the counter sees it, and
// networks that ignore their skips, or have no layers, are refused.
func TestSkipsReachTheNetwork(t *testing.T) {
	m := toyImages(t, 200)
	steps := []int{60, 150, 250, 400}
	all := distance(t, m, search.Choice{Steps: steps})
	if none := distance(t, m, search.Choice{Steps: steps, Skips: make([][]int, 4)}); none != all {
		t.Errorf("empty lists of layers change the distance from %g to %g", all, none)
	}
	// At much noise a mixture is all but normal, so that nothing is lost there; in
	// the middle much is.
	far := []int{250, 600, 999}
	whole := distance(t, m, search.Choice{Steps: far})
	noisy := distance(t, m, search.Choice{Steps: far, Skips: [][]int{{}, {}, {0, 1, 2}}})
	late := distance(t, m, search.Choice{Steps: far, Skips: [][]int{{0, 1, 2}, {}, {}}})
	if change := math.Abs(noisy/whole - 1); change > 0.02 || noisy == whole || late < 1.2*whole {
		t.Errorf("all layers %.5g, none in the noisiest step %.5g, none in the last step %.5g", whole, noisy, late)
	}
	c := search.Choice{Steps: steps, Skips: [][]int{{1}, {}, {}, {0}}}
	m.Den = deaf{m.Den.(*sampler.BlockMixture)}
	if _, err := m.Fitness(context.Background(), c); err == nil || !strings.Contains(err.Error(), "ran 2400 layers, where those that are left out leave 2000") {
		t.Errorf("a network that ignores its skips: %v", err)
	}
	m.Den = opaque{m.Den}
	if _, err := m.Fitness(context.Background(), c); err == nil || !strings.Contains(err.Error(), "opaque, as networks in ONNX files are") {
		t.Errorf("a network without layers: %v", err)
	}
}

// broken returns an infinity below a noise level.
type broken struct{ sampler.Denoiser }

func (b broken) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	err := b.Denoiser.Denoise(ctx, out, x, sigma, c)
	if sigma[0] < 0.3 {
		out.F32()[0] = float32(math.Inf(1))
	}
	return err
}

func TestImagesRefused(t *testing.T) {
	m := toyImages(t, 50)
	m.Den = broken{m.Den}
	var unfit *search.UnfitError
	if _, err := m.Fitness(context.Background(), search.Choice{Steps: []int{0, 300}}); !errors.As(err, &unfit) {
		t.Errorf("a plan that overflows: %v; wanted one that cannot be measured", err)
	}
	if _, err := m.Fitness(context.Background(), search.Choice{Steps: []int{300, 500}}); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(m *search.Images){
		"1 samples for a distance":   func(m *search.Images) { m.Run.N = 1 },
		"a fitness needs a denoiser": func(m *search.Images) { m.Ref = nil },
		"leave out noise":            func(m *search.Images) { m.Run.Noise = gpu.CPU().Empty(50, 6) },
		"images of 5 values":         func(m *search.Images) { m.Run.Shape = []int{5} },
		"no wrapper": func(m *search.Images) {
			m.Wrap = func(sampler.Denoiser) (sampler.Denoiser, error) { return nil, errors.New("no wrapper") }
		},
	} {
		m := toyImages(t, 50)
		change(m)
		if _, err := m.Fitness(context.Background(), search.Choice{Steps: []int{300, 500}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, steps := range map[string][]int{
		"level 1000; wanted 0 to 999": {5, 1000}, "level -1;": {-1, 4}, "level 7 is visited twice": {7, 7}, "level 3 follows 7": {7, 3}, "0 steps": {},
	} {
		if _, err := toyImages(t, 50).Fitness(context.Background(), search.Choice{Steps: steps}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", steps, err, want)
		}
	}
}

// Levels of paths without a table spread over the path's own time, end noisy, and
// have hashes of their own.
func TestLevels(t *testing.T) {
	hashes := map[string]string{}
	for _, name := range []string{"vp", "vp-cosine", "vp-zt", "vp-sde", "edm", "flow", "flow-reversed", "trigflow"} {
		l := levels(t, name, 0)
		all := make([]int, l.Len())
		for i := range all {
			all[i] = i
		}
		g, err := l.Grid(all)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := diffusion.PathByName(name)
		if err != nil {
			t.Fatal(err)
		}
		most, _ := p.Range()
		if first := g.Steps[0].From; l.Len() != 1000 || len(g.Steps) != 1000 || first.T != most {
			t.Errorf("%s: %d levels in %d steps from time %g; want 1000 from %g", name, l.Len(), len(g.Steps), first.T, most)
		}
		if other := hashes[l.Hash()]; other != "" {
			t.Errorf("%s and %s have one hash", name, other)
		}
		hashes[l.Hash()] = name
	}
	flow := levels(t, "flow", 4)
	if got := flow.Times([]int{0, 1, 2, 3}); !slices.Equal(got, []float64{0.25, 0.5, 0.75, 1}) {
		t.Errorf("flow: times %v", got)
	}
	for want, f := range map[string]func() (*search.Levels, error){
		"500 levels of a table of 1000 times": func() (*search.Levels, error) { return search.NewLevels(levels(t, "vp", 0).Path, 500) },
		"1 levels; wanted at least 2":         func() (*search.Levels, error) { return search.NewLevels(diffusion.Flow{}, 1) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
