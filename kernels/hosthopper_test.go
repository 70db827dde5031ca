//go:build native && cgo && hostdev

package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/cuda"
)

// runMap is run for kernels that take a tensor map after their first pointer.
func runMap(s *cuda.Stream, name string, block, shared int, out cuda.Ptr, m *cuda.TensorMap, args ...int) {
	var a cuda.Args
	a.Ptr(out)
	a.Map(m)
	for _, v := range args {
		a.I32(int32(v))
	}
	s.Launch(cuda.Func{Module: "check", Name: name}, cuda.Grid{X: 1, Y: 1, Z: 1, BX: block, Shared: shared}, &a)
}

// TestWgmma: products of four warps against float64, by the documented table of accumulators, with
// both matrices in shared memory or the left one in registers, the right one along k or along n.
func TestWgmma(t *testing.T) {
	for _, c := range []struct {
		name     string
		mantissa int
	}{{"f16", 10}, {"bf16", 7}} {
		for _, n := range []int{64, 128} {
			for how := range 4 {
				t.Run(fmt.Sprintf("%s/%d/%d", c.name, n, how), func(t *testing.T) {
					eachOrder(t, func(t *testing.T) {
						s := open(t)
						rng := rand.New(rand.NewPCG(uint64(how), uint64(c.mantissa)))
						a, b := make([]uint16, 64*64), make([]uint16, 64*n)
						for _, m := range [][]uint16{a, b} {
							for i := range m {
								m[i] = nearest(rng.NormFloat64(), c.mantissa)
							}
						}
						p := s.Alloc(4 * 64 * n)
						run(s, "check_wgmma_"+c.name, 1, 128, 1024+64*128+n*128, p, upload(s, a), upload(s, b), n, how)
						out := download[float32](t, s, p, 64*n)
						for thread := range 128 {
							for i := range n / 2 {
								row := thread/32*16 + thread%32/4 + i%4/2*8
								column := i/4*8 + 2*(thread%4) + i%2
								want, scale := 0.0, 0.0
								for k := range 64 {
									x := decode(a[row*64+k], c.mantissa)
									y := decode(b[column*64+k], c.mantissa)
									if how&1 == 1 {
										y = decode(b[k*n+column], c.mantissa)
									}
									want, scale = want+2*x*y, scale+2*math.Abs(x*y)
								}
								// 128 products and 8 sums of them, each rounded to float32.
								if got := float64(out[thread*n/2+i]); !(math.Abs(got-want) <= 136*math.Exp2(-24)*scale) {
									t.Fatalf("D[%d][%d] = %g, want %g", row, column, got, want)
								}
							}
						}
					})
				})
			}
		}
	}
}

