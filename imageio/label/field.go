package label

import (
	"fmt"
	"math"
)

// Field is a picture of numbers, row by row: a soft mask, an attention map.
type Field struct {
	W, H int
	V    []float32
}

// NewField is a field of zeros. It panics unless both sides are at least 1.
func NewField(w, h int) *Field {
	if w < 1 || h < 1 {
		panic(fmt.Sprintf("label: NewField: %d×%d pixels; want at least 1×1", w, h))
	}
	return &Field{w, h, make([]float32, w*h)}
}

func (f *Field) whole(op string) {
	if f.W < 1 || f.H < 1 || len(f.V) != f.W*f.H {
		panic(fmt.Sprintf("label: %s: a field of %d×%d with %d values", op, f.W, f.H, len(f.V)))
	}
}

// Field is the mask as numbers: 1 where the class is not 0.
func (m *Map) Field() *Field {
	m.whole("Field")
	f := NewField(m.W, m.H)
	for i, v := range m.IDs {
		if v != 0 {
			f.V[i] = 1
		}
	}
	return f
}

// Over is the mask of values above t. NaN is not above anything.
func (f *Field) Over(t float32) *Map {
	f.whole("Over")
	m := New(f.W, f.H)
	for i, v := range f.V {
		if v > t {
			m.IDs[i] = 1
		}
	}
	return m
}

// Area is the field shrunk or enlarged to w×h: each new pixel is the mean of the
// old field over its area, where old pixels are squares of one value.
func (f *Field) Area(w, h int) *Field {
	f.whole("Area")
	o := NewField(w, h)
	rows := make([]float64, w*f.H) // shrunk along x
	areaTable(f.W, w, func(to, from int, share float64) {
		for y := range f.H {
			rows[y*w+to] += share * float64(f.V[y*f.W+from])
		}
	})
	sums := make([]float64, w*h)
	areaTable(f.H, h, func(to, from int, share float64) {
		for x := range w {
			sums[to*w+x] += share * rows[from*w+x]
		}
	})
	for i, v := range sums {
		o.V[i] = float32(v)
	}
	return o
}

// areaTable calls put for every old pixel that a new one overlaps, with the share
// of the new one's length. In units of 1/(from·to) all ends are whole numbers.
func areaTable(from, to int, put func(to, from int, share float64)) {
	for i := range to {
		a, b := i*from, (i+1)*from // the new pixel; old pixel j is j·to … (j+1)·to
		for j := a / to; j*to < b; j++ {
			put(i, j, float64(min(b, (j+1)*to)-max(a, j*to))/float64(from))
		}
	}
}

// mirror is the index inside 0…n−1 that stands for i when the picture is mirrored
// at its borders, border pixels twice: … 1 0 | 0 1 … n−1 | n−1 ….
func mirror(i, n int) int {
	i %= 2 * n
	if i < 0 {
		i += 2 * n
	}
	if i >= n {
		i = 2*n - 1 - i
	}
	return i
}

// Blur is the field under a Gaussian of the given standard deviation in pixels,
// cut off at ⌊4σ+½⌋ pixels and scaled to the sum 1, mirrored at the borders: what
// scipy.ndimage.gaussian_filter makes by default. It panics unless 0 ≤ σ ≤ 1000.
func (f *Field) Blur(sigma float64) *Field {
	f.whole("Blur")
	if !(sigma >= 0 && sigma <= 1000) {
		panic(fmt.Sprintf("label: Blur: σ is %g; want 0 to 1000 pixels", sigma))
	}
	r := int(4*sigma + 0.5)
	if r == 0 {
		return &Field{f.W, f.H, append([]float32(nil), f.V...)}
	}
	weight := make([]float64, 2*r+1)
	sum := 0.0
	for i := range weight {
		d := float64(i-r) / sigma
		weight[i] = math.Exp(-0.5 * d * d)
		sum += weight[i]
	}
	for i := range weight {
		weight[i] /= sum
	}
	return f.separable(weight, weight)
}

// separable correlates rows with kx and columns with ky, both of odd length.
func (f *Field) separable(kx, ky []float64) *Field {
	rows := make([]float64, len(f.V))
	for y := range f.H {
		line := f.V[y*f.W:][:f.W]
		for x := range f.W {
			s := 0.0
			for i, k := range kx {
				s += k * float64(line[mirror(x+i-len(kx)/2, f.W)])
			}
			rows[y*f.W+x] = s
		}
	}
	o := NewField(f.W, f.H)
	for y := range f.H {
		for x := range f.W {
			s := 0.0
			for i, k := range ky {
				s += k * rows[mirror(y+i-len(ky)/2, f.H)*f.W+x]
			}
			o.V[y*f.W+x] = float32(s)
		}
	}
	return o
}

// Sobel are the derivatives of the field along x and along y by Sobel's kernels,
// (−1, 0, 1) along the one axis and (1, 2, 1) along the other, not scaled: a ramp
// of slope 1 gives 8. The borders are mirrored, as scipy.ndimage.sobel does.
func (f *Field) Sobel() (gx, gy *Field) {
	f.whole("Sobel")
	d, s := []float64{-1, 0, 1}, []float64{1, 2, 1}
	return f.separable(d, s), f.separable(s, d)
}

// Gradient is the length of Sobel's vector in every pixel.
func (f *Field) Gradient() *Field {
	gx, gy := f.Sobel()
	for i, v := range gx.V {
		gx.V[i] = float32(math.Hypot(float64(v), float64(gy.V[i])))
	}
	return gx
}

// Otsu parts the values into two classes with the greatest variance between them
// (Otsu 1979), between two bins of a histogram with 256 bins from the least value
// to the greatest; of equally good places it takes the first. It returns the
// greatest value of the lower class, so that Over of it is the upper class. It is
// an error when all values are equal or one is not finite.
func (f *Field) Otsu() (float32, error) {
	f.whole("Otsu")
	low, high := math.Inf(1), math.Inf(-1)
	for i, v := range f.V {
		w := float64(v)
		if math.IsNaN(w) || math.IsInf(w, 0) {
			return 0, fmt.Errorf("label: otsu: value %d is %g; want finite values", i, w)
		}
		low, high = min(low, w), max(high, w)
	}
	if low == high {
		return 0, fmt.Errorf("label: otsu: all %d values are %g; two classes want two values", len(f.V), low)
	}
	const bins = 256
	bin := func(v float32) int { return min(bins-1, int((float64(v)-low)/(high-low)*bins)) }
	var count [bins]float64
	for _, v := range f.V {
		count[bin(v)]++
	}
	middle := func(i int) float64 { return low + (high-low)*(float64(i)+0.5)/bins }
	all, moment := 0.0, 0.0
	for i, c := range count {
		all += c
		moment += c * middle(i)
	}
	best, at := -1.0, 0
	below, belowMoment := 0.0, 0.0
	for i := range bins - 1 {
		below += count[i]
		belowMoment += count[i] * middle(i)
		if below == 0 || below == all {
			continue
		}
		d := belowMoment/below - (moment-belowMoment)/(all-below)
		if between := below * (all - below) * d * d; between > best {
			best, at = between, i
		}
	}
	t := float32(low)
	for _, v := range f.V {
		if v > t && bin(v) <= at {
			t = v
		}
	}
	return t, nil
}
