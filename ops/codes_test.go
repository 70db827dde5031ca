package ops_test

import (
	"fmt"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// How many vectors each code has and their sums, added to what was there, in the order of the vectors to the last bit; some codes have none.
func TestCodeSumsOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases := 0
		for _, dt := range realDTypes {
			for _, s := range [][3]int{{1, 1, 1}, {10, 3, 7}, {5, 128, 33}, {9, 130, 300}, {17, 4, 64}, {3, 1025, 5}, {4, 8, 0}} {
				k, d, n := s[0], s[1], s[2]
				z, zv := linearInput(t, dev, dt, 131, n, d)
				count, cv := linearInput(t, dev, gpu.Float64, 132, k)
				sum, sv := linearInput(t, dev, gpu.Float64, 133, k, d)
				ids := make([]int32, n)
				for i := range ids {
					ids[i] = int32((i*i + 3*i) % max(1, k-1)) // the last code has none
					cv[ids[i]]++
					for j := range d {
						sv[int(ids[i])*d+j] += zv[i*d+j]
					}
				}
				what := fmt.Sprintf("%v %v", dt, s)
				ops.CodeSums(count, sum, z, dev.FromInt32(ids, n))
				sameValues(t, what+", numbers", read64(t, count), cv)
				sameValues(t, what+", sums", read64(t, sum), sv)
				cases++
			}
		}
		if cases != 14 {
			t.Errorf("%d cases", cases)
		}
		if !dev.CUDA() {
			return
		}
		count, sum := dev.Zeros(gpu.Float64, 3), dev.Zeros(gpu.Float64, 3, 2)
		ops.CodeSums(count, sum, dev.FromAs(gpu.Float32, []float32{1, 1, 2, 2, 4, 4}, 3, 2), dev.FromInt32([]int32{3, 1, -1}, 3))
		sameValues(t, "of codes 3, 1 and -1 in a book of 3", append(read64(t, count), read64(t, sum)...), []float64{0, 1, 0, 0, 0, 2, 2, 0, 0})
	})
}

func TestCodeSumsRefuses(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		e := func(shape ...int) *gpu.Tensor { return dev.Zeros(gpu.Float64, shape...) }
		ids := func(v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, len(v)) }
		for want, f := range map[string]func(){
			"ops: CodeSums: vectors are int32, want float32 or float64":           func() { ops.CodeSums(e(3), e(3, 2), dev.New(gpu.Int32, 1, 2), ids(0)) },
			"ops: CodeSums: vectors [1 2] and sums [3 4], want [n, D] and [K, D]": func() { ops.CodeSums(e(3), e(3, 4), e(1, 2), ids(0)) },
			"ops: CodeSums: sums are float32, numbers float64, want float64":      func() { ops.CodeSums(e(3), dev.New(gpu.Float32, 3, 2), e(1, 2), ids(0)) },
			"ops: CodeSums: count has shape [2], want 3 elements":                 func() { ops.CodeSums(e(2), e(3, 2), e(1, 2), ids(0)) },
			"ops: CodeSums: ids has shape [2], want 1 elements":                   func() { ops.CodeSums(e(3), e(3, 2), e(1, 2), ids(0, 1)) },
			"ops: CodeSums: ids are float64, want int32":                          func() { ops.CodeSums(e(3), e(3, 2), e(1, 2), e(1)) },
			"ops: CodeSums: id 3 at 1, want 0 to 2":                               func() { ops.CodeSums(e(3), e(3, 2), e(2, 2), ids(0, 3)) },
		} {
			mustPanic(t, want, want, f)
		}
	})
}
