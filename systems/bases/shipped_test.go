package bases

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/gpu"
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
