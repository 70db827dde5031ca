package main

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// These are the checks that the encoder had to pass before it was used; they
// run on the shipped extractor, from pictures to distances. docs/encoders.md
// has the figures.

// encoder opens the shipped extractor once.
var encoder = sync.OnceValue(func() fid.Extractor {
	e, err := extract.Open("mnist", extract.Options{})
	if err != nil {
		panic(err)
	}
	return e
})

// half is how many images of each half of the training set the checks use.
const half = 10000

// prepared is what several checks need: the sets, and features of half the
// images of either half of a random order of train, and of the whole of test.
type prepared struct {
	train, test   *mnist.Set
	fa, fb, ftest []float32
}

var prepare = sync.OnceValues(func() (p prepared, err error) {
	if p.train, err = mnist.Load(mnist.Train); err != nil {
		return p, err
	}
	if p.test, err = mnist.Load(mnist.Test); err != nil {
		return p, err
	}
	order := rng.New(3, 0).Perm(len(p.train.Images))
	for _, c := range []struct {
		to   *[]float32
		imgs [][]uint8
	}{{&p.fa, pick(p.train, order[:half])}, {&p.fb, pick(p.train, order[len(order)/2:][:half])}, {&p.ftest, p.test.Images}} {
		if *c.to, err = features(c.imgs); err != nil {
			return p, err
		}
	}
	return p, nil
})