// TestBox: a box in shared memory is where the swizzle's formula says, with zeros for what lies
// outside of the tensor, and is not there before the wait.
func TestBox(t *testing.T) {
	dims := [4]int{72, 3, 5, 2} // 16-bit elements; a row of 72 has 144 bytes
	for _, c := range []struct {
		rank    int
		box     [4]int
		at      [4]int
		swizzle cuda.Swizzle
	}{
		{2, [4]int{64, 3}, [4]int{0, 0}, cuda.Swizzle128},
		{2, [4]int{64, 16}, [4]int{16, -2}, cuda.Swizzle128}, // 8 columns, and rows before and behind
		{2, [4]int{64, 16}, [4]int{-5, 1}, cuda.SwizzleNone},
		{2, [4]int{8, 20}, [4]int{70, 0}, cuda.SwizzleNone},
		{3, [4]int{64, 2, 5}, [4]int{3, 1, 2}, cuda.Swizzle128},
		{4, [4]int{64, 1, 9, 1}, [4]int{0, 2, 1, 1}, cuda.Swizzle128},
		{4, [4]int{64, 1, 9, 2}, [4]int{8, 1, -3, 0}, cuda.Swizzle128},
		{4, [4]int{64, 1, 2, 1}, [4]int{0, 0, 0, 2}, cuda.Swizzle128}, // outside as a whole
		{4, [4]int{16, 2, 3, 1}, [4]int{60, 0, 3, 1}, cuda.SwizzleNone},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			eachOrder(t, func(t *testing.T) {
				s := open(t)
				in := make([]uint16, 72*3*5*2)
				for i := range in {
					in[i] = uint16(i + 1)
				}
				tiles := cuda.Tiles{Base: upload(s, in), Type: cuda.TensorBF16, Rank: c.rank, Swizzle: c.swizzle}
				count, stride, rows := 1, 2, 1
				for i := range c.rank {
					tiles.Dims[i], tiles.Box[i] = uint64(dims[i]), uint32(c.box[i])
					count *= c.box[i]
					stride *= dims[i]
					if i+1 < c.rank {
						tiles.Strides[i] = uint64(stride)
						rows *= c.box[i+1]
					}
				}
				m, err := tiles.Encode()
				if err != nil {
					t.Fatal(err)
				}
				out := s.Alloc(4 * count)
				runMap(s, "check_box", 64, 1024+2*count, out, &m, c.rank, c.at[0], c.at[1], c.at[2], c.at[3], count/2)
				got := cuda.Bytes(download[uint32](t, s, out, count))
				early := binary.LittleEndian.Uint32(got[2*count:])
				if order := os.Getenv("FIDLAB_HOST_ORDER"); order == "0" && early != math.MaxUint32 {
					t.Errorf("before the wait there is %08x", early)
				}
				for r := range rows {
					for x := range c.box[0] {
						want, rest, at, size := uint16(0), r, c.at[0]+x, 1
						inside := at >= 0 && at < dims[0]
						for i := 1; i < c.rank; i++ {
							y := c.at[i] + rest%c.box[i]
							rest /= c.box[i]
							size *= dims[i-1]
							inside = inside && y >= 0 && y < dims[i]
							at += y * size
						}
						if inside {
							want = in[at]
						}
						byte := r*2*c.box[0] + 2*x
						if c.swizzle == cuda.Swizzle128 {
							byte = r*128 + (x/8^r%8)*16 + x%8*2
						}
						if v := binary.LittleEndian.Uint16(got[byte:]); v != want {
							t.Fatalf("row %d, element %d: %d, want %d", r, x, v, want)
						}
					}
				}
			})
		})
	}
}

func TestBarrierPhases(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		const n = 9
		p := s.Alloc(4 * 32 * n)
		run(s, "check_ring", 1, 64, 0, p, n)
		for i, v := range download[int32](t, s, p, 32*n) {
			if want := int32(100*(i/32) + 31 - i%32); v != want {
				t.Fatalf("round %d, lane %d: %d, want %d", i/32, i%32, v, want)
			}
		}
	})
}

func TestNamedBarriers(t *testing.T) {
	eachOrder(t, func(t *testing.T) {
		s := open(t)
		p := s.Alloc(4 * 10)
		run(s, "check_turns", 1, 128, 0, p, 5)
		if got, want := download[int32](t, s, p, 10), []int32{0, 1, 0, 1, 0, 1, 0, 1, 0, 1}; !slices.Equal(got, want) {
			t.Errorf("turns %v, want %v", got, want)
		}
	})
}

