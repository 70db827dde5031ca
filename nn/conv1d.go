package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/ops"
)

// Conv1DConfig is how a kernel moves along a sequence: steps of Stride, elements of the
// kernel Dilation places apart (0 stands for 1 in both), Pad zeros before and after.
type Conv1DConfig struct {
	Stride, Dilation int
	Pad              [2]int
}

// Same1D is the configuration of step 1 whose result is as long as the sequence, for an odd
// kernel.
func Same1D(kernel, dilation int) Conv1DConfig {
	p := max(1, dilation) * (kernel / 2)
	return Conv1DConfig{Dilation: dilation, Pad: [2]int{p, p}}
}

// Conv1D is a correlation of sequences [N, C, L] with kernels W, plus B for each channel.
type Conv1D struct {
	W, B   *Param // [out, in, k] and [out]; B may be nil
	Config Conv1DConfig
}

// NewConv1D registers kernels of k elements and a bias in s. Its result is as long as the
// sequences for an odd k, unless Config is changed.
func NewConv1D(s Scope, in, out, k int) *Conv1D {
	return &Conv1D{
		W: s.Param("weight", FanIn, out, in, k), B: s.Param("bias", Uniform(invRoot(in*k)), out),
		Config: Same1D(k, 1),
	}
}

// Zero makes the layer start with zeros. It returns l, before Init.
func (l *Conv1D) Zero() *Conv1D {
	l.W.Start = Zeros
	if l.B != nil {
		l.B.Start = Zeros
	}
	return l
}

// Forward is the layer's result. A sequence is a picture one pixel high.
func (l *Conv1D) Forward(x *Var) *Var {
	t, s, k := x.tape, x.Shape(), l.W.shape
	if len(s) != 3 || s[1] != k[1] {
		panic(fmt.Sprintf("nn: Conv1D: %s: sequences %v and kernels %v, want [N, C, L] and [O, C, K]", l.W.Name, s, k))
	}
	c := l.Config
	y := convolve(x.Reshape(s[0], s[1], 1, s[2]), t.Use(l.W).Reshape(k[0], k[1], 1, k[2]), t.maybe(l.B),
		ops.ConvConfig{Stride: c.Stride, Dilation: c.Dilation, Pad: [4]int{0, 0, c.Pad[0], c.Pad[1]}})
	o := y.Shape()
	return y.Reshape(o[0], o[1], o[3])
}

// Upsample1D repeats every element of x [N, C, L] k times.
func (x *Var) Upsample1D(k int) *Var {
	s := x.Shape()
	if len(s) != 3 || k < 1 {
		panic(fmt.Sprintf("nn: Upsample1D: shape %v and factor %d, want [N, C, L] and a factor >= 1", s, k))
	}
	return x.Reshape(s[0], s[1], s[2], 1).Add(x.tape.Const(0, 1, 1, 1, k)).Reshape(s[0], s[1], s[2]*k)
}
