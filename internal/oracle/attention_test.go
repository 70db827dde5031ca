package oracle

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Central differences of the forward formula confirm the backward one.
func TestAttentionBackwardIsTheGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	normal := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = r.NormFloat64()
		}
		return v
	}
	for name, a := range map[string]*Attention{
		"plain":   {B: 2, H: 2, HKV: 2, D: 3, LQ: 4, LK: 5, Scale: 0.6},
		"causal":  {B: 1, H: 4, HKV: 2, D: 2, LQ: 5, LK: 3, Scale: 0.7, Causal: true, BiasB: 1, BiasH: 4},
		"window":  {B: 2, H: 2, HKV: 1, D: 2, LQ: 4, LK: 6, Scale: -0.7, Window: 2, KeyLens: []int32{6, 3}, BiasB: 1, BiasH: 1},
		"several": {B: 3, H: 2, HKV: 1, D: 2, LQ: 3, LK: 4, Scale: 0.7, CuQ: []int32{0, 3, 3, 5}, CuK: []int32{0, 4, 6, 7}, Causal: true},
	} {
		t.Run(name, func(t *testing.T) {
			rowsQ, rowsK := a.B*a.LQ, a.B*a.LK
			if a.CuQ != nil {
				rowsQ, rowsK = int(a.CuQ[a.B]), int(a.CuK[a.B])
			}
			a.Q, a.K, a.V = normal(rowsQ*a.H*a.D), normal(rowsK*a.HKV*a.D), normal(rowsK*a.HKV*a.D)
			if a.BiasB > 0 {
				a.Bias = normal(a.BiasB * a.BiasH * a.LQ * a.LK)
				a.Bias[1] = math.Inf(-1)
			}
			dout := normal(len(a.Q))
			a.Forward()
			g := a.Backward(dout)
			checked := 0
			for what, c := range map[string]struct{ x, grad []float64 }{"Q": {a.Q, g.DQ.Value}, "K": {a.K, g.DK.Value}, "V": {a.V, g.DV.Value}, "Bias": {a.Bias, g.DBias.Value}} {
				for i, old := range c.x {
					if math.IsInf(old, 0) {
						continue
					}
					var loss [2]float64
					const step = 1e-5
					for s, x := range []float64{old - step, old + step} {
						c.x[i] = x
						a.Forward()
						loss[s], _ = dots(a.Out, dout)
					}
					c.x[i] = old
					if d := math.Abs((loss[1]-loss[0])/(2*step) - c.grad[i]); !(d < 1e-8) {
						t.Errorf("d%s[%d] is %g, central differences give %g", what, i, c.grad[i], (loss[1]-loss[0])/(2*step))
					}
					checked++
				}
			}
			if checked < 20 {
				t.Errorf("only %d elements were checked", checked)
			}
		})
	}
}
