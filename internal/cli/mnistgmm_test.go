package cli

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/sampler"
)

func loadMNIST(t *testing.T, s mnist.Split, n int) *mnist.Set {
	t.Helper()
	set, err := mnist.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return &mnist.Set{Images: set.Images[:n], Labels: set.Labels[:n]}
}

// The field clipped to [0,1] is the picture, to the last bit.
func TestDigitFieldHoldsThePicture(t *testing.T) {
	set := loadMNIST(t, mnist.Test, 500)
	field := make([]float64, 28*28)
	for n, pix := range set.Images {
		digitField(field, pix)
		for i, v := range field {
			if g := uint8(min(max(v, 0), 1)*255 + 0.5); g != pix[i] && (pix[i] < fieldFull || g < fieldFull) {
				t.Fatalf("image %d, pixel %d: gray %d became %d (field %g)", n, i, pix[i], g, v)
			}
		}
	}
}

// Distances against all pairs.
func TestDistances(t *testing.T) {
	set := loadMNIST(t, mnist.Test, 5)
	for _, pix := range set.Images {
		var marks [28 * 28]uint8
		for i, p := range pix {
			marks[i] = fieldReach
			if p > 0 {
				marks[i] = 0
			}
		}
		want := make([]float64, len(marks))
		for i := range marks {
			best := float64(fieldReach)
			for j, p := range pix {
				if p > 0 {
					best = min(best, math.Hypot(float64(i%28-j%28), float64(i/28-j/28)))
				}
			}
			want[i] = best
		}
		for i, got := range distances(&marks) {
			if math.Abs(got-want[i]) > 1e-15*fieldReach {
				t.Fatalf("pixel %d: distance %v, want %v", i, got, want[i])
			}
		}
	}
}

