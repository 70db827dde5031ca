package cpu

import (
	"fmt"
	"math"
)

// Float is the types that networks compute in.
type Float interface{ float32 | float64 }

// Pair is a function of two variables.
type Pair uint8

// The functions. NaN wins over any number in PairMin and PairMax.
const (
	PairAdd Pair = iota
	PairSub
	PairMul
	PairDiv
	PairMin
	PairMax
)

// The functions of this file run where they are called, on one thread. Float32
// goes through our own C where there is any.

// PairRows sets out[r·ldo+i] to f(a[r·lda+i·ia], b[r·ldb+i·ib]) for rows×n
// elements, or adds that to out. ia and ib are 1 or 0, row strides may be 0: an
// operand that repeats. out may be a or b where they do not repeat. It panics
// when a slice is too short.
func PairRows[T Float](f Pair, acc bool, rows, n int, out []T, ldo int, a []T, lda, ia int, b []T, ldb, ib int) {
	if rows <= 0 || n <= 0 {
		return
	}
	reach("PairRows", "out", len(out), (rows-1)*ldo+n)
	reach("PairRows", "a", len(a), (rows-1)*lda+(n-1)*ia+1)
	reach("PairRows", "b", len(b), (rows-1)*ldb+(n-1)*ib+1)
	if o, ok := any(out).([]float32); ok {
		if nativePair(f, acc, rows, n, o, ldo, any(a).([]float32), lda, ia, any(b).([]float32), ldb, ib) {
			return
		}
	}
	for r := range rows {
		o, x, y := out[r*ldo:][:n], a[r*lda:], b[r*ldb:]
		switch {
		case acc:
			for i := range o {
				o[i] += pairOf(f, x[i*ia], y[i*ib])
			}
		case f == PairAdd && ia == 1 && ib == 1:
			x, y := x[:n], y[:n]
			for i := range o {
				o[i] = x[i] + y[i]
			}
		default:
			for i := range o {
				o[i] = pairOf(f, x[i*ia], y[i*ib])
			}
		}
	}
}

func pairOf[T Float](f Pair, x, y T) T {
	switch f {
	case PairAdd:
		return x + y
	case PairSub:
		return x - y
	case PairMul:
		return x * y
	case PairDiv:
		return x / y
	case PairMin:
		return min(x, y)
	}
	return max(x, y)
}

func reach(op, name string, got, want int) {
	if got < want {
		panic(fmt.Sprintf("cpu: %s: %s has %d elements, want >= %d", op, name, got, want))
	}
}

// ColSums adds to out[i] the sum over rows of a[r·lda+i]·b[r·ldb+i], the rows in
// order; b is nil for ones.
func ColSums[T Float](rows, n int, out, a []T, lda int, b []T, ldb int) {
	if rows <= 0 || n <= 0 {
		return
	}
	reach("ColSums", "out", len(out), n)
	reach("ColSums", "a", len(a), (rows-1)*lda+n)
	if b != nil {
		reach("ColSums", "b", len(b), (rows-1)*ldb+n)
	}
	if o, ok := any(out).([]float32); ok && nativeColSums(rows, n, o, any(a).([]float32), lda, any(b).([]float32), ldb) {
		return
	}
	for r := range rows {
		x := a[r*lda:][:n]
		if b == nil {
			for i, v := range x {
				out[i] += v
			}
			continue
		}
		y := b[r*ldb:][:n]
		for i, v := range x {
			out[i] += v * y[i]
		}
	}
}

// RowSums sets out[r] to the sum of a[r·lda+i]·b[r·ldb+i] over i; b is nil for ones.
func RowSums[T Float](rows, n int, out, a []T, lda int, b []T, ldb int) {
	if rows <= 0 || n <= 0 {
		clear(out[:max(0, rows)])
		return
	}
	reach("RowSums", "out", len(out), rows)
	reach("RowSums", "a", len(a), (rows-1)*lda+n)
	if b != nil {
		reach("RowSums", "b", len(b), (rows-1)*ldb+n)
	}
	if o, ok := any(out).([]float32); ok && n >= 8 && nativeRowSums(rows, n, o, any(a).([]float32), lda, any(b).([]float32), ldb) {
		return
	}
	for r := range rows {
		var s float64
		for i, v := range a[r*lda:][:n] {
			if b == nil {
				s += float64(v)
			} else {
				s += float64(v) * float64(b[r*ldb+i])
			}
		}
		out[r] = T(s)
	}
}

