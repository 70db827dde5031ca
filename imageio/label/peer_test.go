package label_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/imageio/label"
)

// What scipy.ndimage 1.17.1 and skimage 0.26.0 make of the 5×4 field
// ((7x + 5y² + 3xy) mod 17)/16: gaussian_filter(f, 1.3), sobel(f, axis=1),
// f > threshold_otsu(f), binary_dilation and label of f > 0.8.
func TestAgainstScipy(t *testing.T) {
	f := label.NewField(5, 4)
	for i := range f.V {
		x, y := i%5, i/5
		f.V[i] = float32((7*x+5*y*y+3*x*y)%17) / 16
	}
	blur := []float64{
		0.382666114, 0.470301764, 0.520147914, 0.512428315, 0.510767991,
		0.451737239, 0.51861714, 0.539245964, 0.505055214, 0.484710581,
		0.533083489, 0.572357795, 0.562798373, 0.503526317, 0.461638465,
		0.582895342, 0.600617748, 0.574694826, 0.507001049, 0.45570836,
	}
	sobel := []float64{
		1.9375, 2.8125, -1.4375, -0.375, 1.9375,
		2.5, 1.8125, -2.4375, -0.3125, 1.4375,
		2.1875, 1.1875, -2., -0.9375, 0.0625,
		0.625, 0.1875, -0.875, -0.875, -0.4375,
	}
	gotBlur := f.Blur(1.3)
	gx, _ := f.Sobel()
	for i := range f.V {
		if math.Abs(float64(gotBlur.V[i])-blur[i]) > 6e-8 {
			t.Errorf("blur %d is %.9g, want %.9g", i, gotBlur.V[i], blur[i])
		}
		if float64(gx.V[i]) != sobel[i] {
			t.Errorf("sobel %d is %g, want %g", i, gx.V[i], sobel[i])
		}
	}
	cut, err := f.Otsu()
	if want := []uint8{0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0}; err != nil || !slices.Equal(f.Over(cut).IDs, want) {
		t.Errorf("otsu at %g: %v, want %v (%v)", cut, f.Over(cut).IDs, want, err)
	}
	m := f.Over(0.8)
	if got, want := label.Dilate(m, label.Disc, 1).IDs, []uint8{0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("dilation %v, want %v", got, want)
	}
	if four, eight := len(label.Components(m, false)), len(label.Components(m, true)); four != 2 || eight != 1 {
		t.Errorf("%d and %d components, want 2 and 1", four, eight)
	}
}
