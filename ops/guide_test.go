package ops_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// deviation is the standard deviation by two passes.
func deviation(v []float64) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum / float64(len(v)))
}

func TestGuide(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, shape := range [][]int{{0, 3}, {2, 0}, {1, 2}, {3, 255}, {2, 3, 2049}, {2, 8192}, {2, 8200}} {
				for _, rescale := range []float64{0, 0.7, 1} {
					for _, w := range [][]float64{{7.5}, {0.5, 3, -1}} {
						if len(w) > 1 {
							w = w[:min(shape[0], len(w))]
						}
						if len(w) == 0 {
							continue
						}
						c, cv := linearInput(t, dev, dt, 1, shape...)
						u, uv := linearInput(t, dev, dt, 2, shape...)
						out := c.Like()
						ops.Guide(out, c, u, w, rescale)
						got := read64(t, out)
						for b := range shape[0] {
							size := len(got) / shape[0]
							g := make([]float64, size)
							weight := w[min(b, len(w)-1)]
							for i := range g {
								g[i] = uv[b*size+i] + weight*(cv[b*size+i]-uv[b*size+i])
							}
							f := 1.0
							if rescale > 0 && size > 0 {
								f = rescale*deviation(cv[b*size:(b+1)*size])/deviation(g) + 1 - rescale
							}
							for i := range g {
								scale := math.Abs(f*weight*cv[b*size+i]) + math.Abs(f*(1-weight)*uv[b*size+i])
								bound := linearUnit(dt)*math.Abs(f*g[i]) + linearLeast(dt) + 1e-13*scale
								if d := math.Abs(got[b*size+i] - f*g[i]); !(d <= bound) {
									t.Fatalf("%v %v w=%v rescale %g: element %d of sample %d is %v, want %v", dt, shape, w, rescale, i, b, got[b*size+i], f*g[i])
								}
							}
						}
					}
				}
			}
		}
		// A prediction that does not vary keeps its value.
		x := dev.From([]float32{2, 2, 2, 2}, 1, 4)
		ops.Guide(x, x, x, []float64{3}, 1)
		if v := read64(t, x); v[0] != 2 || v[3] != 2 {
			t.Errorf("a constant becomes %v, want 2", v)
		}
		e := dev.Empty(2, 2)
		mustPanic(t, "weights", "ops: Guide: 3 weights", func() { ops.Guide(e, e, e, make([]float64, 3), 0) })
		mustPanic(t, "rescale", "ops: Guide: rescale", func() { ops.Guide(e, e, e, []float64{1}, math.NaN()) })
		mustPanic(t, "length", "ops: Guide", func() { ops.Guide(e, e, dev.Empty(5), []float64{1}, 0) })
	})
}

func TestGuidanceInterval(t *testing.T) {
	w := make([]float64, 4)
	ops.GuidanceInterval(w, []float64{0.2, 0.3, 5, 5.1}, 4, 0.2, 5)
	if !slices.Equal(w, []float64{1, 4, 4, 1}) {
		t.Errorf("weights %v, want 1 4 4 1", w)
	}
	mustPanic(t, "interval", "ops: GuidanceInterval", func() { ops.GuidanceInterval(w, w, 1, 2, 2) })
}

// quantile is torch.quantile's definition on a sorted copy.
func quantile(v []float64, p float64) float64 {
	s := make([]float64, len(v))
	for i, x := range v {
		s[i] = math.Abs(x)
	}
	slices.Sort(s)
	at := p * float64(len(s)-1)
	i := int(at)
	if f := at - float64(i); f > 0 {
		return s[i] + f*(s[i+1]-s[i])
	}
	return s[i]
}

