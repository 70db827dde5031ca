package ops_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Sizes that are cut into many pieces, both ways and added to what is there.
func TestCumSumInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, double := range []bool{false, true} {
		for _, s := range [][3]int{{3, 300, 50}, {1, 20000, 1}, {700, 1, 30}, {500, 40, 1}, {0, 3, 2}} {
			for _, reverse := range []bool{false, true} {
				x, xv := tensors(r, double, 1, s[:]...)
				out, ov := tensors(r, double, 1, s[:]...)
				ops.CumSum(out[0], x[0], 1, reverse, true)
				for o := range s[0] {
					for k := range s[2] {
						var sum, size float64
						for j := range s[1] {
							if reverse {
								j = s[1] - 1 - j
							}
							i := (o*s[1]+j)*s[2] + k
							sum, size = sum+xv[0][i], size+math.Abs(xv[0][i])
							if d := math.Abs(at(out[0], i) - sum - ov[0][i]); !(d <= off(double, 2, size+math.Abs(ov[0][i]))) {
								t.Fatalf("float64 %t, %v, reverse %t: element %d is %v, want %v", double, s, reverse, i, at(out[0], i), sum+ov[0][i])
							}
						}
					}
				}
			}
		}
	}
}

func TestMaskedFillInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, double := range []bool{false, true} {
		for _, s := range []struct{ x, mask []int }{{[]int{70, 300}, []int{300}}, {[]int{70, 300}, []int{70, 1}}, {[]int{40000}, []int{40000}}, {[]int{5, 60, 70}, []int{60, 1}}} {
			x, xv := tensors(r, double, 1, s.x...)
			out, ov := tensors(r, double, 1, s.x...)
			n := 1
			for _, d := range s.mask {
				n *= d
			}
			bits := make([]uint8, n)
			for i := range bits {
				bits[i] = uint8(r.IntN(3))
			}
			last := s.x[len(s.x)-1]
			ops.MaskedFill(out[0], x[0], gpu.CPU().FromUint8(bits, s.mask...), 2.5, true)
			for i, v := range xv[0] {
				k := i % n
				if s.mask[len(s.mask)-1] == 1 {
					k = i / last % n
				}
				if bits[k] != 0 {
					v = 2.5
				}
				if d := math.Abs(at(out[0], i) - v - ov[0][i]); !(d <= off(double, 1, 3+math.Abs(v)+math.Abs(ov[0][i]))) {
					t.Fatalf("float64 %t, %v: element %d is %v, want %v", double, s, i, at(out[0], i), v+ov[0][i])
				}
			}
		}
	}
}

func TestFlipInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	for _, double := range []bool{false, true} {
		for _, s := range [][3]int{{3, 300, 50}, {1, 20000, 1}, {700, 1, 30}, {2, 5, 20000}, {0, 3, 2}} {
			x, xv := tensors(r, double, 1, s[:]...)
			out, ov := tensors(r, double, 1, s[:]...)
			ops.Flip(out[0], x[0], 1, true)
			for i := range xv[0] {
				j := i/(s[1]*s[2])*s[1]*s[2] + (s[1]-1-i/s[2]%s[1])*s[2] + i%s[2]
				if want := ov[0][i] + xv[0][j]; !(math.Abs(at(out[0], i)-want) <= off(double, 1, math.Abs(want))) {
					t.Fatalf("float64 %t, %v: element %d is %v, want %v", double, s, i, at(out[0], i), want)
				}
			}
		}
	}
}
