//go:build native && cgo

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Every kind of vector that runs here gives the bits of the loop in Go, and sees
// a NaN wherever it is.
func TestLinCombOfEveryKindOfVector(t *testing.T) {
	best := linVectors
	defer func() { linVectors = best }()
	for linVectors = range best + 1 {
		for n := range 70 {
			for _, k := range []int{1, 2, 3, linOperands} {
				r := rand.New(rand.NewPCG(uint64(n), uint64(k)))
				c := random64(r, k)
				var x [linOperands][]float32
				for j := range x {
					x[j] = random32(r, n)
				}
				got, want := make([]float32, n), make([]float32, n)
				if !LinComb32(nil, got, c, x[:k]...) {
					t.Errorf("vectors %d, n=%d: finite results count as not finite", linVectors, n)
				}
				goLinComb(want, c, &x)
				sameBits(t, fmt.Sprintf("vectors %d, n=%d, k=%d", linVectors, n, k), got, want)
				for i := range n {
					x[k-1][i] = float32(math.NaN())
					if LinComb32(nil, got, c, x[:k]...) {
						t.Fatalf("vectors %d, n=%d, k=%d: a NaN at %d was not seen", linVectors, n, k, i)
					}
					x[k-1][i] = 0
				}
			}
		}
	}
}