// TestHopperMistakes: each mistake ends the process and is named, or shows as NaN.
func TestHopperMistakes(t *testing.T) {
	launch := func(t *testing.T, which int) float32 {
		s := open(t)
		out := s.Alloc(256)
		tiles := cuda.Tiles{Base: upload(s, make([]uint16, 64*64)), Type: cuda.TensorBF16, Rank: 2, Swizzle: cuda.Swizzle128}
		tiles.Dims, tiles.Strides, tiles.Box = [5]uint64{64, 64}, [4]uint64{128}, [5]uint32{64, 64}
		m, err := tiles.Encode()
		if err != nil {
			t.Fatal(err)
		}
		threads := 128
		if which == 15 || which == 16 {
			threads = 384
		}
		runMap(s, "check_hopper_mistake", threads, 1024+8192, out, &m, which)
		return download[float32](t, s, out, 1)[0]
	}
	if which := os.Getenv("FIDLAB_TEST_MISTAKE"); which != "" {
		var n int
		if _, err := fmt.Sscan(which, &n); err != nil {
			t.Fatal(err)
		}
		launch(t, n)
		t.Fatal("nothing happened")
	}
	for i, want := range []string{
		"the barrier has not been initialised",
		"no fenceProxyAsync after barrierInit",
		"wait at barrierWait, hostcheck_hopper.cc:", // of a wrong number of bytes
		"the destination is not aligned to 128 bytes",
		"all 1 arrivals of the phase have come already",
		"the block has ended while a box that it asked for is under way",
		"no wgmmaFence since the last wait",
		"accumulator 13 was written while the product was under way",
		"register 2 of the left matrix was written while the product was under way",
		"warp 2 has given other products to wgmma than the first one of its four",
		"this thread has ended while a wgmma is under way",
		"no wgmmaFence since the last wait",
		"barrier 1 of 288 threads; want 1 to 15, and a multiple of 32",
		"barrier 0 of 128 threads",
		"the block has ended with 32 threads of 128 at the named barrier 1",
		"the warps have taken 2304 registers a lane, and the block has 2016",
		"warps 0 and 1 of one group have taken 176 and 168 registers",
		"for the end of phase 0, which lacks 1 of 1 arrivals and 0 bytes",
		"3 coordinates, and the map has 2 dimensions",
		"the barrier does not lie in shared memory on 8 bytes",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestHopperMistakes$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("FIDLAB_TEST_MISTAKE=%d", i), "FIDLAB_HOST_ORDER=0")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "host device: ") || !strings.Contains(string(out), want) {
				head, _, _ := strings.Cut(string(out), "\nSIGABRT")
				t.Errorf("%v, and it said:\n%s\nwant %q", err, head, want)
			}
			if bytes := "which lacks 0 of 1 arrivals and 128 bytes"; i == 2 && !strings.Contains(string(out), bytes) {
				t.Errorf("%s\nwant %q", out, bytes)
			}
		})
	}
	for which, want := range map[int]float64{20: math.NaN(), 21: math.NaN(), 22: 16} {
		if got := float64(launch(t, which)); !same(got, want) {
			t.Errorf("%d: %g, want %g", which, got, want)
		}
	}
}

// TestTensorMapRefusals: the driver's refusals, and a launch whose map reaches behind its buffer.
func TestTensorMapRefusals(t *testing.T) {
	s := open(t)
	good := cuda.Tiles{Base: upload(s, make([]uint16, 64*64)), Type: cuda.TensorF16, Rank: 2, Swizzle: cuda.Swizzle128}
	good.Dims, good.Strides, good.Box = [5]uint64{64, 64}, [4]uint64{128}, [5]uint32{64, 64}
	for what, spoil := range map[string]func(t *cuda.Tiles){
		"base":         func(t *cuda.Tiles) { t.Base += 8 },
		"rank 0":       func(t *cuda.Tiles) { t.Rank = 0 },
		"rank 6":       func(t *cuda.Tiles) { t.Rank = 6 },
		"extent 0":     func(t *cuda.Tiles) { t.Dims[1] = 0 },
		"extent":       func(t *cuda.Tiles) { t.Dims[1] = 1<<32 + 1 },
		"stride":       func(t *cuda.Tiles) { t.Strides[0] = 136 },
		"small stride": func(t *cuda.Tiles) { t.Strides[0] = 112 },
		"large stride": func(t *cuda.Tiles) { t.Strides[0] = 1 << 40 },
		"box 0":        func(t *cuda.Tiles) { t.Box[1] = 0 },
		"box 257":      func(t *cuda.Tiles) { t.Box[1] = 257 },
		"odd box":      func(t *cuda.Tiles) { t.Box[0] = 60 },
		"wide box":     func(t *cuda.Tiles) { t.Box[0] = 72 },
	} {
		bad := good
		spoil(&bad)
		if _, err := bad.Encode(); err == nil || !strings.Contains(err.Error(), "cuda: tensor map of ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := good.Encode(); err != nil {
		t.Error(err)
	}
}
