package ops_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

// BenchmarkTurn is the queries of 64 pictures of 64 tokens in 4 heads of 32, beside a pass
// over the same memory.
func BenchmarkTurn(b *testing.B) {
	x, angles := gpu.CPU().From(oracle.Normal(1, 64*64*4*32), 64, 64, 4, 32), gpu.CPU().From(oracle.Normal(2, 64*16), 64, 16)
	out := x.Like()
	b.SetBytes(8 * int64(x.Len()))
	for b.Loop() {
		ops.Turn(out, x, angles, false, false, false)
	}
}
