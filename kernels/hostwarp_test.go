//go:build native && cgo && hostdev

package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// eachOrder runs f with threads woken forward, backward and at random: a primitive's result must
// not depend on it.
func eachOrder(t *testing.T, f func(t *testing.T)) {
	for _, order := range []string{"0", "1", "7"} {
		t.Run("order="+order, func(t *testing.T) {
			t.Setenv("FIDLAB_HOST_ORDER", order)
			f(t)
		})
	}
}

// TestMma: the tensor cores' product against float64, through every way of loading the operands.
func TestMma(t *testing.T) {
	for _, c := range []struct {
		name     string
		mantissa int
	}{{"f16", 10}, {"bf16", 7}} {
		for how := range 4 {
			t.Run(fmt.Sprintf("%s/%d", c.name, how), func(t *testing.T) {
				eachOrder(t, func(t *testing.T) {
					s := open(t)
					rng := rand.New(rand.NewPCG(uint64(how), uint64(c.mantissa)))
					a, b := make([]uint16, 16*16), make([]uint16, 16*8)
					for _, m := range [][]uint16{a, b} {
						for i := range m {
							m[i] = nearest(rng.NormFloat64(), c.mantissa)
						}
					}
					d := s.Alloc(4 * 16 * 8)
					run(s, "check_mma_"+c.name, 1, 32, 0, d, upload(s, a), upload(s, b), how)
					for i, got := range download[float32](t, s, d, 16*8) {
						want, scale := 0.0, 0.0
						for k := range 16 {
							p := decode(a[i/8*16+k], c.mantissa) * decode(b[k*8+i%8], c.mantissa)
							want, scale = want+p, scale+math.Abs(p)
						}
						if !(math.Abs(float64(got)-want) <= 16*math.Exp2(-24)*scale) {
							t.Fatalf("d[%d][%d] = %g, want %g", i/8, i%8, got, want)
						}
					}
				})
			})
		}
	}
}

// TestMmaTf32: operands cut to 10 bits of fraction, or rounded to them with ties
// away from 0, against float64; device_tf32.h has the fragments.
func TestMmaTf32(t *testing.T) {
	cut := func(x float32) float64 { return float64(math.Float32frombits(math.Float32bits(x) &^ 0x1fff)) }
	rounded := func(x float32) float64 {
		f, e := math.Frexp(math.Abs(float64(x))) // in [1/2, 1): 11 bits
		return math.Copysign(math.Ldexp(math.Floor(f*2048+0.5), e-11), float64(x))
	}
	for how, operand := range []func(float32) float64{cut, rounded} {
		eachOrder(t, func(t *testing.T) {
			s := open(t)
			rng := rand.New(rand.NewPCG(8, uint64(how)))
			a, b := make([]float32, 16*8), make([]float32, 8*8)
			for _, m := range [][]float32{a, b} {
				for i := range m {
					m[i] = float32(rng.NormFloat64())
				}
			}
			a[3], a[4], a[5] = 1+0x1p-11, -1-0x1p-11, 1+0x1p-11-0x1p-23 // two ties and just below one
			d := s.Alloc(4 * 16 * 8)
			run(s, "check_mma_tf32", 1, 32, 0, d, upload(s, a), upload(s, b), how)
			for i, got := range download[float32](t, s, d, 16*8) {
				want, scale := 0.0, 0.0
				for k := range 8 {
					p := operand(a[i/8*8+k]) * operand(b[k*8+i%8])
					want, scale = want+p, scale+math.Abs(p)
				}
				if !(math.Abs(float64(got)-want) <= 8*math.Exp2(-24)*scale) {
					t.Fatalf("way %d: d[%d][%d] = %g, want %g", how, i/8, i%8, got, want)
				}
			}
		})
	}
}

