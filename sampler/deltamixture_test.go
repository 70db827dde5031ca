package sampler_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// pictureSet is N images of D values about an offset, of classes 0, 1 and 2.
func pictureSet(n, d int, offset float64) (images []float32, labels []int) {
	r := rand.New(rand.NewPCG(11, uint64(n)))
	for i := range n {
		labels = append(labels, i%3)
		for range d {
			images = append(images, float32(offset+float64(i%3)+0.5*r.NormFloat64()))
		}
	}
	return images, labels
}

// posteriorMean is Σ w_i·y_i/Σ w_i by the definition, with ln w_i of the distance
// d2 of x/a from y_i.
func posteriorMean(x []float64, a float64, images []float32, allowed func(i int) bool, lnw func(d2 float64) float64) []float64 {
	D := len(x)
	out, top, sum := make([]float64, D), math.Inf(-1), 0.0
	logs := make([]float64, len(images)/D)
	for i := range logs {
		if logs[i] = math.Inf(-1); !allowed(i) {
			continue
		}
		var d2 float64
		for j := range x {
			e := x[j]/a - float64(images[i*D+j])
			d2 += e * e
		}
		logs[i] = lnw(d2)
		top = max(top, logs[i])
	}
	for i := range logs {
		sum += math.Exp(logs[i] - top)
	}
	for i := range logs {
		for j := range out {
			out[j] += math.Exp(logs[i]-top) / sum * float64(images[i*D+j])
		}
	}
	return out
}

// Every kernel, at any level, scaling, class and dtype, gives the posterior mean.
func TestDeltaMixtureIsExact(t *testing.T) {
	const D = 6
	for _, N := range []int{1, 127, 128, 700, 5000} {
		images, labels := pictureSet(N, D, 10)
		for _, k := range []struct {
			noise diffusion.Noise
			lnw   func(d2, sigma float64) float64
		}{
			{nil, func(d2, s float64) float64 { return -d2 / (2 * s * s) }},
			{diffusion.PFGMPP{N: D, D: 1}, func(d2, s float64) float64 { return -(D + 1.) / 2 * math.Log(d2+s*s) }},
			{diffusion.PFGMPP{N: D, D: 64}, func(d2, s float64) float64 { return -(D + 64.) / 2 * math.Log(d2+s*s*64) }},
			{diffusion.PFGMPP{N: D, D: math.Inf(1)}, func(d2, s float64) float64 { return -d2 / (2 * s * s) }},
		} {
			m, err := sampler.NewDeltaMixture(images, []int{2, 3}, labels, k.noise)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(uint64(N), 3))
			var at []diffusion.Point
			var classes []int
			x := gpu.CPU().Empty64(45, 2, 3)
			for i := range 45 {
				space := []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace}[i%3]
				sigma := []float64{1e-3, 0.05, 0.3, 2, 80}[i%5]
				a, b := space.Scale(sigma)
				at = append(at, diffusion.Point{A: a, B: b})
				classes = append(classes, min(i%4, N-1)-1)
				from := r.IntN(N)
				for j := range D {
					x.F64()[i*D+j] = a*float64(images[from*D+j]) + b*r.NormFloat64()
				}
			}
			out := x.Like()
			if err := m.DenoiseAt(context.Background(), out, x, at, sampler.Cond{Classes: classes}); err != nil {
				t.Fatal(err)
			}
			for i, p := range at {
				want := posteriorMean(x.F64()[i*D:(i+1)*D], p.A, images, func(k int) bool { return classes[i] < 0 || labels[k] == classes[i] },
					func(d2 float64) float64 { return k.lnw(d2, p.Sigma()) })
				for j, w := range want {
					// ln w is a difference of squares of at most |x/a - mean|² and rounded so, over sigma².
					norm := (2 + 9*p.Sigma()*p.Sigma()) * D
					tol := 1e-13*10 + 40*0x1p-53*norm/(p.Sigma()*p.Sigma())
					if got := out.F64()[i*D+j]; !(math.Abs(got-w) <= tol) {
						t.Errorf("N %d, %+v, sigma %g, class %d: value %d is %.15g, want %.15g", N, k.noise, p.Sigma(), classes[i], j, got, w)
					}
				}
			}
		}
	}
}

