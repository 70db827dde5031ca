package rng_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// The known answers that the authors of Philox publish with Random123.
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
			[2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := rng.Philox(c.ctr, c.key); got != c.want {
			t.Errorf("Philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
	zero := rng.New(0, 0)
	for i, want := range []uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8} {
		if got := zero.Uint32(); got != want {
			t.Errorf("word %d of stream 0, seed 0 = %x, want %x", i, got, want)
		}
	}
	// Block b holds words 4b...; only block numbers below 2^62 can be reached by word index.
	k := rng.Philox([4]uint32{7, 1, 5, 6}, [2]uint32{3, 4})
	u := rng.New(4<<32|3, 6<<32|5)
	for lane, want := range k {
		if got := u.Uint32At((1<<32|7)<<2 + uint64(lane)); got != want {
			t.Errorf("lane %d of block 2^32+7 = %x, want %x", lane, got, want)
		}
	}
}

func TestRandomAccessAgreesWithSequence(t *testing.T) {
	s, ref := rng.New(11, 5), rng.New(11, 5)
	for i := range uint64(41) {
		if got, want := s.Uint32(), ref.Uint32At(i); got != want {
			t.Fatalf("word %d: %x, at %x", i, got, want)
		}
	}
	for _, i := range []uint64{3, 40, 0, 6} {
		s.Seek(i)
		if got, want := s.Uint64(), uint64(ref.Uint32At(i))|uint64(ref.Uint32At(i+1))<<32; got != want {
			t.Errorf("Uint64 at %d: %x, want %x", i, got, want)
		}
	}
	n := rng.New(11, 5)
	x := make([]float64, 7)
	n.FillNormal64(x)
	for i, v := range x {
		if want := ref.NormalAt(uint64(i)); v != want {
			t.Errorf("normal %d: %v, at %v", i, v, want)
		}
	}
	for _, i := range []uint64{5, 0, 6, 1} {
		s.SeekNormal(i)
		if got, want := []float64{s.Normal(), s.Normal()}, []float64{ref.NormalAt(i), ref.NormalAt(i + 1)}; !slices.Equal(got, want) {
			t.Errorf("normals from %d: %v, want %v", i, got, want)
		}
	}
	y := make([]float32, 7)
	rng.New(11, 5).FillNormal32(y)
	for i, v := range y {
		if v != float32(x[i]) {
			t.Errorf("float32 normal %d: %v, want %v", i, v, float32(x[i]))
		}
	}
}

// An odd number of normals, some words and a restore in between.
func TestStateGoesOn(t *testing.T) {
	s := rng.New(1, 2)
	s.Normal()
	s.Uint32()
	u := rng.Restore(s.State())
	for i := range 5 {
		if a, b := s.Normal(), u.Normal(); a != b {
			t.Fatalf("normal %d after the restore: %v and %v", i, a, b)
		}
		if a, b := s.Uint32(), u.Uint32(); a != b {
			t.Fatalf("word %d after the restore: %x and %x", i, a, b)
		}
	}
}

// Box–Muller of one block by the formula, from the words themselves.
func TestNormalFormula(t *testing.T) {
	s := rng.New(3, 9)
	for i := range uint64(100) {
		var w [4]uint64
		for j := range w {
			w[j] = uint64(s.Uint32At(4*i + uint64(j)))
		}
		r := math.Sqrt(-2 * math.Log((9007199254740992-float64((w[0]|w[1]<<32)>>11))/9007199254740992))
		a := 2 * math.Pi * float64((w[2]|w[3]<<32)>>11) / 9007199254740992
		if z := s.NormalAt(2 * i); math.Abs(z-r*math.Cos(a)) > 1e-14 {
			t.Errorf("normal %d = %v, want %v", 2*i, z, r*math.Cos(a))
		}
		if z := s.NormalAt(2*i + 1); math.Abs(z-r*math.Sin(a)) > 1e-14 {
			t.Errorf("normal %d = %v, want %v", 2*i+1, z, r*math.Sin(a))
		}
	}
}

func TestStreamsDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for _, seed := range []uint64{0, 1, 1 << 32} {
		for _, image := range []uint64{0, 1, 1 << 32, 1<<48 - 1} {
			for _, p := range []rng.Purpose{rng.Init, rng.Step, rng.Dropout} {
				w := rng.ForImage(seed, image, p).Uint64()
				if seen[w] {
					t.Errorf("seed %d image %d purpose %d begins like another stream", seed, image, p)
				}
				seen[w] = true
			}
		}
	}
	if rng.ForImage(4, 7, rng.Step).Uint64() != rng.New(4, 1<<48|7).Uint64() {
		t.Error("ForImage is not New(seed, purpose<<48 | image)")
	}
	mustPanic(t, func() { rng.ForImage(0, 1<<48, rng.Init) })
	mustPanic(t, func() { rng.New(0, 0).Intn(0) })
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

// ks is Kolmogorov's distance of a sample to a continuous distribution.
func ks(x []float64, cdf func(float64) float64) float64 {
	slices.Sort(x)
	n, d := float64(len(x)), 0.0
	for i, v := range x {
		p := cdf(v)
		d = max(d, p-float64(i)/n, float64(i+1)/n-p)
	}
	return d
}

// The seeds are fixed, so these tests are deterministic; the thresholds are
// what a right generator exceeds with probability 1e-6 per check:
// KS: 2 exp(-2 n d²) = 1e-6 → d = √(ln(2e6) / 2n); moments: 4.9 standard errors.
func TestDistributions(t *testing.T) {
	const n = 200000
	limit := math.Sqrt(math.Log(2e6) / (2 * n))
	uniform := func(x float64) float64 { return min(max(x, 0), 1) }
	normal := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
	for _, c := range []struct {
		name string
		draw func(*rng.Stream) float64
		cdf  func(float64) float64
		// mean, and variances of x, and of (x-mean)²
		mean, variance, var2 float64
	}{
		{"Float64", (*rng.Stream).Float64, uniform, 0.5, 1. / 12, 1. / 180},
		{"Float32", func(s *rng.Stream) float64 { return float64(s.Float32()) }, uniform, 0.5, 1. / 12, 1. / 180},
		{"Normal", (*rng.Stream).Normal, normal, 0, 1, 2},
	} {
		s := rng.New(2026, 1)
		x := make([]float64, n)
		var m, v, lag, prev float64
		for i := range x {
			x[i] = c.draw(s)
			e := x[i] - c.mean
			m += e / n
			v += e * e / n
			lag += e * prev / n
			prev = e
		}
		if z := m / math.Sqrt(c.variance/n); math.Abs(z) > 4.9 {
			t.Errorf("%s: mean is %.2f standard errors off", c.name, z)
		}
		if z := (v - c.variance) / math.Sqrt(c.var2/n); math.Abs(z) > 4.9 {
			t.Errorf("%s: variance is %.2f standard errors off", c.name, z)
		}
		if z := lag / (c.variance / math.Sqrt(n)); math.Abs(z) > 4.9 {
			t.Errorf("%s: neighbours correlate, %.2f standard errors", c.name, z)
		}
		if d := ks(x, c.cdf); d > limit {
			t.Errorf("%s: Kolmogorov distance %.5f, limit %.5f", c.name, d, limit)
		}
	}
}

// The first normals of many streams must be as good as one long stream.
func TestAcrossStreams(t *testing.T) {
	const n = 50000
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.ForImage(7, uint64(i), rng.Init).Normal()
	}
	d := ks(x, func(v float64) float64 { return 0.5 * math.Erfc(-v/math.Sqrt2) })
	if limit := math.Sqrt(math.Log(2e6) / (2 * n)); d > limit {
		t.Errorf("first normals of %d streams: Kolmogorov distance %.5f, limit %.5f", n, d, limit)
	}
}

