package bases

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/data"
	motionset "github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/train"
)

// shippedRun opens the file of a name.
func shippedRun(t *testing.T, name string) (*train.Saved, assets.Entry) {
	t.Helper()
	path, err := assets.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := train.OpenSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	e, _ := assets.Lookup(name)
	return s, e
}

// The pair that ships finds nine in ten of 64 captions of distinct content, and pictures, and is as good as its entry says.
func TestShippedTinyCLIP(t *testing.T) {
	s, e := shippedRun(t, TinyCLIP)
	net, params, err := OpenCLIP(gpu.CPU(), s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRetrieval(t.Context(), net, params, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.evaluate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := len(r.groups) * retrievalWays
	t.Logf("image_to_text %.6g, text_to_image %.6g of %d", got[0], got[1], n)
	said := map[string]float64{}
	for _, f := range e.Figures {
		if said[f.Name] = f.Value; f.N != n {
			t.Errorf("%s is of %d in the index, %d here", f.Name, f.N, n)
		}
	}
	for i, name := range []string{"image_to_text", "text_to_image"} {
		if got[i] < 0.9 {
			t.Errorf("%s is %g, want at least 0.9", name, got[i])
		}
		if math.Abs(got[i]-said[name]) > 2/float64(n) { // sums in another order may exchange two that are as near
			t.Errorf("%s is %g, the index says %g", name, got[i], said[name])
		}
	}
}

// The codecs that ship make of what they have not learnt what their entries say.
func TestShippedCodecs(t *testing.T) {
	shipped := 0
	for _, name := range []string{"motion-base", "shapes-vae", "shapes-vq"} {
		if _, ok := assets.Lookup(name); !ok {
			continue
		}
		shipped++
		t.Run(name, func(t *testing.T) {
			s, e := shippedRun(t, name)
			c, err := OpenCodec(gpu.CPU(), s)
			if err != nil {
				t.Fatal(err)
			}
			names, scores, n, err := tryCodec(t, c)
			if err != nil {
				t.Fatal(err)
			}
			said := map[string]assets.Figure{}
			for _, f := range e.Figures {
				said[f.Name] = f
			}
			if len(said) == 0 {
				t.Error("the index has no figures")
			}
			for i, name := range names {
				t.Logf(`{"name": %q, "value": %.6g, "n": %d, "against": %q}`, name, scores[i], n, strings.Replace(e.Data.Name, ":train", ":val", 1))
				if f, ok := said[name]; ok && !(math.Abs(scores[i]-f.Value) <= 0.01*math.Abs(f.Value)+2/float64(n)) {
					t.Errorf("%s is %g, the index says %g", name, scores[i], f.Value) // clips that lie at a reader's limit may fall to either side
				}
			}
		})
	}
	if shipped == 0 {
		t.Error("no codec ships")
	}
}

// tryCodec tries a codec on all of what its training tries it on.
func tryCodec(t *testing.T, c *Codec) (names []string, scores []float64, n int, err error) {
	if c.Motion != nil {
		held := &clips{stats: c.Stats}
		for set, i := motionset.New(data.DefaultSeed), 0; i < set.Len(data.Val); i++ {
			held.held = append(held.held, set.At(data.Val, i))
		}
		trial := &motionTrial{c: c, set: held, tape: nn.NewTape(gpu.CPU(), gpu.Float32), joints: motionBase().recipe.Joints}
		scores, err = trial.evaluate(t.Context(), 0)
		return trial.names(), scores, len(held.held), err
	}
	recipe := shapesVAE()
	recipe.train = 1
	set, err := recipe.scenes(t.Context())
	if err != nil {
		return nil, nil, 0, err
	}
	trial, err := newShapesTrial(c, set)
	if err != nil {
		return nil, nil, 0, err
	}
	scores, err = trial.evaluate(t.Context(), 0)
	return trial.names(), scores, len(set.held), err
}
