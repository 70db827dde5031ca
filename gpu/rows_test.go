package gpu_test

import (
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
)

// Rows are a view: what is written there is in the tensor, of every dtype.
func TestRows(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64, gpu.Float16, gpu.BFloat16, gpu.Int32, gpu.Uint8} {
			x := dev.Zeros(dt, 4, 2, 3)
			v := x.Rows(1, 3)
			if !slices.Equal(v.Shape(), []int{2, 2, 3}) || v.Len() != 12 || v.DType() != dt || v.Device() != dev {
				t.Fatalf("%v: rows are %v %v of %d", dt, v.DType(), v.Shape(), v.Len())
			}
			ones := gpu.CPU().New(dt, 1, 2, 3)
			for i := range 6 {
				switch dt {
				case gpu.Float32:
					ones.F32()[i] = 1
				case gpu.Float64:
					ones.F64()[i] = 1
				case gpu.Float16:
					ones.U16()[i] = gpu.FloatToF16(1)
				case gpu.BFloat16:
					ones.U16()[i] = gpu.FloatToBF16(1)
				case gpu.Int32:
					ones.I32()[i] = 1
				default:
					ones.U8()[i] = 1
				}
			}
			v.Rows(1, 2).Copy(ones) // row 2 of x, as a view of a view
			got, err := x.Floats()
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range got {
				if want := float32(i / 6 % 3 / 2); g != want {
					t.Fatalf("%v: element %d is %g, want %g", dt, i, g, want)
				}
			}
			if e := x.Rows(4, 4); e.Len() != 0 || e.Ptr() != 0 {
				t.Errorf("%v: no rows have %d elements at %x", dt, e.Len(), e.Ptr())
			}
		}
		for _, f := range []func(){
			func() { dev.Empty(2, 2).Rows(-1, 1) }, func() { dev.Empty(2, 2).Rows(2, 1) },
			func() { dev.Empty(2, 2).Rows(0, 3) }, func() { dev.Empty().Rows(0, 0) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				f()
			}()
		}
	})
}