func TestMixtureCache(t *testing.T) {
	set := loadMNIST(t, mnist.Train, 1500)
	really := func() (*sampler.MixtureSpec, error) {
		return fitMNISTGMM(context.Background(), set, sampler.FitOptions{Components: 2, Dims: 8, Iterations: 2, Pool: 5, Seed: 1}, nil)
	}
	spec, err := really()
	if err != nil {
		t.Fatal(err)
	}
	fits := 0
	fit := func() (*sampler.MixtureSpec, error) { fits++; return spec, nil }
	path := filepath.Join(t.TempDir(), "mnist-gmm.npz")
	var told []string
	tell := func(s string) { told = append(told, s) }
	first, err := keptMixture(path, tell, fit)
	if err != nil {
		t.Fatal(err)
	}
	same := func(s *sampler.MixtureSpec) bool {
		return slices.Equal(s.Weights, first.Weights) && slices.Equal(slices.Concat(s.Means...), slices.Concat(first.Means...)) &&
			slices.Equal(slices.Concat(slices.Concat(s.Covs...)...), slices.Concat(slices.Concat(first.Covs...)...)) &&
			slices.Equal(s.Labels, first.Labels) && slices.Equal(s.Shape, first.Shape) && slices.Equal(s.Subspace.Mean, first.Subspace.Mean) &&
			slices.Equal(slices.Concat(s.Subspace.Basis...), slices.Concat(first.Subspace.Basis...))
	}
	if again, err := keptMixture(path, tell, fit); err != nil || fits != 1 || len(told) != 1 || !same(again) {
		t.Fatalf("second use: %d fits, told %q, %v; want the same mixture from the cache", fits, told, err)
	}
	if refit, err := really(); err != nil || !same(refit) {
		t.Errorf("fitted twice, two mixtures (%v)", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fits = 0
	for what, damage := range map[string]func([]byte) []byte{
		"cut":      func(b []byte) []byte { return b[:len(b)/2] },
		"empty":    func([]byte) []byte { return nil },
		"text":     func([]byte) []byte { return []byte("not an archive") },
		"one byte": func(b []byte) []byte { b[len(b)/3] ^= 4; return b },
	} {
		fits, told = 0, nil
		if err := os.WriteFile(path, damage(slices.Clone(whole)), 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := keptMixture(path, tell, fit)
		if err != nil || fits != 1 || !same(got) || len(told) != 1 || !strings.Contains(told[0], "fitting again") {
			t.Errorf("%s: %d fits, told %q, %v", what, fits, told, err)
		}
		if b, err := os.ReadFile(path); err != nil || !slices.Equal(b, whole) {
			t.Errorf("%s: the file was not written again (%v)", what, err)
		}
	}
	// The zip's own checksums do not know the settings; the hash does.
	settings := mnistGMMFit
	defer func() { mnistGMMFit = settings }()
	mnistGMMFit.Seed++
	fits, told = 0, nil
	if _, err := keptMixture(path, tell, fit); err != nil || fits != 1 || !strings.Contains(strings.Join(told, " "), "its hash is") {
		t.Errorf("other settings: %d fits, told %q, %v", fits, told, err)
	}
	// A cache that cannot be written costs the next fit, not this one.
	fits, told = 0, nil
	if _, err := keptMixture(filepath.Join(t.TempDir(), "no", "such", "x.npz"), tell, fit); err != nil || fits != 1 || len(told) != 2 {
		t.Errorf("no folder: %d fits, told %q, %v", fits, told, err)
	}
}

// neighbour is the label of the nearest training image and the distance to it.
type neighbour struct {
	label    uint8
	distance float64
}

func nearest(set *mnist.Set, xs [][]uint8) []neighbour {
	const D = 28 * 28
	norm := func(v []float32) (s float32) {
		for _, e := range v {
			s += e * e
		}
		return s
	}
	flat := func(imgs [][]uint8) []float32 {
		out := make([]float32, 0, len(imgs)*D)
		for _, m := range imgs {
			for _, p := range m {
				out = append(out, float32(p)/255)
			}
		}
		return out
	}
	out := make([]neighbour, len(xs))
	for i := range out {
		out[i].distance = math.Inf(1)
	}
	q := flat(xs)
	const chunk = 2000
	dot := make([]float32, len(xs)*chunk)
	for lo := 0; lo < len(set.Images); lo += chunk {
		r := flat(set.Images[lo:min(lo+chunk, len(set.Images))])
		n := len(r) / D
		cpu.Gemm32(nil, false, true, len(xs), n, D, 1, q, D, r, D, 0, dot, n)
		rn := make([]float32, n)
		for j := range rn {
			rn[j] = norm(r[j*D : (j+1)*D])
		}
		for i := range xs {
			qi := norm(q[i*D : (i+1)*D])
			for j := range n {
				d := float64(qi + rn[j] - 2*dot[i*n+j])
				if d < out[i].distance {
					out[i] = neighbour{set.Labels[lo+j], d}
				}
			}
		}
	}
	for i := range out {
		out[i].distance = math.Sqrt(max(out[i].distance, 0))
	}
	return out
}

// Samples must be digits of the class asked for, and no copies: their distances
// to the nearest training image are no smaller than those of test images, at the
// 10 % quantile and the median. The mixture here is a smaller one, of a fifth of
// the data, which has more reason to copy. The whole model by the same measures
// (1,000 samples, 1,000 test images, 60,000 training images): quantiles 2.92 and
// 4.63 against 2.08 and 4.41 of test images; 948 samples of the right digit.
func TestMNISTGMMDrawsDigitsNotCopies(t *testing.T) {
	train := loadMNIST(t, mnist.Train, 12000)
	test := loadMNIST(t, mnist.Test, 200)
	spec, err := fitMNISTGMM(context.Background(), train, sampler.FitOptions{Components: 8, Dims: 80, Iterations: 5, PCAStride: 4, Pool: 30, Seed: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkDigits(t, spec, train, test, 200)
}

func checkDigits(t *testing.T, spec *sampler.MixtureSpec, train, test *mnist.Set, n int) {
	m, err := sampler.NewMixture(*spec)
	if err != nil {
		t.Fatal(err)
	}
	grid, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 10})
	if err != nil {
		t.Fatal(err)
	}
	classes := make([]int, n)
	for i := range classes {
		classes[i] = i % 10
	}
	res, err := sampler.Run(context.Background(), m, sampler.DPMMultistep{}, grid, sampler.Options{Seed: 3, N: n, Shape: m.Shape(), Cond: sampler.Cond{Classes: classes}})
	if err != nil {
		t.Fatal(err)
	}
	var drawn [][]uint8
	for i := range n {
		img := make([]uint8, 28*28)
		for j, v := range res.X.F32()[i*784 : (i+1)*784] {
			img[j] = uint8(min(max(v, 0), 1)*255 + 0.5)
		}
		drawn = append(drawn, img)
	}
	right := 0
	var ours, theirs []float64
	for i, nb := range nearest(train, drawn) {
		if int(nb.label) == classes[i] {
			right++
		}
		ours = append(ours, nb.distance)
	}
	for _, nb := range nearest(train, test.Images) {
		theirs = append(theirs, nb.distance)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	t.Logf("%d of %d samples are nearest to a training image of their class", right, n)
	if right < n*8/10 { // chance is a tenth; of the test images about 95 % are
		t.Errorf("%d of %d samples look like their digit to the nearest neighbour; want 80 %%", right, n)
	}
	for _, q := range []float64{0.1, 0.5} {
		a, b := ours[int(q*float64(n))], theirs[int(q*float64(len(theirs)))]
		t.Logf("distance to the nearest training image, quantile %g: samples %.3f, test images %.3f", q, a, b)
		if a < b {
			t.Errorf("quantile %g: samples are nearer to training images (%.3f) than test images are (%.3f)", q, a, b)
		}
	}
}
