package dit

import (
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// TimeScale is a row of factors that depend on the time: B + σ(t·(W + 1) + R)·(A - B) with
// rows that are trained and t in [-1, 1] (Liu et al. 2024, arXiv 2406.09416). W and R should
// have no weight decay; their names begin with nodecay.
type TimeScale struct{ A, B, W, R *nn.Param }

// NewTimeScale registers the rows param0, param1, nodecay_weight and nodecay_bias in s; the
// factors are 1 at first.
func NewTimeScale(s nn.Scope, width int) *TimeScale {
	return &TimeScale{
		A: s.Param("param0", nn.Ones, width), B: s.Param("param1", nn.Ones, width),
		W: s.Param("nodecay_weight", nn.Zeros, width), R: s.Param("nodecay_bias", nn.Zeros, width),
	}
}

// At is the factors at the times t [B, 1]: [B, width].
func (m *TimeScale) At(t *nn.Var) *nn.Var {
	tape := t.Tape()
	b := tape.Use(m.B)
	share := t.Mul(tape.Use(m.W).Affine(1, 1)).Add(tape.Use(m.R)).Sigmoid()
	return share.Mul(tape.Use(m.A).Sub(b)).Add(b)
}

// norm is a normalisation of tokens that a time may change.
type norm struct {
	*nn.Norm
	time *TimeScale // nil: it does not
}

func newNorm(s nn.Scope, c *Config) *norm {
	switch c.Norm {
	case Layer:
		m := nn.NewLayerNorm(s, c.Dim)
		m.Eps = c.eps()
		return &norm{Norm: m}
	case RMS:
		m := nn.NewRMSNorm(s, c.Dim)
		m.Eps = c.eps()
		return &norm{Norm: m}
	case TimeRMS:
		return &norm{Norm: &nn.Norm{RMS: true, Eps: c.eps()}, time: NewTimeScale(s.At("scale"), c.Dim)}
	}
	return &norm{Norm: &nn.Norm{Eps: c.eps()}}
}

// forward is x [B, N, width] normalised, times 1 + scale, plus shift, [B, width] or nil each;
// t is the times [B, 1].
func (m *norm) forward(x, scale, shift, t *nn.Var) *nn.Var {
	if m.time != nil {
		f := m.time.At(t)
		if scale == nil {
			scale = f.Affine(1, -1)
		} else {
			scale = f.AddMul(f, scale).Affine(1, -1)
		}
	}
	return m.Modulate(x, scale, shift)
}

// branch is a block's second branch.
type branch interface{ Forward(x *nn.Var) *nn.Var }

// mlp is two linear layers with a function between them, by the names of timm.
type mlp struct{ fc1, fc2 *nn.Linear }

func (m *mlp) Forward(x *nn.Var) *nn.Var { return m.fc2.Forward(m.fc1.Forward(x)) }

func newMLP(s nn.Scope, c *Config) branch {
	switch c.MLP {
	case SwiGLU:
		return nn.NewSwiGLU(s, c.Dim, c.hidden())
	case GEGLU:
		return nn.NewGEGLU(s, c.Dim, c.hidden())
	}
	f := ops.GELUTanh
	if c.MLP == GELU {
		f = ops.GELU
	}
	return &mlp{nn.NewLinear(s.At("fc1"), c.Dim, c.hidden()).Then(f), nn.NewLinear(s.At("fc2"), c.hidden(), c.Dim)}
}
