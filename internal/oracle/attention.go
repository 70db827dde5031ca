package oracle

import "math"

// Attention is a batch of attention problems, done in float64 by the formula,
// with every matrix written out. Q is [B, LQ, H, D], K and V [B, LK, HKV, D];
// with CuQ and CuK, sequences of at most LQ and LK rows lie end to end.
type Attention struct {
	B, H, HKV, D, LQ, LK int
	Scale                float64
	Causal               bool
	Window               int // 0: none
	Q, K, V              []float64
	KeyLens, CuQ, CuK    []int32   // nil: none
	Bias                 []float64 // nil, or [BiasB, BiasH, LQ, LK]
	BiasB, BiasH         int
	// Hidden is nil or tells whether query i of head h of sequence b does not see key j.
	Hidden func(b, h, i, j int) bool
	// Round is nil or applied to every intermediate matrix, as it is where each
	// has the dtype of the operands and is stored.
	Round func(float64) float64

	P   []float64 // probabilities [B, H, LQ, LK], made by Forward
	LSE []float64 // like the op's
	Out []float64 // like Q
	// Unit is, for each query of LSE, 1 plus the largest sum of absolute terms of
	// its scores: a relative error of the scores' terms times Unit is the relative
	// error of the query's probabilities.
	Unit []float64
}

// Field is a gradient and, for each element, the sum of the absolute values of
// its terms, weighted with the queries' Unit: what rounding errors are relative to.
type Field struct{ Value, Scale []float64 }

func newField(n int) Field { return Field{make([]float64, n), make([]float64, n)} }

func (f Field) add(i int, v, scale float64) {
	f.Value[i] += v
	f.Scale[i] += math.Abs(scale)
}

func (a *Attention) round(x float64) float64 {
	if a.Round == nil {
		return x
	}
	return a.Round(x)
}

// place is the sequences' rows: first row of Q and of K, and their numbers.
func (a *Attention) place(b int) (q0, lq, k0, lk int) {
	if a.CuQ == nil {
		return b * a.LQ, a.LQ, b * a.LK, a.LK
	}
	return int(a.CuQ[b]), int(a.CuQ[b+1] - a.CuQ[b]), int(a.CuK[b]), int(a.CuK[b+1] - a.CuK[b])
}

// sees tells whether query i of head h sees key j of sequence b.
func (a *Attention) sees(b, h, i, j int) bool {
	_, lq, _, lk := a.place(b)
	at := i + lk - lq
	switch {
	case i >= lq || j >= lk:
		return false
	case a.KeyLens != nil && j >= int(a.KeyLens[b]):
		return false
	case a.Causal && j > at:
		return false
	case a.Window > 0 && (at-j >= a.Window || j-at >= a.Window):
		return false
	case a.Hidden != nil && a.Hidden(b, h, i, j):
		return false
	}
	return true
}

// each calls f for every query that there is: its dense row of [B, H, LQ], its
// place in LSE, its first element in Q, and the first elements of row 0 of the
// sequence's head in K.
func (a *Attention) each(f func(b, h, i, row, lse, q, k int)) {
	total := len(a.Q) / (a.H * a.D)
	for b := range a.B {
		q0, lq, k0, _ := a.place(b)
		for h := range a.H {
			for i := range lq {
				row := (b*a.H+h)*a.LQ + i
				lse := row
				if a.CuQ != nil {
					lse = h*total + q0 + i
				}
				f(b, h, i, row, lse, ((q0+i)*a.H+h)*a.D, (k0*a.HKV+h/(a.H/a.HKV))*a.D)
			}
		}
	}
}

// bias is where the bias of a score is.
func (a *Attention) bias(b, h, i, j int) int {
	if a.BiasB == 1 {
		b = 0
	}
	if a.BiasH == 1 {
		h = 0
	}
	return ((b*a.BiasH+h)*a.LQ+i)*a.LK + j
}

func dots(x, y []float64) (sum, size float64) {
	for d := range x {
		sum += x[d] * y[d]
		size += math.Abs(x[d] * y[d])
	}
	return sum, size
}