// TestLdmatrix: the fragments as the PTX manual's figures show them.
func TestLdmatrix(t *testing.T) {
	in := make([]uint16, 32*8)
	for i := range in {
		in[i] = uint16(i)
	}
	for how, c := range []struct {
		count int
		trans bool
	}{{2, false}, {4, false}, {2, true}, {4, true}} {
		eachOrder(t, func(t *testing.T) {
			s := open(t)
			p := s.Alloc(4 * 32 * 4)
			run(s, "check_ldmatrix", 1, 32, 0, p, upload(s, in), how)
			out := download[uint32](t, s, p, 32*4)
			for lane := range 32 {
				for m := range c.count {
					lo, hi := 8*(8*m+lane/4)+2*(lane%4), 8*(8*m+lane/4)+2*(lane%4)+1
					if c.trans {
						lo, hi = 8*(8*m+2*(lane%4))+lane/4, 8*(8*m+2*(lane%4)+1)+lane/4
					}
					if want := uint32(in[lo]) | uint32(in[hi])<<16; out[4*lane+m] != want {
						t.Fatalf("%+v: lane %d, register %d: %08x, want %08x", c, lane, m, out[4*lane+m], want)
					}
				}
			}
		})
	}
}

// shuffleSource is the lane that shfl.sync delivers, from the PTX manual's description.
func shuffleSource(how, lane, b, width int) int {
	segmask := 32 - width // of the operand c, bits 8 to 12
	clamp := 31
	if how == 1 {
		clamp = 0
	}
	maxLane := lane&segmask | clamp&^segmask
	minLane := lane & segmask
	var j int
	var inside bool
	switch how {
	case 0:
		j = minLane | b&31&^segmask
		inside = j <= maxLane
	case 1:
		j = lane - b&31
		inside = j >= maxLane
	case 2:
		j = lane + b&31
		inside = j <= maxLane
	case 3:
		j = lane ^ b&31
		inside = j <= maxLane
	}
	if !inside {
		return lane
	}
	return j
}

func TestShuffle(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		in, wide := make([]float32, 32), make([]float64, 32)
		for i := range in {
			in[i], wide[i] = float32(100+i), 1+float64(i)*math.Exp2(-40)
		}
		pi, pw := upload(s, in), upload(s, wide)
		for _, mask := range []uint32{0xffffffff, 0x0000ffff, 0xff00ff0f} {
			for how := range 4 {
				for _, width := range []int{32, 16, 8, 4, 2} {
					for _, by := range []int{0, 1, 2, 5, 16, 31} {
						o, ow := s.Alloc(4*32), s.Alloc(8*32)
						run(s, "check_shuffle", 1, 32, 0, o, pi, how, by, width, mask)
						run(s, "check_shuffle_f64", 1, 32, 0, ow, pw, how, by, width, mask)
						out, outWide := download[float32](t, s, o, 32), download[float64](t, s, ow, 32)
						for lane := range 32 {
							if mask>>lane&1 == 0 {
								continue
							}
							from := shuffleSource(how, lane, by, width)
							want, wantWide := in[from], wide[from]
							if mask>>from&1 == 0 { // the value of an absent lane is undefined; here NaN
								want, wantWide = float32(math.NaN()), math.NaN()
							}
							if !same(float64(out[lane]), float64(want)) || !same(outWide[lane], wantWide) {
								t.Fatalf("mask %x, way %d, width %d, by %d: lane %d gets %g and %g, want %g and %g",
									mask, how, width, by, lane, out[lane], outWide[lane], want, wantWide)
							}
						}
						s.Free(o)
						s.Free(ow)
					}
				}
			}
		}
	})
}

