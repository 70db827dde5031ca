package sampler_test

import (
	"errors"
	"fmt"
	"math"
	"math/cmplx"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// features are normals, [n, c, h, w] in float64.
func features(seed uint64, shape ...int) *gpu.Tensor {
	t := gpu.CPU().New(gpu.Float64, shape...)
	rng.New(seed, 0).FillNormal64(t.F64())
	return t
}

// filtered is the definition: every frequency of the plane by a double sum, the
// box scaled, and the double sum back.
func filtered(x []float64, h, w, r int, s float64) []float64 {
	turn := func(k, u, n int) complex128 { return cmplx.Rect(1, 2*math.Pi*float64(k*u%n)/float64(n)) }
	freq := make([]complex128, h*w)
	for k := range h {
		for l := range w {
			var sum complex128
			for u := range h {
				for v := range w {
					sum += complex(x[u*w+v], 0) * cmplx.Conj(turn(k, u, h)*turn(l, v, w))
				}
			}
			if inBox(k, h, r) && inBox(l, w, r) {
				sum *= complex(s, 0)
			}
			freq[k*w+l] = sum
		}
	}
	out := make([]float64, h*w)
	for u := range h {
		for v := range w {
			var sum complex128
			for k := range h {
				for l := range w {
					sum += freq[k*w+l] * turn(k, u, h) * turn(l, v, w)
				}
			}
			out[u*w+v] = real(sum) / float64(h*w)
		}
	}
	return out
}

// inBox tells whether index k of n frequencies is one of -r to r-1.
func inBox(k, n, r int) bool { return k < r || k >= n-r }

// filteredFast is the same by gonum's transforms, for planes that the sums are too slow for.
func filteredFast(x []float64, h, w, r int, s float64) []float64 {
	rows, cols := fourier.NewCmplxFFT(w), fourier.NewCmplxFFT(h)
	f := make([]complex128, h*w)
	for i, v := range x {
		f[i] = complex(v, 0)
	}
	along := func(back bool) {
		col := make([]complex128, h)
		do := func(t *fourier.CmplxFFT, v []complex128) {
			if back {
				t.Sequence(v, v)
			} else {
				t.Coefficients(v, v)
			}
		}
		for u := range h {
			do(rows, f[u*w:(u+1)*w])
		}
		for v := range w {
			for u := range h {
				col[u] = f[u*w+v]
			}
			do(cols, col)
			for u := range h {
				f[u*w+v] = col[u]
			}
		}
	}
	along(false)
	for k := range h {
		for l := range w {
			if inBox(k, h, r) && inBox(l, w, r) {
				f[k*w+l] *= complex(s, 0)
			}
		}
	}
	along(true)
	out := make([]float64, h*w)
	for i := range out {
		out[i] = real(f[i]) / float64(h*w)
	}
	return out
}

func TestFreeUAgainstTransforms(t *testing.T) {
	for _, c := range []struct {
		h, w, r int
		fast    bool
	}{
		{8, 8, 1, false},
		{8, 8, 2, false},
		{8, 8, 4, false},
		{7, 5, 1, false},
		{7, 5, 2, false},
		{4, 12, 2, false},
		{2, 2, 1, false},
		{3, 9, 1, false},
		{64, 64, 1, true},
		{32, 48, 3, true},
		{96, 64, 5, true},
		{45, 77, 2, true},
	} {
		want := filtered
		if c.fast {
			want = filteredFast
		}
		for _, s := range []float64{0, 0.2, 0.9, 1.3} {
			skip, back := features(1, 2, 3, c.h, c.w), features(2, 2, 5, c.h, c.w)
			x, y := append([]float64{}, skip.F64()...), append([]float64{}, back.F64()...)
			single, singleBack := toSingle(skip), toSingle(back)
			f := &sampler.FreeU{B: []float64{1.1}, S: []float64{s}, Threshold: c.r}
			for _, p := range [][2]*gpu.Tensor{{back, skip}, {singleBack, single}} {
				if err := f.Apply(0, p[0], p[1]); err != nil {
					t.Fatal(err)
				}
			}
			plane := c.h * c.w
			for i := range 6 {
				for j, v := range want(x[i*plane:(i+1)*plane], c.h, c.w, c.r, s) {
					if got := skip.F64()[i*plane+j]; math.Abs(got-v) > 1e-12 {
						t.Fatalf("%dx%d r %d s %g: plane %d value %d is %.15g, want %.15g", c.h, c.w, c.r, s, i, j, got, v)
					}
					if got := float64(single.F32()[i*plane+j]); math.Abs(got-v) > 2e-6 {
						t.Fatalf("%dx%d r %d s %g, float32: plane %d value %d is %.8g, want %.8g", c.h, c.w, c.r, s, i, j, got, v)
					}
				}
			}
			for i, v := range y {
				if i/plane%5 < 2 {
					v *= 1.1
				}
				if back.F64()[i] != v || math.Abs(float64(singleBack.F32()[i])-v) > 1e-6 {
					t.Fatalf("%dx%d: value %d of the backbone is %g and %g, want %g", c.h, c.w, i, back.F64()[i], singleBack.F32()[i], v)
				}
			}
		}
	}
}

func toSingle(x *gpu.Tensor) *gpu.Tensor {
	out := gpu.CPU().New(gpu.Float32, x.Shape()...)
	for i, v := range x.F64() {
		out.F32()[i] = float32(v)
	}
	return out
}

// Factors of 1 change no bit; s = 0 with the threshold 1 takes the plane's mean
// away; a constant plane is its own lowest frequency; the scaling is linear in s.
func TestFreeUIdentities(t *testing.T) {
	skip, back := features(3, 1, 2, 16, 16), features(4, 1, 4, 16, 16)
	x, y := append([]float64{}, skip.F64()...), append([]float64{}, back.F64()...)
	if err := (&sampler.FreeU{B: []float64{1}, S: []float64{1}}).Apply(0, back, skip); err != nil {
		t.Fatal(err)
	}
	for i := range x {
		if skip.F64()[i] != x[i] {
			t.Fatalf("s = 1 changed value %d", i)
		}
	}
	for i := range y {
		if back.F64()[i] != y[i] {
			t.Fatalf("b = 1 changed value %d", i)
		}
	}
	if err := (&sampler.FreeU{B: []float64{1}, S: []float64{0}}).Apply(0, back, skip); err != nil {
		t.Fatal(err)
	}
	for c := range 2 {
		sum := 0.0
		for _, v := range skip.F64()[c*256 : c*256+256] {
			sum += v
		}
		if math.Abs(sum) > 1e-11 {
			t.Errorf("s = 0 left a mean of %g", sum/256)
		}
	}
	flat := gpu.CPU().New(gpu.Float64, 1, 1, 6, 10)
	for i := range flat.F64() {
		flat.F64()[i] = 3
	}
	if err := (&sampler.FreeU{B: []float64{1}, S: []float64{0.2}}).Apply(0, gpu.CPU().New(gpu.Float64, 1, 1, 6, 10), flat); err != nil {
		t.Fatal(err)
	}
	for i, v := range flat.F64() {
		if math.Abs(v-0.6) > 1e-14 {
			t.Fatalf("value %d of a constant plane is %g, want 0.6", i, v)
		}
	}
	// Stages without factors are left alone.
	before := append([]float64{}, skip.F64()...)
	if err := sampler.DefaultFreeU().Apply(2, back, skip); err != nil || skip.F64()[5] != before[5] {
		t.Errorf("stage 2 of two: %v, value %g after %g", err, skip.F64()[5], before[5])
	}
}

func TestFreeUAllocatesNothing(t *testing.T) {
	f := sampler.DefaultFreeU()
	skip, back := features(5, 2, 4, 16, 16), features(6, 2, 4, 16, 16)
	if n := oracle.Allocations(5, func() {
		if err := f.Apply(1, back, skip); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%g allocations a call", n)
	}
}

// uNet stands for a network with skip features.
type uNet struct {
	gaussian
	f *sampler.FreeU
}

func (u *uNet) SetFreeU(f *sampler.FreeU) error {
	if f != nil && len(f.B) > 2 {
		return fmt.Errorf("uNet: %d stages; there are 2", len(f.B))
	}
	u.f = f
	return nil
}

func TestFreeURefusals(t *testing.T) {
	f := sampler.DefaultFreeU()
	for name, den := range map[string]sampler.Denoiser{"a gaussian": gaussian{}, "guidance": &sampler.Guided{Den: gaussian{}}} {
		if err := f.Join(den); !errors.Is(err, sampler.ErrNoSkipFeatures) || !strings.Contains(err.Error(), "leave FreeU out") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	u := &uNet{}
	if err := f.Join(u); err != nil || u.f != f {
		t.Errorf("a U-Net: %v", err)
	}
	if err := (&sampler.FreeU{B: []float64{1, 1, 1}, S: []float64{1, 1, 1}}).Join(u); err == nil || !strings.Contains(err.Error(), "there are 2") {
		t.Errorf("three stages: %v", err)
	}
	for want, f := range map[string]sampler.FreeU{
		"0 factors of the backbone": {},
		"1 factors of the backbone": {B: []float64{1}, S: []float64{1, 1}},
		"a factor of -1":            {B: []float64{-1}, S: []float64{1}},
		"a factor of NaN":           {B: []float64{1}, S: []float64{math.NaN()}},
		"a factor of +Inf":          {B: []float64{math.Inf(1)}, S: []float64{1}},
		"threshold -1":              {B: []float64{1}, S: []float64{1}, Threshold: -1},
	} {
		if err := f.Join(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	for want, c := range map[string]struct{ back, skip []int }{
		"features of shape [2 3 4]":                      {[]int{2, 3, 4}, []int{2, 3, 4, 4}},
		"backbone [2 3 4 4] and skip features [1 3 4 4]": {[]int{2, 3, 4, 4}, []int{1, 3, 4, 4}},
		"backbone [2 3 4 4] and skip features [2 3 8 4]": {[]int{2, 3, 4, 4}, []int{2, 3, 8, 4}},
		"threshold 1 on planes of 1x4":                   {[]int{2, 3, 1, 4}, []int{2, 3, 1, 4}},
	} {
		if err := f.Apply(0, features(1, c.back...), features(1, c.skip...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	half := gpu.CPU().New(gpu.Float16, 1, 2, 4, 4)
	if err := f.Apply(0, half, half); err == nil || !strings.Contains(err.Error(), "float16") {
		t.Errorf("float16: %v", err)
	}
}

// BenchmarkFreeU is a stage of Stable Diffusion's size. "transforms" is its time on
// the skip features, per plane, over that of whole transforms there and back.
func BenchmarkFreeU(b *testing.B) {
	const planes, side = 320, 64
	f := &sampler.FreeU{B: []float64{1}, S: []float64{0.9}}
	skip, back := features(1, 1, planes, side, side), gpu.CPU().New(gpu.Float64, 1, 1, side, side)
	ours, whole := time.Hour, time.Hour
	best := func(t *time.Duration, f func()) {
		start := time.Now()
		f()
		*t = min(*t, time.Since(start))
	}
	for b.Loop() {
		best(&ours, func() {
			if err := f.Apply(0, back, skip); err != nil {
				b.Fatal(err)
			}
		})
		best(&whole, func() { filteredFast(skip.F64()[:side*side], side, side, 1, 0.9) })
	}
	b.ReportMetric(ours.Seconds()/planes/whole.Seconds(), "transforms")
	b.ReportMetric(ours.Seconds()*1e6, "µs/stage")
	b.ReportMetric(0, "ns/op")
}

// Features on a device come back as the CPU has them.
func TestFreeUOnDevices(t *testing.T) {
	skip, back := features(7, 2, 3, 8, 12), features(8, 2, 6, 8, 12)
	wantSkip, wantBack := skip.Like(), back.Like()
	wantSkip.Copy(skip)
	wantBack.Copy(back)
	f := &sampler.FreeU{B: []float64{1.2}, S: []float64{0.4}, Threshold: 2}
	if err := f.Apply(0, wantBack, wantSkip); err != nil {
		t.Fatal(err)
	}
	if wantSkip.F64()[0] == skip.F64()[0] || wantBack.F64()[0] == back.F64()[0] {
		t.Fatal("nothing was re-weighted")
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		b, s := back.To(dev), skip.To(dev)
		if dev == gpu.CPU() { // To is no copy there
			b, s = back.Like(), skip.Like()
			b.Copy(back)
			s.Copy(skip)
		}
		if err := f.Apply(0, b, s); err != nil {
			t.Fatal(err)
		}
		for _, p := range [][2]*gpu.Tensor{{b, wantBack}, {s, wantSkip}} {
			got := make([]float64, p[0].Len())
			if err := p[0].Read64(got); err != nil {
				t.Fatal(err)
			}
			for i, v := range p[1].F64() {
				if got[i] != v {
					t.Fatalf("value %d is %g, on the CPU %g", i, got[i], v)
				}
			}
		}
	})
}
