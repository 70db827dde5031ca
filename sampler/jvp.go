package sampler

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// JVPDenoiser is a PointDenoiser that knows its own derivative. JVPAt writes to
// out the derivative at x of what DenoiseAt gives, along v: lim (D(x+εv)-D(x))/ε.
// out, x and v are [B, ...], of one dtype, and may not overlap.
type JVPDenoiser interface {
	PointDenoiser
	JVPAt(ctx context.Context, out, x, v *gpu.Tensor, at []diffusion.Point, c Cond) error
}

// tangent takes derivatives of a denoiser along directions: by JVPAt, one
// evaluation each, or else by the central difference
//
//	J·v ≈ (D(x + δv) - D(x - δv))/(2δ),  δ = ∛u·B,
//
// two evaluations, for v of values about 1: D varies over lengths of B, and with
// u the relative distance of neighbouring floats (2^-52, 2^-23) this δ balances
// the formula's error ∛u²/6 with rounding's.
type tangent struct {
	plus, minus *gpu.Tensor
	coeffs      []float64
}

func newTangent(like *gpu.Tensor) *tangent { return &tangent{plus: like.Like(), minus: like.Like()} }

// along writes J·v of the images rows to out; all tensors are [len(rows), ...].
func (t *tangent) along(e *Eval, out, x, v *gpu.Tensor, at []diffusion.Point, rows []int) error {
	if d, ok := e.den.den.(JVPDenoiser); ok {
		for i, r := range rows {
			e.each[r] = e.each[r].plus(Count{NFE: 1, Network: e.costAt(at[i])})
		}
		if err := d.JVPAt(e.ctx, out, x, v, at, e.cond.pick(rows)); err != nil {
			return err
		}
		return e.finiteRows(out, at, rows)
	}
	n := len(rows)
	plus, minus := t.plus.Rows(0, n), t.minus.Rows(0, n)
	delta := math.Cbrt(ulp(x))
	for i, to := range []*gpu.Tensor{plus, minus} {
		t.coeffs = t.coeffs[:0]
		for _, p := range at {
			t.coeffs = append(t.coeffs, 1, float64(1-2*i)*delta*p.B)
		}
		ops.LinCombRows(to, t.coeffs, x, v)
	}
	if err := e.DenoiseRows(out, plus, at, rows); err != nil {
		return err
	}
	if err := e.DenoiseRows(plus, minus, at, rows); err != nil {
		return err
	}
	t.coeffs = t.coeffs[:0]
	for _, p := range at {
		k := 1 / (2 * delta * p.B)
		t.coeffs = append(t.coeffs, k, -k)
	}
	ops.LinCombRows(out, t.coeffs, out, plus)
	return nil
}