func TestVote(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		for round, mask := range []uint32{0xffffffff, 0xffffffff, 0x80000001, 0x00ffff00, 0x10, 0xffffffff} {
			in := make([]uint32, 32)
			for i := range in {
				in[i] = []uint32{rng.Uint32(), uint32(rng.IntN(5)), 7}[round%3] // all equal in the last
			}
			p := s.Alloc(4 * 14 * 32)
			run(s, "check_vote", 1, 32, 0, p, upload(s, in), mask)
			out := download[uint32](t, s, p, 14*32)
			var r [14]uint32
			r[2], r[4], r[5] = 1, mask, 1
			first := in[bits.TrailingZeros32(mask)]
			r[7], r[9], r[10], r[11] = first, first, first, math.MaxUint32
			for l, v := range in {
				if mask>>l&1 == 0 {
					continue
				}
				r[0] |= v & 1 << l
				r[1] |= v & 1
				r[2] &= v & 1
				if v != first {
					r[4], r[5] = 0, 0
				}
				r[6] += v
				r[7], r[8] = min(r[7], v), max(r[8], v)
				r[9] = uint32(min(int32(r[9]), int32(v)))
				r[10] = uint32(max(int32(r[10]), int32(v)))
				r[11] &= v
				r[12] |= v
				r[13] ^= v
			}
			for l, v := range in {
				if mask>>l&1 == 0 {
					continue
				}
				r[3] = 0
				for o, w := range in {
					if mask>>o&1 == 1 && w == v {
						r[3] |= 1 << o
					}
				}
				for k := range r {
					if out[32*k+l] != r[k] {
						t.Fatalf("round %d: lane %d, result %d: %08x, want %08x", round, l, k, out[32*k+l], r[k])
					}
				}
			}
		}
	})
}

// TestCopyAsync: a copy lands when its group is waited for and not before; one that is not valid
// leaves zeros.
func TestCopyAsync(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		const threads, n = 64, 4 * 64
		in := make([]float32, n)
		for i := range in {
			in[i] = float32(i + 1)
		}
		p := s.Alloc(4 * 4 * n)
		run(s, "check_copy", 1, threads, 4*2*n, p, upload(s, in), n)
		out := download[float32](t, s, p, 4*n)
		for i, v := range in {
			odd := i/4%2 == 1
			late, pair := v, in[i/4*4+i%4%2] // the second half of the last one is an 8-byte copy
			if odd {
				late = 0
			}
			switch {
			case i%4 >= 2 && odd:
				pair = 0
			case i%4 == 0:
				pair = in[i+1]
			case i%4 == 1:
				pair = v
			}
			if out[i] != v || out[n+i] == out[n+i] || out[2*n+i] != late || out[3*n+i] != pair {
				t.Fatalf("%d: %g, %g, %g, %g; want %g, NaN, %g, %g", i, out[i], out[n+i], out[2*n+i], out[3*n+i], v, late, pair)
			}
		}
	})
}

func TestAtomics(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		const blocks, threads, all = 3, 96, 3 * 96
		i := upload(s, []int32{0, -5, 5, 0, 0})
		u := upload(s, []uint32{0, 0, 100, 0, math.MaxUint32, 0, 0})
		l := upload(s, []uint64{1, 10})
		f := upload(s, []float32{0, 0})
		d := upload(s, []float64{0})
		run(s, "check_atomic", blocks, threads, 0, i, u, l, f, d)
		if got, want := download[int32](t, s, i, 5), []int32{all, all - 1, 1 - all, -2 * all, 1}; !slices.Equal(got, want) {
			t.Errorf("int: %d, want %d", got, want)
		}
		xor := uint32(0) // each bit is flipped by all/8 threads
		if all/8%2 == 1 {
			xor = 0xff
		}
		if got, want := download[uint32](t, s, u, 7), []uint32{3 * all, all - 1, 5, math.MaxUint32, 0, xor, all % 7}; !slices.Equal(got, want) {
			t.Errorf("unsigned: %d, want %d", got, want)
		}
		if got, want := download[uint64](t, s, l, 2), []uint64{1 + all<<33, 10 + all}; !slices.Equal(got, want) {
			t.Errorf("unsigned long long: %d, want %d", got, want)
		}
		if got, want := download[float32](t, s, f, 2), []float32{all / 2, 1}; !slices.Equal(got, want) {
			t.Errorf("float: %g, want %g", got, want)
		}
		if got := download[float64](t, s, d, 1); got[0] != all/4 {
			t.Errorf("double: %g, want %d", got[0], all/4)
		}
	})
}

// TestFresh: shared memory is NaN at every block's start, also after a block that wrote all of it.
func TestFresh(t *testing.T) {
	s := open(t)
	p := s.Alloc(4 * 3 * 128)
	for range 2 {
		run(s, "check_fresh", 3, 64, 256, p)
		for i, v := range download[uint32](t, s, p, 3*128) {
			if v != math.MaxUint32 {
				t.Fatalf("block %d, word %d: %08x", i/128, i%128, v)
			}
		}
	}
}

