package data

import "math"

// The constants of SplitMix64.
const (
	golden = 0x9E3779B97F4A7C15 // the increment: 2^64 over the golden ratio, odd
	mulA   = 0xBF58476D1CE4E5B9
	mulB   = 0x94D049BB133111EB
)

// DefaultSeed is the seed of the sets as published: golden hashes, fixtures and
// proofs use it.
const DefaultSeed = 1

// Mix is the finaliser of SplitMix64, a bijection of 64 bits:
//
//	z = (z ^ z>>30)·0xBF58476D1CE4E5B9;  z = (z ^ z>>27)·0x94D049BB133111EB;  z ^ z>>31
//
// The increment is the stream's, so Mix(0) is 0.
func Mix(z uint64) uint64 {
	z = (z ^ z>>30) * mulA
	z = (z ^ z>>27) * mulB
	return z ^ z>>31
}

// FNV1a is the 64-bit hash of Fowler, Noll and Vo, variant 1a, of the bytes of s.
func FNV1a(s string) uint64 {
	h := uint64(0xCBF29CE484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001B3
	}
	return h
}

// Key is where the stream of an item begins:
//
//	Mix(FNV1a(set + "/" + split + "/v" + version) ^ Mix(seed) ^ Mix(index))
//
// Within a seed all items of a split have different keys, because Mix is a
// bijection. Between seeds a and b the items b and a are the same one, which is
// the price of the formula's symmetry.
func Key(set string, split Split, version int, seed, index uint64) uint64 {
	return Mix(FNV1a(set+"/"+string(split)+"/v"+itoa(version)) ^ Mix(seed) ^ Mix(index))
}

// itoa keeps the key independent of any formatting package.
func itoa(n int) string {
	if n < 0 {
		panic("data: versions are 1 or more")
	}
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// Stream is a SplitMix64 generator. The zero value is the stream of key 0.
// It is a value: a copy goes on by itself. Not for several goroutines.
type Stream struct{ state uint64 }

// NewStream is the stream of one item.
func NewStream(set string, split Split, version int, seed, index uint64) Stream {
	return Stream{Key(set, split, version, seed, index)}
}

// FromKey is the stream that begins at key, for draws that belong to no item,
// such as the fixed tables of a set.
func FromKey(key uint64) Stream { return Stream{key} }

// Uint64 is the next 64 bits: the state moves on by the increment and is mixed.
func (s *Stream) Uint64() uint64 {
	s.state += golden
	return Mix(s.state)
}

// Float64 is uniform in [0,1): the top 53 bits over 2^53.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) / (1 << 53) }

// Intn is an integer in [0,k): the next 64 bits modulo k. The bias is below
// k/2^64. It panics unless k is at least 1.
func (s *Stream) Intn(k int) int {
	if k < 1 {
		panic("data: Intn: want k of 1 or more")
	}
	return int(s.Uint64() % uint64(k))
}

// Between is an integer in [lo,hi], both ends included.
func (s *Stream) Between(lo, hi int) int { return lo + s.Intn(hi-lo+1) }

// Uniform is uniform in [lo,hi).
func (s *Stream) Uniform(lo, hi float64) float64 { return lo + float64(s.Float64()*(hi-lo)) }

// Chance is true in p of all cases. It takes one draw whatever p is.
func (s *Stream) Chance(p float64) bool { return s.Float64() < p }

// Normal is standard normal by Box and Muller from two uniforms u and v:
// sqrt(−2 ln(1−u))·cos(2πv). The sine, which would be a second one, is dropped,
// so that every call takes two draws.
func (s *Stream) Normal() float64 {
	u, v := s.Float64(), s.Float64()
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}

// Shuffle puts n elements into random order by Fisher and Yates: for i from n−1
// down to 1, i is swapped with Intn(i+1).
func (s *Stream) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, s.Intn(i+1))
	}
}

// Pick is the index drawn with chances in proportion to weights, by one uniform
// draw. It panics unless the weights are finite, 0 or more, and one is positive.
func (s *Stream) Pick(weights []float64) int {
	sum, last := 0.0, -1
	for i, w := range weights {
		if !(w >= 0) || math.IsInf(w, 0) {
			panic("data: Pick: want finite weights of 0 or more")
		}
		if w > 0 {
			last = i
		}
		sum += w
	}
	if last < 0 {
		panic("data: Pick: want a positive weight")
	}
	u := float64(s.Float64() * sum)
	for i, w := range weights {
		if u < w {
			return i
		}
		u -= w
	}
	return last // rounding ate the end
}
