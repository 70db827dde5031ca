package bases

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
)

// The distance of pictures from the scenes that they were is 0 of the scenes themselves, that of package fid of others, and grows with noise.
func TestShapesDistance(t *testing.T) {
	task := tinyCodecs()[0]
	c, err := newCodec(gpu.CPU(), task.Name, task.recipe)
	if err != nil {
		t.Fatal(err)
	}
	set := &scenes{set: shapes.New(data.DefaultSeed)}
	for i := range 150 {
		set.held = append(set.held, set.set.At(data.Val, i))
	}
	trial, err := newShapesTrial(c, set)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"held_out", "psnr", "scenes", "frechet"}; !slices.Equal(trial.names(), want) {
		t.Fatalf("scores %q, want %q", trial.names(), want)
	}
	noisy := func(by float64) (out []*imageio.Image) {
		for i, it := range set.held {
			m, z := it.Image(), oracle.Normal(uint64(i), 3*32*32)
			for k, v := range m.Pix {
				m.Pix[k] = uint8(math.Round(min(max(float64(v)+by*float64(z[k]), 0), 255)))
			}
			out = append(out, m)
		}
		return out
	}
	before := -1.0
	for _, by := range []float64{0, 8, 24} {
		pictures := noisy(by)
		got, err := trial.distance(t.Context(), pictures)
		if err != nil {
			t.Fatal(err)
		}
		v, err := FeaturesOf(t.Context(), trial.encoder, len(pictures), func(i int) *imageio.Image { return pictures[i] })
		if err != nil {
			t.Fatal(err)
		}
		want, err := fid.Frechet(momentsOf(trial.real, 64), momentsOf(v, 64))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("noise of %g levels: %.4g", by, got)
		if d := math.Abs(got - want.Value); d > 1e-6*(1+want.Value) {
			t.Errorf("noise of %g levels: distance %.9g, of package fid %.9g", by, got, want.Value)
		}
		if by == 0 && got > 1e-6 || !(got > before) {
			t.Errorf("noise of %g levels: distance %.4g after %.4g; want 0 without noise, and more with more", by, got, before)
		}
		before = got
	}
}

// momentsOf are mean and covariance of vectors of d values, in float64.
func momentsOf(v []float32, d int) *fid.Stats {
	n := len(v) / d
	s := &fid.Stats{N: n, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
	for i, x := range v {
		s.Mu[i%d] += float64(x) / float64(n)
	}
	for r := range n {
		for i := range d {
			for j := range d {
				s.Sigma[i*d+j] += (float64(v[r*d+i]) - s.Mu[i]) * (float64(v[r*d+j]) - s.Mu[j]) / float64(n-1)
			}
		}
	}
	return s
}