// Forward makes P, LSE, Unit and, where there is V, Out.
func (a *Attention) Forward() {
	a.P = make([]float64, a.B*a.H*a.LQ*a.LK)
	a.LSE, a.Unit, a.Out = make([]float64, len(a.Q)/a.D), make([]float64, len(a.Q)/a.D), make([]float64, len(a.Q))
	a.each(func(b, h, i, row, lse, q, k int) {
		p := a.P[row*a.LK:][:a.LK]
		top, unit := math.Inf(-1), 0.0
		for j := range p {
			p[j] = math.Inf(-1)
			if !a.sees(b, h, i, j) {
				continue
			}
			s, size := dots(a.Q[q:][:a.D], a.K[k+j*a.HKV*a.D:][:a.D])
			p[j], size = a.round(a.Scale*s), math.Abs(a.Scale)*size
			if a.Bias != nil {
				v := a.Bias[a.bias(b, h, i, j)]
				p[j] = a.round(p[j] + v)
				if !math.IsInf(v, -1) {
					size += math.Abs(v)
				}
			}
			top, unit = max(top, p[j]), max(unit, size)
		}
		var sum float64
		for j, s := range p {
			p[j] = 0
			if !math.IsInf(s, -1) {
				p[j] = math.Exp(s - top)
			}
			sum += p[j]
		}
		a.LSE[lse], a.Unit[lse] = top+math.Log(sum), 1+unit
		for j := range p {
			if sum > 0 {
				p[j] = a.round(p[j] / sum)
			}
			for d := range a.D {
				if p[j] != 0 && a.V != nil {
					a.Out[q+d] += p[j] * a.V[k+j*a.HKV*a.D+d]
				}
			}
		}
		for d := range a.D {
			a.Out[q+d] = a.round(a.Out[q+d])
		}
	})
}

// OutScale is what errors of Out are relative to.
func (a *Attention) OutScale() []float64 {
	out := make([]float64, len(a.Q))
	a.each(func(b, h, i, row, lse, q, k int) {
		for j, p := range a.P[row*a.LK:][:a.LK] {
			for d := 0; d < a.D && p != 0; d++ {
				out[q+d] += a.Unit[lse] * p * math.Abs(a.V[k+j*a.HKV*a.D+d])
			}
		}
	})
	return out
}

// Grads are the gradients by the operands of attention.
type Grads struct{ DQ, DK, DV, DBias Field }

// Backward is the gradients given that by Out, after Forward.
func (a *Attention) Backward(dout []float64) Grads {
	dp := newField(len(a.P))
	a.each(func(b, h, i, row, lse, q, k int) {
		for j := range a.LK {
			if a.sees(b, h, i, j) {
				s, size := dots(dout[q:][:a.D], a.V[k+j*a.HKV*a.D:][:a.D])
				dp.add(row*a.LK+j, a.round(s), size)
			}
		}
	})
	g := a.BackwardMaps(dp)
	g.DV = newField(len(a.K))
	a.each(func(b, h, i, row, lse, q, k int) {
		for j, p := range a.P[row*a.LK:][:a.LK] {
			for d := 0; d < a.D && p != 0; d++ {
				g.DV.add(k+j*a.HKV*a.D+d, p*dout[q+d], a.Unit[lse]*p*dout[q+d])
			}
		}
	})
	for i, v := range g.DV.Value {
		g.DV.Value[i] = a.round(v)
	}
	return g
}

// BackwardMaps is the gradients by Q, K and Bias given that by P.
func (a *Attention) BackwardMaps(dp Field) Grads {
	g := Grads{DQ: newField(len(a.Q)), DK: newField(len(a.K)), DBias: newField(len(a.Bias))}
	a.each(func(b, h, i, row, lse, q, k int) {
		var delta, size float64
		p := a.P[row*a.LK:][:a.LK]
		for j := range p {
			delta += p[j] * dp.Value[row*a.LK+j]
			size += p[j] * dp.Scale[row*a.LK+j]
		}
		delta = a.round(delta)
		for j := range p {
			ds := a.round(p[j] * (dp.Value[row*a.LK+j] - delta))
			dsSize := a.Unit[lse] * p[j] * (dp.Scale[row*a.LK+j] + size)
			for d := range a.D {
				kd := k + j*a.HKV*a.D + d
				if p[j] != 0 {
					g.DQ.add(q+d, a.Scale*ds*a.K[kd], a.Scale*dsSize*a.K[kd])
					g.DK.add(kd, a.Scale*ds*a.Q[q+d], a.Scale*dsSize*a.Q[q+d])
				}
			}
			if a.Bias != nil && p[j] != 0 {
				g.DBias.add(a.bias(b, h, i, j), ds, dsSize)
			}
		}
	})
	for _, f := range []Field{g.DQ, g.DK} {
		for i, v := range f.Value {
			f.Value[i] = a.round(v)
		}
	}
	return g
}