// Norm is a normalisation of rows of N elements, u = (x - mean)/√(var + Eps)·W + B
// and then u·(1 + Scale) + Shift; nil stands for ones and zeros. With RMS the
// mean is 0 and var the mean of squares.
type Norm[T Float] struct {
	RMS                bool
	Eps                float64
	N                  int
	W, B, Scale, Shift []T // of N elements
}

// Forward normalises the rows of x into y and keeps each row's mean and 1/√(var + Eps).
func (p *Norm[T]) Forward(rows int, y, mean, inv, x []T) {
	if rows <= 0 || p.N <= 0 {
		return
	}
	if y32, ok := any(y).([]float32); ok && nativeNorm(any(p).(*Norm[float32]), rows, y32, any(mean).([]float32), any(inv).([]float32), any(x).([]float32)) {
		return
	}
	for r := range rows {
		row, to := x[r*p.N:][:p.N], y[r*p.N:][:p.N]
		var m, s float64
		if !p.RMS {
			for _, v := range row {
				m += float64(v)
			}
			m /= float64(p.N)
		}
		for _, v := range row {
			s += (float64(v) - m) * (float64(v) - m)
		}
		k := 1 / math.Sqrt(s/float64(p.N)+p.Eps)
		mean[r], inv[r] = T(m), T(k)
		for i, v := range row {
			u := (float64(v) - m) * k
			if p.W != nil {
				u *= float64(p.W[i])
			}
			if p.B != nil {
				u += float64(p.B[i])
			}
			if p.Scale != nil {
				u *= 1 + float64(p.Scale[i])
			}
			if p.Shift != nil {
				u += float64(p.Shift[i])
			}
			to[i] = T(u)
		}
	}
}

// NormGrads are sums of gradients over rows, which Backward adds to; nil where
// they are not wanted.
type NormGrads[T Float] struct{ W, B, Scale, Shift []T }

// Backward sets dx to the gradient by x of what dy is the gradient of y by, or
// adds it to dx, and adds to g. dx may be dy.
func (p *Norm[T]) Backward(rows int, dx []T, acc bool, x, dy, mean, inv []T, g *NormGrads[T]) {
	if rows <= 0 || p.N <= 0 {
		return
	}
	if dx32, ok := any(dx).([]float32); ok && nativeNormBack(any(p).(*Norm[float32]), rows, dx32, acc, any(x).([]float32), any(dy).([]float32),
		any(mean).([]float32), any(inv).([]float32), any(g).(*NormGrads[float32])) {
		return
	}
	for r := range rows {
		row, grad, to := x[r*p.N:][:p.N], dy[r*p.N:][:p.N], dx[r*p.N:][:p.N]
		m, k := float64(mean[r]), float64(inv[r])
		var s1, s2 float64
		for i, v := range row {
			h, d := (float64(v)-m)*k, float64(grad[i])
			u := h
			if p.W != nil {
				u *= float64(p.W[i])
			}
			if p.B != nil {
				u += float64(p.B[i])
			}
			if g.Shift != nil {
				g.Shift[i] += T(d)
			}
			if g.Scale != nil {
				g.Scale[i] += T(d * u)
			}
			d = p.inner(d, i, g, h)
			s1 += d
			s2 += d * h
		}
		s1, s2 = s1/float64(p.N), s2/float64(p.N)
		if p.RMS {
			s1 = 0
		}
		for i, v := range row {
			h := (float64(v) - m) * k
			d := k * (p.inner(float64(grad[i]), i, nil, h) - s1 - h*s2)
			if acc {
				d += float64(to[i])
			}
			to[i] = T(d)
		}
	}
}

// inner is the gradient by the normalised element i, given d, that by the result.
func (p *Norm[T]) inner(d float64, i int, g *NormGrads[T], h float64) float64 {
	if p.Scale != nil {
		d *= 1 + float64(p.Scale[i])
	}
	if g != nil && g.B != nil {
		g.B[i] += T(d)
	}
	if g != nil && g.W != nil {
		g.W[i] += T(d * h)
	}
	if p.W != nil {
		d *= float64(p.W[i])
	}
	return d
}