func ready(t *testing.T) prepared {
	t.Helper()
	p, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pick returns the images of the given indices.
func pick(s *mnist.Set, idx []int) [][]uint8 {
	out := make([][]uint8, len(idx))
	for i, k := range idx {
		out[i] = s.Images[k]
	}
	return out
}

// features are those of n grey pictures, [n,64].
func features(imgs [][]uint8) ([]float32, error) {
	e := encoder()
	b, d := e.Batch(), e.Info().Dim
	out := make([]float32, len(imgs)*d)
	errs := make([]error, (len(imgs)+b-1)/b)
	cpu.Each(len(errs), func(w *cpu.Worker, i int) {
		lo, hi := i*b, min((i+1)*b, len(imgs))
		var batch []*imageio.Image
		for _, g := range imgs[lo:hi] {
			im := &imageio.Image{Width: side, Height: side, Pix: make([]uint8, 3*len(g))}
			for k, v := range g {
				im.Pix[3*k], im.Pix[3*k+1], im.Pix[3*k+2] = v, v, v
			}
			batch = append(batch, im)
		}
		errs[i] = e.Features(w, batch, out[lo*d:hi*d])
	})
	return out, errors.Join(errs...)
}

// rows returns the given rows of f [n,64].
func rows(f []float32, idx []int) []float32 {
	var out []float32
	for _, i := range idx {
		out = append(out, f[i*dim:][:dim]...)
	}
	return out
}

func stats(t *testing.T, f []float32) *fid.Stats {
	t.Helper()
	s, err := fid.FromFeatures(f, len(f)/dim, dim)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func distance(t *testing.T, a, b *fid.Stats) float64 {
	t.Helper()
	d, err := fid.Frechet(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return d.Value
}

func TestEncoderAccuracy(t *testing.T) {
	p := ready(t)
	set, f := p.test, p.ftest
	right := 0
	for i, l := range set.Labels {
		z, err := extract.MNISTLogits(f[i*dim:][:dim])
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for k, v := range z {
			if v > z[best] {
				best = k
			}
		}
		if best == int(l) {
			right++
		}
	}
	acc := float64(right) / float64(len(set.Labels))
	t.Logf("%d of %d test images right: %.2f %%", right, len(set.Labels), 100*acc)
	if acc < 0.99 {
		t.Errorf("test accuracy %.4f; want at least 0.99", acc)
	}
}

// TestEncoderFloor: the encoder may not know its training images so well that
// unseen ones look different. The distance of test images from half of the
// training set is at most twice that between the two halves, at equal n. Halves
// and samples are drawn at random; both distances are means over five draws.
func TestEncoderFloor(t *testing.T) {
	p := ready(t)
	f := [3][]float32{p.fa, p.fb, p.ftest}
	for _, n := range []int{1000, 2000, 5000, 10000} {
		draws := 5
		if n == half {
			draws = 1 // there is only one
		}
		var floor, other float64
		for k := range draws {
			r := rng.New(3, 1+uint64(k))
			var s [3]*fid.Stats
			for i := range s {
				s[i] = stats(t, rows(f[i], r.Perm(half)[:n]))
			}
			floor += distance(t, s[0], s[1]) / float64(draws)
			other += distance(t, s[0], s[2]) / float64(draws)
		}
		t.Logf("n = %d: half against half %.4f, test against half %.4f, ratio %.2f", n, floor, other, other/floor)
		if other > 2*floor {
			t.Errorf("n = %d: FID(test, half) is %.2f times FID(half, half); want at most 2", n, other/floor)
		}
	}
}

// TestEncoderMonotone: a set that is worse in a known way is farther away, the
// farther the worse it is.
func TestEncoderMonotone(t *testing.T) {
	const n = 2000
	p := ready(t)
	ref := stats(t, p.fa)
	order := rng.New(4, 1).Perm(len(p.test.Images))
	base := pick(p.test, order[:n])

	check := func(name string, levels []float64, damaged func(level float64) ([]float32, error)) {
		t.Run(name, func(t *testing.T) {
			last := math.Inf(-1)
			for _, l := range levels {
				f, err := damaged(l)
				if err != nil {
					t.Fatal(err)
				}
				d := distance(t, ref, stats(t, f))
				t.Logf("%s %v: FID %.3f", name, l, d)
				if d <= last {
					t.Errorf("%s %v: FID %.4f is not above the %.4f of the level before", name, l, d, last)
				}
				last = d
			}
		})
	}
	check("noise", []float64{0, 0.05, 0.1, 0.2, 0.4, 0.8}, func(s float64) ([]float32, error) { return features(noisy(base, s)) })
	check("blur", []float64{0, 0.5, 0.75, 1, 1.5, 2.5}, func(s float64) ([]float32, error) { return features(blurred(base, s)) })
	check("dropped classes", []float64{0, 1, 2, 4, 6, 8}, func(k float64) ([]float32, error) {
		var keep []int
		for _, i := range order {
			if float64(p.test.Labels[i]) >= k && len(keep) < n-100 {
				keep = append(keep, i)
			}
		}
		return rows(p.ftest, keep), nil
	})
}

// noisy adds normal noise of standard deviation s (of the range 1), rounds and clips.
func noisy(imgs [][]uint8, s float64) [][]uint8 {
	out := make([][]uint8, len(imgs))
	for i, img := range imgs {
		r := rng.ForImage(5, uint64(i), rng.Init)
		out[i] = make([]uint8, len(img))
		for k, v := range img {
			out[i][k] = uint8(math.Round(min(max(float64(v)+255*s*r.Normal(), 0), 255)))
		}
	}
	return out
}

// blurred convolves with a Gaussian of standard deviation s pixels, edges repeated.
func blurred(imgs [][]uint8, s float64) [][]uint8 {
	if s == 0 {
		return imgs
	}
	radius := int(math.Ceil(3 * s))
	kernel, sum := make([]float64, 2*radius+1), 0.0
	for i := range kernel {
		kernel[i] = math.Exp(-float64((i-radius)*(i-radius)) / (2 * s * s))
		sum += kernel[i]
	}
	clamp := func(i int) int { return min(max(i, 0), side-1) }
	out := make([][]uint8, len(imgs))
	for k, img := range imgs {
		var rows, both [side * side]float64
		out[k] = make([]uint8, side*side)
		for y := range side {
			for x := range side {
				for i, w := range kernel {
					rows[y*side+x] += w / sum * float64(img[y*side+clamp(x+i-radius)])
				}
			}
		}
		for y := range side {
			for x := range side {
				for i, w := range kernel {
					both[y*side+x] += w / sum * rows[clamp(y+i-radius)*side+x]
				}
				out[k][y*side+x] = uint8(math.Round(both[y*side+x]))
			}
		}
	}
	return out
}
