package rng

import (
	"fmt"
	"math"
	"math/bits"
)

// Purpose separates the streams of one image, so that drawing more of one kind
// of noise never moves another.
type Purpose uint16

// The purposes in use. A new one is appended: the numbers are part of what a
// seed means.
const (
	Init     Purpose = iota // starting noise of a sampler
	Step                    // noise that a stochastic sampler adds
	Label                   // class or condition of an image
	Time                    // time or noise level of a training example
	Order                   // order of a data set
	Resample                // bootstrap and jackknife
	Weights                 // initial values of a network
	Dropout
	Probe   // directions that estimate a trace
	Bridge  // path of noise over levels, see Brownian
	Noising // noise of a training example
	Shift   // how far a training picture is moved
)

// maxImage bounds the image index of ForImage; the purpose takes the bits above.
const maxImage = 1 << 48

// Stream is one sequence of random words. The zero value is stream 0 of seed 0.
type Stream struct {
	seed, id uint64
	next     uint64    // index of the next word
	block    [4]uint32 // block next/4, valid when have
	have     bool
	spare    float64 // second normal of the last pair, valid when half
	half     bool
}

// New returns the stream of the given number under a seed, at its start.
func New(seed, stream uint64) *Stream { return &Stream{seed: seed, id: stream} }

// ForImage returns the stream of one image (index below 2^48) and purpose.
// It equals New(seed, purpose<<48 | image).
func ForImage(seed, image uint64, p Purpose) *Stream {
	if image >= maxImage {
		panic(fmt.Sprintf("rng: ForImage: image %d; want an index below 2^48", image))
	}
	return New(seed, uint64(p)<<48|image)
}

// blockAt returns block i, words 4i to 4i+3.
func (s *Stream) blockAt(i uint64) [4]uint32 {
	return Philox(
		[4]uint32{uint32(i), uint32(i >> 32), uint32(s.id), uint32(s.id >> 32)},
		[2]uint32{uint32(s.seed), uint32(s.seed >> 32)},
	)
}

// State is a position in a stream: enough to go on bit for bit.
type State struct {
	Seed, Stream uint64
	Next         uint64 // index of the next word
	Half         bool   // the second normal of a pair is still to be given
	Spare        float64
}

// State returns the position.
func (s *Stream) State() State { return State{s.seed, s.id, s.next, s.half, s.spare} }

// Restore returns the stream at a position.
func Restore(t State) *Stream {
	return &Stream{seed: t.Seed, id: t.Stream, next: t.Next, half: t.Half, spare: t.Spare}
}

// Seek moves to word i and forgets a pending normal.
func (s *Stream) Seek(i uint64) { s.next, s.have, s.half = i, false, false }

// Uint32At returns word i without moving.
func (s *Stream) Uint32At(i uint64) uint32 { return s.blockAt(i >> 2)[i&3] }

// Uint32 returns the next word.
func (s *Stream) Uint32() uint32 {
	lane := s.next & 3
	if !s.have || lane == 0 {
		s.block, s.have = s.blockAt(s.next>>2), true
	}
	s.next++
	return s.block[lane]
}

// Uint64 returns the next two words, the first as the low half.
func (s *Stream) Uint64() uint64 {
	lo := uint64(s.Uint32())
	return lo | uint64(s.Uint32())<<32
}

// Float32 returns a uniform multiple of 2^-24 in [0, 1), from one word.
func (s *Stream) Float32() float32 { return float32(s.Uint32()>>8) * 0x1p-24 }

// Float64 returns a uniform multiple of 2^-53 in [0, 1), from two words.
func (s *Stream) Float64() float64 { return unit(s.Uint64()) }

func unit(w uint64) float64 { return float64(w>>11) * 0x1p-53 }

// Intn returns a uniform integer in [0, n). It is unbiased: Lemire's method
// rejects the products that would fill some results more often than others.
func (s *Stream) Intn(n int) int {
	if n <= 0 {
		panic(fmt.Sprintf("rng: Intn: n = %d; want n >= 1", n))
	}
	m := uint64(n)
	hi, lo := bits.Mul64(s.Uint64(), m)
	if lo < m {
		for floor := -m % m; lo < floor; {
			hi, lo = bits.Mul64(s.Uint64(), m)
		}
	}
	return int(hi)
}

// Shuffle permutes n things uniformly through swap (Fisher–Yates).
func (s *Stream) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, s.Intn(i+1))
	}
}

// Perm returns a uniform permutation of 0 … n-1.
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	s.Shuffle(n, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

// pair makes two standard normals of one block by Box–Muller in float64: the
// first two words give the radius, the last two the angle. The radius uses
// 1-u in (0, 1], so the largest |z| is √(2·53·ln 2) = 8.57.
func pair(b [4]uint32) (z0, z1 float64) {
	r := math.Sqrt(-2 * math.Log(1-unit(uint64(b[0])|uint64(b[1])<<32)))
	sin, cos := math.Sincos(2 * math.Pi * unit(uint64(b[2])|uint64(b[3])<<32))
	return r * cos, r * sin
}

// NormalAt returns normal i counted from the stream's start, without moving:
// half i%2 of block i/2. It is what the (i+1)th call of Normal returns on a
// stream that was used for nothing else.
func (s *Stream) NormalAt(i uint64) float64 {
	z0, z1 := pair(s.blockAt(i >> 1))
	if i&1 == 1 {
		return z1
	}
	return z0
}

// Normal returns a standard normal. A pair takes one whole block, from the next
// block boundary on; the second of the pair is given by the next call.
func (s *Stream) Normal() float64 {
	if s.half {
		s.half = false
		return s.spare
	}
	i := (s.next + 3) >> 2
	s.next, s.have = (i+1)<<2, false
	var z float64
	z, s.spare = pair(s.blockAt(i))
	s.half = true
	return z
}

// SeekNormal moves to normal i counted from the stream's start, so that the next
// call of Normal returns what NormalAt(i) does.
func (s *Stream) SeekNormal(i uint64) {
	s.Seek(i >> 1 << 2)
	if i&1 == 1 {
		s.Normal()
	}
}

// FillNormal64 sets every element to a standard normal: the values that
// len(x) calls of Normal return.
func (s *Stream) FillNormal64(x []float64) {
	for i := range x {
		x[i] = s.Normal()
	}
}

// FillNormal32 is FillNormal64 rounded to float32.
func (s *Stream) FillNormal32(x []float32) {
	for i := range x {
		x[i] = float32(s.Normal())
	}
}
