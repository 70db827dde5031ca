package bases

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

func digits(t *testing.T) *Mixture {
	t.Helper()
	m, err := systems.Use[*Mixture](t.Context(), &systems.Env{}, DigitMixture)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The committed file is what its recipe makes of MNIST.
func TestDigitMixtureIsRebuilt(t *testing.T) {
	set, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := BuildDigitMixture(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	m := digits(t)
	kept := map[string][]float64{"weights": m.Spec.Weights, "image_mean": m.imageMean, "scale": {m.scale}}
	for k := range m.Spec.Means {
		kept["means"] = append(kept["means"], m.Spec.Means[k]...)
		for _, row := range m.Spec.Covs[k] {
			kept["covs"] = append(kept["covs"], row...)
		}
	}
	for _, row := range m.basis {
		kept["basis"] = append(kept["basis"], row...)
	}
	for _, e := range entries {
		got := e.Array.F64()
		if len(got) != len(kept[e.Name]) {
			t.Fatalf("%s has %d numbers, the file %d", e.Name, len(got), len(kept[e.Name]))
		}
		for i, v := range got {
			if math.Abs(v-kept[e.Name][i]) > 1e-6 { // the eigenvectors of another LAPACK differ by rounding
				t.Fatalf("%s[%d] is %g, in the file %g", e.Name, i, v, kept[e.Name][i])
			}
		}
	}
}

// The exact moments are those of many draws, within five standard errors, and the mean deviation is what was asked for.
func TestMomentsOfDraws(t *testing.T) {
	m := digits(t)
	const n = 20000
	x := m.Draws(1, n).F64()
	mean, cov := m.Moments()
	d, trace := m.Dims, 0.0
	for i := range d {
		trace += cov[i*d+i] - mixtureFloor
		var s float64
		for k := range n {
			s += x[k*d+i] / n
		}
		if math.Abs(s-mean[i]) > 5*math.Sqrt(cov[i*d+i]/n) {
			t.Errorf("mean[%d] of draws is %g, exactly %g", i, s, mean[i])
		}
		for j := range i + 1 {
			var s, s2 float64
			for k := range n {
				p := (x[k*d+i] - mean[i]) * (x[k*d+j] - mean[j])
				s += p / n
				s2 += p * p / n
			}
			if math.Abs(s-cov[i*d+j]) > 5*math.Sqrt((s2-s*s)/n) {
				t.Errorf("cov[%d,%d] of draws is %g, exactly %g", i, j, s, cov[i*d+j])
			}
		}
	}
	if dev := math.Sqrt(trace / float64(d)); math.Abs(dev-mixtureDev) > 1e-3 {
		t.Errorf("mean deviation %g", dev)
	}
	y := m.Draws(1, 10).F64()
	for i, v := range y {
		if v != x[i] {
			t.Fatal("draws depend on their number")
		}
	}
}

// The distance of exact draws is the floor; that of the exact flow's ends is
// about as far away, and six times the steps of another method end within 2e-4.
func TestFloorAndFine(t *testing.T) {
	m, env := digits(t), &systems.Env{}
	const n = 300
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 18})
	if err != nil {
		t.Fatal(err)
	}
	fine, err := m.Fine(t.Context(), env, g, 3, n)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Fine(t.Context(), env, g, 3, n)
	if err != nil || again != fine {
		t.Errorf("the fine solution was computed twice (%v)", err)
	}
	twice := &diffusion.Grid{Space: diffusion.VESpace}
	var levels []float64
	for i := range 301 {
		levels = append(levels, 80*math.Pow(fineEnd/80, float64(i)/300))
	}
	levels = append(levels, 0)
	for i := range len(levels) - 1 {
		twice.Steps = append(twice.Steps, diffusion.Step{From: diffusion.Point{T: levels[i], A: 1, B: levels[i]}, To: diffusion.Point{T: levels[i+1], A: 1, B: levels[i+1]}})
	}
	r, err := sampler.Run(t.Context(), m, sampler.Heun{}, twice, m.Options(3, n))
	if err != nil {
		t.Fatal(err)
	}
	if e := RMSE(fine, r.X); e > 2e-4 {
		t.Errorf("the exact ends are %g off those of Heun's method in 300 steps", e)
	}
	of := func(x *gpu.Tensor) float64 {
		v, err := m.Frechet(x)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	floor, exact := of(m.Draws(9, n)), of(fine)
	t.Logf("floor %.4f, exact flow %.4f", floor, exact)
	if exact > 1.3*floor || exact < floor/1.3 {
		t.Errorf("exact ends are at %g, draws at %g", exact, floor)
	}
	if _, err := m.Frechet(m.Draws(1, m.Dims)); err == nil {
		t.Error("as many samples as dimensions were compared")
	}
}

func TestPictures(t *testing.T) {
	m := digits(t)
	pics := m.Pictures(m.Draws(5, 32), 32)
	if len(pics) != 32 || pics[0].Width != 42 {
		t.Fatalf("%d pictures", len(pics))
	}
	if dir := t.ArtifactDir(); dir != "" {
		if err := imageio.WritePNG(dir+"/digits.png", imageio.Grid(pics, 8, 2)); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0, 0}}, Covs: [][][]float64{{{1, 0.5}, {0.5, 1}}}})
	if err != nil || plain.Pictures(plain.Draws(1, 2), 2) != nil {
		t.Errorf("%v", err)
	}
	if _, err := NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0, 0}}, Vars: []float64{1}}); err == nil {
		t.Error("a mixture without covariances was taken")
	}
}
