package ops_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// An operand from another device, the CPU or a fork of the same GPU, panics and says which it is.
func TestMixedDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			t.Skip("one device alone can't be mixed")
		}
		fork, err := dev.Fork()
		if err != nil {
			t.Fatal(err)
		}
		defer fork.Close()
		for _, other := range []*gpu.Device{gpu.CPU(), fork} {
			x, y := dev.Zeros(gpu.Float32, 1, 4, 4), other.Zeros(gpu.Float32, 1, 4, 4)
			d, e := dev.Zeros(gpu.Float64, 1, 4, 4), other.Zeros(gpu.Float64, 1, 4, 4)
			q, k := dev.Zeros(gpu.Float32, 1, 4, 1, 16), other.Zeros(gpu.Float32, 1, 4, 1, 16)
			lse := dev.Zeros(gpu.Float32, 1, 1, 4)
			for op, call := range map[string]func(){
				"Clamp":      func() { ops.Clamp(x, y, 0, 1) },
				"LinComb":    func() { ops.LinComb(x.Like(), []float64{1, 2}, x, y) },
				"Moments":    func() { ops.Moments(other.Zeros(gpu.Float64, 1, 4), d, x) },
				"Covariance": func() { ops.Covariance(d, dev.Zeros(gpu.Float64, 1, 4), y, 1) },
				"Map":        func() { ops.Map(x, y, ops.SiLU) },
				"Affine":     func() { ops.Affine(x, 1, x, 1, y, 0, false) },
				"Mul":        func() { ops.Mul(x, x, y, false) },
				"SumTo":      func() { ops.SumTo(dev.Empty(4), y, nil, false) },
				"Adam":       func() { ops.Adam(x, x, x, y, 0, 16, ops.AdamConfig{}) },
				"Dropout":    func() { ops.Dropout(x, y, ops.Mask{}, false) },
				"Eigh":       func() { _ = ops.Eigh(dev.Zeros(gpu.Float64, 1, 4), nil, e) },
				"Sqrtm":      func() { _, _ = ops.Sqrtm(d, nil, e) },
				"Attention": func() {
					ops.Attention(q.Like(), lse, ops.AttentionInput{Q: q, K: k, V: q}, ops.AttentionConfig{})
				},
			} {
				msg := ""
				func() {
					defer func() { msg = fmt.Sprint(recover()) }()
					call()
				}()
				if !strings.HasPrefix(msg, "ops: "+op+": ") || !strings.Contains(msg, "on "+other.String()) || !strings.Contains(msg, "; move ") {
					t.Errorf("%s with an operand on %v: %s", op, other, msg)
				}
			}
		}
	})
}
