package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// adam is one tensor under Adam (Kingma and Ba 2015) on the CPU.
type adam struct {
	x    []float32
	m, v []float64
	rate float64
}

func newAdam(x []float32, rate float64) *adam {
	return &adam{x, make([]float64, len(x)), make([]float64, len(x)), rate}
}

// step takes the t-th step, t from 1.
func (a *adam) step(t int, g []float32) {
	for i, d := range g {
		a.m[i] = 0.9*a.m[i] + 0.1*float64(d)
		a.v[i] = 0.99*a.v[i] + 0.01*float64(d)*float64(d)
		m, v := a.m[i]/(1-math.Pow(0.9, float64(t))), a.v[i]/(1-math.Pow(0.99, float64(t)))
		a.x[i] -= float32(a.rate * m / (math.Sqrt(v) + 1e-12))
	}
}

// picture is a disc with a soft edge over a gradient, with a stripe, [side, side, 3] in [0, 1].
func picture(side int) []float32 {
	var out []float32
	for y := range side {
		for x := range side {
			u, v := (float64(x)+0.5)/float64(side), (float64(y)+0.5)/float64(side)
			disc := 1 / (1 + math.Exp(60*(math.Hypot(u-0.45, v-0.55)-0.25)))
			stripe := 1 / (1 + math.Exp(80*(math.Abs(u+v-1.5)-0.08)))
			for k := range 3 {
				base := 0.3 + 0.4*[...]float64{u, v, 1 - u}[k]
				base += disc * ([...]float64{0.9, 0.3, 0.2}[k] - base)
				out = append(out, float32(base+stripe*([...]float64{0.1, 0.2, 0.8}[k]-base)))
			}
		}
	}
	return out
}

// fit fits n Gaussians to a picture and returns the peak signal-to-noise ratio in dB.
func fit(side, n, steps int, target []float32) (float64, error) {
	r := rand.New(rand.NewPCG(1, 2))
	dev := gpu.CPU()
	sigma := float32(side) / float32(math.Sqrt(float64(n))) / 1.5
	mean, cov, feature := make([]float32, 2*n), make([]float32, 3*n), make([]float32, 3*n)
	for i := range n {
		mean[2*i], mean[2*i+1] = r.Float32()*float32(side), r.Float32()*float32(side)
		cov[3*i], cov[3*i+2] = sigma, sigma
		for k := range 3 {
			feature[3*i+k] = 0.3 * r.Float32()
		}
	}
	p := ops.SplatParams{Mean: dev.From(mean, 1, n, 2), Cov: dev.From(cov, 1, n, 3), Feature: dev.From(feature, 1, n, 3)}
	a := []*adam{newAdam(mean, 0.1), newAdam(cov, 0.05), newAdam(feature, 0.02)}
	v := dev.Empty(1, side, side, 3)
	mse := 0.0
	for t := 1; t <= steps; t++ {
		image, aux, err := ops.SplatForward(ops.SplatConfig{}, p, side, side)
		if err != nil {
			return 0, err
		}
		mse = 0
		for i, x := range image.F32() {
			d := x - target[i]
			v.F32()[i] = 2 * d / float32(len(target))
			mse += float64(d) * float64(d) / float64(len(target))
		}
		g, err := ops.SplatBackward(aux, v, nil)
		if err != nil {
			return 0, err
		}
		for i, x := range []*gpu.Tensor{g.Mean, g.Cov, g.Feature} {
			a[i].step(t, x.F32())
		}
	}
	return -10 * math.Log10(mse), nil
}

func TestSplatFitsAPicture(t *testing.T) {
	db, err := fit(64, 200, 400, picture(64))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f dB", db)
	if !(db >= 28) {
		t.Errorf("%.1f dB after 400 steps, want >= 28", db)
	}
}

// A rasteriser in the field doubles the off-diagonal gradient of a Cholesky
// factor. A fit hardly notices; the comparison with the oracle must.
func TestSplatDoubledOffDiagonalIsSeen(t *testing.T) {
	s := newScene(3, sceneKind{support: "ellipse", size: 3, n: 5, c: 3, h: 20, w: 20})
	v, vc := s.upstream(t, 4)
	s.back(v, vc)
	_, aux, err := ops.SplatForward(s.config(), params(gpu.CPU(), s), s.h, s.w)
	if err != nil {
		t.Fatal(err)
	}
	g, err := ops.SplatBackward(aux, gpu.CPU().From(f32s(v), 1, s.h, s.w, s.c), nil)
	if err != nil {
		t.Fatal(err)
	}
	worst := func(cov []float32) (d float64) {
		for part := range 3 {
			scale, off := 0.0, 0.0
			for i := part; i < len(cov); i += 3 {
				scale, off = math.Max(scale, math.Abs(s.dCov[i])), math.Max(off, math.Abs(float64(cov[i])-s.dCov[i]))
			}
			d = math.Max(d, off/scale)
		}
		return d
	}
	wrong := append([]float32(nil), g.Cov.F32()...)
	for i := range s.n {
		// gb enters l11 as l21·gb and l21 as l11·gb; gc is known from l22's gradient.
		l11, l21, l22 := float32(s.cov[3*i]), float32(s.cov[3*i+1]), float32(s.cov[3*i+2])
		gb := (g.Cov.F32()[3*i+1] - l21*g.Cov.F32()[3*i+2]/l22) / l11
		wrong[3*i] += l21 * gb
		wrong[3*i+1] += l11 * gb
	}
	if right, off := worst(g.Cov.F32()), worst(wrong); !(right <= 1e-4) || !(off >= 1e-2) {
		t.Errorf("off by %g with the right gradient and by %g with the doubled one; want <= 1e-4 and >= 1e-2", right, off)
	}
}

// A single Gaussian finds a bright spot: draw it, compare, and go down the gradient.
func ExampleSplatForward() {
	const side = 32
	dev := gpu.CPU() // or a GPU: gpu.Open("cuda")
	spot := ops.SplatParams{
		Mean:    dev.From([]float32{20, 12}, 1, 1, 2), // one image of one Gaussian, in pixels
		Cov:     dev.From([]float32{3, 0, 3}, 1, 1, 3),
		Feature: dev.From([]float32{1}, 1, 1, 1),
	}
	target, _, err := ops.SplatForward(ops.SplatConfig{}, spot, side, side)
	if err != nil {
		fmt.Println(err)
		return
	}
	mean := []float32{16, 16}
	guess := spot
	guess.Mean = dev.From(mean, 1, 1, 2)
	for range 100 {
		image, aux, err := ops.SplatForward(ops.SplatConfig{}, guess, side, side)
		if err != nil {
			fmt.Println(err)
			return
		}
		diff := image.Like()
		ops.LinComb(diff, []float64{1, -1}, image, target)
		grads, err := ops.SplatBackward(aux, diff, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		for i, d := range grads.Mean.F32() {
			mean[i] -= 0.3 * d
		}
		aux.Free()
	}
	fmt.Printf("%.2f, %.2f\n", mean[0], mean[1])
	// Output: 20.00, 12.00
}
