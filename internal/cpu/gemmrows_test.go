//go:build native && cgo

package cpu

import (
	"slices"
	"testing"
)

// What a network makes of a picture does not depend on how many are in the batch: with AVX-512 a row of a product has the same bits among few
// and many.
func TestGemmRowsAlone(t *testing.T) {
	if !haveDNNL() || !slices.ContainsFunc(Features(), func(f Feature) bool { return f.Name == "AVX512F" && f.Has }) {
		t.Skip("no oneDNN, or no AVX-512")
	}
	const most = 64
	for _, s := range [][2]int{{1, 4}, {3, 64}, {10, 9}, {16, 16}, {33, 31}, {48, 64}, {128, 128}, {384, 128}, {128, 512}, {40, 512}, {512, 300}} {
		n, k := s[0], s[1]
		for _, tb := range []bool{false, true} {
			for _, beta := range []float32{0, 1} {
				ldb := n
				if tb {
					ldb = k
				}
				a, b := noise[float32](most*k, 1), noise[float32](n*k, 2)
				start := noise[float32](most*n, 3)
				all := slices.Clone(start)
				Gemm32(nil, false, tb, most, n, k, 1, a, k, b, ldb, beta, all, n)
				for _, m := range []int{1, 2, 3, 7, 15, 16, 33} {
					for _, first := range []int{0, 5, most - m} {
						some := slices.Clone(start[first*n : (first+m)*n])
						Gemm32(nil, false, tb, m, n, k, 1, a[first*k:], k, b, ldb, beta, some, n)
						if !slices.Equal(some, all[first*n:(first+m)*n]) {
							t.Fatalf("%d rows from %d on by %d×%d, transposed %v, added to %g times: other bits than among %d", m, first, k, n, tb, beta, most)
						}
					}
				}
			}
		}
	}
}
