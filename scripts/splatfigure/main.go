// Command splatfigure makes docs/splatting.png: a picture, its fits with 50, 200 and
// 800 Gaussians, and under each fit the Gaussians' ellipses of one sigma.
package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

const (
	side  = 96  // of the picture
	zoom  = 2   // pixels of the figure for one of the picture
	gap   = 8   // between panels
	steps = 600 // of a fit
)

func main() {
	path := "docs/splatting.png"
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	if err := figure(path); err != nil {
		fmt.Fprintln(os.Stderr, "splatfigure:", err)
		os.Exit(1)
	}
}

func figure(path string) error {
	target := scenery()
	counts := []int{50, 200, 800}
	cell := side*zoom + gap
	fig := image.NewRGBA(image.Rect(0, 0, cell*(1+len(counts))+gap, 2*cell+gap))
	for i := range fig.Pix {
		fig.Pix[i] = 255
	}
	panel(fig, gap, gap, target)
	for i, n := range counts {
		drawn, p, err := fit(target, n)
		if err != nil {
			return err
		}
		at := gap + cell*(i+1)
		panel(fig, at, gap, drawn)
		ellipses(fig, at, gap+cell, p)
		fmt.Printf("%d Gaussians: %.1f dB after %d steps\n", n, decibel(drawn, target), steps)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(f, fig); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// scenery is a sun over hills and their reflection, [side, side, 3] in [0, 1].
func scenery() []float32 {
	var out []float32
	edge := func(d float64) float64 { return 1 / (1 + math.Exp(-90*d)) } // 1 where d > 0, soft
	for y := range side {
		for x := range side {
			u, v := (float64(x)+0.5)/side, (float64(y)+0.5)/side
			c := [3]float64{0.25 + 0.6*v, 0.45 + 0.25*v, 0.8 - 0.3*v}
			over := func(w float64, r, g, b float64) {
				for k, t := range [3]float64{r, g, b} {
					c[k] += w * (t - c[k])
				}
			}
			over(edge(0.13-math.Hypot(u-0.66, v-0.33)), 1, 0.9, 0.55)
			over(edge(v-0.55-0.10*math.Sin(7*u+0.5)), 0.35, 0.33, 0.5)
			over(edge(v-0.66-0.06*math.Sin(11*u+2)), 0.16, 0.3, 0.24)
			over(edge(v-0.8)*(0.6+0.4*math.Sin(60*v+3*math.Sin(9*u))), 0.45, 0.6, 0.75)
			out = append(out, float32(c[0]), float32(c[1]), float32(c[2]))
		}
	}
	return out
}

// fit fits n Gaussians by Adam (Kingma and Ba 2015) to raw variables: means by tanh, Cholesky factors.
func fit(target []float32, n int) ([]float32, ops.SplatParams, error) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	dev := gpu.CPU()
	mean, cov, feature := make([]float32, 2*n), make([]float32, 3*n), make([]float32, 3*n)
	sigma := float32(side / math.Sqrt(float64(n)) / 1.6)
	for i := range n {
		for k := range 2 {
			mean[2*i+k] = float32(math.Atanh(1.96*r.Float64() - 0.98))
		}
		cov[3*i], cov[3*i+2] = sigma-0.5, sigma-0.5
		for k := range 3 {
			feature[3*i+k] = 0.3 * r.Float32()
		}
	}
	p := ops.SplatParams{Mean: dev.From(mean, 1, n, 2), Cov: dev.From(cov, 1, n, 3), Feature: dev.From(feature, 1, n, 3)}
	cfg := ops.SplatConfig{RawMean: ops.SplatMeanTanh, RawCov: true}
	v := dev.Empty(1, side, side, 3)
	var moments [3][2][]float64
	for i, x := range [][]float32{mean, cov, feature} {
		moments[i] = [2][]float64{make([]float64, len(x)), make([]float64, len(x))}
	}
	for t := 1; ; t++ {
		drawn, aux, err := ops.SplatForward(cfg, p, side, side)
		if err != nil || t > steps {
			return drawn.F32(), p, err
		}
		for i, x := range drawn.F32() {
			v.F32()[i] = x - target[i]
		}
		g, err := ops.SplatBackward(aux, v, nil)
		if err != nil {
			return nil, p, err
		}
		rate := 0.5 * (1 + math.Cos(math.Pi*float64(t)/(steps+1)))
		for i, x := range []struct {
			value, gradient []float32
			rate            float64
		}{{mean, g.Mean.F32(), 0.01}, {cov, g.Cov.F32(), 0.15}, {feature, g.Feature.F32(), 0.03}} {
			m, s := moments[i][0], moments[i][1]
			for j, d := range x.gradient {
				m[j] += 0.1 * (float64(d) - m[j])
				s[j] += 0.01 * (float64(d)*float64(d) - s[j])
				up, down := m[j]/(1-math.Pow(0.9, float64(t))), s[j]/(1-math.Pow(0.99, float64(t)))
				x.value[j] -= float32(rate * x.rate * up / (math.Sqrt(down) + 1e-10))
			}
		}
		aux.Free()
	}
}

func decibel(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return -10 * math.Log10(sum/float64(len(a)))
}

// panel puts pixels [side, side, 3] at (x0, y0).
func panel(fig *image.RGBA, x0, y0 int, pixels []float32) {
	for y := range side * zoom {
		for x := range side * zoom {
			p := pixels[(y/zoom*side+x/zoom)*3:]
			level := func(f float32) uint8 { return uint8(255*max(0, min(1, f)) + 0.5) }
			fig.SetRGBA(x0+x, y0+y, color.RGBA{level(p[0]), level(p[1]), level(p[2]), 255})
		}
	}
}

// ellipses draws where every Gaussian is exp(-1/2), within the panel at (x0, y0).
func ellipses(fig *image.RGBA, x0, y0 int, p ops.SplatParams) {
	ink := color.RGBA{30, 60, 120, 255}
	mean, cov := p.Mean.F32(), p.Cov.F32()
	for i := range len(mean) / 2 {
		mx, my := (math.Tanh(float64(mean[2*i]))+1)*side/2, (math.Tanh(float64(mean[2*i+1]))+1)*side/2
		l11, l21, l22 := float64(cov[3*i])+0.5, float64(cov[3*i+1]), float64(cov[3*i+2])+0.5
		for t := range 400 {
			sin, cos := math.Sincos(2 * math.Pi * float64(t) / 400)
			x, y := int((mx+l11*cos)*zoom), int((my+l21*cos+l22*sin)*zoom)
			if x >= 0 && x < side*zoom && y >= 0 && y < side*zoom {
				fig.SetRGBA(x0+x, y0+y, ink)
			}
		}
	}
}
