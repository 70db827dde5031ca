package cpu

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// near fails unless |got - want| <= units·eps·scale for all elements.
func near[T Float](t *testing.T, what string, got []T, units, eps float64, want, scale func(i int) float64) {
	t.Helper()
	for i, g := range got {
		if w := want(i); math.Abs(float64(g)-w) > units*eps*scale(i)+1e-300 || g != g {
			t.Fatalf("%s: element %d is %v, want %v within %.2g", what, i, g, w, units*eps*scale(i))
		}
	}
}

func draw[T Float](seed uint64, n int) []T {
	out := make([]T, n)
	for i, v := range oracle.Normal(seed, n) {
		out[i] = T(v)
	}
	return out
}

func TestPairRows(t *testing.T) {
	t.Run("float32", func(t *testing.T) { pairRows[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { pairRows[float64](t, 0x1p-52) })
}

func pairRows[T Float](t *testing.T, eps float64) {
	ref := map[Pair]func(x, y float64) float64{
		PairAdd: func(x, y float64) float64 { return x + y }, PairSub: func(x, y float64) float64 { return x - y },
		PairMul: func(x, y float64) float64 { return x * y }, PairDiv: func(x, y float64) float64 { return x / y },
		PairMin: math.Min, PairMax: math.Max,
	}
	for f, want := range ref {
		for _, n := range []int{1, 15, 16, 17, 70} {
			for _, s := range [][4]int{{n, 1, n, 1}, {n, 1, 0, 1}, {n, 1, 1, 0}, {0, 1, n + 3, 1}, {1, 0, n, 1}, {0, 0, 0, 0}} {
				const rows = 3
				lda, ia, ldb, ib := s[0], s[1], s[2], s[3]
				a, b := draw[T](1, rows*(n+3)), draw[T](2, rows*(n+3))
				for _, acc := range []bool{false, true} {
					out := draw[T](3, rows*(n+2))
					old := append([]T(nil), out...)
					PairRows(f, acc, rows, n, out, n+2, a, lda, ia, b, ldb, ib)
					near(t, fmt.Sprint(f, n, s, acc), out, 2, eps, func(i int) float64 {
						r, c := i/(n+2), i%(n+2)
						if c >= n {
							return float64(old[i])
						}
						w := want(float64(a[r*lda+c*ia]), float64(b[r*ldb+c*ib]))
						if acc {
							w += float64(old[i])
						}
						return w
					}, func(i int) float64 {
						r, c := i/(n+2), min(i%(n+2), n-1)
						return math.Abs(want(float64(a[r*lda+c*ia]), float64(b[r*ldb+c*ib]))) + math.Abs(float64(old[i]))
					})
				}
			}
		}
	}
	nan := T(math.NaN())
	for _, f := range []Pair{PairMin, PairMax} {
		for _, s := range [][2]T{{nan, 1}, {1, nan}} {
			out := make([]T, 1)
			PairRows(f, false, 1, 1, out, 1, s[:1], 1, 1, s[1:], 1, 1)
			if out[0] == out[0] {
				t.Errorf("function %d of %v is %v, want NaN", f, s, out[0])
			}
		}
	}
}

func TestSumsOfRowsAndColumns(t *testing.T) {
	t.Run("float32", func(t *testing.T) { sums[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { sums[float64](t, 0x1p-52) })
}

func sums[T Float](t *testing.T, eps float64) {
	for _, n := range []int{1, 5, 16, 63, 64, 65, 130} {
		for _, rows := range []int{0, 1, 7} {
			for _, second := range []bool{false, true} {
				a, b := draw[T](1, rows*(n+1)), draw[T](2, rows*n)
				y := func(i int) float64 { return float64(b[i]) }
				operand := b
				if !second {
					operand, y = nil, func(int) float64 { return 1 }
				}
				at := func(r, i int) float64 { return float64(a[r*(n+1)+i]) * y(r*n+i) }
				over := func(n int, f func(k int) float64) (s, size float64) {
					for k := range n {
						s += f(k)
						size += math.Abs(f(k))
					}
					return s, size
				}
				cols := draw[T](3, n)
				old := append([]T(nil), cols...)
				ColSums(rows, n, cols, a, n+1, operand, n)
				col := func(i int) (float64, float64) { return over(rows, func(r int) float64 { return at(r, i) }) }
				near(t, fmt.Sprint("columns ", rows, n), cols, float64(rows+1), eps,
					func(i int) float64 { s, _ := col(i); return s + float64(old[i]) },
					func(i int) float64 { _, size := col(i); return size + math.Abs(float64(old[i])) })
				out := draw[T](4, rows)
				RowSums(rows, n, out, a, n+1, operand, n)
				row := func(r int) (float64, float64) { return over(n, func(i int) float64 { return at(r, i) }) }
				near(t, fmt.Sprint("rows ", rows, n), out, float64(n/16+6), eps,
					func(r int) float64 { s, _ := row(r); return s },
					func(r int) float64 { _, size := row(r); return size })
			}
		}
	}
}

// normOf is the definition, in float64.
func normOf(rms bool, eps float64, x, w, b, scale, shift []float64) []float64 {
	n := float64(len(x))
	var m, s float64
	for _, v := range x {
		m += v / n
	}
	if rms {
		m = 0
	}
	for _, v := range x {
		s += (v - m) * (v - m) / n
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = ((v-m)/math.Sqrt(s+eps)*w[i]+b[i])*(1+scale[i]) + shift[i]
	}
	return y
}

func TestNorm(t *testing.T) {
	t.Run("float32", func(t *testing.T) { norms[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { norms[float64](t, 0x1p-52) })
}

// All combinations of what may be missing; the gradient by differences.
func norms[T Float](t *testing.T, eps float64) {
	const rows, small = 3, 1e-5
	for _, n := range []int{2, 16, 21, 64} {
		for has := range 32 {
			p := &Norm[T]{RMS: has&16 != 0, Eps: small, N: n}
			x, dy := draw[T](1, rows*n), draw[T](2, rows*n)
			v := [4][]float64{}
			for k, to := range []*[]T{&p.W, &p.B, &p.Scale, &p.Shift} {
				v[k] = make([]float64, n)
				if k == 0 {
					for i := range v[k] {
						v[k][i] = 1
					}
				}
				if has&(1<<k) != 0 {
					*to = draw[T](uint64(10+k), n)
					for i, e := range *to {
						v[k][i] = float64(e)
					}
				}
			}
			x64, dy64 := make([]float64, rows*n), make([]float64, rows*n)
			for i := range x {
				x64[i], dy64[i] = float64(x[i]), float64(dy[i])
			}
			y, mean, inv := make([]T, rows*n), make([]T, rows), make([]T, rows)
			p.Forward(rows, y, mean, inv, x)
			forward := func(x []float64, v [4][]float64) []float64 {
				var all []float64
				for r := range rows {
					all = append(all, normOf(p.RMS, small, x[r*n:][:n], v[0], v[1], v[2], v[3])...)
				}
				return all
			}
			want := forward(x64, v)
			what := fmt.Sprintf("n=%d, parts %05b", n, has)
			size := func(i int) float64 { // the terms of u·(1 + scale) + shift
				c := i % n
				return (5*math.Abs(v[0][c])+math.Abs(v[1][c]))*(1+math.Abs(v[2][c])) + math.Abs(v[3][c])
			}
			near(t, what, y, float64(n/16+8), eps, func(i int) float64 { return want[i] }, size)

			loss := func(x []float64, v [4][]float64) (s float64) {
				for i, e := range forward(x, v) {
					s += e * dy64[i]
				}
				return s
			}
			for _, acc := range []bool{false, true} {
				dx := draw[T](5, rows*n)
				old := append([]T(nil), dx...)
				g := &NormGrads[T]{}
				for k, to := range []*[]T{&g.W, &g.B, &g.Scale, &g.Shift} {
					if has&(1<<k) != 0 {
						*to = draw[T](uint64(20+k), n)
					}
				}
				p.Backward(rows, dx, acc, x, dy, mean, inv, g)
				dwant := oracle.Grad(t, x64, 1e-6, func(x []float64) float64 { return loss(x, v) })
				// n = 2 amplifies: 1/√(var + eps) of two close values; the sums are over n and rows terms.
				near(t, what+": dx", dx, 40, eps+3e-10, func(i int) float64 {
					if acc {
						return dwant[i] + float64(old[i])
					}
					return dwant[i]
				}, func(i int) float64 {
					return math.Abs(float64(old[i])) + float64(inv[i/n])*(1+float64(inv[i/n]))*float64(n)*size(i)
				})
				for k, got := range [][]T{g.W, g.B, g.Scale, g.Shift} {
					if got == nil {
						continue
					}
					start := draw[T](uint64(20+k), n)
					dv := oracle.Grad(t, v[k], 1e-4, func(at []float64) float64 {
						u := v
						u[k] = at
						return loss(x64, u)
					})
					near(t, fmt.Sprintf("%s: part %d", what, k), got, 40, eps+1e-11,
						func(i int) float64 { return dv[i] + float64(start[i]) },
						func(i int) float64 { return 6 * (1 + size(i)) * (1 + math.Abs(v[2][i])) })
				}
			}
		}
	}
}

func TestSoftmaxBackAndLogSumExp(t *testing.T) {
	t.Run("float32", func(t *testing.T) { softmaxes[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { softmaxes[float64](t, 0x1p-52) })
}

func softmaxes[T Float](t *testing.T, eps float64) {
	const rows = 3
	for _, n := range []int{1, 10, 16, 33} {
		x, dy, g := draw[T](1, rows*n), draw[T](2, rows*n), draw[T](3, rows)
		lse64, y := make([]float64, rows), make([]T, rows*n)
		prob := make([]float64, rows*n)
		dot := make([]float64, rows)
		for r := range rows {
			for i := range n {
				lse64[r] += math.Exp(float64(x[r*n+i]))
			}
			lse64[r] = math.Log(lse64[r])
			for i := range n {
				prob[r*n+i] = math.Exp(float64(x[r*n+i]) - lse64[r])
				y[r*n+i] = T(prob[r*n+i])
				dot[r] += prob[r*n+i] * float64(dy[r*n+i])
			}
		}
		lse := make([]T, rows)
		LogSumExp(rows, n, lse, make([]T, rows), x)
		near(t, "lse", lse, 4, eps, func(r int) float64 { return lse64[r] }, func(r int) float64 { return 1 + math.Abs(lse64[r]) })
		soft := make([]T, rows*n)
		SoftmaxRows(rows, n, soft, x)
		near(t, "probabilities", soft, 6, eps, func(i int) float64 { return prob[i] }, func(i int) float64 { return prob[i] * (1 + math.Abs(float64(x[i]))) })
		for _, acc := range []bool{false, true} {
			dx, dl := draw[T](4, rows*n), draw[T](5, rows*n)
			keep := func(old []T) func(i int) float64 {
				old = append([]T(nil), old...)
				return func(i int) float64 {
					if acc {
						return float64(old[i])
					}
					return 0
				}
			}
			was, wasl := keep(dx), keep(dl)
			SoftmaxBack(rows, n, dx, acc, y, dy)
			near(t, "softmax", dx, 12, eps, func(i int) float64 { return was(i) + prob[i]*(float64(dy[i])-dot[i/n]) },
				func(i int) float64 { return 4 + math.Abs(was(i)) })
			ExpBack(rows, n, dl, acc, x, lse, g)
			near(t, "logsumexp", dl, 16, eps, func(i int) float64 { return wasl(i) + float64(g[i/n])*prob[i] },
				func(i int) float64 { return math.Abs(float64(g[i/n])) + math.Abs(wasl(i)) })
		}
	}
	inf := T(math.Inf(1))
	for _, c := range []struct{ x, want T }{{-inf, -inf}, {inf, inf}, {T(math.NaN()), T(math.NaN())}, {1e4, 1e4 + T(math.Log(2))}} {
		lse := make([]T, 1)
		LogSumExp(1, 2, lse, make([]T, 1), []T{c.x, c.x})
		if lse[0] != c.want && (lse[0] == lse[0] || c.want == c.want) && math.Abs(float64(lse[0]-c.want)) > 1e-3 {
			t.Errorf("log-sum-exp of two %v is %v, want %v", c.x, lse[0], c.want)
		}
	}
}

func TestBlend(t *testing.T) {
	t.Run("float32", func(t *testing.T) { blends[float32](t, 0x1p-23) })
	t.Run("float64", func(t *testing.T) { blends[float64](t, 0x1p-52) })
}

func blends[T Float](t *testing.T, eps float64) {
	for _, n := range []int{0, 1, 16, 37} {
		for _, acc := range []bool{false, true} {
			for _, second := range []bool{false, true} {
				x, y, out := draw[T](1, n), draw[T](2, n), draw[T](3, n)
				old := append([]T(nil), out...)
				operand := y
				if !second {
					operand = nil
				}
				Blend(out, acc, 0.75, x, -1.5, operand, 0.25)
				terms := func(i int) (a, b, c float64) {
					if second {
						b = -1.5 * float64(y[i])
					}
					if acc {
						c = float64(old[i])
					}
					return 0.75 * float64(x[i]), b, c
				}
				near(t, fmt.Sprint("blend ", n, acc, second), out, 3, eps,
					func(i int) float64 { a, b, c := terms(i); return a + b + c + 0.25 },
					func(i int) float64 { a, b, c := terms(i); return math.Abs(a) + math.Abs(b) + math.Abs(c) + 0.25 })
			}
		}
	}
}

func TestOptimiserSteps(t *testing.T) {
	for _, n := range []int{0, 1, 8, 15, 16, 33, 100} {
		p, m, g := draw[float32](1, n), draw[float32](2, n), draw[float32](3, n)
		v := make([]float32, n)
		for i := range v {
			v[i] = p[i] * p[i]
		}
		a := Adam{Scale: 0.5, L2: 0.125, Beta1: 0.75, Beta2: 0.5, Step: 0.125, Root: 2, Eps: 0.25, Keep: 0.875}
		l := Lion{Scale: 0.5, Beta1: 0.75, Beta2: 0.5, LR: 0.125, Keep: 0.875}
		type state struct{ p, m, v float64 }
		wantA, wantL := make([]state, n), make([]state, n)
		for i := range n {
			P, M, V, G := float64(p[i]), float64(m[i]), float64(v[i]), float64(g[i])
			d := 0.5*G + 0.125*P
			s := state{m: 0.75*M + 0.25*d, v: 0.5*V + 0.5*d*d}
			s.p = 0.875*P - 0.125*s.m/(2*math.Sqrt(s.v)+0.25)
			wantA[i] = s
			s = state{m: 0.5*M + 0.5*0.5*G}
			if c := 0.75*M + 0.25*0.5*G; c > 0 {
				s.p = 0.875*P - 0.125
			} else {
				s.p = 0.875*P + 0.125
			}
			wantL[i] = s
		}
		p64, m64, v64, g64 := widened(p), widened(m), widened(v), widened(g)
		q, k := append([]float32(nil), p...), append([]float32(nil), m...)
		q64, k64 := widened(p), widened(m)
		a.Run32(p, m, v, g)
		a.Run64(p64, m64, v64, g64)
		l.Run32(q, k, g)
		l.Run64(q64, k64, g64)
		one := func(int) float64 { return 4 }
		near(t, "adam p", p, 4, 0x1p-23, func(i int) float64 { return wantA[i].p }, one)
		near(t, "adam m", m, 4, 0x1p-23, func(i int) float64 { return wantA[i].m }, one)
		near(t, "adam v", v, 4, 0x1p-23, func(i int) float64 { return wantA[i].v }, func(i int) float64 { return 4 + wantA[i].v })
		near(t, "adam p 64", p64, 4, 0x1p-52, func(i int) float64 { return wantA[i].p }, one)
		near(t, "lion p", q, 4, 0x1p-23, func(i int) float64 { return wantL[i].p }, one)
		near(t, "lion m", k, 4, 0x1p-23, func(i int) float64 { return wantL[i].m }, one)
		near(t, "lion p 64", q64, 4, 0x1p-52, func(i int) float64 { return wantL[i].p }, one)
		near(t, "lion m 64", k64, 4, 0x1p-52, func(i int) float64 { return wantL[i].m }, one)
		var sq float64
		for _, e := range g64 {
			sq += e * e
		}
		near(t, "squares", []float64{SumSquares32(g), SumSquares64(g64)}, float64(n), 0x1p-52, func(int) float64 { return sq }, func(int) float64 { return sq })
	}
}

func widened(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
