package dit

import (
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// timeScale is a row of factors that depend on the time: b + σ(t·(w + 1) + r)·(a - b) with
// rows a, b, w and r that are trained and t in [-1, 1] (Liu et al. 2024, arXiv 2406.09416).
// w and r should have no weight decay; their names begin with nodecay.
type timeScale struct{ a, b, w, r *nn.Param }

func newTimeScale(s nn.Scope, width int) *timeScale {
	return &timeScale{
		a: s.Param("param0", nn.Ones, width), b: s.Param("param1", nn.Ones, width),
		w: s.Param("nodecay_weight", nn.Zeros, width), r: s.Param("nodecay_bias", nn.Zeros, width),
	}
}

// at is the factors at the times t [B, 1]: [B, width].
func (m *timeScale) at(t *nn.Var) *nn.Var {
	tape := t.Tape()
	b := tape.Use(m.b)
	share := t.Mul(tape.Use(m.w).Affine(1, 1)).Add(tape.Use(m.r)).Sigmoid()
	return share.Mul(tape.Use(m.a).Sub(b)).Add(b)
}

// norm is a normalisation of tokens that a time may change.
type norm struct {
	*nn.Norm
	time *timeScale // nil: it does not
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
		return &norm{Norm: &nn.Norm{RMS: true, Eps: c.eps()}, time: newTimeScale(s.At("scale"), c.Dim)}
	}
	return &norm{Norm: &nn.Norm{Eps: c.eps()}}
}

// forward is x [B, N, width] normalised, times 1 + scale, plus shift, [B, width] or nil each;
// t is the times [B, 1].
func (m *norm) forward(x, scale, shift, t *nn.Var) *nn.Var {
	if m.time != nil {
		f := m.time.at(t)
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