// With many added dimensions PFGM++'s denoiser is the Gaussian one, at sigma =
// r/√D; with one it points along the field of charges on the images.
func TestDeltaMixturePFGMPPEnds(t *testing.T) {
	const N, D = 400, 5
	images, _ := pictureSet(N, D, 0)
	make1 := func(noise diffusion.Noise) *sampler.DeltaMixture {
		m, err := sampler.NewDeltaMixture(images, []int{D}, nil, noise)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r := rand.New(rand.NewPCG(5, 6))
	x, sigmas := gpu.CPU().Empty64(100, D), make([]float64, 100)
	for i := range sigmas {
		sigmas[i] = math.Exp(1.5 * r.NormFloat64())
		for j := range D {
			x.F64()[i*D+j] = sigmas[i]*r.NormFloat64() + 1
		}
	}
	ask := func(m *sampler.DeltaMixture) []float64 {
		out := x.Like()
		if err := m.Denoise(context.Background(), out, x, sigmas, sampler.Cond{}); err != nil {
			t.Fatal(err)
		}
		return out.F64()
	}
	gauss, far, one := ask(make1(nil)), ask(make1(diffusion.PFGMPP{N: D, D: 1e8})), ask(make1(diffusion.PFGMPP{N: D, D: 1}))
	for i, g := range gauss {
		if math.Abs(far[i]-g) > 1e-5 {
			t.Errorf("value %d: %.9g with 1e8 dimensions, %.9g with Gaussian noise", i, far[i], g)
		}
	}
	for b := range sigmas {
		// The field at (x, r) in one more dimension: Σ (x-y, r)/(|x-y|²+r²)^((D+1)/2).
		var field [D + 1]float64
		r := sigmas[b]
		for i := range N {
			d2 := r * r
			for j := range D {
				e := x.F64()[b*D+j] - float64(images[i*D+j])
				d2 += e * e
			}
			w := math.Pow(d2, -(D+1.)/2)
			for j := range D {
				field[j] += w * (x.F64()[b*D+j] - float64(images[i*D+j]))
			}
			field[D] += w * r
		}
		for j := range D { // dx/dr = E_x/E_r = (x - D)/r
			want := x.F64()[b*D+j] - r*field[j]/field[D]
			if got := one[b*D+j]; math.Abs(got-want) > 1e-10*(1+math.Abs(x.F64()[b*D+j])) {
				t.Errorf("image %d, value %d: %.12g, want %.12g along the field", b, j, got, want)
			}
		}
	}
}

// The ends: without noise the state is the answer, pure noise gives the mean of
// the set or the class; images do not depend on batches, nor on the dtype of
// states beyond its rounding; sampling ends on images of the set.
func TestDeltaMixtureEnds(t *testing.T) {
	const N, D = 300, 4
	images, labels := pictureSet(N, D, -3)
	m, err := sampler.NewDeltaMixture(images, []int{D}, labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := gpu.CPU().From64([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 3, D)
	out := x.Like()
	at := []diffusion.Point{{A: 0.5, B: 0}, {A: 0, B: 1}, {A: 0, B: 1}}
	if err := m.DenoiseAt(context.Background(), out, x, at, sampler.Cond{Classes: []int{0, -1, 2}}); err != nil {
		t.Fatal(err)
	}
	for j := range D {
		var all, two float64
		for i := range N {
			all += float64(images[i*D+j]) / N
			if labels[i] == 2 {
				two += float64(images[i*D+j]) / (N / 3)
			}
		}
		for b, want := range []float64{2 * x.F64()[j], all, two} {
			if got := out.F64()[b*D+j]; math.Abs(got-want) > 1e-13*20 {
				t.Errorf("%+v, value %d: %.15g, want %.15g", at[b], j, got, want)
			}
		}
	}
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 18})
	opt := sampler.Options{Seed: 2, N: 40, Batch: 40, Shape: []int{D}}
	whole := bits(t, m, "heun", g, opt)
	opt.Batch = 7
	if !slices.Equal(bits(t, m, "heun", g, opt), whole) {
		t.Error("batches of 7 give other bits")
	}
	res, err := sampler.Run(context.Background(), m, solver(t, "heun"), g, opt)
	if err != nil {
		t.Fatal(err)
	}
	for b := range opt.N {
		nearest := math.Inf(1)
		for i := range N {
			var d2 float64
			for j := range D {
				e := float64(res.X.F32()[b*D+j] - images[i*D+j])
				d2 += e * e
			}
			nearest = min(nearest, d2)
		}
		if nearest > 1e-6 { // the grid's last level is 0.002
			t.Errorf("sample %d is %.3g from the nearest image", b, math.Sqrt(nearest))
		}
	}
}

func TestDeltaMixtureRefuses(t *testing.T) {
	ok := []float32{1, 2, 3, 4, 5, 6}
	for want, f := range map[string]func() (*sampler.DeltaMixture, error){
		"0 values in images":    func() (*sampler.DeltaMixture, error) { return sampler.NewDeltaMixture(nil, []int{2}, nil, nil) },
		"wanted a whole number": func() (*sampler.DeltaMixture, error) { return sampler.NewDeltaMixture(ok, []int{4}, nil, nil) },
		"shape [-2 -3]":         func() (*sampler.DeltaMixture, error) { return sampler.NewDeltaMixture(ok, []int{-2, -3}, nil, nil) },
		"1 labels for 3 images": func() (*sampler.DeltaMixture, error) { return sampler.NewDeltaMixture(ok, []int{2}, []int{1}, nil) },
		"these have 2": func() (*sampler.DeltaMixture, error) {
			return sampler.NewDeltaMixture(ok, []int{2}, nil, diffusion.PFGMPP{N: 3, D: 1})
		},
		"value 1 of image 0 is NaN": func() (*sampler.DeltaMixture, error) {
			return sampler.NewDeltaMixture([]float32{1, float32(math.NaN())}, []int{2}, nil, nil)
		},
		"value 0 of image 1 is +Inf;": func() (*sampler.DeltaMixture, error) {
			return sampler.NewDeltaMixture([]float32{1, 2, float32(math.Inf(1)), 1}, []int{2}, nil, nil)
		},
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	m, err := sampler.NewDeltaMixture(ok, []int{2}, []int{4, 4, 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := gpu.CPU().Empty(1, 2)
	for want, err := range map[string]error{
		"image 0 wants class 3": m.Denoise(context.Background(), x.Like(), x, []float64{1}, sampler.Cond{Classes: []int{3}}),
		"images of 4 values":    m.Denoise(context.Background(), gpu.CPU().Empty(1, 4), gpu.CPU().Empty(1, 4), []float64{1}, sampler.Cond{}),
		"context canceled":      m.Denoise(canceled(), x.Like(), x, []float64{1}, sampler.Cond{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