func TestDynamicThreshold(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		inputs := map[string]func(n int) []float32{
			"normal": func(n int) []float32 { return oracle.Normal(uint64(n), n) },
			"ties":   func(n int) []float32 { return slices.Repeat([]float32{1.5, -1.5, 0.25}, n/3+1)[:n] },
			"zeros":  func(n int) []float32 { return make([]float32, n) },
			"wide": func(n int) []float32 { // every exponent, subnormal numbers too
				v := oracle.Normal(5, n)
				for i := range v {
					v[i] *= float32(math.Ldexp(1, i%270-146))
				}
				return v
			},
		}
		for name, make := range inputs {
			for _, shape := range [][]int{{1, 1}, {2, 2}, {3, 100}, {2, 3, 1024}, {2, 4097}, {0, 5}, {4, 0}} {
				n := 1
				for _, d := range shape {
					n *= d
				}
				v := make(n)
				for _, p := range []float64{0, 0.5, 0.95, 0.995, 1} {
					for _, limits := range [][2]float64{{1, math.Inf(1)}, {1e-40, 0.8}} {
						out := dev.Empty(shape...)
						ops.DynamicThreshold(out, dev.From(slices.Clone(v), shape...), p, limits[0], limits[1])
						got := read64(t, out)
						for b := range shape[0] {
							size := n / shape[0]
							if size == 0 {
								continue
							}
							row := slices.Clone(v[b*size : (b+1)*size])
							wide := float64s(row)
							// s and the quotient are rounded to float32: two units of 2^-24.
							s := min(max(quantile(wide, p), limits[0]), limits[1])
							for i, x := range wide {
								want := min(max(x, -s), s) / s
								if d := math.Abs(got[b*size+i] - want); !(d <= 2.01*0x1p-24*math.Abs(want)+0x1p-149/s+0x1p-149) {
									t.Fatalf("%s %v p=%g: element %d of sample %d is %v, want %v", name, shape, p, i, b, got[b*size+i], want)
								}
							}
						}
					}
				}
			}
		}
		x := dev.From([]float32{float32(math.NaN()), 1, -3, float32(math.Inf(-1))}, 1, 4)
		ops.DynamicThreshold(x, x, 1./3, 1, 10) // the quantile is 3
		if v := read64(t, x); !math.IsNaN(v[0]) || v[1] != float64(float32(1)/3) || v[2] != -1 || v[3] != -1 {
			t.Errorf("NaN, 1, -3, -Inf become %v", v)
		}
		e := dev.Empty(2, 2)
		mustPanic(t, "quantile", "ops: DynamicThreshold: quantile", func() { ops.DynamicThreshold(e, e, 1.5, 1, 2) })
		mustPanic(t, "limits", "ops: DynamicThreshold: quantile", func() { ops.DynamicThreshold(e, e, 0.5, 0, 2) })
		mustPanic(t, "dtype", "ops: DynamicThreshold: the output", func() { ops.DynamicThreshold(dev.Empty64(2), dev.Empty64(2), 0.5, 1, 2) })
	})
}

func float64s(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// The GPU's bits are the CPU's.
func TestDynamicThresholdBits(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for n := 1; n < 60; n++ {
			v := oracle.Normal(uint64(n), 2*n)
			a, b := gpu.CPU().Empty(2, n), dev.Empty(2, n)
			p := float64(n%7) / 7
			ops.DynamicThreshold(a, gpu.CPU().From(v, 2, n), p, 0.1, 3)
			ops.DynamicThreshold(b, dev.From(v, 2, n), p, 0.1, 3)
			if fmt.Sprint(read64(t, a)) != fmt.Sprint(read64(t, b)) {
				t.Fatalf("n=%d: %v, on the CPU %v", n, read64(t, b), read64(t, a))
			}
		}
	})
}

// BenchmarkGuide is guidance with rescale on 64 images of 3×32×32, both operands
// read twice and the result written once.
func BenchmarkGuide(b *testing.B) {
	c, u, out := gpu.CPU().From(oracle.Normal(1, 64*3072), 64, 3072), gpu.CPU().From(oracle.Normal(2, 64*3072), 64, 3072), gpu.CPU().Empty(64, 3072)
	b.SetBytes(int64(20 * out.Len()))
	for b.Loop() {
		ops.Guide(out, c, u, []float64{7.5}, 0.7)
	}
}

// BenchmarkDynamicThreshold is a selection, a clamp and a division of the same images.
func BenchmarkDynamicThreshold(b *testing.B) {
	x, out := gpu.CPU().From(oracle.Normal(1, 64*3072), 64, 3072), gpu.CPU().Empty(64, 3072)
	b.SetBytes(int64(8 * out.Len()))
	for b.Loop() {
		ops.DynamicThreshold(out, x, 0.995, 1, math.Inf(1))
	}
}