func TestLastBlock(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		sum, parts, arrived := s.Alloc(4), s.Alloc(4*20), upload(s, []uint32{0})
		run(s, "check_last", 20, 32, 0, sum, parts, arrived)
		if got := download[int32](t, s, sum, 1); got[0] != 210 {
			t.Errorf("%d, want 210", got[0])
		}
	})
}

func TestIntegers(t *testing.T) {
	s := open(t)
	rng := rand.New(rand.NewPCG(5, 6))
	const n = 256
	x, y, f := make([]uint32, n), make([]uint32, n), make([]float32, n)
	for i := range n {
		x[i], y[i], f[i] = rng.Uint32()>>rng.IntN(32), rng.Uint32(), float32(rng.NormFloat64()*math.Exp2(float64(rng.IntN(40)-4)))
	}
	x[0], x[1], y[1], y[2] = 0, 1<<31, 0, 32
	copy(f, []float32{0, 0.5, 1.5, -0.5, -1.5, 2.5, 3e9, -3e9, 5e9, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))})
	toInt := func(v, lo, hi float64) uint32 {
		if v != v {
			return 0
		}
		return uint32(int64(min(max(v, lo), hi)))
	}
	p := s.Alloc(4 * 16 * n)
	run(s, "check_integer", 1, n, 0, p, upload(s, x), upload(s, y), upload(s, f))
	out := download[uint32](t, s, p, 16*n)
	for i := range n {
		a, b, v := x[i], y[i], float64(f[i])
		var both [8]byte
		binary.LittleEndian.PutUint32(both[:], a)
		binary.LittleEndian.PutUint32(both[4:], b)
		perm := uint32(0)
		for k := range 4 {
			pick := (0x7410 ^ b&0x3333) >> (4 * k) & 15
			byte := uint32(both[pick&7])
			if pick&8 != 0 {
				byte = uint32(int32(int8(byte))>>7) & 255
			}
			perm |= byte << (8 * k)
		}
		ffs := uint32(0)
		if a != 0 {
			ffs = uint32(bits.TrailingZeros32(a)) + 1
		}
		sh := b & 31
		hi64, _ := bits.Mul64(uint64(a)<<32|uint64(b), math.MaxUint64)
		up, down := f[i], f[i]
		if !(up >= -1) {
			up = -1
		}
		if !(down <= 1) {
			down = 1
		}
		want := [16]uint32{
			uint32(uint64(a) * uint64(b) >> 32), uint32(bits.OnesCount32(a)), ffs, uint32(bits.LeadingZeros32(a)), bits.Reverse32(a),
			uint32((uint64(b)<<32 | uint64(a)) << sh >> 32), uint32((uint64(b)<<32 | uint64(a)) >> sh), perm,
			toInt(math.RoundToEven(v), -1<<31, 1<<31-1), toInt(math.Floor(v), -1<<31, 1<<31-1),
			toInt(math.Ceil(v), -1<<31, 1<<31-1), toInt(math.Trunc(v), -1<<31, 1<<31-1),
			toInt(math.RoundToEven(v), 0, 1<<32-1), uint32(hi64 >> 32), math.Float32bits(up), math.Float32bits(down),
		}
		for k := range want {
			if out[16*i+k] != want[k] {
				t.Fatalf("x = %08x, y = %08x, f = %g: result %d is %08x, want %08x", a, b, f[i], k, out[16*i+k], want[k])
			}
		}
	}
}

// TestOrder: the variable is heeded; an unordered write shows it.
func TestOrder(t *testing.T) {
	if os.Getenv("FIDLAB_HOST_ORDER") != "" {
		t.Setenv("FIDLAB_HOST_ORDER", "0")
	}
	s := open(t)
	seen := map[int32]bool{}
	for _, order := range []string{"0", "1", "7"} {
		t.Setenv("FIDLAB_HOST_ORDER", order)
		p := upload(s, []int32{-1})
		run(s, "check_race", 1, 64, 0, p)
		seen[download[int32](t, s, p, 1)[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("three orders of a race end in %d ways", len(seen))
	}
}
