package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// RoundBF16 sets out to x, each element rounded to the nearest bfloat16, ties to even; both are float32, and out may be x. What is
// too large becomes infinite, NaN stays one. It panics unless shapes, dtypes and devices agree.
func RoundBF16(out, x *gpu.Tensor) {
	const op = "RoundBF16"
	s := streamOf(op, out, x)
	sameShape(op, out, x)
	if out.DType() != gpu.Float32 {
		fail(op, "dtype %v, want float32", out.DType())
	}
	if s != nil {
		kernels.RoundBf16F32(s, vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), int64(out.Len()))
		return
	}
	newCall(roundBlock, out, x).each(ceil(out.Len(), mapBlock))
}

func roundBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*mapBlock, min((i+1)*mapBlock, c.t[0].Len())
	cpu.RoundBF16s(c.t[0].F32()[lo:hi], c.t[1].F32()[lo:hi])
}

// loan is an operand on a GPU, rounded in memory that is given back, or as it is.
type loan struct {
	p   cuda.Ptr
	own bool
}

// roundedOn is the operand x, float32, rounded to bfloat16 where it is not known to be.
func roundedOn(s *cuda.Stream, x *gpu.Tensor, known bool) loan {
	if known || x.Len() == 0 {
		return loan{x.Ptr(), false}
	}
	p := s.Alloc(4 * x.Len())
	kernels.RoundBf16F32(s, vectorGrid(x, x.Len()), p, x.Ptr(), int64(x.Len()))
	return loan{p, true}
}

func (l loan) free(s *cuda.Stream) {
	if l.own {
		s.Free(l.p)
	}
}