// χ² of Intn and of where Perm puts things: 45.9 and 156.7 are exceeded with
// probability 1e-6 at 9 and 81 degrees of freedom (Wilson–Hilferty).
func TestIntnAndPerm(t *testing.T) {
	s := rng.New(5, 0)
	const n = 100000
	var bins [10]float64
	for range n {
		bins[s.Intn(10)]++
	}
	var chi float64
	for _, b := range bins {
		chi += (b - n/10.) * (b - n/10.) / (n / 10.)
	}
	if chi > 45.9 {
		t.Errorf("Intn(10): χ² = %.1f with 9 degrees of freedom", chi)
	}
	// Of the 2^64 products with 3·2^61, results r with r%3 = 2 have two each and
	// the others three: without rejection the share of r%3 = 2 would be 1/4.
	const m = 30000
	var third float64
	for range m {
		if s.Intn(3<<61)%3 == 2 {
			third++
		}
	}
	if z := (third - m/3.) / math.Sqrt(m*2/9.); math.Abs(z) > 4.9 {
		t.Errorf("Intn(3·2^61): residue 2 is %.1f standard errors off", z)
	}
	var at [10][10]float64
	for range 20000 {
		p := s.Perm(10)
		for i, v := range p {
			at[i][v]++
		}
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("not a permutation: %v", p)
			}
		}
	}
	chi = 0
	for _, row := range at {
		for _, b := range row {
			chi += (b - 2000) * (b - 2000) / 2000
		}
	}
	if chi > 156.7 {
		t.Errorf("Perm: χ² = %.1f", chi)
	}
}

func BenchmarkNormal32(b *testing.B) {
	x := make([]float32, 4096)
	s := rng.New(1, 1)
	b.SetBytes(int64(4 * len(x)))
	for b.Loop() {
		s.FillNormal32(x)
	}
}

func BenchmarkUint32(b *testing.B) {
	s := rng.New(1, 1)
	for b.Loop() {
		s.Uint32()
	}
}