// SoftmaxBack sets dx to y·(dy - Σ y·dy) for each row, or adds that to dx.
func SoftmaxBack[T Float](rows, n int, dx []T, acc bool, y, dy []T) {
	if rows <= 0 || n <= 0 {
		return
	}
	if o, ok := any(dx).([]float32); ok && nativeSoftmaxBack(rows, n, o, acc, any(y).([]float32), any(dy).([]float32)) {
		return
	}
	for r := range rows {
		p, g, to := y[r*n:][:n], dy[r*n:][:n], dx[r*n:][:n]
		var s float64
		for i, v := range p {
			s += float64(v) * float64(g[i])
		}
		for i, v := range p {
			d := float64(v) * (float64(g[i]) - s)
			if acc {
				d += float64(to[i])
			}
			to[i] = T(d)
		}
	}
}

// Blend sets out to p·x + q·y + r, or adds that to out; y is nil for zeros. out may
// be x or y.
func Blend[T Float](out []T, acc bool, p float64, x []T, q float64, y []T, r float64) {
	sameLen("Blend", len(out), len(x))
	if y != nil {
		sameLen("Blend", len(out), len(y))
	}
	if len(out) == 0 {
		return
	}
	if o, ok := any(out).([]float32); ok && nativeBlend(o, acc, p, any(x).([]float32), q, any(y).([]float32), r) {
		return
	}
	for i, v := range x {
		d := T(T(p)*v) + T(r)
		if y != nil {
			d += T(T(q) * y[i])
		}
		if acc {
			d += out[i]
		}
		out[i] = d
	}
}

// SoftmaxRows is Softmax32 of contiguous rows where it is called, on one thread,
// in both dtypes.
func SoftmaxRows[T Float](rows, n int, out, x []T) {
	if rows <= 0 || n <= 0 {
		return
	}
	reach("SoftmaxRows", "out", len(out), rows*n)
	reach("SoftmaxRows", "x", len(x), rows*n)
	if o, ok := any(out).([]float32); ok {
		if x := any(x).([]float32); !nativeSoftmax32(rows, n, o, n, x, n) {
			goSoftmax32(rows, n, o, n, x, n)
		}
		return
	}
	for r := range rows {
		o, v := out[r*n:][:n], x[r*n:][:n]
		top, s := T(math.Inf(-1)), T(0)
		for _, t := range v {
			top = max(top, t)
		}
		for i, t := range v {
			o[i] = T(math.Exp(float64(t - top)))
			s += o[i]
		}
		for i := range o {
			o[i] /= s
		}
	}
}

// LogSumExp sets lse[r] to log Σ exp(x[r·n+i]); sums is scratch like lse.
func LogSumExp[T Float](rows, n int, lse, sums, x []T) {
	if rows <= 0 {
		return
	}
	if o, ok := any(lse).([]float32); ok && n > 0 && nativeExpSum(rows, n, o, any(sums).([]float32), any(x).([]float32)) {
		for r, s := range sums[:rows] {
			lse[r] = finishLSE(float64(lse[r]), float64(s), lse[r])
		}
		return
	}
	for r := range rows {
		row := x[r*n:][:n]
		top := T(math.Inf(-1))
		for _, v := range row {
			top = max(top, v)
		}
		var s float64
		for _, v := range row {
			s += math.Exp(float64(v - top))
		}
		lse[r] = finishLSE(float64(top), s, top)
	}
}

// finishLSE is top + log s; a row of nothing but -Inf, or with +Inf, is top.
func finishLSE[T Float](top, s float64, t T) T {
	if math.IsInf(top, 0) {
		return t
	}
	return T(top + math.Log(s))
}

// ExpBack sets dx to g[r]·exp(x - lse[r]) for each row, or adds that to dx: the
// gradient of LogSumExp.
func ExpBack[T Float](rows, n int, dx []T, acc bool, x, lse, g []T) {
	if rows <= 0 || n <= 0 {
		return
	}
	if o, ok := any(dx).([]float32); ok && nativeExpBack(rows, n, o, acc, any(x).([]float32), any(lse).([]float32), any(g).([]float32)) {
		return
	}
	for r := range rows {
		for i, v := range x[r*n:][:n] {
			d := float64(g[r]) * math.Exp(float64(v)-float64(lse[r]))
			if acc {
				d += float64(dx[r*n+i])
			}
			dx[r*n+i] = T(d)
		}
	}
}
